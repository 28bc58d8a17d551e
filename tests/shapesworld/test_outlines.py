"""The six outlines are those of the definition: area, centroid, corners."""

from math import cos, pi, radians, sin, sqrt

import numpy as np
import pytest

from videolm.shapesworld.outlines import OPAQUE, OUTLINES, Window, coverage
from videolm.shapesworld.world import SHAPES

SIDE = 800
RADIUS = 0.2

# Corners in units of the radius, x right and y down, worked out by hand from "the area of a circle".
STAR = sqrt(pi / (5 * 0.45 * sin(radians(36))))
TRIANGLE = sqrt(4 * pi / (3 * sqrt(3)))
CORNERS: dict[str, np.ndarray] = {
    "square": sqrt(pi) / 2 * np.array([(x, y) for x in (-1, 1) for y in (-1, 1)]),
    "diamond": sqrt(pi / 2) * np.array([(0, -1), (0, 1), (-1, 0), (1, 0)]),
    "triangle": TRIANGLE * np.array([(sin(a), -cos(a)) for a in np.radians([0, 120, 240])]),
    "star": STAR * np.array([(sin(a), -cos(a)) for a in np.radians(range(0, 360, 72))]),
    "cross": sqrt(pi / 20) * np.array([(x, y) for a, b in ((1, 3), (3, 1)) for x in (-a, a) for y in (-b, b)]),
}


def fill(shape: str, side: int, centre: tuple[float, float] = (0.5, 0.5), radius: float = RADIUS) -> np.ndarray:
    """The whole frame's coverage, in [0, 1]."""
    where, radii = np.array([centre]), np.array([radius])
    window = Window.around(where, 1, (side, side))
    return coverage(shape, where, radii, window, (side, side))[0] / OPAQUE


@pytest.mark.parametrize("shape", SHAPES)
def test_area_and_centroid(shape: str) -> None:
    cover = fill(shape, SIDE)
    assert cover.sum() / SIDE**2 == pytest.approx(pi * RADIUS**2, rel=2e-3)
    axis = (np.arange(SIDE) + 0.5) / SIDE
    assert (cover.sum(0) @ axis) / cover.sum() == pytest.approx(0.5, abs=2e-4)
    assert (cover.sum(1) @ axis) / cover.sum() == pytest.approx(0.5, abs=2e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_area_survives_few_pixels(shape: str) -> None:
    offsets = np.random.default_rng(0).uniform(0.45, 0.55, (50, 2))
    areas = [fill(shape, 32, tuple(offset), 0.11).sum() / 32**2 for offset in offsets]
    assert np.mean(areas) == pytest.approx(pi * 0.11**2, rel=0.03)


@pytest.mark.parametrize("shape", CORNERS)
def test_corners(shape: str) -> None:
    cover = fill(shape, SIDE)
    for corner in CORNERS[shape]:
        for share, inside in ((0.98, True), (1.02, False)):
            x, y = ((0.5 + RADIUS * share * corner) * SIDE).astype(int)
            assert (cover[y, x] > 0.5) == inside, (corner, share)


def test_star_notches() -> None:
    cover = fill("star", SIDE)
    for angle in np.radians(range(36, 360, 72)):
        notch = 0.45 * STAR * np.array([sin(angle), -cos(angle)])
        for share, inside in ((0.96, True), (1.04, False)):
            x, y = ((0.5 + RADIUS * share * notch) * SIDE).astype(int)
            assert (cover[y, x] > 0.5) == inside


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [(64, 64), (32, 80)])
def test_window_holds_all(shape: str, size: tuple[int, int]) -> None:
    """Nothing that a look at the whole frame shows lies outside the window."""
    centre = np.random.default_rng(1).uniform(0.2, 0.8, (40, 2))
    radius = np.random.default_rng(2).uniform(0.07, 0.28, 40)
    tight = Window.around(centre, OUTLINES[shape].reach * radius.max(), size)
    whole = Window.around(centre, 1, size)
    assert (whole.height, whole.width) == size
    everywhere = coverage(shape, centre, radius, whole, size)
    for part, patch in zip(tight.views(everywhere), coverage(shape, centre, radius, tight, size), strict=True):
        np.testing.assert_array_equal(part, patch)
        part[:] = 0
    assert not everywhere.any()
