"""The decoder-only trunk: pre-norm blocks of prefix attention and SwiGLU."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from videolm.model.attention import Attention, Cache, Window
from videolm.model.config import LMConfig
from videolm.rotary import rotary_table


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)) (arXiv 2002.05202)."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(GradientCheckpointingLayer):
    """One layer: attention, then SwiGLU, each behind an RMS norm and around a residual.

    After `PrefixLM.gradient_checkpointing_enable()` a model that trains keeps a layer's input alone, and computes what
    is inside again on the way back.
    """

    def __init__(self, config: LMConfig):
        super().__init__()
        self.attention_norm = nn.RMSNorm(config.hidden_size, config.norm_eps)
        self.attention = Attention(config)
        self.mlp_norm = nn.RMSNorm(config.hidden_size, config.norm_eps)
        self.mlp = SwiGLU(config.hidden_size, config.mlp_size)

    def forward(
        self,
        x: Tensor,
        rotary: tuple[Tensor, Tensor],
        prefix: int,
        cache: Cache | Window | None = None,
        layer: int = 0,
    ) -> Tensor:
        x = x + self.attention(self.attention_norm(x), rotary, prefix, cache, layer)
        return x + self.mlp(self.mlp_norm(x))


class Transformer(nn.Module):
    """Embeddings (b, n, d) to hidden states (b, n, d)."""

    def __init__(self, config: LMConfig):
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = nn.RMSNorm(config.hidden_size, config.norm_eps)

    def rotary(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines (..., head_dim / 2) of coordinates (..., axes)."""
        return rotary_table(positions * self.config.rope_scale, self.config.head_dim, self.config.rope_theta)

    def forward(self, x: Tensor, positions: Tensor, prefix: int, cache: Cache | Window | None = None) -> Tensor:
        """
        Args:
            positions: (n, 3) coordinates, or (n, 1) places in the row, of the rows in `x`; (b, n, 3 or 1) where every
                row has its own.
            prefix: positions of the row that see one another.
            cache: keeps keys and values, and with `Window` has those before.
        """
        cos, sin = self.rotary(positions)
        rotary = (cos[:, None], sin[:, None]) if positions.ndim == 3 else (cos, sin)
        for index, layer in enumerate(self.layers):
            x = layer(x, rotary, prefix, cache, index)
        return self.norm(x)
