"""Styles and structure of a scene, pixel by pixel."""

import numpy as np
import pytest

from videolm.shapesworld import (
    STYLES,
    Object,
    Scene,
    caption,
    draw_scene,
    in_style,
    judge_style,
    parse_caption,
    render,
    render_structure,
    render_style,
    split_style,
)


def scene(motion: str = "stays still", shape: str = "square", size: str = "large") -> Scene:
    return Scene("pink", (Object("blue", shape, size, motion, 0.5, 0.5),))


def test_negative() -> None:
    assert np.array_equal(render_style(scene(), "negative"), 255 - render(scene()))


def test_sepia() -> None:
    luma = render(scene()) @ (0.299, 0.587, 0.114)
    assert np.abs(render_style(scene(), "sepia") - luma[..., None] * (1.0, 0.85, 0.6)).max() <= 0.5


def test_mosaic_of_sides_that_divide() -> None:
    clip = render_style(scene("moves left"), "mosaic")
    cells = clip.reshape(17, 8, 8, 8, 8, 3)
    assert (cells == cells[:, :, :1, :, :1]).all()
    means = render(scene("moves left")).reshape(17, 8, 8, 8, 8, 3).mean((2, 4))
    assert np.abs(cells[:, :, 0, :, 0] - means).max() <= 0.5


def test_mosaic_of_sides_that_do_not() -> None:
    clip = render_style(scene(), "mosaic", size=(36, 50))
    assert clip.shape == (17, 36, 50, 3)
    steps = [(np.diff(clip[0].astype(int), axis=a) != 0).any((1 - a, 2)).sum() for a in (0, 1)]
    assert max(steps) <= 7  # borders between eight cells


def test_sketch_is_a_line_along_the_edge() -> None:
    clip = render_style(scene(), "sketch", size=(400, 400))[0] / 255
    assert (clip[..., 0] == clip[..., 2]).all()
    half = np.sqrt(np.pi) / 2 * 0.2  # of a square's side
    middle = 1 - clip[200, :, 0]  # a row through the centre crosses two lines
    assert middle.sum() / 400 == pytest.approx(2 * 0.02, abs=0.002)
    assert middle[int((0.5 - half) * 400)] == pytest.approx(1, abs=0.01)
    assert middle[200] == 0
    assert (1 - clip[..., 0]).sum() / 400**2 == pytest.approx(8 * half * 0.02, rel=0.03)


@pytest.mark.parametrize("shape", ["star", "triangle"])
def test_sketch_is_whole(shape: str) -> None:
    """The window around an object holds its line, the points of it too."""
    thing = Object("blue", shape, "large", "stays still", 0.5, 0.5)
    apart, together = (
        render_style(Scene("pink", things), "sketch", 1, (200, 200))
        for things in ((thing,), (Object("red", "circle", "large", "stays still", 0.5, 0.5), thing))
    )
    assert ((apart < 255) <= (together < 255)).all()
    rows, columns = (np.flatnonzero((apart[0, ..., 0] < 255).any(axis)) for axis in (1, 0))
    assert rows[0] > 4
    assert columns[0] > 4


def test_structure_of_what_stands_still() -> None:
    clip = render_structure(scene(size="small"))
    inside = render_style(scene(size="small"), "negative") != 255 - np.array((250, 175, 195))
    assert (clip[..., :2] == 128).all()  # 127.5, no flow
    assert set(np.unique(clip[..., 2])) == {0, 128}  # depth 0 and 0.5
    assert clip[0, 32, 32, 2] == 128
    assert inside.any(-1).sum() >= (clip[..., 2] == 128).sum()


@pytest.mark.parametrize(("motion", "flow"), [("moves left", (-1, 0)), ("moves down", (0, 1))])
def test_flow_of_a_path(motion: str, flow: tuple[int, int]) -> None:
    clip = render_structure(scene(motion)).astype(float) / 127.5 - 1
    inside = clip[..., 2] > 0
    assert np.abs(clip[0, ..., :2]).max() < 0.01
    wanted = np.array(flow) * 0.35 / 16 / 0.15
    assert np.abs(clip[1:][inside[1:]][:, :2] - wanted).max() <= 0.5 / 127.5 + 1e-6
    assert (clip[..., :2][~inside] * 127.5).round().max() <= 1


def test_flow_of_what_grows_points_outwards() -> None:
    clip = render_structure(scene("grows"), size=(64, 64)).astype(float) / 127.5 - 1
    row = clip[16, 32]
    inside = np.flatnonzero(row[:, 2] > 0)
    assert (np.diff(row[inside, 0]) >= 0).all()
    edge = 0.5 + np.sqrt(np.pi) / 2 * 0.28
    wanted = (edge - 0.5) * (1 - (0.28 - 0.14 / 16) / 0.28) / 0.15  # what its right edge has moved by in a frame
    assert row[inside[-1], 0] == pytest.approx(wanted, rel=0.15)


def test_two_depths() -> None:
    large, small = (Object("blue", "circle", s, "stays still", x, 0.5) for s, x in (("large", 0.3), ("small", 0.7)))
    depth = render_structure(Scene("pink", (large, small)))[0, ..., 2]
    assert (depth[32, 19], depth[32, 45], depth[2, 2]) == (255, 128, 0)


def test_captions_of_styles() -> None:
    for style in STYLES:
        text = in_style(caption(scene()), style)
        assert text == f"a large blue square stays still on a pink background in {style} style"
        assert split_style(text) == (caption(scene()), style)
        assert parse_caption(split_style(text)[0]) == scene().attributes
    assert split_style(caption(scene())) == (caption(scene()), None)
    with pytest.raises(ValueError, match="style is 'cubist'; it must be one of 'sketch'"):
        in_style("", "cubist")
    with pytest.raises(ValueError, match="style is 'cubist'"):
        render_style(scene(), "cubist")


@pytest.mark.parametrize("style", STYLES)
def test_judge_knows_styles_and_paths(style: str) -> None:
    rng = np.random.default_rng(0)
    for index in range(20):
        truth = draw_scene(5, index)
        clip = render_style(truth, style)
        assert judge_style(clip, truth).style == style
        assert judge_style(clip, truth).error == 0
        noisy = np.clip(clip + rng.normal(0, 8, clip.shape), 0, 255).astype(np.uint8)
        assert judge_style(noisy, truth).style == style
    moved = Scene("pink", (Object("blue", "square", "large", "stays still", 0.6, 0.5),))
    assert judge_style(render_style(moved, style), scene()).path_error == pytest.approx(0.1, abs=0.03)


def test_judge_of_other_forms() -> None:
    with pytest.raises(ValueError, match="wanted uint8"):
        judge_style(np.zeros((17, 64, 64, 3)), scene())
    with pytest.raises(ValueError, match="has 2 objects"):
        judge_style(render(scene()), draw_scene(0, 0, two_objects=1))
    empty = np.full((17, 64, 64, 3), 255, np.uint8)
    assert judge_style(empty, scene()).path_error is None
