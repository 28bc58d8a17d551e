"""The loss of one softmax over very many ids, never holding all its logits.

At the paper's 266,496 ids the logits of one row are 1.4 GB and their gradients as much again. Here they are made for a
few positions at a time, and from them at once the gradients of hidden states and weight: backward multiplies by a
number. torch 2.13's `F.linear_cross_entropy` goes the same way, but tells neither the loss nor the guess of a position.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

LOGITS = 2**24
"""Logits held at a time at least: 64 MB in float32."""


class Scores(NamedTuple):
    """What a head makes of the positions of a row, (b, m) or (m,)."""

    loss: Tensor
    """Mean negative log-likelihood in nats; the one member with gradients."""
    each: Tensor
    """Negative log-likelihood of every position in nats, float32 (or float64)."""
    right: Tensor
    """Whether the likeliest id is the right one."""


class LinearCrossEntropy(nn.Module):
    """Weights (c, d) of a softmax over c ids, called for their loss.

    A module of its own, so that whoever shards the weights (ZeRO-3, FSDP) gathers these for the call.
    """

    def __init__(self, width: int, classes: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, width))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, hidden: Tensor, ids: Tensor) -> Scores:
        """Scores of ids (m,) after hidden states (m, d)."""
        return linear_cross_entropy(hidden, self.weight, ids)


def linear_cross_entropy(hidden: Tensor, weight: Tensor, ids: Tensor, chunk: int | None = None) -> Scores:
    """`F.cross_entropy` of hidden (m, d) times weight (c, d) against ids (m,), in chunks of positions.

    Products are made in the dtype of `hidden`, or in autocast's; softmax and sums over positions in float32 at least.

    Args:
        chunk: positions at a time. By default so many that their logits take a quarter of the weight's memory, whose
            gradient has to be held anyway, or `LOGITS` where that is more.
    """
    chunk = chunk or max(1, weight.shape[1] // 4, LOGITS // weight.shape[0])
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    wanted = (
        torch.is_grad_enabled() and hidden.requires_grad,
        torch.is_grad_enabled() and weight.requires_grad,
    )
    return Scores(*_LinearCrossEntropy.apply(hidden, weight, ids, dtype, chunk, wanted))


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        ids: Tensor,
        dtype: torch.dtype,
        chunk: int,
        wanted: tuple[bool, bool],
    ) -> tuple[Tensor, Tensor, Tensor]:
        exact = torch.promote_types(dtype, torch.float32)
        w, scale = weight.to(dtype), 1 / len(ids)
        each = hidden.new_empty(len(ids), dtype=exact)
        right = hidden.new_empty(len(ids), dtype=torch.bool)
        to_hidden = torch.empty_like(hidden) if wanted[0] else None
        to_weight = torch.zeros_like(weight, dtype=exact) if wanted[1] else None
        # The same memory for every chunk: on a CPU fresh pages take as long as the product written into them.
        rounded = dtype != exact
        products = w.new_empty(min(chunk, len(ids)), len(w))
        exacts = products.to(exact)
        for start in range(0, len(ids), chunk):
            rows = slice(start, start + chunk)
            h, target = hidden[rows].to(dtype), ids[rows, None]
            product, logits = products[: len(h)], exacts[: len(h)]
            torch.mm(h, w.T, out=product)
            if rounded:
                logits.copy_(product)
            top, guess = logits.max(1, keepdim=True)
            right[rows] = (guess == target)[:, 0]
            each[rows] = (top - logits.gather(1, target))[:, 0]
            mass = logits.sub_(top).exp_().sum(1, keepdim=True)
            each[rows] += mass.log()[:, 0]
            if not any(wanted):
                continue
            # From here on `logits` are their own gradients, (softmax - one-hot) / m.
            logits.mul_(scale / mass).scatter_add_(1, target, torch.full_like(top, -scale))
            if rounded:
                product.copy_(logits)
            if to_hidden is not None:
                to_hidden[rows] = (product @ w).to(hidden.dtype)
            if to_weight is not None and rounded:
                to_weight += product.T @ h
            elif to_weight is not None:
                to_weight.addmm_(product.T, h)
        ctx.gradients = [to_hidden, None if to_weight is None else to_weight.to(weight.dtype)]
        ctx.mark_non_differentiable(each, right)
        ctx.set_materialize_grads(False)
        return each.mean(), each, right

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor, *_: None) -> tuple[Tensor | None, ...]:
        """In place, and given away: at paper size each copy of the weight's gradient would be half a gigabyte."""
        if ctx.gradients is None:
            raise RuntimeError("this loss goes backward once; compute it again")
        to_hidden, to_weight = (g if g is None else g.mul_(upstream) for g in ctx.gradients)
        ctx.gradients = None
        return to_hidden, to_weight, None, None, None, None
