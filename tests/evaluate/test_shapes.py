"""Tasks' rows: what is true has full marks, what is wrong the marks it should, whatever the batch."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from videolm import VideoLM, shapesworld
from videolm.data.sources import ShapesWorldData
from videolm.errors import UserError
from videolm.evaluate import shapes
from videolm.evaluate.row import AMOUNTS, Row
from videolm.evaluate.world import World, hidden_of, path_error, psnr_of, stated
from videolm.media import Audio, Video
from videolm.shapes import Format
from videolm.shapesworld.sound import RATE
from videolm.tasks import TASKS

SHAPE = Format(17, 64, 64)
NAMES = [name for name in TASKS if TASKS.get(name).inputs]
MASKED = [name for name in NAMES if "painting" in name]
Oracle = Any  # see conftest.py


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> VideoLM:
    return VideoLM.from_pretrained(tiny_model)


def rows_of(oracle: Oracle, name: str, samples: int = 6, **settings: Any) -> dict[str, Row]:
    oracle.knows(shapes.scenes_for(TASKS.get(name), SHAPE, samples))
    return shapes.task_rows(oracle, name, samples, **settings)


def spoiled(oracle: Oracle, name: str, spoil: Any, samples: int = 6, **settings: Any) -> dict[str, float]:
    oracle.spoil = spoil
    return next(iter(rows_of(oracle, name, samples, **settings).values())).scores()


def moved(by: int, start: int = 0) -> Any:
    """Clips moved to the right from a frame on, round the edge."""

    def move(clip: Video) -> Video:
        frames = clip.frames.copy()
        frames[start:] = np.roll(frames[start:], by, axis=2)
        return Video(frames, clip.fps)

    return move


@pytest.mark.parametrize("name", [name for name in NAMES if name != "text_to_video"])
def test_what_is_true_has_full_marks(oracle: Oracle, name: str) -> None:
    rows = rows_of(oracle, name, batch=4)
    for row in rows.values():
        assert len(row) == 6
        for measure, found in row.summary().measures.items():
            perfect = {"path_error": 0.0, "psnr_hole": 100.0}.get(measure, 1.0)
            assert found.mean == perfect, (measure, found)


def test_each_row_states_what_it_should(oracle: Oracle) -> None:
    attributes = {"background", "colour", "shape", "size", "motion"}
    found = {
        row: {*made.measures}
        for name in NAMES
        if name != "text_to_video"
        for row, made in rows_of(oracle, name).items()
    }
    for names in found.values():
        assert "all_right" in names
    assert found["frame_prediction, 5 frames given"] == {*attributes, "path_error", "all_right", "found"}
    assert found["frame_prediction, 9 frames given"] == found["frame_prediction, 5 frames given"]
    assert found["image_to_video"] == {*attributes, "all_right", "found"}
    assert found["text_to_image"] == {*attributes, "all_right", "found"} - {"motion"}
    assert found["stylization, 0 frames given"] == found["stylization, 1 frame given"] == {"style", "path", "all_right"}
    assert found["audio_to_video"] == {*attributes, "all_right", "found", "bounces"}
    assert found["audio_to_video, without prompt"] == {"shape", "motion", "all_right", "found", "bounces"}
    assert found["video_to_audio"] == {"pitch", "course", "bursts", "all_right"}
    assert found["text_to_video_with_audio"] == found["image_to_video"] | found["video_to_audio"]
    assert all(found[name] >= {*attributes, "psnr_hole"} for name in MASKED)


def test_what_goes_in_is_that_of_the_row(oracle: Oracle) -> None:
    rows_of(oracle, "frame_prediction")
    assert [len(call["video"][0]) for call in oracle.calls] == [5, 9]
    oracle.calls.clear()
    rows_of(oracle, "stylization")
    assert ["image" in call for call in oracle.calls] == [False, True]
    oracle.calls.clear()
    rows_of(oracle, "audio_to_video")
    assert ["prompt" in call for call in oracle.calls] == [True, False]


def test_text_to_video_on_seen_combinations_held_out_ones_and_two_objects(oracle: Oracle) -> None:
    seen, held, pairs = shapes.scenes(20, "train"), shapes.scenes(20, "held_out"), shapes.pairs(20)
    for scenes in (seen, held, pairs):
        oracle.knows(scenes)
    rows = shapes.task_rows(oracle, "text_to_video", 20, batch=7)
    assert list(rows) == ["text_to_video", "text_to_video, held out", "text_to_video, two objects"]
    assert all(row.scores()["all_right"] == 1 and len(row) == 20 for row in rows.values())
    prompts = [prompt for call in oracle.calls for prompt in call["prompt"]]
    assert prompts == [shapesworld.caption(scene) for scene in (*seen, *held, *pairs)]


def test_captions_that_are_too_long_leave_the_row_out(oracle: Oracle) -> None:
    oracle.tasks = oracle.tasks.model_copy(update={"text_length": 12})
    for split in ("train", "held_out"):
        oracle.knows(shapes.scenes(3, split))
    assert list(shapes.task_rows(oracle, "text_to_video", 3)) == ["text_to_video", "text_to_video, held out"]


def test_of_two_objects_both_must_be_right(oracle: Oracle) -> None:
    pairs = shapes.pairs(8)
    wrong = [
        replace(
            s, objects=(s.objects[0], replace(s.objects[1], size="large" if s.objects[1].size == "small" else "small"))
        )
        for s in pairs
    ]
    shown = World(ShapesWorldData(seed=shapes.SEED, clips=8), SHAPE, 8.0, wrong)
    clips = [shown.source("video")[index].media for index in range(8)]
    found = oracle.knows(pairs).measures(TASKS.get("text_to_video"), range(8), clips, [])
    assert not found["size"].any() and not found["all_right"].any()
    assert found["colour"].all() and found["background"].all() and found["found"].all()


def test_held_out_means_are_over_motions() -> None:
    drawn = shapes.scenes(30, "held_out")
    row = Row("prompts")
    row.weights = shapesworld.motion_weights(drawn)
    motions = [scene.objects[0].motion for scene in drawn]
    one = np.array([float(motion == motions[0]) for motion in motions])
    row.add({"shape": one}, lambda place: pytest.fail("no picture is asked for"))
    found = row.summary().measures["shape"]
    assert found.mean == pytest.approx(1 / len(set(motions))) and found.samples == 30
    plain = Row("prompts")
    plain.add({"shape": one}, lambda place: pytest.fail("no picture is asked for"))
    assert found.high - found.low > 0 and found != plain.summary().measures["shape"]


@pytest.mark.parametrize("pixels", [1, -2])
def test_a_continuation_that_is_off_has_the_path_error_that_it_is_off_by(oracle: Oracle, pixels: int) -> None:
    found = spoiled(oracle, "frame_prediction", moved(pixels, start=16))
    assert found["path_error"] == pytest.approx(abs(pixels) / 64, rel=1e-6)


def test_an_object_that_is_gone_is_a_frame_off(oracle: Oracle) -> None:
    found = spoiled(
        oracle, "frame_prediction", lambda clip: Video(clip.frames[:, :1, :1].repeat(64, 1).repeat(64, 2), 8.0)
    )
    assert found["path_error"] == 1 and found["all_right"] == 0
    clip = shapesworld.render(shapes.scenes(1, "train")[0])
    assert path_error(clip, clip[:, :1, :1].repeat(64, 1).repeat(64, 2)) == 1


@pytest.mark.parametrize("name", MASKED)
def test_psnr_of_the_hole_is_of_hidden_pixels_alone(oracle: Oracle, name: str) -> None:
    hidden = hidden_of(TASKS.get(name), SHAPE)
    assert hidden is not None and 0.2 < hidden.mean() < 0.8
    off = np.where(hidden[..., None], 10, 100)  # what is not hidden does not count

    def worse(clip: Video) -> Video:
        return Video(np.where(clip.frames < 128, clip.frames + off, clip.frames - off).astype(np.uint8), 8.0)

    found = spoiled(oracle, name, worse, samples=2)
    assert found["psnr_hole"] == pytest.approx(20 * np.log10(255 / 10), abs=1e-3)
    clip = np.zeros((1, 1, 2, 3), np.uint8)
    assert psnr_of(clip, clip + np.uint8(51), np.ones((1, 1, 2), bool)) == pytest.approx(20 * np.log10(5), abs=1e-4)


@pytest.mark.parametrize("name", MASKED)
def test_of_what_is_painted_a_fifth_is_seen_somewhere(name: str) -> None:
    hidden, drawn = hidden_of(TASKS.get(name), SHAPE), shapes.scenes_for(TASKS.get(name), SHAPE, 12)
    assert hidden is not None and len(drawn) == 12

    def seen(scene: shapesworld.Scene) -> float:
        thing = shapesworld.foreground(shapesworld.render(scene))
        return max((one & ~mask).sum() / one.sum() for one, mask in zip(thing, hidden, strict=True))

    assert min(map(seen, drawn)) >= 0.2
    first = shapes.scenes(40, "train")
    assert drawn == [scene for scene in first if seen(scene) >= 0.2][:12]


def test_a_mask_that_hides_all_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "hidden_of", lambda task, shape: np.ones((17, 64, 64), bool))
    monkeypatch.setattr(shapes, "TRIES", 3)
    with pytest.raises(UserError, match="inpainting_central hides more than 80% of the object in nearly every scene"):
        shapes.scenes_for(TASKS.get("inpainting_central"), SHAPE, 2)


def test_a_bounce_out_of_time_is_wrong(oracle: Oracle) -> None:
    drawn = [scene for scene in shapes.scenes(60, "train") if scene.objects[0].motion == "bounces"][:3]
    world, task = oracle.knows(drawn), TASKS.get("audio_to_video")
    clips = [world.source("video")[index].media for index in range(3)]
    for late, right in ((0, 1.0), (1, 1.0), (2, 0.0)):
        made = [Video(np.roll(clip.frames, late, axis=0), 8.0) for clip in clips]
        assert set(world.measures(task, range(3), made, [])["bounces"]) == {right}
    still = shapes.scenes(60, "train")
    world = oracle.knows([scene for scene in still if scene.objects[0].motion == "stays still"][:2])
    made = [world.source("video")[index].media for index in range(2)]
    assert "bounces" not in world.measures(task, range(2), made, [])


def test_sounds_that_are_wrong(oracle: Oracle) -> None:
    drawn = shapes.scenes(24, "train")
    world, task = oracle.knows(drawn), TASKS.get("video_to_audio")
    others = {"circle": "star", "square": "cross"}
    pitched = [
        replace(s, objects=(replace(s.objects[0], shape=others.get(s.objects[0].shape, "circle")),)) for s in drawn
    ]
    sounds = [Audio(shapesworld.sound(scene)[None], RATE) for scene in pitched]
    found = world.measures(task, range(24), [], sounds)
    assert not found["pitch"].any() and not found["all_right"].any() and found["bursts"].all()
    assert found["course"].all()
    silent = [Audio(np.zeros((1, 34000), np.float32), RATE)] * 24
    assert not world.measures(task, range(24), [], silent)["all_right"].any()
    bouncing = [index for index, scene in enumerate(drawn) if scene.objects[0].motion == "bounces"]
    for seconds, right in ((0.1, True), (0.2, False)):
        late = [Audio(np.roll(shapesworld.sound(drawn[i]), int(seconds * RATE))[None], RATE) for i in bouncing]
        assert bouncing and world.measures(task, bouncing, [], late)["bursts"].all() == right


def test_a_style_that_was_not_asked_for_and_a_path_that_strays(oracle: Oracle) -> None:
    assert spoiled(oracle, "stylization", lambda clip: Video(255 - clip.frames, 8.0))["style"] < 1
    found = spoiled(oracle, "stylization", moved(8))
    assert found["path"] < 1 and found["all_right"] <= found["path"]


def test_what_a_story_goes_on_to_is_read_where_its_window_lies(oracle: Oracle) -> None:
    world = oracle.knows(shapes.scenes(40, "train"))
    source = world.source("story")
    begins = set()
    for index in range(40):
        frames, (begin, end) = world.scene_of(index)
        window = source.window(index)
        scene = shapesworld.render(window.story.scenes[window.scene])[round(16 * begin) : round(16 * end) + 1]
        assert np.abs(source[index].media.frames[frames].astype(int) - scene).max() <= 1
        begins.add((begin, end))
    assert len(begins) > 2
    clips = [source[index].media for index in range(40)]
    assert world.scores(TASKS.get("story_continuation"), range(40), clips, [])["all_right"] == 1


def test_only_what_was_told_is_asked_for() -> None:
    every = {"background", "colour", "shape", "size", "motion"}
    assert stated(TASKS.get("text_to_video")) == stated(TASKS.get("unconditional_video")) == every
    assert stated(TASKS.get("class_to_video")) == {"shape", "motion"}
    assert stated(TASKS.get("class_frame_prediction")) == every
    assert stated(TASKS.get("image_to_video"), prompted=False) == {"background", "colour", "shape"}
    assert stated(TASKS.get("frame_prediction"), prompted=False) == every
    assert stated(TASKS.get("inpainting_central"), prompted=False) == every
    assert stated(TASKS.get("audio_video_continuation"), prompted=False) == {"background", "colour", "shape"}


def test_evaluation_scenes_are_not_training_scenes_and_keep_their_split() -> None:
    held = shapes.scenes(50, "held_out")
    assert all(shapesworld.is_held_out(o.colour, o.shape, o.motion) for s in held for o in s.objects)
    training = {shapesworld.draw_scene(seed, index) for seed in (1, 2) for index in range(500)}
    assert not training & set(shapes.scenes(50, "train"))


@pytest.mark.parametrize("name", ["text_to_video", "frame_prediction", "text_to_image"])
def test_nothing_depends_on_the_batch(model: VideoLM, name: str) -> None:
    once, again = (shapes.task_rows(model, name, 5, batch=batch) for batch in (5, 2))
    assert once.keys() == again.keys()
    for row in once:
        for measure, values in once[row].measures.items():
            assert np.array_equal(values, again[row].measures[measure], equal_nan=True), (row, measure)


def test_another_seed_is_other_scenes_and_other_draws(model: VideoLM) -> None:
    one, other = (shapes.task_rows(model, "frame_prediction", 4, seed=seed) for seed in (1000, 500))
    errors = [rows["frame_prediction, 5 frames given"].measures["path_error"] for rows in (one, other)]
    assert not np.array_equal(*errors)


def test_the_means_are_those_of_the_row_with_most_frames_given(model: VideoLM) -> None:
    row = shapes.task_rows(model, "frame_prediction", 3)["frame_prediction, 9 frames given"]
    assert shapes.evaluate_task(model, "frame_prediction", 3, batch=2) == row.scores()
    held = shapes.task_rows(model, "text_to_video", 3)["text_to_video, held out"]
    assert shapes.evaluate_task(model, "text_to_video", 3, split="held_out") == held.scores()


def test_a_task_is_judged_without_its_text(model: VideoLM) -> None:
    told, untold = (shapes.evaluate_task(model, "image_to_video", 3, batch=2, prompted=each) for each in (True, False))
    assert told["samples"] == untold["samples"] == 3
    assert told.keys() - untold.keys() == {"size", "motion"}


def test_a_task_without_inputs_cannot_be_judged(model: VideoLM) -> None:
    with pytest.raises(UserError, match="takes nothing"):
        shapes.evaluate_task(model, "unconditional_video", 2)


def test_every_amount_has_a_row_that_measures_it(oracle: Oracle, model: VideoLM) -> None:
    found = {
        measure
        for name in ("frame_prediction", "inpainting_central")
        for row in rows_of(oracle, name).values()
        for measure in row.measures
    }
    found |= shapes.reconstruction_row(model, 2).scores().keys()
    assert AMOUNTS.keys() - found == {"drift", "colour_drift", "sharpness"}  # of long clips and of super-resolution
