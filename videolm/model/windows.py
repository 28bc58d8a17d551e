"""Attention within windows of a grid (b, t, h, w): exact for any size, linear in it.

A grid is folded into windows, which then are the rows of a batch. One whose sides the windows do not divide is filled
up with places that nobody attends to and that are cut away again. A window larger than the grid is the grid.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from videolm.model.attention import flash, flash_fits, slow_backward

Kernel = Literal["auto", "sdpa", "plain", "flash", "flex"]
"""What computes attention: torch's kernel, plain products, the package flash-attn or FlexAttention; "auto": flash-attn
where it is installed and fits, products where a CPU trains small windows in bfloat16 (where torch's kernel is slow on
the way back), else torch's."""
SMALL = 1024 * 1024
"""Scores of a window that products may hold at once."""


class Window(NamedTuple):
    """Places along each axis that attend to one another; the first window begins at the grid's first place."""

    t: int
    h: int
    w: int

    def within(self, grid: tuple[int, int, int]) -> Window:
        """This window on a grid that may be smaller."""
        return Window(*(min(pair) for pair in zip(self, grid, strict=True)))

    def counts(self, grid: tuple[int, int, int]) -> tuple[int, int, int]:
        """Windows along each axis of a grid."""
        t, h, w = (-(-size // side) for size, side in zip(grid, self, strict=True))
        return t, h, w


def fold(x: Tensor, window: Window) -> Tensor:
    """(b, t, h, w, d) to (b, windows, places of a window, d), zeros where windows reach past the grid."""
    counts = window.counts((x.shape[1], x.shape[2], x.shape[3]))
    missing = [count * side - size for count, side, size in zip(counts, window, x.shape[1:4], strict=True)]
    if any(missing):
        x = F.pad(x, (0, 0, 0, missing[2], 0, missing[1], 0, missing[0]))
    t, h, w = window
    return rearrange(x, "b (T t) (H h) (W w) d -> b (T H W) (t h w) d", t=t, h=h, w=w)


def unfold(x: Tensor, window: Window, grid: tuple[int, int, int]) -> Tensor:
    """The inverse of `fold` for a grid (t, h, w)."""
    counts, (t, h, w) = window.counts(grid), window
    whole = rearrange(
        x, "b (T H W) (t h w) d -> b (T t) (H h) (W w) d", T=counts[0], H=counts[1], W=counts[2], t=t, h=h, w=w
    )
    return whole[:, : grid[0], : grid[1], : grid[2]]


def real(grid: tuple[int, int, int], window: Window, device: torch.device) -> Tensor | None:
    """Which places of the windows lie on the grid, (windows, places); None where all do."""
    if all(size % side == 0 for size, side in zip(grid, window, strict=True)):
        return None
    return fold(torch.ones(1, *grid, 1, device=device), window)[0, ..., 0].bool()


def attend(q: Tensor, k: Tensor, v: Tensor, there: Tensor | None = None, kernel: Kernel = "auto") -> Tensor:
    """Attention of q (b, windows, n, heads, dim) to k and v (b, windows, m, heads, dim), each window to its own.

    Args:
        there: (windows, m), the keys that are attended to; by default all.
    """
    if kernel == "auto":
        small = q.shape[2] * k.shape[2] <= SMALL
        kernel = "plain" if small and slow_backward(v) else "flash" if there is None and flash_fits(v) else "sdpa"
    return KERNELS[kernel](q.to(v.dtype), k.to(v.dtype), v, there)


def _sdpa(q: Tensor, k: Tensor, v: Tensor, there: Tensor | None) -> Tensor:
    mask = None if there is None else _of_rows(there, len(q))[:, None, None]
    return _by_rows(partial(F.scaled_dot_product_attention, attn_mask=mask), q, k, v)


def _plain(q: Tensor, k: Tensor, v: Tensor, there: Tensor | None) -> Tensor:
    away = None if there is None else ~_of_rows(there, len(q))[:, None, None]

    def products(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = q * q.shape[-1] ** -0.5 @ k.mT
        scores = scores if away is None else scores.masked_fill(away, -torch.inf)
        return scores.softmax(-1).to(v.dtype) @ v

    return _by_rows(products, q, k, v)


def _flash(q: Tensor, k: Tensor, v: Tensor, there: Tensor | None) -> Tensor:
    if there is not None:
        return _sdpa(q, k, v, there)  # which knows no masks
    return flash(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), False).unflatten(0, q.shape[:2])


def _flex(q: Tensor, k: Tensor, v: Tensor, there: Tensor | None) -> Tensor:
    kernel = _compiled_flex(q.is_cuda)
    if there is None:
        return _by_rows(kernel, q, k, v)
    keys = _of_rows(there, len(q))

    def masked(score: Tensor, row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return torch.where(keys[row, key], score, -torch.inf)

    return _by_rows(partial(kernel, score_mod=masked), q, k, v)


def _of_rows(there: Tensor, batch: int) -> Tensor:
    """(batch windows, m)."""
    return there.repeat(batch, 1)


def _by_rows(kernel: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """What a kernel for (rows, heads, places, dim) makes of windows."""
    rows = (rearrange(x, "b win n heads dim -> (b win) heads n dim") for x in (q, k, v))
    return rearrange(kernel(*rows), "(b win) heads n dim -> b win n heads dim", b=len(q))


@cache
def _compiled_flex(cuda: bool) -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    return cast(Callable[..., Tensor], torch.compile(flex_attention) if cuda else flex_attention)


KERNELS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]] = {
    "sdpa": _sdpa,
    "plain": _plain,
    "flash": _flash,
    "flex": _flex,
}
