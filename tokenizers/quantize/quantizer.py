"""What every quantiser offers: latents to codes, and codes to the vectors that a decoder reads."""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

from torch import Tensor, nn


class Quantized(NamedTuple):
    """What a training pass returns: vectors for the decoder, codes, and its loss terms (unweighted scalars)."""

    vectors: Tensor  # (..., dim), gradients pass straight through
    codes: Tensor  # (...) int64
    losses: dict[str, Tensor]


class Quantizer(nn.Module):
    """Latents (..., dim) <-> codes (...) int64 in [0, codebook_size) <-> vectors (..., dim).

    Attributes:
        dim: channels of latents and vectors.
        codebook_size: how many codes there are.
        frozen: set by `freeze`; the codes of a latent then stay what they are, in training too.
    """

    dim: int
    codebook_size: int
    frozen: bool = False

    @abstractmethod
    def codes(self, latents: Tensor) -> Tensor:
        """Latents (..., dim) -> codes (...)."""

    @abstractmethod
    def vectors(self, codes: Tensor) -> Tensor:
        """Codes (...) -> vectors (..., dim): what `forward` gives the decoder for latents of these codes."""

    @abstractmethod
    def forward(self, latents: Tensor) -> Quantized:
        """The differentiable pass of training. A quantiser that learns from the latents it sees learns here."""

    def freeze(self) -> None:
        """Keep every code and its vector as they are from here on."""
        self.frozen = True
        self.requires_grad_(False)


def straight_through(latents: Tensor, vectors: Tensor) -> Tensor:
    """`vectors` forward, and backward as if they were the latents (arXiv 1308.3432)."""
    return latents + (vectors - latents).detach()
