"""Crop, letterbox and cover: how a picture of one shape is put into another."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import PIL.Image

from videolm.errors import UserError
from videolm.media.clip import Pixels

Fit = Literal["crop", "letterbox"]
AnyFit = Literal[Fit, "cover"]
"""Also that which may give more than the size."""

MAX_PIXELS = 8192 * 8192
"""The largest frame or picture that is read or made, in pixels."""


def check_fit(size: tuple[int, int] | None, fit: str) -> None:
    """Raise `UserError` unless `size` is None or (height, width) within `MAX_PIXELS` and `fit` is known."""
    if fit not in get_args(AnyFit):
        raise UserError(f"fit is {fit!r}: wanted 'crop', 'letterbox' or 'cover'")
    if size is None:
        return
    if len(size) != 2 or not all(isinstance(side, (int, np.integer)) and side > 0 for side in size):
        raise UserError(f"size is {size}: wanted (height, width), two whole numbers above 0")
    if size[0] * size[1] > MAX_PIXELS:
        raise UserError(f"size is {size[0]}x{size[1]}: wanted no more than {MAX_PIXELS:,} pixels")


def place(pixels: Pixels, size: tuple[int, int] | None, fit: AnyFit, pixel_aspect: float = 1.0) -> Pixels:
    """Resize (H, W, 3) to (*size, 3), keeping the proportions of what is shown.

    "crop" fills the size and cuts what sticks out, equally on both sides; "letterbox" shows everything
    and leaves black bars; "cover" fills the size and keeps what sticks out, so the result may be larger. Bilinear,
    widened when shrinking so that every source pixel counts.

    Args:
        size: (height, width); None keeps the size, as shown.
        pixel_aspect: width over height of one source pixel, not 1 in some camera and DVD files.

    Raises `UserError` where a picture so long would cover with more than `MAX_PIXELS`.
    """
    height, width = pixels.shape[:2]
    shown = width * pixel_aspect
    if size is None:
        size = (height, max(1, round(shown)))
    if size == (height, width) and pixel_aspect == 1:
        return pixels
    new_height, new_width = size
    picture = PIL.Image.fromarray(pixels)
    if fit == "cover":
        scale = max(new_width / shown, new_height / height)
        new_height, new_width = max(new_height, round(height * scale)), max(new_width, round(shown * scale))
        check_fit((new_height, new_width), fit)
        return np.array(picture.resize((new_width, new_height), PIL.Image.Resampling.BILINEAR))
    if fit == "crop":
        scale = max(new_width / shown, new_height / height)
        x = (width - new_width / scale / pixel_aspect) / 2
        y = (height - new_height / scale) / 2
        # Rounding must not push the box beyond the picture.
        box = (max(x, 0.0), max(y, 0.0), min(width - x, width), min(height - y, height))
        return np.array(picture.resize((new_width, new_height), PIL.Image.Resampling.BILINEAR, box))
    scale = min(new_width / shown, new_height / height)
    inner_width, inner_height = max(1, round(shown * scale)), max(1, round(height * scale))
    left, top = (new_width - inner_width) // 2, (new_height - inner_height) // 2
    canvas = np.zeros((new_height, new_width, 3), np.uint8)
    inner = picture.resize((inner_width, inner_height), PIL.Image.Resampling.BILINEAR)
    canvas[top : top + inner_height, left : left + inner_width] = np.asarray(inner)
    return canvas
