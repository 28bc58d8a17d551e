"""Vector quantisation: the code of a latent is the nearest entry of a learned table (arXiv 1711.00937).

With `l2_normalized`, latents and entries are laid on the unit sphere first (ViT-VQGAN, arXiv 2110.04627, as C-ViViT
takes it: Phenaki 2.1). The table follows the latents by moving averages ("ema") or is a weight that the optimiser moves
by the codebook loss ("gradient"). Entries that fall out of use are brought back to where latents are.
"""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from videolm.config import Config
from videolm.tokenizers.layers.averages import Averages, from_first_rank, over_ranks
from videolm.tokenizers.quantize.quantizer import Quantized, Quantizer, straight_through

ROWS = 4096
"""Latents compared with the table at a time: the distances of all would fill the memory."""
SMOOTHING = 1e-5


class VQConfig(Config):
    """A table of codes."""

    name: Literal["vq"] = "vq"
    codebook_size: Annotated[int, Field(ge=2, le=2**20)] = 8192
    dim: Annotated[int, Field(ge=1)] = 32
    """Channels of an entry; few, beside the width of the network ("factorised" in ViT-VQGAN), keep entries in use."""
    l2_normalized: bool = True
    """Compare directions alone."""
    update: Literal["ema", "gradient"] = "ema"
    """How the table learns."""
    decay: Annotated[float, Field(gt=0, lt=1)] = 0.99
    """Of the averages of what each entry is used for."""
    revive: Annotated[float, Field(ge=0, lt=1)] = 0.03
    """An entry used less often than this share of the mean is dead and is brought back; 0: none is."""
    kmeans: Annotated[int, Field(ge=0)] = 0
    """Rounds of k-means, on the latents of the first training pass, that a table of averages starts from."""

    @model_validator(mode="after")
    def _consistent(self) -> VQConfig:
        if self.kmeans and self.update == "gradient":
            raise ValueError("kmeans starts a table of averages; the optimiser moves this one: set update to ema")
        return self

    def make(self) -> VQ:
        return VQ(self)


class Pull(NamedTuple):
    """Dead entries of the table, and the latents that the codebook loss moves them to."""

    entries: Tensor  # (n,)
    towards: Tensor  # (n, dim)


class VQ(Averages, Quantizer):
    """See the module docstring. Losses: `commitment`, the mean squared distance of latents to their entries, and with
    gradient updates `codebook`, the same distance with the gradient in the table.

    The averages stay float32 in a module that is not, and are the same on every rank.
    """

    table: Tensor  # (codebook_size, dim)
    uses: Tensor  # (codebook_size,), average latents a pass of each entry
    sums: Tensor  # (codebook_size, dim), the average sum of these latents
    passes: Tensor  # training passes so far

    def __init__(self, config: VQConfig):
        super().__init__()
        self.config = config
        self.dim, self.codebook_size = config.dim, config.codebook_size
        table = self._place(torch.randn(config.codebook_size, config.dim))
        if config.update == "gradient":
            self.table = nn.Parameter(table)
        else:
            self.register_buffer("table", table)
            self.register_buffer("sums", table.clone())
        self.register_buffer("uses", torch.ones(config.codebook_size))
        self.register_buffer("passes", torch.zeros((), dtype=torch.int64))

    def codes(self, latents: Tensor) -> Tensor:
        placed = self._place(latents).flatten(0, -2)
        return self._nearest(placed, self._place(self.table).to(placed.dtype)).view(latents.shape[:-1])

    def vectors(self, codes: Tensor) -> Tensor:
        return self._place(F.embedding(codes, self.table))

    def forward(self, latents: Tensor) -> Quantized:
        placed = self._place(latents)
        if self.config.kmeans and self.training and not self.frozen and int(self.passes) == 0:
            self._begin(placed.detach().flatten(0, -2).float())
        with torch.no_grad():
            codes = self.codes(latents)
        vectors = self.vectors(codes).to(placed.dtype)
        pull = self._learn(placed.flatten(0, -2), codes.flatten())
        losses = {"commitment": (placed - vectors.detach()).square().mean()}
        if self.config.update == "gradient":
            losses["codebook"] = (vectors - placed.detach()).square().mean()
            if pull is not None:
                away = self._place(self.table[pull.entries]) - pull.towards
                losses["codebook"] = losses["codebook"] + away.square().mean()
        return Quantized(straight_through(placed, vectors.detach()).to(latents.dtype), codes, losses)

    def _place(self, vectors: Tensor) -> Tensor:
        """Where vectors are compared, in float32 at least: on the sphere, or where they are."""
        wide = vectors if vectors.dtype == torch.float64 else vectors.float()
        return F.normalize(wide, dim=-1) if self.config.l2_normalized else wide

    @torch.no_grad()
    def _learn(self, latents: Tensor, codes: Tensor) -> Pull | None:
        """Take the latents (n, dim) of a training pass into the averages, and bring dead entries back.

        A table of averages is changed in place; one that the optimiser moves is left, and its dead entries returned.
        """
        if not self.training or self.frozen:
            return None
        counts = torch.bincount(codes, minlength=self.codebook_size).float()
        self.uses.lerp_(over_ranks(counts), 1 - self.config.decay)
        first = int(self.passes) == 0
        dead = self.uses < self.config.revive * self.uses.mean()
        if first and self.config.revive and not self.config.kmeans:  # the table does not know yet where latents are
            dead = torch.ones_like(dead)
        entries = dead.nonzero().flatten()
        self.passes += 1
        if self.config.update == "gradient":
            if not len(entries):
                return None
            away = self._place(self.table[entries]).to(latents.dtype)
            return Pull(entries, latents[self._nearest(away, latents)])
        latents = latents.float()
        sums = torch.zeros_like(self.sums).index_add_(0, codes, latents)
        self.sums.lerp_(over_ranks(sums), 1 - self.config.decay)
        total = self.uses.sum()
        uses = (self.uses + SMOOTHING) / (total + self.codebook_size * SMOOTHING) * total  # none is 0
        self.table.copy_(self._place(self.sums / uses[:, None]))
        if len(entries):
            # seeded by the pass, so that a resumed run draws the same
            generator = torch.Generator().manual_seed(int(self.passes))
            drawn = torch.randint(len(latents), (len(entries),), generator=generator).to(latents.device)
            self.table[entries] = from_first_rank(latents[drawn])
            self.uses[entries] = self.uses.mean()
            self.sums[entries] = self.table[entries] * self.uses[entries, None]
        return None

    def _begin(self, latents: Tensor) -> None:
        """Place the table where latents (n, dim) are: entries drawn from them, then rounds of k-means."""
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randperm(len(latents), generator=generator)[: self.codebook_size]
        surplus = self.codebook_size - len(drawn)
        again = drawn[torch.arange(surplus) % len(drawn)]  # where there are more entries than latents: near these
        spread = latents.std().clamp_min(0.01) / 10
        noise = spread * torch.randn(surplus, self.dim, generator=generator).to(latents.device)
        table = self._place(torch.cat([latents[drawn.to(latents.device)], latents[again.to(latents.device)] + noise]))
        for _ in range(self.config.kmeans):
            codes = self._nearest(latents, table)
            counts = torch.bincount(codes, minlength=self.codebook_size)
            sums = torch.zeros_like(table).index_add_(0, codes, latents)
            table = torch.where(counts[:, None] > 0, self._place(sums / counts.clamp_min(1)[:, None]), table)
        self.table.copy_(from_first_rank(table))
        self.sums.copy_(self.table)

    def _nearest(self, vectors: Tensor, table: Tensor) -> Tensor:
        """For each of the vectors (n, dim) the entry of a table that is nearest, all placed."""
        offset = 0 if self.config.l2_normalized else table.square().sum(-1) / 2  # on the sphere all are as long
        return torch.cat([(rows @ table.T - offset).argmax(-1) for rows in vectors.split(ROWS)])
