"""Stories and long clips: told true they are all right, and each thing that may go wrong is told apart."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from videolm import VideoLM, shapesworld
from videolm.errors import UserError
from videolm.evaluate import stories
from videolm.evaluate.stories import long_row, object_kept, overlap, story_row
from videolm.media import Video
from videolm.pipeline.story import Chunk
from videolm.shapesworld import Attributes, Judgement, Object, Scene
from videolm.shapesworld.world import MOTIONS
from videolm.tasks import TASKS
from videolm.tasks.task_set import TaskSet

Oracle = Any  # see conftest.py


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> VideoLM:
    return VideoLM.from_pretrained(tiny_model)


def told(oracle: Oracle, spoil: Any) -> dict[str, float]:
    oracle.spoil = lambda clip: Video(np.ascontiguousarray(spoil(clip.frames)), clip.fps)
    return story_row(oracle, 6, batch=4).scores()


def test_the_worlds_own_stories_are_all_right(oracle: Oracle) -> None:
    row = story_row(oracle, 24, batch=7)
    assert set(row.scores().values()) == {1.0, 24} and len(row) == 24
    drawn = [shapesworld.draw_story(1000, index) for index in range(200)]
    assert stories.stories(24) == [story for story in drawn if len(story.scenes) == 3][:24]


def test_a_story_is_asked_for_by_its_first_frame_and_its_prompts(oracle: Oracle) -> None:
    story_row(oracle, 3, batch=2)
    drawn = stories.stories(3)
    assert [len(call["image"]) for call in oracle.calls] == [2, 1] and oracle.calls[0]["task"] == "image_to_video"
    (prompts, first), (_, second), (last, third) = oracle.calls[0]["scenes"]
    assert prompts == [story.captions[0] for story in drawn[:2]] and last == [story.captions[2] for story in drawn[:2]]
    assert (first, second, third) == (17 / 8, 2.0, 2.0)
    assert np.array_equal(oracle.calls[1]["image"][0].pixels, shapesworld.render(drawn[2].scenes[0])[0])
    oracle.tasks = TaskSet(
        tasks=tuple(t for t in oracle.tasks.tasks if t.name != "image_to_video"), formats=oracle.tasks.formats
    )
    story_row(oracle, 1)
    assert oracle.calls[-1]["task"] == "text_to_video" and "image" not in oracle.calls[-1]


def test_scenes_in_another_order_are_not_as_asked(oracle: Oracle) -> None:
    oracle.spoil = lambda clip: Video(np.concatenate([clip.frames[:17], clip.frames[33:], clip.frames[17:33]]), 8.0)
    row = story_row(oracle, 6)
    moving = [story.scenes[1].objects[0].motion in MOTIONS[1:] for story in stories.stories(6)]
    assert sum(moving) >= 2
    assert not row.measures["prompts"][moving].any()
    assert row.measures["scene_prompt"][moving] == pytest.approx(1 / 3)


def test_one_scene_that_is_wrong_is_a_third(oracle: Oracle) -> None:
    found = told(oracle, lambda film: np.concatenate([film[:33], film[32:33].repeat(16, 0)]))
    still = sum(story.scenes[2].objects[0].motion == "stays still" for story in stories.stories(6)) / 6
    assert found["prompts"] == pytest.approx(still) and found["scene_prompt"] == pytest.approx((2 + still) / 3)
    assert found["object_kept"] == 1


def shown(x: float, radius: float) -> np.ndarray:
    thing = Object("red", "star", "large", "stays still", x, 0.5, radius)
    return shapesworld.render(Scene("pink", (thing,)), 1)[0]


@pytest.mark.parametrize(
    ("x", "radius", "smooth"),
    [
        *((0.4, 0.15, True), (0.4 + 0.17, 0.15, True), (0.4 - 0.17, 0.15, True), (0.4 + 0.2, 0.15, False)),
        *((0.4, 0.15 * 1.22, True), (0.4, 0.15 / 1.22, True), (0.4, 0.15 * 1.28, False), (0.4, 0.15 / 1.28, False)),
    ],
)
def test_nothing_jumps_nor_swells_where_scenes_meet(oracle: Oracle, x: float, radius: float, smooth: bool) -> None:
    before, after = shown(0.4, 0.15)[None], shown(x, radius)[None]
    told_so = [before.repeat(33, 0), after.repeat(16, 0)]
    assert told(oracle, lambda film: np.concatenate(told_so))["smooth"] == smooth
    assert told(oracle, lambda film: np.concatenate(told_so[::-1]))["smooth"] == 1  # not where they meet


def test_an_object_that_goes_is_neither_smooth_nor_kept(oracle: Oracle) -> None:
    found = told(oracle, lambda film: np.concatenate([film[:33], film[33:, :1, :1].repeat(64, 1).repeat(64, 2)]))
    assert found["smooth"] == found["object_kept"] == found["prompts"] == 0
    assert found["scene_prompt"] == pytest.approx(2 / 3)


def seen(**changed: str | None) -> Judgement:
    return Judgement(
        **{"background": "pink", "colour": "red", "shape": "star", "size": "small", "motion": "grows", **changed}
    )  # type: ignore[arg-type]


def test_an_object_is_kept_unless_it_changes_where_no_caption_lets_it() -> None:
    grows, turns = (Attributes("pink", "red", "star", "small", motion) for motion in ("grows", "turns blue"))
    assert object_kept([seen(), seen(), seen()], [grows] * 3)
    assert object_kept([seen(size="large"), seen(motion="bounces"), seen()], [grows] * 3)
    assert object_kept([seen(shape="cross")] * 3, [grows] * 3)  # whatever it is
    assert not object_kept([seen(), seen(shape="cross"), seen()], [grows] * 3)
    assert not object_kept([seen(), seen(), seen(background="gray")], [grows] * 3)
    assert not object_kept([seen(), seen(motion=None), seen()], [grows] * 3)
    blue = seen(colour="blue")
    assert object_kept([seen(motion="turns blue"), blue, blue], [turns, grows, grows])
    assert object_kept([seen(), seen(), seen()], [turns, grows, grows])  # it did not turn: a prompt's fault
    assert not object_kept([seen(motion="turns blue"), blue, blue], [grows, grows, grows])
    assert not object_kept([seen(motion="turns cyan"), seen(colour="cyan"), seen(colour="cyan")], [turns, grows, grows])
    assert not object_kept([seen(), blue, blue], [grows, grows, grows])
    assert not object_kept([seen(), seen(), seen(motion="turns blue")], [grows, grows, grows])


def test_a_long_clip_that_stays_as_it_is_is_all_right(oracle: Oracle) -> None:
    found = long_row(oracle, 5, batch=2).scores()
    assert found.pop("samples") == 5
    assert max(found.pop("drift"), found.pop("colour_drift")) < 1e-6
    assert found.pop("sharpness_ratio") == pytest.approx(1)
    assert found == dict.fromkeys(("first_right", "last_right", "background", "colour", "shape", "size"), 1.0)
    ((prompts, seconds),) = oracle.calls[0]["scenes"]
    assert seconds == (17 + 20 * 12) / 8 and all("stays still" in prompt for prompt in prompts)


def test_a_long_clip_that_changes_at_its_end(oracle: Oracle) -> None:
    def dim(film: np.ndarray) -> np.ndarray:
        film = film.copy()
        film[240:] = np.roll(film[240:], 2, axis=2)  # two pixels to the right
        return film

    oracle.spoil = lambda clip: Video(dim(clip.frames), clip.fps)
    found = long_row(oracle, 4).scores()
    assert found["drift"] == pytest.approx(2 / 64) and found["first_right"] == found["last_right"] == 1
    oracle.spoil = lambda clip: Video(
        np.concatenate([clip.frames[:240], clip.frames[240:, :1, :1].repeat(64, 1).repeat(64, 2)]), 8.0
    )
    found = long_row(oracle, 4).scores()
    assert found["drift"] == 1 and found["last_right"] == 0 and found["colour_drift"] > 0
    assert found["background"] == 0 and found["sharpness_ratio"] == 0  # no object: wrong in everything
    oracle.spoil = lambda clip: Video(clip.frames[:, :1, :1].repeat(64, 1).repeat(64, 2), 8.0)
    row = long_row(oracle, 2)
    assert np.isnan(row.measures["sharpness_ratio"]).all() and "sharpness_ratio" not in row.scores()


def test_long_clips_drift_as_their_chunks_say(model: VideoLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stories, "EXTENSIONS", 2)
    monkeypatch.setattr(stories.shapesworld.Judgement, "found", True)  # it was taught next to nothing
    chunks: list[Chunk] = []
    plain = VideoLM.story

    def kept(self: VideoLM, *args: Any, **options: Any) -> Any:
        for chunk in plain(self, *args, **options):
            chunks.append(chunk)
            yield chunk

    monkeypatch.setattr(VideoLM, "story", kept)
    found = long_row(model, 3).scores()
    assert [len(chunk.videos[0]) for chunk in chunks] == [17, 12, 12]
    assert found["colour_drift"] == pytest.approx(chunks[-1].colour_distance, rel=1e-5)
    assert found["sharpness_ratio"] == pytest.approx(chunks[-1].sharpness, rel=1e-5)


def test_nothing_depends_on_the_batch(model: VideoLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stories, "EXTENSIONS", 2)
    for kind in (story_row, long_row):
        once, again = (kind(model, 3, batch=batch) for batch in (3, 2))
        for measure, values in once.measures.items():
            assert np.array_equal(values, again.measures[measure], equal_nan=True), measure


def test_a_model_that_does_not_go_on_has_no_such_rows(oracle: Oracle) -> None:
    assert overlap(oracle, new_scene=True) == overlap(oracle, new_scene=False) == 5
    oracle.tasks = TaskSet(tasks=(TASKS.get("text_to_video"),), formats=oracle.tasks.formats)
    for kind in (story_row, long_row):
        with pytest.raises(UserError, match="no task of this model goes on from the end of a clip"):
            kind(oracle, 2)
