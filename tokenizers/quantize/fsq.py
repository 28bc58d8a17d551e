"""Finite scalar quantisation: every channel of a latent is rounded to a few levels (arXiv 2309.15505).

A channel with L levels is bounded to L values around 0 and rounded; the code is the number whose digits, least first,
are the levels. Worked example, levels (3, 4): digits (2, 1) are the code 2 + 3 * 1 = 5, the vector (1, -0.5).
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from videolm.config import Config
from videolm.tokenizers.quantize.quantizer import Quantized, Quantizer, straight_through

Levels = Annotated[int, Field(ge=3, le=64)]
OVERSHOOT = 1e-3
"""Share by which the bound lies beyond the outermost levels, so that latents reach them."""


class FSQConfig(Config):
    """Finite scalar quantisation: as many codes as the product of the levels."""

    name: Literal["fsq"] = "fsq"
    levels: Annotated[tuple[Levels, ...], Field(min_length=1, max_length=16)] = (8, 8, 8, 5, 5, 5)
    """Values that each channel may take. The paper's for about 2^16 codes by default."""

    def make(self) -> FSQ:
        return FSQ(self)


class FSQ(Quantizer):
    """See the module docstring. It has no losses: every code is reached by the bounds, and none is far away."""

    levels: Tensor
    bases: Tensor

    def __init__(self, config: FSQConfig):
        super().__init__()
        self.dim, self.codebook_size = len(config.levels), math.prod(config.levels)
        bases = [math.prod(config.levels[:channel]) for channel in range(self.dim)]
        self.register_buffer("levels", torch.tensor(config.levels), persistent=False)
        self.register_buffer("bases", torch.tensor(bases), persistent=False)

    def codes(self, latents: Tensor) -> Tensor:
        digits = self._bound(latents).round().long() + self.levels // 2
        return (digits * self.bases).sum(-1)

    def vectors(self, codes: Tensor) -> Tensor:
        half = self.levels // 2
        digits = codes.unsqueeze(-1) // self.bases % self.levels
        return (digits - half).float() / half

    def forward(self, latents: Tensor) -> Quantized:
        bounded = self._bound(latents)
        half = (self.levels // 2).to(latents.dtype)
        vectors = straight_through(bounded, bounded.round()) / half
        return Quantized(vectors, self.codes(latents), {})

    def _bound(self, latents: Tensor) -> Tensor:
        """Latents into the range that rounds to the levels; computed in float32 at least."""
        wide = latents if latents.dtype == torch.float64 else latents.float()
        reach = (self.levels - 1).to(wide.dtype) * (1 + OVERSHOOT) / 2
        offset = (1 - self.levels % 2).to(wide.dtype) / 2  # an even number of levels lies around -1/2
        return ((wide + (offset / reach).atanh()).tanh() * reach - offset).to(latents.dtype)
