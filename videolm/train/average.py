"""An exponential moving average of a module's weights (arXiv 1806.04498)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from videolm.train.engine import Piece


class Average:
    """Of the pieces of the weights that a rank keeps; so ZeRO shards it as it shards them.

    Attributes:
        pieces: as those that it averages, of the kind "average".
    """

    def __init__(self, weights: Sequence[Piece], decay: float):
        self.decay, self._weights = decay, weights
        self.pieces = [piece._replace(kind="average", values=piece.values.detach().clone()) for piece in weights]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the weights after `step`; early on faster, so that the start is forgotten."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for average, weight in zip(self.pieces, self._weights, strict=True):
            average.values.lerp_(weight.values, 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the weights and their averages; a second time, back."""
        for average, weight in zip(self.pieces, self._weights, strict=True):
            held = weight.values.clone()
            weight.values.copy_(average.values)
            average.values.copy_(held)
