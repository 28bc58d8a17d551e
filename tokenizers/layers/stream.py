"""Clips that come in chunks: what layers keep from one chunk to the next, and the cutting into chunks that fit.

A causal layer needs a few frames from before the chunk at hand. It keeps them in the `Past` of the clip, so that any
way of cutting a clip gives what one pass over all of it gives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from videolm.errors import UserError


class Past:
    """What the layers of a network keep of the chunks of a clip before this one.

    Attributes:
        time: latent frames that have passed; 0 at the start of the clip.
    """

    def __init__(self) -> None:
        self.time = 0
        self._kept: dict[nn.Module, Any] = {}

    def join(self, layer: nn.Module, chunk: Tensor, keep: int, dim: int) -> Tensor:
        """What `layer` kept at the last chunk in front of `chunk`, along `dim`; the last `keep` of it is kept now."""
        before = self._kept.get(layer)
        whole = chunk if before is None else torch.cat([before, chunk], dim)
        length = whole.shape[dim]
        self._kept[layer] = whole.narrow(dim, max(0, length - keep), min(keep, length))
        return whole


class Stream:
    """Chunks of any length in, what can be computed of them out; memory does not grow with the clip.

    Args:
        run: one chunk (b, ..., n, ...) that fits, and the past of the clip, whose time it moves on -> its result.
        dim: the axis of time of chunks; `out_dim` of results.
        unit: a chunk that fits has a multiple of so many, the first one `first` more and the last one perhaps a rest
            that is a multiple of `rest`.
        most: units that are run at a time.
    """

    def __init__(
        self,
        run: Callable[[Tensor, Past], Tensor],
        *,
        dim: int,
        out_dim: int,
        unit: int,
        first: int = 0,
        rest: int | None = None,
        most: int = 1,
    ):
        self._run, self._dim, self._out_dim = run, dim, out_dim
        self._unit, self._first, self._rest, self._most = unit, first, rest or unit, most
        self._past = Past()
        self._waiting: Tensor | None = None

    @property
    def waiting(self) -> int:
        """Frames that wait for more."""
        return 0 if self._waiting is None else self._waiting.shape[self._dim]

    def push(self, chunk: Tensor) -> Tensor | None:
        """The result of all that is complete with this chunk; None where nothing is.

        Raises `UserError` when the chunk's other sizes are not those of the chunks before.
        """
        before = self._waiting
        if before is not None:
            sizes, wanted = list(chunk.shape), list(before.shape)
            sizes[self._dim] = wanted[self._dim] = 0
            if sizes != wanted:
                raise UserError(f"a chunk of shape {tuple(chunk.shape)} does not go on from {tuple(before.shape)}")
            chunk = torch.cat([before, chunk], self._dim)
        results = []
        while fits := self._fits(chunk.shape[self._dim]):
            part, chunk = chunk.split([fits, chunk.shape[self._dim] - fits], self._dim)
            results.append(self._run(part, self._past))
        self._waiting = chunk.clone()
        return torch.cat(results, self._out_dim) if results else None

    def finish(self) -> Tensor | None:
        """Say that no chunk follows; the result of what is left.

        Raises `UserError` when frames are left that need others after them.
        """
        if self._waiting is None or not self.waiting:
            return None
        if self.waiting % self._rest:
            raise UserError(
                f"the clip ends {self.waiting % self._rest} after a length that fits, and {self._rest} were needed: "
                "repeat its last frame to fill them"
            )
        result, self._waiting = self._run(self._waiting, self._past), None
        return result

    def _fits(self, length: int) -> int:
        """The most of `length` frames that can be run now."""
        first = self._first if self._past.time == 0 else 0
        if length < max(first, 1):
            return 0
        return first + min((length - first) // self._unit, self._most) * self._unit
