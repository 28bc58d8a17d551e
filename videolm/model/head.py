"""Hidden states to predictions, one head for each kind of position.

A row's layout fixes the kind of every output position (special, visual, or one level of audio), so loss and sampling
there are over that kind's ids alone. A code is predicted in factors: visual codes as p(a) p(b|a) over two halves,
which loses no expressiveness since b sees a through a small MLP, and costs 2 x 512 logits instead of 262,144.
The flat head, one softmax over all ids as in the paper, answers the same calls with a single factor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videolm.model.config import LMConfig
from videolm.model.embedding import factor
from videolm.model.transformer import SwiGLU


class Kind(NamedTuple):
    """A kind of position: its name, its first id and how many there are."""

    name: str
    start: int
    size: int


class FactorizedHead(nn.Module):
    """Separate small softmaxes for special ids, the two halves of visual codes, and each audio level."""

    def __init__(self, config: LMConfig, kinds: Sequence[Kind]):
        super().__init__()
        width = config.hidden_size
        self.kinds = {kind.name: kind for kind in kinds}
        self.split = factor(self.kinds["visual"].size)
        self.visual_a = nn.Linear(width, self.split[0], bias=False)
        self.seen_a = nn.Embedding(self.split[0], width)
        self.mix_norm = nn.RMSNorm(width, config.norm_eps)
        self.mix = SwiGLU(width, width)
        self.visual_b = nn.Linear(width, self.split[1], bias=False)
        self.whole = nn.ModuleDict(
            {kind.name: nn.Linear(width, kind.size, bias=False) for kind in kinds if kind.name != "visual"}
        )

    def factors(self, kind: str) -> int:
        """How many choices make one id of this kind."""
        return 2 if kind == "visual" else 1

    def logits(self, hidden: Tensor, kind: str, chosen: Sequence[Tensor] = ()) -> Tensor:
        """Float32 logits of the next factor: hidden (m, d), factors chosen so far (m,) each -> (m, size)."""
        if kind != "visual":
            return self.whole[kind](hidden).float()
        a, b = self.split
        if not chosen:
            return self._existing(self.visual_a(hidden).float(), b * torch.arange(a, device=hidden.device))
        mixed = hidden + self.seen_a(chosen[0])
        logits = self.visual_b(mixed + self.mix(self.mix_norm(mixed))).float()
        return self._existing(logits, b * chosen[0][:, None] + torch.arange(b, device=hidden.device))

    def _existing(self, logits: Tensor, codes: Tensor) -> Tensor:
        """Logits with -inf where the smallest code that a choice leads to is past the codebook's end."""
        size = self.kinds["visual"].size
        a, b = self.split
        return logits.masked_fill(codes >= size, -torch.inf) if a * b > size else logits

    def parts(self, ids: Tensor, kind: str) -> list[Tensor]:
        """Ids of one kind as the factors to be chosen."""
        code = ids - self.kinds[kind].start
        return [code // self.split[1], code % self.split[1]] if kind == "visual" else [code]

    def join(self, parts: Sequence[Tensor], kind: str) -> Tensor:
        """The inverse of `parts`."""
        code = parts[0] * self.split[1] + parts[1] if kind == "visual" else parts[0]
        return code + self.kinds[kind].start

    def loss(self, hidden: Tensor, ids: Tensor, kind: str) -> Tensor:
        """Negative log-likelihood in nats, (m,), of ids (m,) of one kind: the sum over their factors."""
        parts = self.parts(ids, kind)
        terms = [
            F.cross_entropy(self.logits(hidden, kind, parts[:i]), p, reduction="none") for i, p in enumerate(parts)
        ]
        return torch.stack(terms).sum(0)


class FlatHead(nn.Module):
    """One softmax over every id of the vocabulary, trained without regard to kinds (VideoPoet 3.2)."""

    def __init__(self, config: LMConfig, kinds: Sequence[Kind]):
        super().__init__()
        self.kinds = {kind.name: kind for kind in kinds}
        self.whole = nn.Linear(config.hidden_size, max(kind.start + kind.size for kind in kinds), bias=False)

    def factors(self, kind: str) -> int:
        """See `FactorizedHead.factors`: always one."""
        return 1

    def logits(self, hidden: Tensor, kind: str, chosen: Sequence[Tensor] = ()) -> Tensor:
        """Logits of this kind's ids alone: sampling at a position is over its legal ids."""
        _, start, size = self.kinds[kind]
        return F.linear(hidden, self.whole.weight[start : start + size]).float()

    def parts(self, ids: Tensor, kind: str) -> list[Tensor]:
        return [ids - self.kinds[kind].start]

    def join(self, parts: Sequence[Tensor], kind: str) -> Tensor:
        return parts[0] + self.kinds[kind].start

    def loss(self, hidden: Tensor, ids: Tensor, kind: str) -> Tensor:
        """Negative log-likelihood (m,) under the softmax over all ids."""
        return F.cross_entropy(self.whole(hidden).float(), ids, reduction="none")
