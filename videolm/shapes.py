"""The axis legend, and the arithmetic between frames and latent grids.

    b batch      t latent time   h w latent height, width   n sequence   d model width
    f frames     H W pixels      c channels                 q audio codebook level

Every reshape in the project is an einops string in these letters.
"""

from __future__ import annotations

from typing import NamedTuple

from videolm.errors import UserError


class TokenGrid(NamedTuple):
    """Latent positions of a clip, read in raster order: time, then rows, then columns."""

    t: int
    h: int
    w: int

    @property
    def tokens(self) -> int:
        return self.t * self.h * self.w


class SoundGrid(NamedTuple):
    """Codes of a sound: so many levels at every codec frame, of `stride` samples."""

    sample_rate: int
    stride: int
    levels: int

    def frames(self, seconds: float) -> int:
        """Whole codec frames in a time.

        >>> SoundGrid(16000, 320, 4).frames(17 / 8), SoundGrid(16000, 320, 4).frames(41 / 8)
        (106, 256)
        """
        return round(seconds * self.sample_rate) // self.stride


class Format(NamedTuple):
    """Size of a clip in pixels. One frame is an image."""

    frames: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.frames}x{self.height}x{self.width}"


def latent_frames(frames: int, stride: int) -> int:
    """Latent frames of a clip whose first frame stands alone: 1 + (frames - 1) / stride.

    Raises `UserError` when the frames are not 1 + stride * k, naming the lengths on either side.

    >>> [latent_frames(f, 4) for f in (1, 5, 17, 41)]
    [1, 2, 5, 11]
    """
    whole, rest = divmod(frames - 1, stride)
    if frames < 1 or rest:
        below = max(1, 1 + whole * stride)
        raise UserError(
            f"{frames} frames do not fit the tokenizer, which takes 1 + {stride}k frames; "
            f"use {below} or {below + stride}"
        )
    return 1 + whole


def pixel_frames(latents: int, stride: int) -> int:
    """Frames that `latents` latent frames stand for: the inverse of `latent_frames`.

    >>> [pixel_frames(t, 4) for t in (1, 2, 5, 11)]
    [1, 5, 17, 41]
    """
    return 1 + (latents - 1) * stride
