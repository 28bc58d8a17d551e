"""From a scene to pixels, anti-aliased: a whole clip at once, but only where its objects are."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from videolm.shapesworld.outlines import OPAQUE, OUTLINES, Floats, Window, coverage
from videolm.shapesworld.world import BACKGROUNDS, FRAMES, RGB, SIZES, Scene

Pixels = NDArray[np.uint8]

SMALLEST = 32  # pixels of height, and of width


def render(scene: Scene, frames: int = FRAMES, size: tuple[int, int] = (64, 64)) -> Pixels:
    """Show a scene from t = 0 to 1.

    Args:
        scene: what to show.
        frames: 1 + 4k, spread evenly over t: more of them run the same motion more slowly, and one is the
            start, whose radius need not be the nominal one (see ``render_image``).
        size: height and width in pixels, each at least 32.

    Returns:
        (frames, height, width, 3), RGB.

    Raises:
        ValueError: for a number of frames that is not 1 + 4k, or a size below 32.
    """
    if frames < 1 or frames % 4 != 1:
        raise ValueError(f"frames is {frames}; a clip has 1 + 4k of them: 1, 5, 9, 13, 17, ...")
    still = all(thing.motion == "stays still" for thing in scene.objects)
    t = np.linspace(0, 1, frames)[: 1 if still else None]
    views = [View(thing.shape, thing.centre(t), thing.radius(t), thing.rgb(t)) for thing in scene.objects]
    clip = paint(views, BACKGROUNDS[scene.background], size)
    return clip.repeat(frames, axis=0) if still else clip


def render_image(scene: Scene, size: tuple[int, int] = (64, 64)) -> Pixels:
    """Show a scene's objects where they start, with their nominal radius.

    Args:
        scene: what to show.
        size: height and width in pixels, each at least 32.

    Returns:
        (height, width, 3), RGB.

    Raises:
        ValueError: for a size below 32.
    """
    views = [
        View(thing.shape, np.array([[thing.x, thing.y]]), np.array([SIZES[thing.size]]), thing.rgb([0.0]))
        for thing in scene.objects
    ]
    return paint(views, BACKGROUNDS[scene.background], size)[0]


class View(NamedTuple):
    """One object in each of f frames."""

    shape: str
    centre: Floats  # (f, 2), in the unit square
    radius: Floats  # (f,), in frame widths
    rgb: Floats  # (f, 3), from 0 to 255


def paint(objects: Sequence[View], ground: RGB, size: tuple[int, int], band: float = 0.0) -> Pixels:
    """Objects, the later over the earlier, on one colour: (f, height, width, 3).

    Args:
        objects: as many frames of each.
        ground: the colour around them.
        size: height and width in pixels, each at least 32.
        band: where not 0, only a line of this width, in frame widths, along their edges.

    Raises:
        ValueError: for a size below 32.
    """
    height, width = size
    if min(size) < SMALLEST:
        raise ValueError(f"size is {height}x{width}; height and width are at least {SMALLEST} pixels")
    clip = np.empty((len(objects[0].centre), height, width, 3), np.uint8)
    row = np.tile(np.array(ground, np.uint8), width)  # whole rows at once: far faster than pixels
    clip.reshape(-1, row.size)[:] = row
    for order, (shape, centre, radius, rgb) in enumerate(objects):
        reach = OUTLINES[shape].reach * radius.max() + 1.5 * band  # mitred points of a band go beyond half of it
        window = Window.around(centre, reach, size)
        cover = coverage(shape, centre, radius, window, size, band)  # (f, h, w)
        views = window.views(clip)
        if order == 0 and (rgb == rgb[0]).all():  # over one colour, a table of the blends is 8 times faster
            patches = _blends(ground, rgb[0]).take(cover, axis=0)  # (f, h, w, 3)
        else:
            under = np.stack(views).astype(np.float32)
            share = cover[..., None] / np.float32(OPAQUE)
            patches = np.rint(under + share * (rgb[:, None, None] - under)).astype(np.uint8)
        for view, patch in zip(views, patches, strict=True):
            view[:] = patch
    return clip


def _blends(ground: RGB, colour: Floats) -> Pixels:
    """The colour of a pixel by its coverage: (256, 3)."""
    return np.rint(np.linspace(ground, colour, OPAQUE + 1)).astype(np.uint8)
