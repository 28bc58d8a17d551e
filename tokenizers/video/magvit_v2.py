"""MAGVIT-v2: a causal convolutional video tokenizer with lookup-free quantisation (arXiv 2310.05737; VideoPoet 3.1).

    video -> [patch] -> conv -> { residual blocks -> down } per level -> norm, conv -> quantiser -> codes
    codes -> vectors -> conv -> { residual blocks (adaptive norm) -> up } per level -> norm, conv -> [unpatch] -> video

The first frame stands alone: 17 frames at 4x in time and 8x in space are (5, H/8, W/8) codes. At paper size every
kernel is 3x3x3 and space is halved by strided convolutions. Small presets first move patches of pixels into channels
and factorise kernels into space and time, which a CPU needs.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from videolm.config import Config
from videolm.tokenizers.layers.causal import CausalConv3d, FrameNorm, depth_to_space, nearest_in_time, space_to_depth
from videolm.tokenizers.layers.inflate import inflate
from videolm.tokenizers.layers.stream import Past
from videolm.tokenizers.protocol import VideoTokenizer
from videolm.tokenizers.quantize.config import QuantizerConfig
from videolm.tokenizers.quantize.lfq import LFQConfig

Positive = Annotated[int, Field(ge=1)]
Size = tuple[int, int, int]
KERNELS: dict[str, tuple[Size, Size]] = {"full": ((3, 3, 3), (3, 3, 3)), "factorized": ((1, 3, 3), (3, 1, 1))}


class MagvitV2Config(Config):
    """Paper size by default; `configs/tokenizer/` holds the presets."""

    name: Literal["magvit_v2"] = "magvit_v2"
    base_channels: Positive = 128
    """Width of the first level."""
    multipliers: tuple[Positive, ...] = (1, 2, 2, 4)
    """Width of each level over `base_channels`; space is halved between levels."""
    temporal_down: tuple[bool, ...] = (False, True, True)
    """Whether time is halved too, for each step between levels."""
    encoder_blocks: Positive = 4
    """Residual blocks a level."""
    decoder_blocks: Positive = 4
    patch: tuple[Positive, Positive] = (1, 1)
    """Frames, and pixels on a side, moved into channels before the first convolution."""
    kernels: Literal["full", "factorized"] = "full"
    """3x3x3 twice a block, or 1x3x3 then 3x1x1."""
    norm_groups: Annotated[int, Field(ge=0)] = 32
    """Group norm over a frame's channels in this many groups; 0: layer norm at each position."""
    quantizer: QuantizerConfig = LFQConfig(bits=18)
    still: bool = False
    """A tokenizer of pictures, to inflate a tokenizer of clips from: it has no kernel in time."""

    @model_validator(mode="after")
    def _consistent(self) -> MagvitV2Config:
        if len(self.temporal_down) != len(self.multipliers) - 1:
            raise ValueError(
                f"temporal_down needs {len(self.multipliers) - 1} entries, one between each two of multipliers"
            )
        if self.norm_groups and any(self.base_channels * m % self.norm_groups for m in self.multipliers):
            raise ValueError(f"norm_groups {self.norm_groups} must divide the width of every level")
        if self.still and (self.patch[0] > 1 or any(self.temporal_down)):
            raise ValueError("a tokenizer of pictures (still) has no patch and no stride in time")
        return self

    def image(self) -> MagvitV2Config:
        """The tokenizer of pictures with the same network in space."""
        down = (False,) * len(self.temporal_down)
        return self.model_copy(update={"still": True, "patch": (1, self.patch[1]), "temporal_down": down})

    def conv(self, channels: int, out_channels: int, kernel: Size, stride: Size = (1, 1, 1)) -> CausalConv3d:
        return CausalConv3d(channels, out_channels, (1, *kernel[1:]) if self.still else kernel, stride)

    @property
    def pixel_patch(self) -> Size:
        """(t, h, w) of a patch."""
        return (self.patch[0], self.patch[1], self.patch[1])

    @property
    def pixel_channels(self) -> int:
        """Channels that a patch of RGB pixels becomes."""
        return 3 * self.patch[0] * self.patch[1] ** 2

    @property
    def pixel_kernel(self) -> Size:
        """Kernel at the pixels' end: 3x3x3 on pixels, 1x1x1 on patches."""
        return (3, 3, 3) if self.patch[1] == 1 else (1, 1, 1)

    @property
    def strides(self) -> list[Size]:
        """(t, h, w) stride of each step between levels."""
        return [(2 if down else 1, 2, 2) for down in self.temporal_down]


class ResidualBlock(nn.Module):
    """norm, SiLU, conv, twice, around a skip connection; the norms are adaptive when `condition` > 0."""

    def __init__(self, channels: int, config: MagvitV2Config, condition: int = 0):
        super().__init__()
        first, second = KERNELS[config.kernels]
        self.norm1 = FrameNorm(channels, config.norm_groups, condition)
        self.conv1 = config.conv(channels, channels, first)
        self.norm2 = FrameNorm(channels, config.norm_groups, condition)
        self.conv2 = config.conv(channels, channels, second)

    def forward(self, x: Tensor, condition: Tensor | None = None, past: Past | None = None) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x, condition)), past)
        y = self.conv2(F.silu(self.norm2(y, condition)), past)
        return x + y


class Level(nn.ModuleList):
    """Residual blocks of one resolution, each given the same condition."""

    def forward(self, x: Tensor, condition: Tensor | None = None, past: Past | None = None) -> Tensor:
        for block in self:
            x = block(x, condition, past)
        return x


class Encoder(nn.Module):
    """Video (b, 3, f, H, W) to latents (b, k, t, h, w) for the quantiser."""

    def __init__(self, config: MagvitV2Config, latents: int):
        super().__init__()
        self.patch = config.pixel_patch
        widths = [config.base_channels * m for m in config.multipliers]
        self.stem = config.conv(config.pixel_channels, widths[0], config.pixel_kernel)
        self.levels, self.downs = nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths):
            self.levels.append(Level(ResidualBlock(width, config) for _ in range(config.encoder_blocks)))
            if level + 1 < len(widths):
                stride = config.strides[level]
                self.downs.append(config.conv(width, widths[level + 1], (2 * stride[0] - 1, 3, 3), stride))
        self.norm = FrameNorm(widths[-1], config.norm_groups)
        self.project = config.conv(widths[-1], latents, (1, 1, 1))

    def forward(self, video: Tensor, past: Past | None = None) -> Tensor:
        x = self.stem(space_to_depth(video, self.patch, past), past)
        for level, blocks in enumerate(self.levels):
            x = blocks(x, None, past)
            if level < len(self.downs):
                x = self.downs[level](x, past)
        return self.project(F.silu(self.norm(x)), past)


class Decoder(nn.Module):
    """Vectors (b, k, t, h, w) to video: the encoder mirrored, with adaptive norms and depth-to-space."""

    def __init__(self, config: MagvitV2Config, latents: int):
        super().__init__()
        self.patch = config.pixel_patch
        widths = [config.base_channels * m for m in config.multipliers][::-1]
        self.strides = config.strides[::-1]
        middle = KERNELS[config.kernels][0]
        self.stem = config.conv(latents, widths[0], middle)
        self.levels, self.ups = nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths):
            self.levels.append(Level(ResidualBlock(width, config, latents) for _ in range(config.decoder_blocks)))
            if level + 1 < len(widths):
                st, sh, sw = self.strides[level]
                self.ups.append(config.conv(width, widths[level + 1] * st * sh * sw, middle))
        self.norm = FrameNorm(widths[-1], config.norm_groups, latents)
        self.project = config.conv(widths[-1], config.pixel_channels, config.pixel_kernel)

    def forward(self, vectors: Tensor, past: Past | None = None) -> Tensor:
        x, condition = self.stem(vectors, past), vectors
        for level, blocks in enumerate(self.levels):
            x = blocks(x, condition, past)
            if level < len(self.ups):
                x = depth_to_space(self.ups[level](x, past), self.strides[level], past)
                condition = nearest_in_time(condition, self.strides[level], past)
        return depth_to_space(self.project(F.silu(self.norm(x, condition)), past), self.patch, past)


class MagvitV2(VideoTokenizer):
    """The tokenizer; see the module docstring and `VideoTokenizer` for the contract."""

    Settings = MagvitV2Config
    causal: ClassVar[bool] = True
    first_frame_alone: ClassVar[bool] = True

    def __init__(self, config: MagvitV2Config):
        super().__init__(config)
        self.temporal_stride = config.patch[0] * 2 ** sum(config.temporal_down)
        self.spatial_stride = config.patch[1] * 2 ** (len(config.multipliers) - 1)
        self.quantizer = config.quantizer.make()
        self.encoder = Encoder(config, self.quantizer.dim)
        self.decoder = Decoder(config, self.quantizer.dim)

    def inflate(self, image: MagvitV2) -> None:
        """See `VideoTokenizer.inflate`: every kernel is the last slice in time."""
        inflate(self, image)
