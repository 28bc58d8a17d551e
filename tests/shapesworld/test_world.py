"""What is drawn: the split, the paths, the spread, and that a scene depends on its two numbers alone."""

from collections import Counter
from itertools import product
from typing import Any

import numpy as np
import pytest

from videolm.shapesworld import Object, Scene, draw_scene, is_held_out
from videolm.shapesworld.world import (
    BACKGROUNDS,
    COLOURS,
    MARGIN,
    MOTIONS,
    SHAPES,
    SIZES,
    Split,
    displacement,
    scale,
)

FINE = np.linspace(0, 1, 1001)


def test_held_out_combinations() -> None:
    motions = Counter(
        motion for colour, shape, motion in product(COLOURS, SHAPES, MOTIONS) if is_held_out(colour, shape, motion)
    )
    assert len(COLOURS) * len(SHAPES) * len(MOTIONS) == 336
    assert motions.total() == 35
    assert set(motions) == set(MOTIONS)
    assert (min(motions.values()), max(motions.values())) == (2, 7)


@pytest.mark.parametrize("two_objects", [0.0, 1.0])
@pytest.mark.parametrize("split", ["train", "held_out"])
def test_split(split: Split, two_objects: float) -> None:
    for index in range(500):
        for thing in draw_scene(0, index, split=split, two_objects=two_objects).objects:
            assert is_held_out(thing.colour, thing.shape, thing.motion) == (split == "held_out")


def test_whole_split_shows_both() -> None:
    shown = {
        is_held_out(thing.colour, thing.shape, thing.motion)
        for index in range(200)
        for thing in draw_scene(0, index, split="all").objects
    }
    assert shown == {False, True}


def test_any_scene_alone() -> None:
    forward = [draw_scene(3, index, two_objects=0.5) for index in range(50)]
    backward = [draw_scene(3, index, two_objects=0.5) for index in reversed(range(50))]
    assert forward == backward[::-1]
    assert len(set(forward)) == 50
    assert draw_scene(4, 0) != draw_scene(3, 0)


@pytest.mark.parametrize("two_objects", [0.0, 1.0])
def test_paths_stay_inside(two_objects: float) -> None:
    for index in range(500):
        for thing in draw_scene(1, index, split="all", two_objects=two_objects).objects:
            centre, radius = thing.centre(FINE), thing.radius(FINE)[:, None]
            assert (centre - radius).min() >= MARGIN - 1e-9
            assert (centre + radius).max() <= 1 - MARGIN + 1e-9


def test_two_objects() -> None:
    scenes = [draw_scene(2, index, two_objects=0.3) for index in range(1000)]
    pairs = [scene.objects for scene in scenes if len(scene.objects) == 2]
    assert 0.25 < len(pairs) / len(scenes) < 0.35
    for first, second in pairs:
        assert first.colour != second.colour
        gap = np.linalg.norm(first.centre(FINE) - second.centre(FINE), axis=1)
        assert (gap - first.radius(FINE) - second.radius(FINE)).min() > -1e-3  # of a frame's width


def test_uniform_coverage() -> None:
    count = 6000
    scenes = [draw_scene(5, index, split="all") for index in range(count)]
    for name, values in {
        "background": BACKGROUNDS,
        "colour": COLOURS,
        "shape": SHAPES,
        "size": SIZES,
        "motion": MOTIONS,
    }.items():
        seen = Counter(getattr(scene.attributes[0], name) for scene in scenes)
        assert set(seen) == set(values)
        share = 1 / len(values)
        deviations = np.array([seen[value] / count - share for value in values])
        assert np.abs(deviations).max() < 4 * (share * (1 - share) / count) ** 0.5, name


def test_training_draws_its_combinations_evenly() -> None:
    count = 9030  # thirty of each
    seen = Counter(
        (thing.colour, thing.shape, thing.motion) for index in range(count) for thing in draw_scene(6, index).objects
    )
    assert len(seen) == 336 - 35
    assert max(seen.values()) < 30 + 5 * 30**0.5


def test_starts_are_uniform() -> None:
    places = [
        (thing.x, thing.y)
        for index in range(4000)
        for thing in draw_scene(7, index, split="all").objects
        if (thing.size, thing.motion) == ("small", "moves right")
    ]
    low, high = (
        np.array([MARGIN + 0.11, MARGIN + 0.11]),
        np.array([1 - MARGIN - 0.11 - 0.35, 1 - MARGIN - 0.11]),
    )
    unit = (np.array(places) - low) / (high - low)  # (n, 2)
    assert unit.min() >= 0 and unit.max() <= 1
    for axis in range(2):
        quarters, _ = np.histogram(unit[:, axis], bins=4, range=(0, 1))
        assert np.abs(quarters / len(unit) - 0.25).max() < 4 * (0.25 * 0.75 / len(unit)) ** 0.5


@pytest.mark.parametrize(
    ("motion", "halfway", "end"),
    [
        ("stays still", (0, 0, 1), (0, 0, 1)),
        ("moves left", (-0.175, 0, 1), (-0.35, 0, 1)),
        ("moves right", (0.175, 0, 1), (0.35, 0, 1)),
        ("moves up", (0, -0.175, 1), (0, -0.35, 1)),
        ("moves down", (0, 0.175, 1), (0, 0.35, 1)),
        ("grows", (0, 0, 1.05), (0, 0, 1.4)),
        ("shrinks", (0, 0, 1.05), (0, 0, 0.7)),
        ("bounces", (0, 0, 1), (0, 0, 1)),
    ],
)
def test_motions(motion: str, halfway: tuple[float, ...], end: tuple[float, ...]) -> None:
    t = np.array([0.5, 1.0])
    found = np.column_stack([displacement(motion, t), scale(motion, t)])
    np.testing.assert_allclose(found, [halfway, end], atol=1e-12)


def test_bounce_is_lowest_at_its_two_contacts() -> None:
    drop = displacement("bounces", FINE)[:, 1]
    np.testing.assert_allclose(drop[[0, 250, 500, 750, 1000]], [0, 0.35, 0, 0.35, 0], atol=1e-12)
    assert drop.argmax() in (250, 750) and drop.min() >= 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "test"}, "split is 'test'.*'train', 'held_out', 'all'"),
        ({"two_objects": 2}, "from 0 to 1"),
        ({"crowd": -1}, "crowd is -1"),
    ],
)
def test_wrong_draws(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw_scene(0, 0, **arguments)


def test_a_crowd_has_its_number_of_objects_and_no_held_out_one() -> None:
    scenes = [draw_scene(3, index, crowd=4) for index in range(200)]
    assert {len(scene.objects) for scene in scenes} == {4}
    assert not any(is_held_out(o.colour, o.shape, o.motion) for scene in scenes for o in scene.objects)
    assert draw_scene(3, 7, crowd=4) == scenes[7]
    assert draw_scene(3, 7) == draw_scene(3, 7, crowd=0)


@pytest.mark.parametrize("attribute", ["colour", "shape", "size", "motion"])
def test_words_that_do_not_exist(attribute: str) -> None:
    words: dict[str, Any] = {"colour": "red", "shape": "circle", "size": "small", "motion": "grows"}
    with pytest.raises(ValueError, match=f"{attribute} is 'beige'; it must be one of"):
        Object(**words | {attribute: "beige"}, x=0.5, y=0.5)


def test_wrong_scenes() -> None:
    thing = Object("red", "circle", "small", "grows", 0.5, 0.5)
    with pytest.raises(ValueError, match="background is 'red'"):
        Scene("red", (thing,))
    with pytest.raises(ValueError, match="at least one"):
        Scene("black", ())
