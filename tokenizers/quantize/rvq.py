"""Residual vector quantisation: each level's table quantises what the levels before it left (SoundStream, arXiv
2107.03312, III.C).

    latent ──► level 0 ──► what is left ──► level 1 ──► what is left ──► ...     vector = the sum of the entries

The first levels alone are a coarser version of the same latent, so a prefix of a latent's codes decodes too.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from videolm.config import Config
from videolm.tokenizers.quantize.quantizer import Quantized, straight_through
from videolm.tokenizers.quantize.vq import VQ, VQConfig


class RVQConfig(Config):
    """Tables of codes, one after another. SoundStream's settings, for VideoPoet's four levels, by default."""

    levels: Annotated[int, Field(ge=1, le=32)] = 4
    codebook_size: Annotated[int, Field(ge=2, le=2**16)] = 1024
    """Codes of each level."""
    dim: Annotated[int, Field(ge=1)] = 256
    """Channels of an entry."""
    decay: Annotated[float, Field(gt=0, lt=1)] = 0.99
    """Of the averages that the tables are."""
    revive: Annotated[float, Field(ge=0, lt=1)] = 0.03
    """An entry used less often than this share of the mean is dead and is brought back; 0: none is."""
    kmeans: Annotated[int, Field(ge=0)] = 10
    """Rounds of k-means on the first latents that the tables start from."""
    dropout: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of training clips that are quantised by fewer levels, as many as are drawn."""

    def make(self) -> RVQ:
        return RVQ(self)


class RVQ(nn.Module):
    """Latents (b, n, dim) <-> codes (b, n, q) int64, each in [0, codebook_size) <-> vectors (b, n, dim).

    Fewer than `levels` codes of a latent are read as its first ones. Losses: `commitment`, the mean squared distance of
    what each level quantised to its entry, over the levels in use.
    """

    def __init__(self, config: RVQConfig):
        super().__init__()
        self.config = config
        self.dim, self.codebook_size = config.dim, config.codebook_size
        table = VQConfig(
            codebook_size=config.codebook_size,
            dim=config.dim,
            l2_normalized=False,
            decay=config.decay,
            revive=config.revive,
            kmeans=config.kmeans,
        )
        self.levels = nn.ModuleList(table.make() for _ in range(config.levels))

    def codes(self, latents: Tensor) -> Tensor:
        left, codes = latents, []
        for level in self.tables:
            codes.append(level.codes(left))
            left = left - level.vectors(codes[-1]).to(left.dtype)
        return torch.stack(codes, dim=-1)

    def vectors(self, codes: Tensor) -> Tensor:
        used = self.tables[: codes.shape[-1]]
        return torch.stack([level.vectors(code) for level, code in zip(used, codes.unbind(-1), strict=True)]).sum(0)

    def forward(self, latents: Tensor) -> Quantized:
        """The differentiable pass of training, in which the tables learn; codes are those of all levels."""
        codes = self.codes(latents)
        depth = self._depths(len(latents)).to(latents.device)
        left, vectors, distances = latents, torch.zeros_like(latents), []
        for number, level in enumerate(self.tables):
            used = (depth > number).nonzero().flatten()
            out = level(left[used])
            distances.append(out.losses["commitment"])
            entries = out.vectors.detach()
            vectors, left = vectors.index_add(0, used, entries), left.index_add(0, used, -entries)
        losses = {"commitment": torch.stack(distances).mean()}
        return Quantized(straight_through(latents, vectors), codes, losses)

    @property
    def tables(self) -> list[VQ]:
        return list(self.levels)  # type: ignore[arg-type]

    def freeze(self) -> None:
        """Keep every code and its vector as they are from here on."""
        for level in self.tables:
            level.freeze()

    def _depths(self, clips: int) -> Tensor:
        """How many levels each clip of a training pass is quantised by: (b,). The first has all, so that all learn."""
        levels = len(self.levels)
        if not self.training or not self.config.dropout:
            return torch.full((clips,), levels)
        # seeded by the pass, so that a resumed run draws the same
        generator = torch.Generator().manual_seed(int(self.tables[0].passes))
        fewer = torch.rand(clips, generator=generator) < self.config.dropout
        fewer[0] = False
        return torch.where(fewer, torch.randint(1, levels + 1, (clips,), generator=generator), levels)
