"""Modules that keep running averages, in float32 and alike on every rank."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch.distributed as dist
from torch import Tensor, nn


class Averages(nn.Module):
    """A module whose buffers keep their type: an average in bfloat16 would not move."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """To another device as any module, but never to another type."""
        kept = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, before in kept.items():
            after = self._buffers[name]
            if before is not None and after is not None and after.dtype != before.dtype:
                self._buffers[name] = before.to(after.device)
        return self


def ranks() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def over_ranks(value: Tensor) -> Tensor:
    """The sum over all ranks, in place."""
    if ranks() > 1:
        dist.all_reduce(value)
    return value


def from_first_rank(value: Tensor) -> Tensor:
    """What rank 0 has, on every rank."""
    if ranks() > 1:
        value = value.contiguous()
        dist.broadcast(value, 0)
    return value
