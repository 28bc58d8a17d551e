"""Which pixels of a clip a masked task hides (MAGVIT 3.2 and 4.1).

COMMIT: the hidden pixels are 0 before the condition is tokenised, the target is tokenised whole. Worked example, a row
of eight pixels, # hidden: central inpainting ..####.., central outpainting ##....##.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Mask = Callable[[int, int, int, bool], Tensor]
"""(frames, height, width, backwards) -> (f, H, W) bool, true where hidden. `backwards` turns round what moves."""

HIDDEN = 0.0
"""What hidden pixels are, in [-1, 1]."""


def hide(video: Tensor, mask: Tensor) -> Tensor:
    """A clip (..., c, f, H, W) in [-1, 1] without its hidden pixels, mask (f, H, W) or (..., 1, f, H, W)."""
    return video.masked_fill(mask, HIDDEN)


def inpainting_central(frames: int, height: int, width: int, backwards: bool = False) -> Tensor:
    """The middle half of each side is hidden."""
    return ~outpainting_central(frames, height, width)


def inpainting_dynamic(frames: int, height: int, width: int, backwards: bool = False) -> Tensor:
    """A strip of half the width is hidden, whose centre moves from a quarter of the width to three quarters."""
    return ~outpainting_dynamic(frames, height, width, backwards)


def outpainting_central(frames: int, height: int, width: int, backwards: bool = False) -> Tensor:
    """All but the middle half of each side is hidden."""
    shown = _middle(height)[:, None] & _middle(width)
    return ~shown.expand(frames, height, width)


def outpainting_vertical(frames: int, height: int, width: int, backwards: bool = False) -> Tensor:
    """All but the middle half of the height is hidden."""
    return ~_middle(height)[:, None].expand(frames, height, width)


def outpainting_horizontal(frames: int, height: int, width: int, backwards: bool = False) -> Tensor:
    """All but the middle half of the width is hidden."""
    return ~_middle(width).expand(frames, height, width)


def outpainting_dynamic(frames: int, height: int, width: int, backwards: bool = False) -> Tensor:
    """All but a strip of half the width is hidden, whose centre moves from a quarter of the width to three quarters."""
    centre = torch.linspace(0.25, 0.75, frames) if frames > 1 else torch.tensor([0.5])
    centre = centre.flip(0) if backwards else centre
    place = (torch.arange(width) + 0.5) / width
    shown = (place - centre[:, None]).abs() < 0.25  # (f, W)
    return ~shown[:, None].expand(frames, height, width)


def _middle(side: int) -> Tensor:
    """The middle half of a side: (side,) bool."""
    place = (torch.arange(side) + 0.5) / side
    return (place - 0.5).abs() < 0.25
