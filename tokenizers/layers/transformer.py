"""Transformer layers over the space of each frame, or over the time of each place (Phenaki 2.1).

Tensors are (b, t, h, w, d). Positions are rotary, so nothing is bound to a trained length or size. Attention over time
sees the last `window` latent frames: with that, what a stream must remember does not grow.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from videolm.rotary import rotary_table, rotate
from videolm.tokenizers.layers.stream import Past

Rotary = tuple[Tensor, Tensor]


class Attention(nn.Module):
    """Multi-head attention with rotary positions: (b, n, d) -> (b, n, d).

    With a `window`, position i sees i - window + 1 to i; without, all positions see one another.
    """

    def __init__(self, width: int, heads: int, window: int | None = None):
        super().__init__()
        self.heads, self.window = heads, window
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(width, width, bias=False) for _ in range(4))

    def forward(self, x: Tensor, rotary: Rotary, past: Past | None = None) -> Tensor:
        q, k, v = (
            rearrange(project(x), "b n (heads d) -> b heads n d", heads=self.heads)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = rotate(q, *rotary), rotate(k, *rotary)
        mask = None
        if self.window is not None:
            if past is not None:
                k, v = past.join(self, torch.stack([k, v]), keep=self.window - 1, dim=3)
            behind = torch.arange(k.shape[2], device=x.device) - torch.arange(
                k.shape[2] - q.shape[2], k.shape[2], device=x.device
            ).unsqueeze(1)
            mask = (behind <= 0) & (behind > -self.window)  # (queries, keys)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.o_proj(rearrange(y, "b heads n d -> b n (heads d)"))


class Layer(nn.Module):
    """Attention, then two linear maps around a GELU, each behind a layer norm and around a residual."""

    def __init__(self, width: int, heads: int, inner: int, window: int | None = None):
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads, window)
        self.mlp_norm = nn.LayerNorm(width)
        self.up_proj = nn.Linear(width, inner)
        self.down_proj = nn.Linear(inner, width)

    def forward(self, x: Tensor, rotary: Rotary, past: Past | None = None) -> Tensor:
        x = x + self.attention(self.attention_norm(x), rotary, past)
        return x + self.down_proj(F.gelu(self.up_proj(self.mlp_norm(x))))


class SpatialTransformer(nn.ModuleList):
    """Layers in which all places of a frame see one another."""

    def __init__(self, depth: int, width: int, heads: int, inner: int, theta: float):
        super().__init__(Layer(width, heads, inner) for _ in range(depth))
        self.head_dim, self.theta = width // heads, theta

    def forward(self, x: Tensor) -> Tensor:
        b, _, h, w, _ = x.shape
        places = torch.cartesian_prod(torch.arange(h, device=x.device), torch.arange(w, device=x.device))
        rotary = rotary_table(places.double(), self.head_dim, self.theta)
        x = rearrange(x, "b t h w d -> (b t) (h w) d")
        for layer in self:
            x = layer(x, rotary)
        return rearrange(x, "(b t) (h w) d -> b t h w d", b=b, h=h)


class TemporalTransformer(nn.ModuleList):
    """Layers in which a place sees itself at the last `window` times, and never later ones."""

    def __init__(self, depth: int, width: int, heads: int, inner: int, theta: float, window: int):
        super().__init__(Layer(width, heads, inner, window) for _ in range(depth))
        self.head_dim, self.theta = width // heads, theta

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        b, t, h, _, _ = x.shape
        start = past.time if past is not None else 0
        times = torch.arange(start, start + t, device=x.device)[:, None]
        rotary = rotary_table(times.double(), self.head_dim, self.theta)
        x = rearrange(x, "b t h w d -> (b h w) t d")
        for layer in self:
            x = layer(x, rotary, past)
        return rearrange(x, "(b h w) t d -> b t h w d", b=b, h=h)
