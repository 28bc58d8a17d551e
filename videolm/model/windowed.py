"""A transformer over a grid: windowed self-attention, windowed attention to a smaller grid, attention to text, SwiGLU.

Layers take the windows in turn, such as vertical, horizontal and temporal ones (VideoPoet 3.3), so that after one of
each what is anywhere may matter everywhere. The smaller grid (of low resolution) is cut into windows of half the height
and width, which lie over the same part of the picture.
"""

from __future__ import annotations

from typing import Annotated, Self

import torch
from einops import rearrange
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from videolm.model.config import TransformerConfig
from videolm.model.transformer import SwiGLU
from videolm.model.windows import Kernel, Window, attend, fold, real, unfold
from videolm.rotary import rotary_table, rotate


class WindowedConfig(TransformerConfig):
    """A transformer of windows. The default windows are those of VideoPoet's first stage (appendix A.3)."""

    windows: Annotated[tuple[Window, ...], Field(min_length=1)] = (
        Window(1, 56, 4),
        Window(1, 8, 32),
        Window(5, 8, 8),
    )
    """(time, height, width) of the windows that layers have in turn."""
    attention: Kernel = "auto"
    """What computes attention: the same but for rounding."""

    @model_validator(mode="after")
    def _whole_turns(self) -> Self:
        if self.num_layers % len(self.windows):
            raise ValueError(f"num_layers {self.num_layers} must be a multiple of the {len(self.windows)} windows")
        for window in self.windows:
            if min(window) < 1:
                raise ValueError(f"a window's sides are 1 at least, not {tuple(window)}")
        return self


Table = tuple[Tensor, Tensor]
"""Cosines and sines (windows, n, head_dim / 2) of rotary positions."""


class Context:
    """A grid that layers attend to, cut into windows of each shape once.

    Attributes:
        x: (b, windows, m, d).
        table: of its positions.
        there: (windows, m), places that lie on the grid; None where all do.
    """

    def __init__(self, x: Tensor, window: Window, positions: Tensor, config: WindowedConfig):
        """
        Args:
            x: (b, t, h, w, d).
            positions: (t, h, w, 3).
        """
        grid = (x.shape[1], x.shape[2], x.shape[3])
        self.x = fold(x, window)
        self.table = rotary_table(fold(positions[None], window)[0], config.head_dim, config.rope_theta)
        self.there = real(grid, window, x.device)


class Attention(nn.Module):
    """Multi-head attention of windows to windows, with normalised queries and keys (arXiv 2010.04245)."""

    def __init__(self, config: WindowedConfig):
        super().__init__()
        width = config.hidden_size
        self.heads, self.kernel = config.num_heads, config.attention
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)
        self.q_norm = nn.RMSNorm(config.head_dim, config.norm_eps)
        self.k_norm = nn.RMSNorm(config.head_dim, config.norm_eps)

    def forward(
        self, x: Tensor, to: Tensor, at: Table | None = None, of: Table | None = None, there: Tensor | None = None
    ) -> Tensor:
        """
        Args:
            x: (b, windows, n, d).
            to: (b, windows, m, d), what is attended to.
            at, of: rotary positions of `x` and of `to`.
            there: (windows, m), places of `to` that are attended to.
        """
        q = rearrange(self.q_proj(x), "b win n (heads d) -> b win n heads d", heads=self.heads)
        k, v = (
            rearrange(proj(to), "b win m (heads d) -> b win m heads d", heads=self.heads)
            for proj in (self.k_proj, self.v_proj)
        )
        q, k = self.q_norm(q), self.k_norm(k)
        if at is not None and of is not None:
            q, k = (rotate(y, cos[:, :, None], sin[:, :, None]) for y, (cos, sin) in ((q, at), (k, of)))
        y = attend(q, k, v, there, self.kernel)
        return self.o_proj(rearrange(y, "b win n heads d -> b win n (heads d)"))


class Layer(nn.Module):
    """Self-attention, attention to the smaller grid and to text, SwiGLU; each behind a norm and around a residual."""

    def __init__(self, config: WindowedConfig, low: bool, text: bool):
        super().__init__()

        def norm() -> nn.RMSNorm:
            return nn.RMSNorm(config.hidden_size, config.norm_eps)

        self.self_norm, self.self_attention = norm(), Attention(config)
        self.low_norm = norm() if low else None
        self.low_attention = Attention(config) if low else None
        self.text_norm = norm() if text else None
        self.text_attention = Attention(config) if text else None
        self.mlp_norm, self.mlp = norm(), SwiGLU(config.hidden_size, config.mlp_size)

    def forward(self, x: Tensor, own: Table, there: Tensor | None, low: Context | None, text: Tensor | None) -> Tensor:
        """
        Args:
            x: (b, windows, n, d).
            own, there: rotary positions of it, and its places that lie on the grid.
            text: (b, m, d).
        """
        y = self.self_norm(x)
        x = x + self.self_attention(y, y, own, own, there)
        if low is not None and self.low_norm is not None and self.low_attention is not None:
            x = x + self.low_attention(self.low_norm(x), low.x, own, low.table, low.there)
        if text is not None and self.text_norm is not None and self.text_attention is not None:
            rows = self.text_norm(x).flatten(1, 2)[:, None]  # all windows see the same
            x = x + self.text_attention(rows, text[:, None]).view_as(x)
        return x + self.mlp(self.mlp_norm(x))


class WindowedTransformer(nn.Module):
    """Embeddings of a grid (b, t, h, w, d) to hidden states (b, t, h, w, d).

    Attributes:
        checkpointing: whether training keeps a layer's input alone and computes what is inside again on the way back.
    """

    def __init__(self, config: WindowedConfig, *, low: bool = True, text: bool = True):
        """
        Args:
            low, text: whether layers attend to a smaller grid and to text.
        """
        super().__init__()
        self.config, self.checkpointing = config, False
        self.layers = nn.ModuleList(Layer(config, low, text) for _ in range(config.num_layers))
        self.norm = nn.RMSNorm(config.hidden_size, config.norm_eps)

    def forward(self, x: Tensor, low: Tensor | None = None, text: Tensor | None = None) -> Tensor:
        """
        Args:
            low: (b, t, h / 2, w / 2, d).
            text: (b, m, d).
        """
        grid = (x.shape[1], x.shape[2], x.shape[3])
        windows = [window.within(grid) for window in self.config.windows]
        places = coordinates(grid, x.device) * self.config.rope_scale
        halves: list[Context | None] = [None] * len(windows)
        if low is not None:
            small = coordinates((grid[0], grid[1] // 2, grid[2] // 2), x.device)
            small = (small * small.new_tensor([1, 2, 2]) + small.new_tensor([0, 0.5, 0.5])) * self.config.rope_scale
            halves = [Context(low, half(window), small, self.config) for window in windows]
        own = [
            rotary_table(fold(places[None], window)[0], self.config.head_dim, self.config.rope_theta)
            for window in windows
        ]
        there = [real(grid, window, x.device) for window in windows]
        for index, layer in enumerate(self.layers):
            which = index % len(windows)
            y, rest = fold(x, windows[which]), (own[which], there[which], halves[which], text)
            if self.checkpointing and self.training and torch.is_grad_enabled():
                y = checkpoint(layer, y, *rest, use_reentrant=False)
            else:
                y = layer(y, *rest)
            x = unfold(y, windows[which], grid)
        return self.norm(x)


def half(window: Window) -> Window:
    """The window of half the height and width: on a grid of half the size, it covers the same part of the picture.

    Raises ValueError where a side is odd.
    """
    if window.h % 2 or window.w % 2:
        raise ValueError(f"{window.h} x {window.w} codes have no half; take even sides")
    return Window(window.t, window.h // 2, window.w // 2)


def coordinates(grid: tuple[int, int, int], device: torch.device) -> Tensor:
    """(t, h, w, 3) places of a grid, float32."""
    axes = [torch.arange(size, device=device, dtype=torch.float32) for size in grid]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
