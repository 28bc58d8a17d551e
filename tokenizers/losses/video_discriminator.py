"""A discriminator of clips: StyleGAN's with convolutions and blurs in space and time (MAGVIT 3.1; MAGVIT-v2, appendix).

Sizes, layers and order are those of MAGVIT's published source, which averages 2x2x2 where this blurs; MAGVIT-v2 blurs.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch.nn.functional as F
from einops import rearrange
from pydantic import Field
from torch import Tensor, nn

from videolm.config import Config
from videolm.tokenizers.losses.adversarial import Adversary, Seen

Count = Annotated[int, Field(ge=1)]

GRID = (1, 4, 4)
"""(t, h, w) of what the last layers see; a clip of the paper's size, up to 32 frames of 128x128, comes to it by halving
alone, others are averaged to it."""


class VideoDiscriminatorConfig(Config):
    """The defaults are MAGVIT's, large."""

    channels: Count = 128
    """As many as the tokenizer's first level has."""
    multipliers: Annotated[tuple[Count, ...], Field(min_length=1)] = (2, 4, 4, 4, 4)
    """Of the channels after each halving of height, width and time."""
    patch: Count = 1
    """Pixels of height and of width that are folded into channels first: 2 or more for a CPU."""

    def make(self) -> Adversary:
        """The discriminator with its loss, not saturating as in MAGVIT."""
        return Adversary([VideoDiscriminator(self)], "non_saturating")


class VideoDiscriminator(nn.Module):
    """Clips (b, 3, f, H, W), their sides multiples of `patch`, to logits (b, 1)."""

    def __init__(self, config: VideoDiscriminatorConfig):
        super().__init__()
        width = config.channels
        self.patch, self.stem = config.patch, _Conv(3 * config.patch**2, width)
        blocks = []
        for multiplier in config.multipliers:
            blocks.append(_Block(width, config.channels * multiplier))
            width = config.channels * multiplier
        self.blocks = nn.Sequential(*blocks)
        self.last = _Conv(width, width)
        self.dense = nn.Linear(width * math.prod(GRID), width)
        self.head = nn.Linear(width, 1)

    def forward(self, video: Tensor) -> Seen:
        x = rearrange(video, "b c f (h p) (w q) -> b (c p q) f h w", p=self.patch, q=self.patch)
        x = self.blocks(_bend(self.stem(x.to(self.head.weight.dtype))))
        x = F.adaptive_avg_pool3d(_bend(self.last(x)), GRID)
        return Seen(self.head(_bend(self.dense(x.flatten(1)))), [])


class _Block(nn.Module):
    """Half the size in every axis, by a blur, and a convolution on both sides of it."""

    def __init__(self, channels: int, out_channels: int):
        super().__init__()
        self.before, self.after = _Conv(channels, channels), _Conv(channels, out_channels)
        self.skip = nn.Conv3d(channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        changed = _bend(self.after(halved(_bend(self.before(x)))))
        return (self.skip(halved(x)) + changed) / math.sqrt(2)


def halved(x: Tensor) -> Tensor:
    """(b, c, t, h, w) to (b, c, ceil(t / 2), ceil(h / 2), ceil(w / 2)) behind the blur 1, 3, 3, 1 of each axis
    (arXiv 1904.11486); beyond its edges the input goes on as it is at the edge."""
    ends = [end for size in reversed(x.shape[2:]) for end in (1, 1 + size % 2)]
    x = F.pad(x, ends, mode="replicate")
    for axis in (4, 3, 2):
        lead, length = (slice(None),) * axis, x.shape[axis] - 3
        one, two, three, four = (x[*lead, start : start + length : 2] for start in range(4))
        x = (one + 3 * (two + three) + four) / 8
    return x


class _Conv(nn.Conv3d):
    """3x3x3 with zeros beyond the edges. They are put there first: of a kernel's taps that see padding alone oneDNN's
    convolution in bfloat16 leaves the gradients as the memory was (torch 2.13 on CPUs)."""

    def __init__(self, channels: int, out_channels: int):
        super().__init__(channels, out_channels, 3)
        nn.init.xavier_uniform_(self.weight)
        assert self.bias is not None
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (1,) * 6))


def _bend(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2)
