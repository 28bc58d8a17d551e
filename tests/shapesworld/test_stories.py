"""Stories: every scene begins as the last one ended, and says what it begins with."""

from math import log

import numpy as np
import pytest

from videolm.shapesworld import draw_story, is_held_out, judge, parse_caption, render, render_story
from videolm.shapesworld.world import BACKGROUNDS, COLOURS, MOTIONS, SIZES, TURNS

STORIES = [draw_story(0, index) for index in range(120)]


def test_same_story_every_time() -> None:
    assert draw_story(0, 7) == STORIES[7]
    assert draw_story(1, 7) != STORIES[7]


def test_lengths() -> None:
    assert {len(story.scenes) for story in STORIES} == {2, 3, 4}
    assert {len(draw_story(0, index, scenes=(6, 6)).scenes) for index in range(5)} == {6}
    with pytest.raises(ValueError, match="wanted the least and the largest number"):
        draw_story(0, 0, scenes=(3, 2))
    with pytest.raises(ValueError, match="split is 'test'"):
        draw_story(0, 0, split="test")  # type: ignore[arg-type]


def test_scenes_join() -> None:
    for story in STORIES:
        for before, after in zip(story.scenes, story.scenes[1:], strict=False):
            (last,), (first,) = before.objects, after.objects
            assert before.background == after.background
            assert last.shape == first.shape
            assert last.centre(1) == pytest.approx(first.centre(0), abs=1e-12)
            assert float(last.radius(1)) == pytest.approx(float(first.radius(0)), abs=1e-12)
            assert last.rgb(1) == pytest.approx(first.rgb(0), abs=1e-9)


def test_scenes_share_a_frame() -> None:
    for story in STORIES[:12]:
        clip = render_story(story, 9, (32, 32))
        assert len(clip) == 1 + 8 * len(story.scenes)
        for number, scene in enumerate(story.scenes):
            alone = render(scene, 9, (32, 32)).astype(int)
            assert np.abs(alone - clip[8 * number : 8 * number + 9]).max() <= 1


def test_objects_stay_inside_and_in_size() -> None:
    t = np.linspace(0, 1, 65)
    for story in STORIES:
        for scene in story.scenes:
            (thing,) = scene.objects
            centre, radius = thing.centre(t), thing.radius(t)
            assert 0.077 - 1e-9 <= radius.min() <= radius.max() <= 0.28 + 1e-9
            assert (centre - radius[:, None]).min() >= 0.03 - 1e-9
            assert (centre + radius[:, None]).max() <= 0.97 + 1e-9
            assert thing.size == min(SIZES, key=lambda name: abs(log(radius[0] / SIZES[name])))


def test_growing_doubles_and_shrinking_halves() -> None:
    seen = set()
    for story in STORIES:
        for scene in story.scenes:
            (thing,) = scene.objects
            ratio = {"grows": 2.0, "shrinks": 0.5}.get(thing.motion, 1.0)
            assert float(thing.radius(1) / thing.radius(0)) == pytest.approx(ratio)
            seen.add(thing.motion)
    assert seen == {*MOTIONS, *(seen & set(TURNS))}
    assert len(seen & set(TURNS)) == len(COLOURS)


def test_fades_keep_off_the_background() -> None:
    t = np.linspace(0, 1, 501)
    for story in STORIES:
        for scene in story.scenes:
            (thing,) = scene.objects
            assert np.linalg.norm(thing.rgb(t) - BACKGROUNDS[scene.background], axis=-1).min() > 60


def test_split() -> None:
    def unseen(story: object) -> bool:
        return any(
            is_held_out(o.colour, o.shape, o.motion)
            for scene in story.scenes  # type: ignore[attr-defined]
            for o in scene.objects
            if o.motion in MOTIONS
        )

    assert not any(map(unseen, STORIES))
    assert all(unseen(draw_story(0, index, split="held_out")) for index in range(20))


def test_judge_reads_every_scene() -> None:
    for story in STORIES[:60]:
        clip = render_story(story)
        for number, scene in enumerate(story.scenes):
            seen = judge(clip[16 * number : 16 * number + 17], story=True)
            (true,) = scene.attributes
            assert {**vars(seen)} == {**vars(true)}
            assert parse_caption(story.captions[number]) == scene.attributes
