"""Adversarial losses: discriminators learn to tell true clips or sounds from decoded ones, and the decoder to be taken
for true.

All of it is one loss for one optimiser: each term's gradient reaches either the tokenizer or the discriminators, never
both. So whatever keeps, shards and resumes a training's state keeps that of both sides.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from videolm.tokenizers.layers.averages import Averages, over_ranks, ranks

DECAY = 0.99
"""Of the averages of what discriminators say (LeCam, arXiv 2104.03310)."""

Term = Literal["adversarial", "features", "discriminator", "lecam", "r1"]


class Seen(NamedTuple):
    """What a discriminator says."""

    logits: Tensor  # (b, ...), above 0 for what it takes for true
    features: list[Tensor]
    """Of its layers on the way, where a decoder is to give rise to the same ones."""


class Adversary(Averages):
    """Discriminators and their loss terms.

    - "adversarial": how far the decoded is from being taken for true.
    - "features": mean distance of the features that decoded and true give rise to, over the mean size of the true ones.
    - "discriminator": how far true and decoded are from being told apart.
    - "lecam": how far above what was said of the decoded on average the true is, and the reverse, squared
      (arXiv 2104.03310): with few examples discriminators go less far.
    - "r1": the squared gradient of what is said of true ones, summed over an example (arXiv 1801.04406).

    The first two have gradients for the decoded alone, the others for the discriminators' weights alone.

    Args:
        discriminators: called with a batch, each returns `Seen`.
        loss: "hinge", or "non_saturating" (arXiv 1406.2661): cross entropy of true and decoded.
    """

    means: Tensor  # (discriminators, 2), the average logit of true and of decoded ones
    passes: Tensor

    def __init__(self, discriminators: Sequence[nn.Module], loss: Literal["hinge", "non_saturating"]):
        super().__init__()
        self.discriminators, self.loss = nn.ModuleList(discriminators), loss
        self.register_buffer("means", torch.zeros(len(discriminators), 2))
        self.register_buffer("passes", torch.zeros((), dtype=torch.int64))

    def forward(self, decoded: Tensor, true: Tensor, wanted: Container[str]) -> dict[Term, Tensor]:
        """The terms of `wanted`, means over the discriminators; "adversarial" and "discriminator" always."""
        found: dict[Term, list[Tensor]] = {}
        for index, judge in enumerate(self.discriminators):
            own = self._terms(judge, self.means[index], decoded, true, wanted)
            for name, term in own.items():
                found.setdefault(name, []).append(term)
        if self.training:
            self.passes += 1
        return {name: torch.stack(terms).mean() for name, terms in found.items()}

    def _terms(
        self, judge: nn.Module, means: Tensor, decoded: Tensor, true: Tensor, wanted: Container[str]
    ) -> dict[Term, Tensor]:
        given = true.detach().requires_grad_("r1" in wanted)
        of_true, of_decoded = judge(given), judge(decoded.detach())
        frozen = {name: value.detach() for name, value in judge.named_parameters()}
        taken: Seen = functional_call(judge, frozen, (decoded,))
        said = of_true.logits.float(), of_decoded.logits.float()
        terms: dict[Term, Tensor] = {
            "adversarial": self._true(taken.logits.float()),
            "discriminator": self._true(said[0]) + self._true(-said[1]),
        }
        if "features" in wanted:
            pairs = zip(taken.features, (value.detach() for value in of_true.features), strict=True)
            distances = [(one - other).abs().mean() / other.abs().mean().clamp_min(1e-6) for one, other in pairs]
            terms["features"] = torch.stack(distances).mean()
        if "lecam" in wanted:
            self._learn(means, torch.stack([each.detach().mean() for each in said]))
            terms["lecam"] = (said[0] - means[1]).relu().square().mean() + (means[0] - said[1]).relu().square().mean()
        if "r1" in wanted:
            (slope,) = torch.autograd.grad(of_true.logits.sum(), given, create_graph=True)
            terms["r1"] = slope.float().square().flatten(1).sum(1).mean()
        return terms

    def _true(self, logits: Tensor) -> Tensor:
        """How far logits are from saying "true"."""
        return F.softplus(-logits).mean() if self.loss == "non_saturating" else F.relu(1 - logits).mean()

    @torch.no_grad()
    def _learn(self, means: Tensor, now: Tensor) -> None:
        """Take the mean logits of a training pass into the averages, which begin with the first."""
        if self.training:
            now = over_ranks(now.clone()) / ranks()
            means.lerp_(now, 1 - DECAY if int(self.passes) else 1.0)


def balance(terms: Tensor, adversarial: Tensor, at: Tensor) -> Tensor:
    """By what to multiply an adversarial term so that it pulls as hard as the other terms, in [0, 10,000].

    VQGAN (arXiv 2012.09841, eq. 7) compares gradients at the decoder's last weights; here it is at what was decoded,
    which every decoder has and no sharding hides.

    Args:
        terms: the weighted sum of the terms of reconstruction.
        at: the decoded clips.
    """
    options: dict[str, Any] = {"retain_graph": True}
    (one,), (other,) = torch.autograd.grad(terms, at, **options), torch.autograd.grad(adversarial, at, **options)
    return (one.float().norm() / other.float().norm().clamp_min(1e-8)).clamp(0, 1e4).detach()
