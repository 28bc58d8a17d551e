"""Prefix attention without a mask, and keys and values that are kept."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from videolm.model.config import LMConfig
from videolm.rotary import rotate

Kernel = Callable[[Tensor, Tensor, Tensor, bool], Tensor]
"""Attention of q, k, v (b, n, heads, dim), causal or not, without a mask."""
ROWS = 128
"""Rows of a block in `in_blocks`: fewer leave less of a triangle to compute in vain, more make larger products."""


def prefix_attention(q: Tensor, k: Tensor, v: Tensor, prefix: int) -> Tensor:
    """Attention in which the first `prefix` positions see one another and the later ones all before them.

    q, k, v (b, heads, n, dim). By flash-attn where it is installed and fits, by products in blocks where torch's own
    kernel is slow, else by that.
    """
    if slow_backward(v):
        return in_blocks(q.to(v.dtype), k.to(v.dtype), v, prefix)
    kernel = flash if flash_fits(v) else sdpa
    q, k, v = (x.transpose(1, 2) for x in (q.to(v.dtype), k.to(v.dtype), v))
    return two_calls(q, k, v, prefix, kernel).transpose(1, 2)


def two_calls(q: Tensor, k: Tensor, v: Tensor, prefix: int, kernel: Kernel) -> Tensor:
    """Prefix attention (b, n, heads, dim) by a kernel that knows no mask.

    One causal call over all rows, whose prefix rows are then replaced by a bidirectional call on the prefix alone:
    exact, since a later row attends to just what a causal row does, and no mask is built.
    """
    if prefix >= q.shape[1]:
        return kernel(q, k, v, False)
    causal = kernel(q, k, v, True)
    if prefix <= 1:
        return causal
    both = kernel(q[:, :prefix], k[:, :prefix], v[:, :prefix], False)
    return torch.cat([both, causal[:, prefix:]], dim=1)


def slow_backward(v: Tensor) -> bool:
    """Whether torch's kernel would be slow on the way back: where a CPU trains in bfloat16."""
    return v.device.type == "cpu" and v.dtype == torch.bfloat16 and torch.is_grad_enabled() and v.requires_grad


def in_blocks(q: Tensor, k: Tensor, v: Tensor, prefix: int) -> Tensor:
    """Prefix attention (b, heads, n, dim) by plain products: the prefix first, then the rows after it, some at a time.

    A block sees all before it and, of itself, a triangle; nothing after it is computed.
    """
    n, prefix = q.shape[2], min(prefix, q.shape[2])
    stops = [stop for stop in dict.fromkeys((prefix, *range(prefix + ROWS, n, ROWS), n)) if stop]
    parts = []
    for start, stop in zip([0, *stops], stops, strict=False):
        scores = q[:, :, start:stop] * q.shape[-1] ** -0.5 @ k[:, :, :stop].mT
        if stop > prefix:
            later = torch.ones(stop - start, stop, dtype=torch.bool, device=q.device).triu(start + 1)
            scores = scores.masked_fill(later, -torch.inf)
        parts.append(scores.softmax(-1) @ v[:, :, :stop])
    return torch.cat(parts, 2)


def sdpa(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """torch's kernel: on an NVIDIA GPU in half precision its build of FlashAttention-2."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2)


def flash(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """The kernel of the package flash-attn."""
    from flash_attn import flash_attn_func

    return flash_attn_func(q, k, v, causal=causal)


@cache
def flash_installed() -> bool:
    return find_spec("flash_attn") is not None


def flash_fits(x: Tensor) -> bool:
    """Whether flash-attn is installed and computes tensors like this one."""
    return x.is_cuda and x.dtype in (torch.bfloat16, torch.float16) and x.shape[-1] <= 256 and flash_installed()


class Cache:
    """Keys and values of a first pass over rows, layer by layer."""

    def __init__(self) -> None:
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def attend(self, q: Tensor, k: Tensor, v: Tensor, prefix: int, layer: int) -> Tensor:
        """Prefix attention (b, heads, n, dim), whose keys and values are kept."""
        self.keys.append(k)
        self.values.append(v)
        return prefix_attention(q, k, v, prefix)


class Window:
    """Keys and values of all layers for rows that are each at places of their own.

    Args:
        store: (layers, 2, b, heads, length, dim), written to.
        places: (b, n) of what is computed; each sees all up to itself.
    """

    def __init__(self, store: Tensor, places: Tensor):
        self._store, self.places = store, places
        self._seen = torch.arange(store.shape[4], device=store.device) <= places[:, None, :, None]  # (b, 1, n, length)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, prefix: int, layer: int) -> Tensor:
        """Attention (b, heads, n, dim) over what is kept and what is new."""
        where = self.places[:, None, :, None].expand_as(k)
        keys, values = (self._store[layer, i].scatter_(2, where, new) for i, new in enumerate((k, v)))
        return F.scaled_dot_product_attention(q, keys, values, attn_mask=self._seen)


class Attention(nn.Module):
    """Multi-head attention with rotary positions and, by default, normalised queries and keys (arXiv 2010.04245)."""

    def __init__(self, config: LMConfig):
        super().__init__()
        width = config.hidden_size
        self.heads = config.num_heads
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)
        self.q_norm: nn.Module = nn.RMSNorm(config.head_dim, config.norm_eps) if config.qk_norm else nn.Identity()
        self.k_norm: nn.Module = nn.RMSNorm(config.head_dim, config.norm_eps) if config.qk_norm else nn.Identity()

    def forward(
        self,
        x: Tensor,
        rotary: tuple[Tensor, Tensor],
        prefix: int,
        cache: Cache | Window | None = None,
        layer: int = 0,
    ) -> Tensor:
        """x (b, n, d)."""
        q, k, v = (
            rearrange(proj(x), "b n (heads d) -> b heads n d", heads=self.heads)
            for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = rotate(self.q_norm(q), *rotary), rotate(self.k_norm(k), *rotary)
        y = prefix_attention(q, k, v, prefix) if cache is None else cache.attend(q, k, v, prefix, layer)
        return self.o_proj(rearrange(y, "b heads n d -> b n (heads d)"))
