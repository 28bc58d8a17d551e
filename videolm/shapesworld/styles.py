"""A clip in another dress, for stylisation: its looks by style, and its structure, which every style keeps.

Both are clips of the scene's own size and length: structure goes in, the clip in the style of the caption comes out.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from videolm.shapesworld.render import Pixels, View, paint, render
from videolm.shapesworld.world import FRAMES, Scene, check

LINE = 0.02
"""Width of a sketch's line, in frame widths."""
CELLS = 8
"""Cells of a mosaic, on either side."""
LUMA = np.array([0.299, 0.587, 0.114])
SEPIA = np.array([1.0, 0.85, 0.6])
FASTEST = 0.15
"""Flow, in frame widths a frame, that is shown as the full range."""
DEPTHS = {"small": 0.5, "large": 1.0}
"""Depth by size, over a background of 0."""


def _negative(clip: Pixels) -> Pixels:
    return 255 - clip


def _sepia(clip: Pixels) -> Pixels:
    return np.rint((clip @ LUMA)[..., None] * SEPIA).astype(np.uint8)


def _mosaic(clip: Pixels) -> Pixels:
    """Each pixel takes the mean of its cell; a side that 8 does not divide has cells one pixel apart in size."""
    values = clip.astype(np.float64)
    for axis in (1, 2):
        edges = np.arange(CELLS) * clip.shape[axis] // CELLS
        sizes = np.diff(np.append(edges, clip.shape[axis]))
        shape = [-1 if a == axis else 1 for a in range(4)]
        means = np.add.reduceat(values, edges, axis=axis) / sizes.reshape(shape)
        values = np.repeat(means, sizes, axis=axis)
    return np.rint(values).astype(np.uint8)


_FILTERS: dict[str, Callable[[Pixels], Pixels]] = {"negative": _negative, "sepia": _sepia, "mosaic": _mosaic}
STYLES = ("sketch", *_FILTERS)


def render_style(scene: Scene, style: str, frames: int = FRAMES, size: tuple[int, int] = (64, 64)) -> Pixels:
    """A scene's clip in a style: (frames, height, width, 3), RGB.

    Args:
        scene: what to show.
        style: "sketch" (black outlines on white, nothing else), "negative", "sepia" or "mosaic".
        frames: 1 + 4k, as for `render`.
        size: height and width in pixels, each at least 32.

    Raises:
        ValueError: for a style that does not exist, and as `render`.
    """
    check("style", style, STYLES)
    if style in _FILTERS:
        return _FILTERS[style](render(scene, frames, size))
    t = _times(frames)
    black = np.zeros((frames, 3))
    views = [View(thing.shape, thing.centre(t), thing.radius(t), black) for thing in scene.objects]
    return paint(views, (255, 255, 255), size, band=LINE)


def render_structure(scene: Scene, frames: int = FRAMES, size: tuple[int, int] = (64, 64)) -> Pixels:
    """Where things are and go, whatever they look like: optical flow and depth as one clip.

    The channels are flow in x and in y, since the frame before, from -0.15 to 0.15 frame widths, and depth from 0
    to 1. All are brought to [-1, 1] and from there to 0 to 255 as pixels are: no flow is 128.

    Args:
        scene: what to show.
        frames: 1 + 4k, as for `render`.
        size: height and width in pixels, each at least 32.

    Returns:
        (frames, height, width, 3), uint8.

    Raises:
        ValueError: as `render`.
    """
    t = _times(frames)
    height, width = size
    rows, columns = ((np.arange(side) + 0.5) / side for side in size)
    places = np.stack(np.meshgrid(columns, rows), axis=-1)  # (H, W, 2), x then y
    clip = np.zeros((frames, height, width, 3))  # in [-1, 1]
    clip[..., 2] = -1
    for thing in scene.objects:
        centre, radius = thing.centre(t), thing.radius(t)
        view = View(thing.shape, centre, radius, np.full((frames, 3), 255.0))
        inside = paint([view], (0, 0, 0), size)[..., 0] > 127
        growth = (radius[:-1] / radius[1:])[:, None, None, None]  # of the frame before over this one
        before = centre[:-1, None, None] + (places - centre[1:, None, None]) * growth
        flow = np.concatenate([np.zeros((1, height, width, 2)), places - before])
        depth = np.full((frames, height, width, 1), 2 * DEPTHS[thing.size] - 1)
        shown = np.concatenate([np.clip(flow / FASTEST, -1, 1), depth], axis=-1)
        clip = np.where(inside[..., None], shown, clip)
    return np.rint((clip + 1) * 127.5).astype(np.uint8)


def _times(frames: int) -> np.ndarray:
    if frames < 1 or frames % 4 != 1:
        raise ValueError(f"frames is {frames}; a clip has 1 + 4k of them: 1, 5, 9, 13, 17, ...")
    return np.linspace(0, 1, frames)
