"""A code as several small choices: what embeds it and what predicts it are then sums over small tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Factors(NamedTuple):
    """Codes below `size` as numbers of a mixed base: with sizes (A, B) code = a * B + b.

    >>> Factors.of(2**18), Factors.of(8192).sizes, Factors.of(1000, 3).sizes
    (Factors(size=262144, sizes=(512, 512)), (128, 64), (16, 8, 8))
    """

    size: int
    sizes: tuple[int, ...]
    """Of the factors, the first of which weighs most; their product covers `size`."""

    @classmethod
    def of(cls, size: int, groups: int = 2) -> Factors:
        """Bits of a code dealt out evenly, the first factors having what is left over."""
        bits = (size - 1).bit_length()
        return cls(size, tuple(2 ** ((bits + groups - 1 - index) // groups) for index in range(groups)))

    def split(self, codes: Tensor) -> list[Tensor]:
        """Codes as their factors."""
        parts = []
        for size in self.sizes[:0:-1]:
            parts.append(codes % size)
            codes = codes // size
        return [codes, *reversed(parts)]

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """The inverse of `split`; of the first factors alone, the number that they make."""
        code = parts[0]
        for part, size in zip(parts[1:], self.sizes[1:], strict=False):
            code = code * size + part
        return code

    def existing(self, logits: Tensor, chosen: Sequence[Tensor]) -> Tensor:
        """Logits (m, n) of the factor after those chosen, (m,) each, with -inf for choices that lead to no code."""
        if math.prod(self.sizes) == self.size:
            return logits
        choices = torch.arange(logits.shape[-1], device=logits.device)
        prefix = self.join([*(part[:, None] for part in chosen), choices])
        return logits.masked_fill(prefix * math.prod(self.sizes[len(chosen) + 1 :]) >= self.size, -torch.inf)
