"""MAGVIT-v2: a causal convolutional video tokenizer with lookup-free quantisation (arXiv 2310.05737; VideoPoet 3.1).

    video -> [patch] -> conv -> { residual blocks -> down } per level -> norm, conv -> bits -> sign -> codes
    codes -> bits -> conv -> { residual blocks (adaptive norm) -> up } per level -> norm, conv -> [unpatch] -> video

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
from videolm.errors import UserError
from videolm.shapes import TokenGrid, latent_frames
from videolm.tokenizers.layers.causal import CausalConv3d, FrameNorm, depth_to_space, nearest_in_time, space_to_depth
from videolm.tokenizers.protocol import Reconstruction, VideoTokenizer
from videolm.tokenizers.quantize import lfq

Positive = Annotated[int, Field(ge=1)]
KERNELS = {"full": ((3, 3, 3), (3, 3, 3)), "factorized": ((1, 3, 3), (3, 1, 1))}


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
    bits: Annotated[int, Field(ge=1, le=30)] = 18
    """Code length; the codebook has 2^bits entries."""

    @model_validator(mode="after")
    def _consistent(self) -> MagvitV2Config:
        if len(self.temporal_down) != len(self.multipliers) - 1:
            raise ValueError(
                f"temporal_down needs {len(self.multipliers) - 1} entries, one between each two of multipliers"
            )
        if self.norm_groups and any(self.base_channels * m % self.norm_groups for m in self.multipliers):
            raise ValueError(f"norm_groups {self.norm_groups} must divide the width of every level")
        return self

    @property
    def pixel_patch(self) -> tuple[int, int, int]:
        """(t, h, w) of a patch."""
        return (self.patch[0], self.patch[1], self.patch[1])

    @property
    def pixel_channels(self) -> int:
        """Channels that a patch of RGB pixels becomes."""
        return 3 * self.patch[0] * self.patch[1] ** 2

    @property
    def pixel_kernel(self) -> tuple[int, int, int]:
        """Kernel at the pixels' end: 3x3x3 on pixels, 1x1x1 on patches."""
        return (3, 3, 3) if self.pixel_channels == 3 else (1, 1, 1)

    @property
    def strides(self) -> list[tuple[int, int, int]]:
        """(t, h, w) stride of each step between levels."""
        return [(2 if down else 1, 2, 2) for down in self.temporal_down]


class ResidualBlock(nn.Module):
    """norm, SiLU, conv, twice, around a skip connection; the norms are adaptive when `condition` > 0."""

    def __init__(self, channels: int, config: MagvitV2Config, condition: int = 0):
        super().__init__()
        first, second = KERNELS[config.kernels]
        self.norm1 = FrameNorm(channels, config.norm_groups, condition)
        self.conv1 = CausalConv3d(channels, channels, first)
        self.norm2 = FrameNorm(channels, config.norm_groups, condition)
        self.conv2 = CausalConv3d(channels, channels, second)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x, condition)))
        y = self.conv2(F.silu(self.norm2(y, condition)))
        return x + y


class Level(nn.ModuleList):
    """Residual blocks of one resolution, each given the same condition."""

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        for block in self:
            x = block(x, condition)
        return x


class Encoder(nn.Module):
    """Video (b, 3, f, H, W) to latents (b, bits, t, h, w), before the sign is taken."""

    def __init__(self, config: MagvitV2Config):
        super().__init__()
        self.patch = config.pixel_patch
        widths = [config.base_channels * m for m in config.multipliers]
        self.stem = CausalConv3d(config.pixel_channels, widths[0], config.pixel_kernel)
        self.levels, self.downs = nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths):
            self.levels.append(Level(ResidualBlock(width, config) for _ in range(config.encoder_blocks)))
            if level + 1 < len(widths):
                stride = config.strides[level]
                self.downs.append(CausalConv3d(width, widths[level + 1], (2 * stride[0] - 1, 3, 3), stride))
        self.norm = FrameNorm(widths[-1], config.norm_groups)
        self.project = CausalConv3d(widths[-1], config.bits, (1, 1, 1))

    def forward(self, video: Tensor) -> Tensor:
        x = self.stem(space_to_depth(video, self.patch))
        for level, blocks in enumerate(self.levels):
            x = blocks(x)
            if level < len(self.downs):
                x = self.downs[level](x)
        return self.project(F.silu(self.norm(x)))


class Decoder(nn.Module):
    """Signs (b, bits, t, h, w) to video: the encoder mirrored, with adaptive norms and depth-to-space."""

    def __init__(self, config: MagvitV2Config):
        super().__init__()
        self.patch = config.pixel_patch
        widths = [config.base_channels * m for m in config.multipliers][::-1]
        self.strides = config.strides[::-1]
        middle = KERNELS[config.kernels][0]
        self.stem = CausalConv3d(config.bits, widths[0], middle)
        self.levels, self.ups = nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths):
            self.levels.append(Level(ResidualBlock(width, config, config.bits) for _ in range(config.decoder_blocks)))
            if level + 1 < len(widths):
                st, sh, sw = self.strides[level]
                self.ups.append(CausalConv3d(width, widths[level + 1] * st * sh * sw, middle))
        self.norm = FrameNorm(widths[-1], config.norm_groups, config.bits)
        self.project = CausalConv3d(widths[-1], config.pixel_channels, config.pixel_kernel)

    def forward(self, signs: Tensor) -> Tensor:
        x, condition = self.stem(signs), signs
        for level, blocks in enumerate(self.levels):
            x = blocks(x, condition)
            if level < len(self.ups):
                x = depth_to_space(self.ups[level](x), self.strides[level])
                condition = nearest_in_time(condition, self.strides[level])
        return depth_to_space(self.project(F.silu(self.norm(x, condition))), self.patch)


class MagvitV2(VideoTokenizer):
    """The tokenizer; see the module docstring and `VideoTokenizer` for the contract."""

    Settings = MagvitV2Config
    causal: ClassVar[bool] = True
    first_frame_alone: ClassVar[bool] = True

    def __init__(self, config: MagvitV2Config):
        super().__init__(config)
        self.codebook_size = 2**config.bits
        self.temporal_stride = config.patch[0] * 2 ** sum(config.temporal_down)
        self.spatial_stride = config.patch[1] * 2 ** (len(config.multipliers) - 1)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def grid(self, frames: int, height: int, width: int) -> TokenGrid:
        """See `VideoTokenizer.grid`; at paper size 17x128x128 is (5, 16, 16)."""
        if height % self.spatial_stride or width % self.spatial_stride or min(height, width) < 1:
            raise UserError(
                f"{width}x{height} pixels do not fit: both sides must be multiples of {self.spatial_stride}"
            )
        t = latent_frames(frames, self.temporal_stride)
        return TokenGrid(t, height // self.spatial_stride, width // self.spatial_stride)

    def encode(self, video: Tensor) -> Tensor:
        self.check_video(video)
        self.grid(*video.shape[2:])
        return lfq.bits_to_codes(self.encoder(video).movedim(1, -1))

    def decode(self, codes: Tensor) -> Tensor:
        self.check_codes(codes)
        signs = lfq.codes_to_bits(codes, self.config.bits).to(self.decoder.stem.weight.dtype)
        return self.decoder(signs.movedim(-1, 1))

    def freeze_codes(self) -> None:
        self.encoder.requires_grad_(False)

    def forward(self, video: Tensor) -> Reconstruction:
        latents = self.encoder(video).movedim(1, -1)
        vectors, codes, losses = lfq.quantize(latents, losses=True)
        return Reconstruction(self.decoder(vectors.movedim(-1, 1)), codes, losses)
