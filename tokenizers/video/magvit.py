"""3D-VQ: MAGVIT's convolutional video tokenizer, which looks ahead in time (MAGVIT 3.1, appendix A.1).

    video -> conv -> { residual blocks -> average } per level -> residual blocks -> norm, conv -> quantiser -> codes
    codes -> vectors -> conv -> residual blocks -> { residual blocks -> repeat, conv } per level -> norm, conv -> video

16 frames at 4x in time and 8x in space are (4, H/8, W/8) codes. Not causal: norms and kernels see the whole block of 16
frames, and no frame stands alone. A longer clip is coded in blocks, each on its own. Padding is by reflection, and
inflation fills the central slice of a kernel, as in the paper.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from einops import reduce, repeat
from pydantic import Field, model_validator
from torch import Tensor, nn

from videolm.config import Config
from videolm.tokenizers.layers.inflate import Inflatable, inflate
from videolm.tokenizers.layers.stream import Past
from videolm.tokenizers.protocol import VideoTokenizer
from videolm.tokenizers.quantize.config import QuantizerConfig
from videolm.tokenizers.quantize.vq import VQConfig

Positive = Annotated[int, Field(ge=1)]
Size = tuple[int, int, int]


class MagvitConfig(Config):
    """3D-VQ base (41M) by default; with `base_channels` 128 it is 3D-VQ large (158M)."""

    name: Literal["magvit"] = "magvit"
    frames: Positive = 16
    """Frames coded together."""
    base_channels: Positive = 64
    """Width of the first level."""
    multipliers: tuple[Positive, ...] = (1, 2, 2, 4)
    """Width of each level over `base_channels`; space is halved between levels."""
    temporal_down: tuple[bool, ...] = (True, True, False)
    """Whether time is halved too, for each step between levels."""
    blocks: Positive = 2
    """Residual blocks a level, and as many between encoder and codes, and codes and decoder."""
    norm_groups: Positive = 32
    """Of the group norms, over all of time and space."""
    quantizer: QuantizerConfig = VQConfig(codebook_size=1024, dim=256, l2_normalized=False, update="gradient")
    still: bool = False
    """A tokenizer of pictures (2D-VQ), to inflate a tokenizer of clips from: it has no kernel in time."""

    @model_validator(mode="after")
    def _consistent(self) -> MagvitConfig:
        if len(self.temporal_down) != len(self.multipliers) - 1:
            raise ValueError(
                f"temporal_down needs {len(self.multipliers) - 1} entries, one between each two of multipliers"
            )
        if any(self.base_channels * m % self.norm_groups for m in self.multipliers):
            raise ValueError(f"norm_groups {self.norm_groups} must divide the width of every level")
        if self.frames % 2 ** sum(self.temporal_down):
            raise ValueError(f"frames {self.frames} must be a multiple of {2 ** sum(self.temporal_down)}")
        if self.still and (self.frames > 1 or any(self.temporal_down)):
            raise ValueError("a tokenizer of pictures (still) has frames 1 and no stride in time")
        return self

    def image(self) -> MagvitConfig:
        """The tokenizer of pictures with the same network in space."""
        down = (False,) * len(self.temporal_down)
        return self.model_copy(update={"still": True, "frames": 1, "temporal_down": down})

    @property
    def strides(self) -> list[Size]:
        """(t, h, w) stride of each step between levels."""
        return [(2 if down else 1, 2, 2) for down in self.temporal_down]


class Conv3d(Inflatable):
    """A convolution of odd kernel over a clip that is reflected at its edges: (b, c, t, h, w) -> (b, c', t, h, w).

    An axis with one place has nothing to reflect and goes on as it is there.
    """

    def __init__(self, config: MagvitConfig, channels: int, out_channels: int, size: int = 3):
        super().__init__()
        self.kernel = (1 if config.still else size, size, size)
        conv = nn.Conv3d(channels, out_channels, self.kernel)
        assert conv.bias is not None
        self.weight = nn.Parameter(conv.weight.detach().flatten(1))  # (c', c*kt*kh*kw): a matrix, for Muon
        self.bias = conv.bias

    def forward(self, x: Tensor) -> Tensor:
        for axis, size in enumerate(self.kernel):
            if size > 1:
                around = [0] * 6
                around[4 - 2 * axis : 6 - 2 * axis] = [size // 2] * 2
                x = F.pad(x, around, mode="reflect" if x.shape[2 + axis] > size // 2 else "replicate")
        weight = self.weight.unflatten(1, (x.shape[1], *self.kernel))
        return F.conv3d(x, weight.to(x.dtype), self.bias.to(x.dtype))

    @torch.no_grad()
    def inflate(self, image: Conv3d) -> None:
        """The 2D kernel becomes the central slice in time, between zeros (MAGVIT 3.1)."""
        weight = self.weight.unflatten(1, (-1, *self.kernel))  # a view
        weight.zero_()
        weight[:, :, self.kernel[0] // 2] = image.weight.unflatten(1, (-1, *image.kernel))[:, :, 0]
        self.bias.copy_(image.bias)


class ResidualBlock(nn.Module):
    """norm, SiLU, conv, twice, around a skip connection that changes the width where it must."""

    def __init__(self, config: MagvitConfig, channels: int, out_channels: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(config.norm_groups, channels, eps=1e-6)
        self.conv1 = Conv3d(config, channels, out_channels)
        self.norm2 = nn.GroupNorm(config.norm_groups, out_channels, eps=1e-6)
        self.conv2 = Conv3d(config, out_channels, out_channels)
        self.skip = Conv3d(config, channels, out_channels, 1) if channels != out_channels else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x)))
        return self.skip(x) + self.conv2(F.silu(self.norm2(y)))


def residual_blocks(config: MagvitConfig, channels: int, out_channels: int) -> nn.Sequential:
    """The blocks of a level; the first changes the width."""
    widths = [channels] + [out_channels] * config.blocks
    return nn.Sequential(*(ResidualBlock(config, a, b) for a, b in pairwise(widths)))


class Encoder(nn.Module):
    """Video (b, 3, f, H, W) to latents (b, k, t, h, w) for the quantiser, block by block."""

    def __init__(self, config: MagvitConfig, latents: int):
        super().__init__()
        self.config = config
        widths = [config.base_channels * m for m in (1, *config.multipliers)]
        self.stem = Conv3d(config, 3, widths[0])
        self.levels = nn.ModuleList(residual_blocks(config, a, b) for a, b in pairwise(widths))
        self.middle = residual_blocks(config, widths[-1], widths[-1])
        self.norm = nn.GroupNorm(config.norm_groups, widths[-1], eps=1e-6)
        self.project = Conv3d(config, widths[-1], latents, 1)

    def forward(self, video: Tensor, past: Past | None = None) -> Tensor:
        return torch.cat([self._block(part) for part in video.split(self.config.frames, 2)], 2)

    def _block(self, video: Tensor) -> Tensor:
        x = self.stem(video)
        for blocks, stride in zip(self.levels, [*self.config.strides, None], strict=True):
            x = blocks(x)
            if stride is not None:
                t, h, w = stride  # F.avg_pool3d knows no bfloat16 on a CPU
                x = reduce(x, "b c (f t) (H h) (W w) -> b c f H W", "mean", t=t, h=h, w=w)
        return self.project(F.silu(self.norm(self.middle(x))))


class Decoder(nn.Module):
    """Vectors (b, k, t, h, w) to video: the encoder mirrored."""

    def __init__(self, config: MagvitConfig, latents: int):
        super().__init__()
        self.latents = config.frames // 2 ** sum(config.temporal_down)
        self.strides = config.strides[::-1]
        widths = [config.base_channels * m for m in config.multipliers][::-1]
        self.stem = Conv3d(config, latents, widths[0])
        self.middle = residual_blocks(config, widths[0], widths[0])
        self.levels = nn.ModuleList(
            residual_blocks(config, a, b) for a, b in zip([widths[0], *widths], widths, strict=False)
        )
        self.ups = nn.ModuleList(Conv3d(config, width, width) for width in widths[:-1])
        self.norm = nn.GroupNorm(config.norm_groups, widths[-1], eps=1e-6)
        self.project = Conv3d(config, widths[-1], 3)

    def forward(self, vectors: Tensor, past: Past | None = None) -> Tensor:
        return torch.cat([self._block(part) for part in vectors.split(self.latents, 2)], 2)

    def _block(self, vectors: Tensor) -> Tensor:
        x = self.middle(self.stem(vectors))
        for level, blocks in enumerate(self.levels):
            x = blocks(x)
            if level < len(self.ups):
                st, sh, sw = self.strides[level]
                x = self.ups[level](repeat(x, "b c t h w -> b c (t st) (h sh) (w sw)", st=st, sh=sh, sw=sw))
        return self.project(F.silu(self.norm(x)))


class Magvit(VideoTokenizer):
    """The tokenizer; see the module docstring and `VideoTokenizer` for the contract."""

    Settings = MagvitConfig
    causal: ClassVar[bool] = False
    first_frame_alone: ClassVar[bool] = False

    def __init__(self, config: MagvitConfig):
        super().__init__(config)
        self.temporal_stride = 2 ** sum(config.temporal_down)
        self.spatial_stride = 2 ** (len(config.multipliers) - 1)
        self.block = config.frames // self.temporal_stride
        self.quantizer = config.quantizer.make()
        self.encoder = Encoder(config, self.quantizer.dim)
        self.decoder = Decoder(config, self.quantizer.dim)

    def inflate(self, image: Magvit) -> None:
        """See `VideoTokenizer.inflate`: every kernel is the central slice in time."""
        inflate(self, image)
