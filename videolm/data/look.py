"""Looks at parts of a clip, from which a tokenizer learns more than from the clip as it is."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from videolm.media.clip import Pixels

SMALLEST = 0.5
"""The smallest part of a picture that a look shows, as a share of its sides."""


def look(frames: Pixels, size: tuple[int, int], rng: np.random.Generator | None = None) -> Pixels:
    """Frames (f, H, W, 3) at `size`: the middle of the picture, as large as its proportions allow.

    With `rng` a part of it at random, at least `SMALLEST` of that large, perhaps on its side, mirrored, upside down and
    backwards: what a code stands for should not depend on it.
    """
    if rng is None:
        return _resize(_part(frames, size, 1.0, (0.5, 0.5)), size)
    on_its_side, mirrored, upside_down, backwards = rng.random(4) < 0.5
    shape = size[::-1] if on_its_side else size
    frames = _part(frames, shape, rng.uniform(SMALLEST, 1), tuple(rng.random(2)))
    frames = frames.swapaxes(1, 2) if on_its_side else frames
    return _resize(frames[:: -1 if backwards else 1, :: -1 if upside_down else 1, :: -1 if mirrored else 1], size)


def _part(frames: Pixels, shape: tuple[int, int], share: float, place: tuple[float, float]) -> Pixels:
    """A part in the proportions of `shape`, `share` of the largest there is, at a place from (0, 0) to (1, 1)."""
    sides = frames.shape[1:3]
    scale = share * min(side / wanted for side, wanted in zip(sides, shape, strict=True))
    height, width = (max(1, round(scale * wanted)) for wanted in shape)
    y, x = (round(at * (side - part)) for at, side, part in zip(place, sides, (height, width), strict=True))
    return frames[:, y : y + height, x : x + width]


def _resize(frames: Pixels, size: tuple[int, int]) -> Pixels:
    pixels = torch.from_numpy(np.ascontiguousarray(frames)).movedim(-1, 1)
    return F.interpolate(pixels, size, mode="bilinear", antialias=True).movedim(1, -1).numpy()
