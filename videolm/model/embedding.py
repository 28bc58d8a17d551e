"""Ids and text embeddings to the trunk's input."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from videolm.model.factor import Factors


class TokenEmbedding(nn.Module):
    """Ids (b, n) to vectors (b, n, d). A visual id is the sum of two small tables' rows, one for each half of its code.

    At paper size two tables of 512 rows stand in for one of 262,144.
    """

    def __init__(self, width: int, special: int, visual: int, audio: int):
        super().__init__()
        self.special_size, self.visual_size, self.audio_size = special, visual, audio
        self.codes = Factors.of(visual)
        self.special = nn.Embedding(special, width)
        self.visual_a = nn.Embedding(self.codes.sizes[0], width)
        self.visual_b = nn.Embedding(self.codes.sizes[1], width)
        self.audio = nn.Embedding(audio, width) if audio else None

    def forward(self, ids: Tensor) -> Tensor:
        a, b = self.codes.split((ids - self.special_size).clamp(0, self.visual_size - 1))
        visual = self.visual_a(a) + self.visual_b(b)
        x = torch.where(
            (ids < self.special_size)[..., None], self.special(ids.clamp_max(self.special_size - 1)), visual
        )
        if self.audio is not None:
            start = self.special_size + self.visual_size
            x = torch.where((ids >= start)[..., None], self.audio((ids - start).clamp_min(0)), x)
        return x


def place_text(x: Tensor, text: Tensor, mask: Tensor, start: int) -> Tensor:
    """Lay text embeddings (b, m, d) over positions start .. start + m of x (b, n, d) where `mask` (b, m) is true.

    Positions without a token keep the embedding of `<empty>` that lies there.
    """
    stop = start + text.shape[1]
    placed = torch.where(mask[..., None], text.to(x.dtype), x[:, start:stop])
    return torch.cat([x[:, :start], placed, x[:, stop:]], dim=1)
