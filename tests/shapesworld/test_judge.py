"""The judge is right on true clips, at every size, and wrong about nothing that was changed."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from videolm.shapesworld import (
    Judgement,
    Object,
    Scene,
    caption,
    draw_scene,
    draw_story,
    foreground,
    image_caption,
    in_order,
    judge,
    judge_pair,
    marks,
    motion_weights,
    render,
    render_image,
    score,
    track,
)
from videolm.shapesworld.world import BACKGROUNDS, COLOURS, MOTIONS, SHAPES, SIZES, Attributes

TRUE = Scene("gray", (Object("orange", "star", "small", "moves left", 0.7, 0.5),))
EMPTY = np.full((17, 64, 64, 3), 12, np.uint8)
NOTHING = {"background": 0, "colour": 0, "shape": 0, "size": 0, "motion": 0, "all_right": 0, "found": 0}
ALL = dict.fromkeys(NOTHING, 1)


def changed(**words: Any) -> Scene:
    return Scene(TRUE.background, (replace(TRUE.objects[0], **words),))


@pytest.mark.parametrize(
    ("size", "frames", "count", "least"),
    [((64, 64), 17, 200, 1.0), ((32, 32), 17, 200, 0.99), ((40, 96), 9, 60, 1.0), ((64, 64), 33, 40, 1.0)],
)
def test_true_clips(size: tuple[int, int], frames: int, count: int, least: float) -> None:
    scenes = [draw_scene(0, index, split="all") for index in range(count)]
    shares = score([judge(render(scene, frames, size)) for scene in scenes], scenes)
    assert min(shares.values()) >= least, shares


@pytest.mark.parametrize(("side", "least"), [(64, 1.0), (32, 0.98)])
def test_true_pictures(side: int, least: float) -> None:
    scenes = [draw_scene(1, index, split="all") for index in range(200)]
    shares = score(
        [judge(render_image(scene, (side, side))) for scene in scenes],
        [image_caption(scene) for scene in scenes],
    )
    assert "motion" not in shares
    assert min(shares.values()) >= least, shares


def test_noise_is_forgiven() -> None:
    rng = np.random.default_rng(0)
    scenes = [draw_scene(2, index) for index in range(60)]
    clips = [np.clip(render(scene) + rng.normal(0, 8, (17, 64, 64, 3)), 0, 255) for scene in scenes]
    shares = score([judge(clip.astype(np.uint8)) for clip in clips], scenes)
    assert shares["all_right"] >= 0.95, shares


@pytest.mark.parametrize(
    ("attribute", "values"), [("colour", COLOURS), ("shape", SHAPES), ("size", SIZES), ("motion", MOTIONS)]
)
def test_what_was_changed_is_wrong_and_no_more(attribute: str, values: Any) -> None:
    for value in values:
        if value == getattr(TRUE.attributes[0], attribute):
            continue
        shares = score([judge(render(changed(**{attribute: value})))], [TRUE])
        assert shares == ALL | {attribute: 0, "all_right": 0}, value


def test_wrong_background() -> None:
    for background in set(BACKGROUNDS) - {TRUE.background}:
        shares = score([judge(render(replace(TRUE, background=background)))], [caption(TRUE)])
        assert shares == ALL | {"background": 0, "all_right": 0}


def test_no_object_scores_zero() -> None:
    empty = Scene("black", TRUE.objects)
    speck = EMPTY.copy()
    speck[:, :4, :5] = COLOURS["orange"]  # 20 of 4,096 pixels: 0.49%
    for clip in (EMPTY, speck):
        judgement = judge(clip)
        assert not judgement.found
        assert judgement == Judgement("black", None, None, None, None)
        assert score([judgement], [empty]) == NOTHING
    speck[:, 4, 0] = COLOURS["orange"]
    assert judge(speck).found


def test_object_that_comes_and_goes() -> None:
    clip = render(TRUE)
    late, gone = clip.copy(), clip.copy()
    late[0] = BACKGROUNDS["gray"]
    gone[9] = BACKGROUNDS["gray"]
    assert score([judge(late)], [TRUE]) == ALL | {"size": 0, "motion": 0, "all_right": 0}
    assert score([judge(gone)], [TRUE]) == ALL | {"motion": 0, "all_right": 0}


def test_score_of_several() -> None:
    grows, stays = changed(motion="grows"), changed(motion="stays still")
    right, wrong = judge(render(grows)), judge(render(changed(motion="stays still", colour="red")))
    truths = [grows, grows, grows, stays]
    plain = score([right, right, right, wrong], truths)
    assert (plain["colour"], plain["motion"], plain["all_right"]) == (0.75, 1, 0.75)
    assert score([right, right, right, wrong], truths, over_motions=True)["all_right"] == pytest.approx(0.5)


def test_marks_are_of_each_clip_and_only_of_what_is_stated() -> None:
    right, wrong = judge(render(TRUE)), judge(render(changed(motion="grows", colour="red")))
    found = marks([right, wrong, right], [TRUE, TRUE, image_caption(TRUE)])
    assert found["colour"].tolist() == [1, 0, 1]
    assert found["motion"].tolist()[:2] == [1, 0] and np.isnan(found["motion"][2])
    assert found["all_right"].tolist() == [1, 0, 1] and found["found"].tolist() == [1, 1, 1]
    assert "size" not in marks([wrong], [Attributes(None, None, "star", None, "moves left")])
    nothing = marks([judge(EMPTY)], [Attributes(None, None, None, None, None)])
    assert nothing == {"all_right": np.ones(1), "found": np.zeros(1)}


def test_the_score_is_the_mean_of_the_marks() -> None:
    truths = [draw_scene(4, index) for index in range(12)]
    seen = [judge(render(draw_scene(4, index % 9))) for index in range(12)]  # three are wrong
    found, weights = marks(seen, truths), motion_weights(truths)
    for over, by in ((False, None), (True, weights)):
        means = {name: pytest.approx(np.average(values, weights=by)) for name, values in found.items()}
        assert score(seen, truths, over_motions=over) == means
    motions = [truth.attributes[0].motion for truth in truths]
    assert weights.sum() == pytest.approx(len(set(motions)))


def test_track_follows_the_object() -> None:
    clip = render(TRUE)
    centre, radius = track(clip)
    t = np.linspace(0, 1, 17)
    assert np.abs(centre - TRUE.objects[0].centre(t)).max() < 0.01
    assert np.abs(radius / 0.11 - 1).max() < 0.05
    gone = clip.copy()
    gone[9] = BACKGROUNDS["gray"]
    lost = track(gone)
    assert np.isnan(lost.centre[9]).all() and np.isnan(lost.radius[9])
    assert np.array_equal(np.delete(lost.centre, 9, 0), np.delete(centre, 9, 0))
    assert foreground(clip).mean((1, 2)) == pytest.approx(np.pi * radius**2)


@pytest.mark.parametrize("begin", [0, 4])
def test_part_of_a_storys_scene_is_read_by_its_span(begin: int) -> None:
    scenes = [scene for index in range(40) for scene in draw_story(3, index).scenes]
    span = (begin / 16, (begin + 12) / 16)
    seen = [judge(render(scene)[begin : begin + 13], story=True, span=span) for scene in scenes]
    assert score(seen, scenes)["all_right"] == 1
    plain = [judge(render(scene)[begin : begin + 13], story=True) for scene in scenes]
    assert score(plain, scenes)["motion"] < 1  # a bounce cut short is none


def test_words() -> None:
    assert judge(render(TRUE)).words == caption(TRUE)
    assert judge(render_image(TRUE)).words == image_caption(TRUE)
    assert judge(EMPTY).words == "nothing on a black background"


def test_truth_in_any_dress() -> None:
    judgement = judge(render(TRUE))
    for truth in (TRUE, TRUE.attributes[0], caption(TRUE), image_caption(TRUE)):
        assert set(score([judgement], [truth]).values()) == {1}


@pytest.mark.parametrize(
    "frames",
    [EMPTY.astype(np.float32), EMPTY[..., :1], EMPTY[None], EMPTY[:0], EMPTY[0, 0]],
    ids=["float", "grey", "batch", "no frames", "row"],
)
def test_frames_of_another_form(frames: np.ndarray) -> None:
    with pytest.raises(ValueError, match="wanted uint8"):
        judge(frames)


def test_scores_that_cannot_be() -> None:
    judgement = judge(EMPTY)
    with pytest.raises(ValueError, match="1 judgements of 2 truths"):
        score([judgement], [TRUE, TRUE])
    with pytest.raises(ValueError, match="0 judgements"):
        score([], [])
    with pytest.raises(ValueError, match="has 2 objects"):
        score([judgement], [draw_scene(0, 0, two_objects=1)])


@pytest.mark.parametrize(("side", "least"), [(64, 1.0), (32, 0.97)])
def test_true_pairs(side: int, least: float) -> None:
    scenes = [draw_scene(1, index, split="all", two_objects=1) for index in range(100)]
    pairs = [in_order(judge_pair(render(scene, size=(side, side))), scene) for scene in scenes]
    seen = [judgement for pair in pairs for judgement in pair]
    shares = score(seen, [truth for scene in scenes for truth in scene.attributes])
    assert min(shares.values()) >= least, shares


def test_pair_of_which_one_is_missing() -> None:
    one, two = judge_pair(render(TRUE))
    assert score([one], [TRUE]) == ALL
    assert not two.found
    assert not any(judgement.found for judgement in judge_pair(EMPTY))
