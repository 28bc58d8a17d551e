"""From a scene to pixels, anti-aliased: a whole clip at once, but only where its objects are."""

import numpy as np
from numpy.typing import NDArray

from videolm.shapesworld.outlines import OPAQUE, OUTLINES, Floats, Window, coverage
from videolm.shapesworld.world import BACKGROUNDS, COLOURS, FRAMES, RGB, SIZES, Scene

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
    clip = _paint(scene, [(thing.centre(t), thing.radius(t)) for thing in scene.objects], size)
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
    places = [(np.array([[thing.x, thing.y]]), np.array([SIZES[thing.size]])) for thing in scene.objects]
    return _paint(scene, places, size)[0]


def _paint(scene: Scene, places: list[tuple[Floats, Floats]], size: tuple[int, int]) -> Pixels:
    """The scene (f, H, W, 3) with each object at its own centres (f, 2) and radii (f,)."""
    height, width = size
    if min(size) < SMALLEST:
        raise ValueError(f"size is {height}x{width}; height and width are at least {SMALLEST} pixels")
    ground = BACKGROUNDS[scene.background]
    clip = np.empty((len(places[0][0]), height, width, 3), np.uint8)
    row = np.tile(np.array(ground, np.uint8), width)  # whole rows at once: far faster than pixels
    clip.reshape(-1, row.size)[:] = row
    for order, (thing, (centre, radius)) in enumerate(zip(scene.objects, places, strict=True)):
        window = Window.around(centre, OUTLINES[thing.shape].reach * radius.max(), size)
        cover = coverage(thing.shape, centre, radius, window, size)  # (f, h, w)
        views = window.views(clip)
        if order == 0:  # over one colour, a table of the blends is 8 times faster than blending
            patches = _blends(ground, COLOURS[thing.colour]).take(cover, axis=0)  # (f, h, w, 3)
        else:
            under = np.stack(views).astype(np.float32)
            share = cover[..., None] / np.float32(OPAQUE)
            patches = np.rint(under + share * (np.array(COLOURS[thing.colour]) - under)).astype(np.uint8)
        for view, patch in zip(views, patches, strict=True):
            view[:] = patch
    return clip


def _blends(ground: RGB, colour: RGB) -> Pixels:
    """The colour of a pixel by its coverage: (256, 3)."""
    return np.rint(np.linspace(ground, colour, OPAQUE + 1)).astype(np.uint8)
