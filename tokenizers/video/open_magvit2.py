"""Open-MAGVIT2's video tokenizer (TencentARC, arXiv 2409.04410; Apache-2.0): an open reading of MAGVIT-v2, 2^18 codes.

    video -> conv -> { residual blocks -> strided conv } per level -> residual blocks -> norm, conv -> signs -> codes
    codes -> conv -> residual blocks -> { norm by the codes -> residual blocks -> up } per level -> norm, conv -> video

    tokenizer = OpenMagvit2.from_checkpoint("video_128_262144.ckpt")

Where it differs from `MagvitV2`: its group norms take their statistics over all frames, and those that the codes steer
take the codes' mean and spread over the whole clip. So its codes depend on later frames, although its convolutions do
not, and a picture alone need not have the codes of a clip's first frame. It pads with zeros. It was trained on 17
frames, and codes a clip as a whole: see `VideoTokenizer.block`. Modules are named as in its checkpoint.
"""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from videolm.config import Config
from videolm.errors import UserError
from videolm.tokenizers.layers.causal import depth_to_space
from videolm.tokenizers.layers.stream import Past
from videolm.tokenizers.quantize.lfq import LFQConfig
from videolm.tokenizers.video.borrowed import Borrowed, refuse_config

Positive = Annotated[int, Field(ge=1)]
Size = tuple[int, int, int]
GROUPS = 32
AVERAGED = "model_ema."
"""In front of the names of averaged weights in a checkpoint, which then have no dots."""


class OpenMagvit2Config(Config):
    """The published one by default."""

    name: Literal["open_magvit2"] = "open_magvit2"
    channels: Annotated[int, Field(ge=GROUPS, multiple_of=GROUPS)] = 128
    """Width of the first level."""
    multipliers: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1, 2, 2, 4)
    """Width of each level over `channels`; space is halved after each but the last, and time too where it is not 1."""
    blocks: Positive = 4
    """Residual blocks a level, and between encoder and decoder."""
    bits: Annotated[int, Field(ge=1, le=30)] = 18
    """Code length."""

    @model_validator(mode="after")
    def _begins_in_space(self) -> OpenMagvit2Config:
        if self.multipliers[0] != 1:
            raise ValueError("the first of multipliers is 1")
        return self

    @property
    def widths(self) -> list[int]:
        return [self.channels * times for times in self.multipliers]

    @property
    def strides(self) -> list[Size]:
        """(t, h, w) stride after each level but the last."""
        return [(1 if times == 1 else 2, 2, 2) for times in self.multipliers[:-1]]


class Conv(nn.Module):
    """A convolution that pads with zeros: in space around, in time in front alone."""

    def __init__(self, channels: int, out: int, kernel: int = 3, stride: Size = (1, 1, 1), bias: bool = True):
        super().__init__()
        self.conv_1 = nn.Conv3d(channels, out, kernel, stride, bias=bias)
        self.padding = (*(kernel // 2,) * 4, kernel - 1, 0)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.conv_1(F.pad(x, self.padding))
        return found


def _norm(channels: int, affine: bool = True) -> nn.GroupNorm:
    return nn.GroupNorm(GROUPS, channels, eps=1e-6, affine=affine)


class ResidualBlock(nn.Module):
    """norm, SiLU, conv, twice, around a skip connection."""

    def __init__(self, channels: int, out: int):
        super().__init__()
        self.norm1, self.conv1 = _norm(channels), Conv(channels, out, bias=False)
        self.norm2, self.conv2 = _norm(out), Conv(out, out, bias=False)
        if channels != out:
            self.nin_shortcut = Conv(channels, out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x)))
        y = self.conv2(F.silu(self.norm2(y)))
        return y + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


def _blocks(channels: int, out: int, count: int) -> nn.ModuleList:
    return nn.ModuleList(ResidualBlock(out if index else channels, out) for index in range(count))


def _through(blocks: nn.ModuleList, x: Tensor) -> Tensor:
    for block in blocks:
        x = block(x)
    return x


class Steered(nn.Module):
    """A group norm whose scale and shift follow from the signs of the whole clip: their spread and their mean."""

    def __init__(self, bits: int, channels: int):
        super().__init__()
        self.gn = _norm(channels, affine=False)
        self.gamma, self.beta = nn.Linear(bits, channels), nn.Linear(bits, channels)

    def forward(self, x: Tensor, signs: Tensor) -> Tensor:
        """x (b, c, t, h, w), signs (b, bits, t', h', w')."""
        flat = signs.flatten(2)
        spread = flat.var(-1, correction=min(1, flat.shape[-1] - 1))  # one place alone has none
        scale, shift = self.gamma((spread + self.gn.eps).sqrt()), self.beta(flat.mean(-1))
        return self.gn(x) * scale[..., None, None, None] + shift[..., None, None, None]


class Up(nn.Module):
    """Channels into space and time. Where a frame becomes two, the second of the first two is dropped."""

    def __init__(self, channels: int, stride: Size):
        super().__init__()
        self.stride = stride
        self.conv1 = Conv(channels, channels * stride[0] * stride[1] * stride[2])

    def forward(self, x: Tensor) -> Tensor:
        st, sh, sw = self.stride
        x = self.conv1(x)
        up = depth_to_space(x, self.stride)  # without the first of two frames, which is the one that stays here
        if st == 1:
            return up
        first = depth_to_space(x[:, : x.shape[1] // st, :1], (1, sh, sw))
        return torch.cat([first, up[:, :, 1:]], 2)


class DownLevel(nn.Module):
    """Residual blocks, then a strided convolution on all levels but the last."""

    def __init__(self, channels: int, out: int, blocks: int, stride: Size | None):
        super().__init__()
        self.block = _blocks(channels, out, blocks)
        self.downsample = Conv(out, out, 3, stride) if stride else None

    def forward(self, x: Tensor) -> Tensor:
        x = _through(self.block, x)
        return x if self.downsample is None else self.downsample(x)


class UpLevel(nn.Module):
    """Residual blocks, then space and time back on all levels but the first."""

    def __init__(self, channels: int, out: int, blocks: int, stride: Size | None):
        super().__init__()
        self.block = _blocks(channels, out, blocks)
        self.upsample = Up(out, stride) if stride else None

    def forward(self, x: Tensor) -> Tensor:
        x = _through(self.block, x)
        return x if self.upsample is None else self.upsample(x)


class Encoder(nn.Module):
    """Video (b, 3, f, H, W) to latents (b, bits, t, h, w)."""

    def __init__(self, config: OpenMagvit2Config):
        super().__init__()
        widths, strides = config.widths, config.strides
        self.conv_in = Conv(3, widths[0], bias=False)
        each = zip([widths[0], *widths], widths, [*strides, None], strict=False)
        self.down = nn.ModuleList(DownLevel(before, width, config.blocks, stride) for before, width, stride in each)
        self.mid_block = _blocks(widths[-1], widths[-1], config.blocks)
        self.norm_out = _norm(widths[-1])
        self.conv_out = Conv(widths[-1], config.bits, 1)

    def forward(self, video: Tensor, past: Past | None = None) -> Tensor:
        """`past` is that of a chunk which is a whole clip, so there is none."""
        x = _through(self.mid_block, _through(self.down, self.conv_in(video)))
        latents: Tensor = self.conv_out(F.silu(self.norm_out(x)))
        return latents


class Decoder(nn.Module):
    """Signs (b, bits, t, h, w) to video."""

    def __init__(self, config: OpenMagvit2Config):
        super().__init__()
        widths, strides = config.widths, config.strides
        self.conv_in = Conv(config.bits, widths[-1])
        self.mid_block = _blocks(widths[-1], widths[-1], config.blocks)
        before = [*widths[1:], widths[-1]]
        levels = zip(before, widths, [None, *strides], strict=True)  # in the encoder's order
        self.up = nn.ModuleList(UpLevel(channels, width, config.blocks, stride) for channels, width, stride in levels)
        self.adaptive = nn.ModuleList(Steered(config.bits, channels) for channels in before)
        self.norm_out = _norm(widths[0])
        self.conv_out = Conv(widths[0], 3)

    def forward(self, signs: Tensor, past: Past | None = None) -> Tensor:
        """`past`: see `Encoder.forward`."""
        x = _through(self.mid_block, self.conv_in(signs))
        for norm, level in zip(reversed(self.adaptive), reversed(self.up), strict=True):
            x = level(norm(x, signs))
        video: Tensor = self.conv_out(F.silu(self.norm_out(x)))
        return video


class OpenMagvit2(Borrowed):
    """See the module docstring."""

    Settings = OpenMagvit2Config
    causal: ClassVar[bool] = False
    first_frame_alone: ClassVar[bool] = True
    block = None

    def __init__(self, config: OpenMagvit2Config):
        super().__init__(config)
        self.temporal_stride = 2 ** sum(stride[0] == 2 for stride in config.strides)
        self.spatial_stride = 2 ** len(config.strides)
        self.quantizer = LFQConfig(bits=config.bits).make()  # counts bits as it does, least first
        self.encoder, self.decoder = Encoder(config), Decoder(config)

    @classmethod
    def from_checkpoint(cls, path: str | Path) -> Self:
        """Load a checkpoint of its training; averaged weights where it has them, as its authors evaluate it.

        Its widths are read from the weights. Nothing in the file is executed (`torch.load(weights_only=True)`).
        Raises `UserError` when it cannot be read, or holds another model.
        """
        try:
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["state_dict"]
        except (OSError, RuntimeError, UnpicklingError, KeyError, TypeError) as error:
            raise UserError(f"cannot load the checkpoint {path}: {str(error).splitlines()[0]}") from error
        try:
            tokenizer = cls(_measured(state))
            own = {name: _averaged(state, name) for name in tokenizer.state_dict()}
            tokenizer.load_state_dict(own)
        except (KeyError, RuntimeError, ValueError) as error:
            raise refuse_config("Open-MAGVIT2's video tokenizer", error) from error
        return tokenizer.eval()


def _averaged(state: dict[str, Tensor], name: str) -> Tensor:
    average = AVERAGED + name.replace(".", "")
    return state[average] if average in state else state[name]


def _measured(state: dict[str, Any]) -> OpenMagvit2Config:
    """The settings that a checkpoint's weights were made with."""
    levels = {int(name.split(".")[2]) for name in state if name.startswith("encoder.down.")}
    blocks = {int(name.split(".")[2]) for name in state if name.startswith("encoder.mid_block.")}
    channels = len(state["encoder.conv_in.conv_1.weight"])
    widths = [len(state[f"encoder.down.{level}.block.0.conv1.conv_1.weight"]) for level in sorted(levels)]
    return OpenMagvit2Config(
        channels=channels,
        multipliers=tuple(width // channels for width in widths),
        blocks=len(blocks),
        bits=len(state["encoder.conv_out.conv_1.weight"]),
    )
