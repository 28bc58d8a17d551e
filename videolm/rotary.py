"""Rotary position embeddings over one or several axes (arXiv 2104.09864).

With axes (time, height, width) the frequencies are dealt out in turn, so each axis gets a full range of them.
"""

from __future__ import annotations

import torch
from torch import Tensor


def rotary_table(positions: Tensor, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines (..., head_dim / 2) of positions (..., axes):
    float64 for positions in float64, which stay exact
    however far a stream has come, else float32.

    Frequency i turns with axis i mod axes. Worked example: 6 frequencies and 3 axes deal frequencies 0 and 3 to time,
    1 and 4 to height, 2 and 5 to width.
    """
    pairs, axes = head_dim // 2, positions.shape[-1]
    positions = positions if positions.dtype == torch.float64 else positions.float()
    step = torch.arange(pairs, device=positions.device)
    frequencies = theta ** -((step // axes) * axes / pairs).to(positions.dtype)
    angles = positions[..., step % axes] * frequencies
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the halves of each head: x (b, heads, n, head_dim) with a table (n, head_dim / 2) or (b, 1, n, ...)."""
    one, two = x.chunk(2, dim=-1)
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.cat([one * cos - two * sin, two * cos + one * sin], dim=-1)
