"""Lookup-free quantisation: the code of a latent is the signs of its channels (MAGVIT-v2, arXiv 2310.05737, 3.1).

A latent z in R^K becomes sign(z) in {-1, +1}^K, whose index is the sum over i of 2^i [z_i > 0]: a codebook of 2^K
entries without a table. Worked example, K = 3: z = (0.3, -2, 0.1) -> (+1, -1, +1) -> 1 + 4 = 5.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from videolm.config import Config
from videolm.tokenizers.quantize.quantizer import Quantized, Quantizer, straight_through


class LFQConfig(Config):
    """Lookup-free quantisation: 2^bits codes."""

    name: Literal["lfq"] = "lfq"
    bits: Annotated[int, Field(ge=1, le=30)] = 18
    """Code length."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Of the entropy term: higher counts a latent as unsure further from 0."""
    group_bits: Annotated[int, Field(ge=1, le=14)] = 8
    """Bits taken together in the entropy term's second part, see `entropy_loss`."""

    def make(self) -> LFQ:
        return LFQ(self)


def bits_to_codes(signs: Tensor) -> Tensor:
    """(..., K) signs to (...) int64 codes; a zero counts as minus.

    >>> bits_to_codes(torch.tensor([0.3, -2.0, 0.1]))
    tensor(5)
    """
    powers = 2 ** torch.arange(signs.shape[-1], device=signs.device)
    return ((signs > 0) * powers).sum(-1)


def codes_to_bits(codes: Tensor, bits: int) -> Tensor:
    """(...) codes to (..., K) float32 signs: the inverse of `bits_to_codes`.

    >>> codes_to_bits(torch.tensor(5), 3)
    tensor([ 1., -1.,  1.])
    """
    return (codes.unsqueeze(-1) >> torch.arange(bits, device=codes.device)).bitwise_and(1).float() * 2 - 1


def binary_entropy(logits: Tensor) -> Tensor:
    """Entropy in nats of Bernoulli(sigmoid(logits)), elementwise, finite for any logit."""
    return torch.nn.functional.softplus(logits) - logits * logits.sigmoid()


def entropy_loss(latents: Tensor, temperature: float = 1.0, group_bits: int = 8) -> Tensor:
    """E[H(p(c|z))] - H(E[p(c|z)]) over a batch of latents (n, K), in nats; low when codes are sure and all used.

    p(c|z) is proportional to exp(-|z - c|^2 / temperature), so its bits are independent with logits 4 z / temperature.
    The first term is therefore exact: the sum of the entropies of the bits. The second is taken over groups of at most
    `group_bits` bits and summed: exact when all bits are in one group, otherwise an upper bound of H(E[p]) which
    ignores dependence between groups (2^18 joint probabilities per latent would not fit in memory).
    Computed in float32 whatever the input.
    """
    logits = latents.float() * (4 / temperature)  # n K
    sure = binary_entropy(logits).sum(-1).mean()
    groups = math.ceil(logits.shape[-1] / group_bits)
    used = logits.new_zeros(())
    for group in logits.chunk(groups, dim=-1):
        ones = group.sigmoid()  # n g
        joint = ones.new_ones(len(ones), 1)  # n 2^g, grown bit by bit
        for bit in range(group.shape[-1]):
            one = ones[:, bit : bit + 1]
            joint = torch.cat([joint * (1 - one), joint * one], dim=-1)
        mean = joint.mean(0)
        used = used - (mean * mean.clamp_min(1e-12).log()).sum()
    return sure - used


class LFQ(Quantizer):
    """See the module docstring. Losses: `entropy` (see `entropy_loss`) and `commitment`, the mean squared distance of
    latents to their signs."""

    def __init__(self, config: LFQConfig):
        super().__init__()
        self.config = config
        self.dim, self.codebook_size = config.bits, 2**config.bits

    def codes(self, latents: Tensor) -> Tensor:
        return bits_to_codes(latents)

    def vectors(self, codes: Tensor) -> Tensor:
        return codes_to_bits(codes, self.dim)

    def forward(self, latents: Tensor) -> Quantized:
        signs = torch.where(latents > 0, 1.0, -1.0).to(latents.dtype)
        losses = {
            "entropy": entropy_loss(latents.flatten(0, -2), self.config.temperature, self.config.group_bits),
            "commitment": (latents.float() - signs.float()).square().mean(),
        }
        return Quantized(straight_through(latents, signs), bits_to_codes(signs), losses)
