"""Prefix attention without a mask, and the preallocated cache."""

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


def prefix_attention(q: Tensor, k: Tensor, v: Tensor, prefix: int) -> Tensor:
    """Attention in which the first `prefix` positions see one another and the later ones all before them.

    q, k, v (b, heads, n, dim). By flash-attn where it is installed and fits, else by torch's own.
    """
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
    """Keys and values of all layers, allocated once for the longest row.

    Attributes:
        length: positions filled so far; a model call with a cache appends after them.
    """

    def __init__(self, layers: int, batch: int, heads: int, length: int, head_dim: int, like: Tensor):
        self._store = like.new_empty(layers, 2, batch, heads, length, head_dim)
        self.length = 0

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store k, v (b, heads, m, dim) after `length` and return all up to them. `length` moves once a call."""
        stop = self.length + k.shape[2]
        if stop > self._store.shape[4]:
            raise ValueError(f"the cache holds {self._store.shape[4]} positions, {stop} are asked for")
        self._store[layer, 0, :, :, self.length : stop] = k
        self._store[layer, 1, :, :, self.length : stop] = v
        return self._store[layer, 0, :, :, :stop], self._store[layer, 1, :, :, :stop]


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
        self, x: Tensor, rotary: tuple[Tensor, Tensor], prefix: int, cache: Cache | None = None, layer: int = 0
    ) -> Tensor:
        """x (b, n, d). With a cache that holds positions already, n must be 1."""
        q, k, v = (
            rearrange(proj(x), "b n (heads d) -> b heads n d", heads=self.heads)
            for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = rotate(self.q_norm(q), *rotary), rotate(self.k_norm(k), *rotary)
        if cache is not None:
            first = cache.length == 0
            if not first and x.shape[1] != 1:
                raise ValueError(f"after the first call a cache takes one position at a time, not {x.shape[1]}")
            k, v = cache.append(layer, k, v)
            y = prefix_attention(q, k, v, prefix) if first else F.scaled_dot_product_attention(q, k, v)
        else:
            y = prefix_attention(q, k, v, prefix)
        return self.o_proj(rearrange(y, "b heads n d -> b n (heads d)"))
