"""Prefix attention without a mask, and the preallocated cache."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from videolm.model.config import LMConfig
from videolm.rotary import rotate


def prefix_attention(q: Tensor, k: Tensor, v: Tensor, prefix: int) -> Tensor:
    """Attention in which the first `prefix` positions see one another and the later ones all before them.

    One causal call over all rows, whose prefix rows are then replaced by a bidirectional call on the prefix alone:
    exact, since a later row attends to just what a causal row does, and no mask is built. q, k, v (b, heads, n, dim).
    """
    if prefix >= q.shape[2]:
        return F.scaled_dot_product_attention(q, k, v)
    causal = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    if prefix <= 1:
        return causal
    both = F.scaled_dot_product_attention(q[:, :, :prefix], k[:, :, :prefix], v[:, :, :prefix])
    return torch.cat([both, causal[:, :, prefix:]], dim=2)


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
    """Multi-head attention with rotary positions and normalised queries and keys (arXiv 2010.04245)."""

    def __init__(self, config: LMConfig):
        super().__init__()
        width = config.hidden_size
        self.heads = config.num_heads
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)
        self.q_norm = nn.RMSNorm(config.head_dim, config.norm_eps)
        self.k_norm = nn.RMSNorm(config.head_dim, config.norm_eps)

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
