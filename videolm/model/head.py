"""Hidden states to predictions, one head for each kind of position.

A row's layout fixes the kind of every output position (special, visual, or one level of audio), so loss and sampling
there are over that kind's ids alone. A code is predicted in factors: visual codes as p(a) p(b|a) over two halves,
which loses no expressiveness since b sees a through a small MLP, and costs 2 x 512 logits instead of 262,144.
The flat head, one softmax over all ids as in the paper, answers the same calls with a single factor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videolm.model.config import LMConfig
from videolm.model.factor import Factors
from videolm.model.loss import LinearCrossEntropy, Scores
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
        self.codes = Factors.of(self.kinds["visual"].size)
        a, b = self.codes.sizes
        self.visual_a = nn.Linear(width, a, bias=False)
        self.seen_a = nn.Embedding(a, width)
        self.mix_norm = nn.RMSNorm(width, config.norm_eps)
        self.mix = SwiGLU(width, width)
        self.visual_b = nn.Linear(width, b, bias=False)
        self.whole = nn.ModuleDict(
            {kind.name: nn.Linear(width, kind.size, bias=False) for kind in kinds if kind.name != "visual"}
        )

    def factors(self, kind: str) -> int:
        """How many choices make one id of this kind."""
        return 2 if kind == "visual" else 1

    def choices(self, kind: str) -> int:
        """Logits of all factors together."""
        return sum(self.codes.sizes) if kind == "visual" else self.kinds[kind].size

    def logits(self, hidden: Tensor, kind: str, chosen: Sequence[Tensor] = ()) -> Tensor:
        """Float32 logits of the next factor: hidden (m, d), factors chosen so far (m,) each -> (m, size)."""
        if kind != "visual":
            return self.whole[kind](hidden).float()
        if chosen:
            mixed = hidden + self.seen_a(chosen[0])
            hidden = mixed + self.mix(self.mix_norm(mixed))
        scores = self.visual_b if chosen else self.visual_a
        return self.codes.existing(scores(hidden).float(), chosen)

    def parts(self, ids: Tensor, kind: str) -> list[Tensor]:
        """Ids of one kind as the factors to be chosen."""
        code = ids - self.kinds[kind].start
        return self.codes.split(code) if kind == "visual" else [code]

    def join(self, parts: Sequence[Tensor], kind: str) -> Tensor:
        """The inverse of `parts`."""
        code = self.codes.join(parts) if kind == "visual" else parts[0]
        return code + self.kinds[kind].start

    def score(self, hidden: Tensor, ids: Tensor, counts: Mapping[str, int]) -> Scores:
        """Scores of ids (b, m), the next after hidden states (b, m, d): the first of the m are of the first kind in
        `counts`, and so on. A position's loss is the sum over its id's factors, and it is right if all of them are."""
        each, right = [], []
        lengths = list(counts.values())
        for kind, h, own in zip(counts, hidden.split(lengths, 1), ids.split(lengths, 1), strict=True):
            parts = self.parts(own.flatten(), kind)
            logits = [self.logits(h.flatten(0, 1), kind, parts[:i]) for i in range(len(parts))]
            nats, hits = nats_of(logits, parts)
            each.append(nats.view_as(own))
            right.append(hits.view_as(own))
        nats_of_all = torch.cat(each, 1)
        return Scores(nats_of_all.mean(), nats_of_all.detach(), torch.cat(right, 1))


class CodeHead(nn.Module):
    """Hidden states to codes alone, as p(a) p(b|a) p(c|a, b) ... over any number of factors."""

    def __init__(self, width: int, factors: Factors, eps: float):
        super().__init__()
        self.codes = factors
        *seen, _ = factors.sizes
        self.scores = nn.ModuleList(nn.Linear(width, size, bias=False) for size in factors.sizes)
        self.seen = nn.ModuleList(nn.Embedding(size, width) for size in seen)
        self.norms = nn.ModuleList(nn.RMSNorm(width, eps) for _ in seen)
        self.mixes = nn.ModuleList(SwiGLU(width, width) for _ in seen)

    def logits(self, hidden: Tensor, chosen: Sequence[Tensor] = ()) -> Tensor:
        """See `FactorizedHead.logits`."""
        for part, seen, norm, mix in zip(chosen, self.seen, self.norms, self.mixes, strict=False):
            mixed = hidden + seen(part)
            hidden = mixed + mix(norm(mixed))
        return self.codes.existing(self.scores[len(chosen)](hidden).float(), chosen)

    def score(self, hidden: Tensor, codes: Tensor) -> Scores:
        """Scores of codes (m,) by hidden states (m, d)."""
        parts = self.codes.split(codes)
        nats, right = nats_of([self.logits(hidden, parts[:i]) for i in range(len(parts))], parts)
        return Scores(nats.mean(), nats.detach(), right)


def nats_of(logits: Sequence[Tensor], parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Negative log-likelihoods (m,) of choices made in factors, and whether each is the likeliest: logits (m, size) and
    what is right (m,) of each factor. They are summed over the factors, all of which have to be right."""
    nats = [F.cross_entropy(x, part, reduction="none") for x, part in zip(logits, parts, strict=True)]
    hits = [x.detach().argmax(-1) == part for x, part in zip(logits, parts, strict=True)]
    return torch.stack(nats).sum(0), torch.stack(hits).all(0)


class FlatHead(nn.Module):
    """One softmax over every id of the vocabulary, trained without regard to kinds (VideoPoet 3.2)."""

    def __init__(self, config: LMConfig, kinds: Sequence[Kind]):
        super().__init__()
        self.kinds = {kind.name: kind for kind in kinds}
        self.whole = LinearCrossEntropy(config.hidden_size, max(kind.start + kind.size for kind in kinds))

    def factors(self, kind: str) -> int:
        """See `FactorizedHead.factors`: always one."""
        return 1

    def choices(self, kind: str) -> int:
        """See `FactorizedHead.choices`."""
        return self.kinds[kind].size

    def logits(self, hidden: Tensor, kind: str, chosen: Sequence[Tensor] = ()) -> Tensor:
        """Logits of this kind's ids alone: sampling at a position is over its legal ids."""
        _, start, size = self.kinds[kind]
        return F.linear(hidden, self.whole.weight[start : start + size]).float()

    def parts(self, ids: Tensor, kind: str) -> list[Tensor]:
        return [ids - self.kinds[kind].start]

    def join(self, parts: Sequence[Tensor], kind: str) -> Tensor:
        return parts[0] + self.kinds[kind].start

    def score(self, hidden: Tensor, ids: Tensor, counts: Mapping[str, int]) -> Scores:
        """See `FactorizedHead.score`; the softmax is over all ids, whatever the kind."""
        loss, each, right = self.whole(hidden.flatten(0, 1), ids.flatten())
        return Scores(loss, each.view_as(ids), right.view_as(ids))
