"""The six outlines: how much of each pixel a shape covers.

A shape is a function that is negative inside and grows by one per unit across an edge (a signed distance, but
with mitred corners), so that the half pixel on either side of an edge becomes the blend. Only a window around
the object is evaluated. The renderer paints with these outlines; the judge holds them against what it sees.
"""

from collections.abc import Callable
from math import ceil, cos, hypot, pi, sin, sqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

OPAQUE = 255  # the coverage of a pixel wholly inside

# Each of these gives its shape the area πr² of a circle of radius r.
_SQUARE = sqrt(pi) / 2  # half a side
_DIAMOND = _SQUARE * sqrt(2)  # from the centre to a corner
_BAR = sqrt(9 * pi / 5) / 2  # half the length of a cross's bar; its width is a third of its length
_TRIANGLE = sqrt(pi / (3 * sqrt(3)))  # from the centroid to a side, half as far as to a corner
_INNER = 0.45  # a star's inner radius, of its outer
_STAR = sqrt(pi / (5 * _INNER * sin(pi / 5)))  # its outer radius
_COS, _SIN = cos(pi / 5), sin(pi / 5)
_EDGE = hypot(_INNER * _SIN, 1 - _INNER * _COS)  # of a star, from a notch to a point
_SLOPE_X, _SLOPE_Y = (1 - _INNER * _COS) / _EDGE, _INNER * _SIN / _EDGE  # across that edge, outwards


def _circle(x: Floats, y: Floats, r: Floats) -> Floats:
    square = x * x + y * y
    return np.subtract(np.sqrt(square, out=square), r, out=square)


def _square(x: Floats, y: Floats, r: Floats) -> Floats:
    return np.maximum(np.abs(x) - _SQUARE * r, np.abs(y) - _SQUARE * r)


def _triangle(x: Floats, y: Floats, r: Floats) -> Floats:
    slopes = cos(pi / 6) * np.abs(x) - (sin(pi / 6) * y + _TRIANGLE * r)
    return np.maximum(slopes, y - _TRIANGLE * r, out=slopes)


def _diamond(x: Floats, y: Floats, r: Floats) -> Floats:
    return sqrt(0.5) * np.abs(x) + (sqrt(0.5) * np.abs(y) - _SQUARE * r)


def _star(x: Floats, y: Floats, r: Floats) -> Floats:
    # Mirrors through the notches 36° either side of straight up fold the five points onto the upper one. Its
    # right edge, a single line, is then the whole outline.
    x, up = np.abs(x), -y
    beyond = np.maximum(_COS * x - _SIN * up, 0)
    x, up = x - 2 * _COS * beyond, up + 2 * _SIN * beyond
    beyond = np.maximum(-_COS * x - _SIN * up, 0)
    x, up = np.abs(x + 2 * _COS * beyond), up + 2 * _SIN * beyond
    return _SLOPE_X * x + _SLOPE_Y * (up - _STAR * r)


def _cross(x: Floats, y: Floats, r: Floats) -> Floats:
    x, y, bar = np.abs(x), np.abs(y), _BAR * r
    wide = np.maximum(x - bar, y - bar / 3)
    return np.minimum(wide, np.maximum(x - bar / 3, y - bar), out=wide)


class _Outline(NamedTuple):
    distance: Callable[[Floats, Floats, Floats], Floats]  # beyond the edge, of (x, y) off the centroid, for r
    reach: float  # furthest extent along an axis, for r = 1


OUTLINES = {
    "circle": _Outline(_circle, 1.0),
    "square": _Outline(_square, _SQUARE),
    "triangle": _Outline(_triangle, 2 * _TRIANGLE),
    "diamond": _Outline(_diamond, _DIAMOND),
    "star": _Outline(_star, _STAR),
    "cross": _Outline(_cross, _BAR),
}


class Window(NamedTuple):
    """A rectangle of pixels of one size in each of f frames, wholly inside them."""

    tops: NDArray[np.intp]  # (f,)
    lefts: NDArray[np.intp]  # (f,)
    height: int
    width: int

    @classmethod
    def around(cls, centre: Floats, reach: float, size: tuple[int, int]) -> "Window":
        """Hold all within ``reach`` along either axis of ``centre`` (f, 2), in the unit square."""
        height, width = (min(ceil(2 * reach * side) + 4, side) for side in size)  # 4: the blend, the rounding
        corners = centre * (size[1], size[0]) - (width / 2, height / 2)  # (f, 2)
        lefts, tops = np.clip(np.rint(corners), 0, (size[1] - width, size[0] - height)).astype(np.intp).T
        return cls(tops, lefts, height, width)

    def views(self, frames: NDArray[Any]) -> list[NDArray[Any]]:
        """What the window shows of each of the ``frames`` (f, H, W, ...)."""
        return [
            frame[top : top + self.height, left : left + self.width]
            for frame, top, left in zip(frames, self.tops.tolist(), self.lefts.tolist(), strict=True)
        ]


def coverage(
    shape: str, centre: Floats, radius: Floats, window: Window, size: tuple[int, int], band: float = 0.0
) -> NDArray[np.uint8]:
    """How much of each pixel of a window a shape covers, from 0 to 255.

    Args:
        shape: one of ``OUTLINES``.
        centre: (f, 2), its centroid (x, y) in the unit square.
        radius: (f,), of the circle of the same area.
        window: the pixels to look at.
        size: height and width of the frame; where they differ, the unit square is stretched to fit.
        band: where not 0, what is covered is a line of this width, in frame widths, along the shape's edge.

    Returns:
        (f, window.height, window.width).
    """
    height, width = size
    unit = OPAQUE * sqrt(height * width)  # lengths become 255ths of a pixel, so that distances are coverages
    columns = (window.lefts[:, None] + np.arange(window.width) + 0.5) / width  # (f, w)
    rows = (window.tops[:, None] + np.arange(window.height) + 0.5) / height  # (f, h)
    lengths = (columns - centre[:, :1])[:, None, :], (rows - centre[:, 1:])[:, :, None], radius[:, None, None]
    x, y, r = ((unit * length).astype(np.float32) for length in lengths)
    distance = OUTLINES[shape].distance(x, y, r)  # (f, h, w)
    if band:
        distance = np.abs(distance, out=distance) - np.float32(unit * band / 2)
    inside = np.subtract((OPAQUE + 1) / 2, distance, out=distance)  # half an edge's blend, and half to round
    return np.clip(inside, 0, OPAQUE, out=inside).astype(np.uint8)
