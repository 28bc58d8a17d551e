"""Pixels: sizes, times, colours, and what is refused."""

import numpy as np
import pytest

from videolm.shapesworld import Object, Scene, draw_scene, render, render_image
from videolm.shapesworld.world import BACKGROUNDS, COLOURS, MOTIONS, SIZES


def scene(motion: str = "stays still", shape: str = "circle", size: str = "large") -> Scene:
    return Scene("white", (Object("red", shape, size, motion, 0.5, 0.5),))


def shrink(frames: np.ndarray, factor: int) -> np.ndarray:
    f, height, width, _ = frames.shape
    blocks = frames.reshape(f, height // factor, factor, width // factor, factor, 3)
    return blocks.mean((2, 4))


@pytest.mark.parametrize("size", [(64, 64), (32, 32), (48, 100)])
@pytest.mark.parametrize("frames", [1, 5, 17])
def test_form(frames: int, size: tuple[int, int]) -> None:
    clip = render(draw_scene(0, 0), frames, size)
    assert clip.shape == (frames, *size, 3)
    assert clip.dtype == np.uint8
    assert render_image(draw_scene(0, 0), size).shape == (*size, 3)


def test_default_form() -> None:
    assert render(draw_scene(0, 0)).shape == (17, 64, 64, 3)


def test_colours() -> None:
    for colour, rgb in COLOURS.items():
        for background, ground in BACKGROUNDS.items():
            picture = render_image(Scene(background, (Object(colour, "square", "small", "grows", 0.5, 0.5),)))
            assert tuple(picture[32, 32]) == rgb
            assert tuple(picture[0, 0]) == ground


@pytest.mark.parametrize("two_objects", [0.0, 1.0])
def test_every_size_shows_the_same(two_objects: float) -> None:
    for index in range(20):
        drawn = draw_scene(1, index, split="all", two_objects=two_objects)
        small, large = render(drawn, size=(32, 32)), render(drawn, size=(128, 128))
        assert np.abs(small - shrink(large, 4)).mean() < 1


def test_same_everywhere_and_every_time() -> None:
    first, again = render(draw_scene(2, 9)), render(draw_scene(2, 9))
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("motion", MOTIONS)
def test_longer_clips_run_slower(motion: str) -> None:
    np.testing.assert_array_equal(render(scene(motion), 33)[::2], render(scene(motion), 17))
    np.testing.assert_array_equal(render(scene(motion), 1), render(scene(motion), 17)[:1])


@pytest.mark.parametrize("size", SIZES)
def test_picture_has_the_nominal_radius(size: str) -> None:
    for motion in MOTIONS:
        picture = render_image(scene(motion, size=size), (200, 200))
        covered = 1 - (picture[..., 1] - 40) / (245 - 40)
        assert np.sqrt(covered.mean() / np.pi) == pytest.approx(SIZES[size], rel=0.01)


def test_two_objects_blend_where_they_meet() -> None:
    under = Object("red", "triangle", "large", "stays still", 0.35, 0.5)
    over = Object("blue", "triangle", "large", "stays still", 0.7, 0.5)
    clip = render(Scene("black", (under, over)), 5, (64, 64))
    swapped = render(Scene("black", (over, under)), 5, (64, 64))
    assert tuple(clip[0, 32, 22]) == COLOURS["red"]
    assert tuple(clip[0, 32, 45]) == COLOURS["blue"]
    meet = np.abs(clip.astype(int) - swapped).max(-1) > 1
    assert 0 < meet[0].sum() < 100  # the triangles' feet reach past their circles
    edge = clip[0][meet[0]]
    assert (edge[:, 0] + edge[:, 2].astype(int)).min() > 150  # no rim of the black behind both


def test_an_outline_may_leave_the_frame() -> None:
    corner = Scene("white", (Object("red", "star", "large", "stays still", 0.23, 0.23),))
    picture = render_image(corner)
    assert tuple(picture[0, 15]) != BACKGROUNDS["white"]
    assert tuple(picture[63, 63]) == BACKGROUNDS["white"]


@pytest.mark.parametrize("frames", [0, 2, 16, -3])
def test_wrong_frames(frames: int) -> None:
    with pytest.raises(ValueError, match=rf"frames is {frames}; a clip has 1 \+ 4k"):
        render(scene(), frames)


@pytest.mark.parametrize("size", [(31, 64), (64, 16)])
def test_too_small(size: tuple[int, int]) -> None:
    message = f"size is {size[0]}x{size[1]}; .* at least 32"
    with pytest.raises(ValueError, match=message):
        render(scene(), size=size)
    with pytest.raises(ValueError, match=message):
        render_image(scene(), size)
