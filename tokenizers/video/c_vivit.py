"""C-ViViT: a causal video tokenizer of transformers (Phenaki 2.1, appendix B.1, Table 6).

    video -> patches -> linear -> spatial transformer -> temporal transformer -> linear -> quantiser -> codes
    codes -> vectors -> linear -> temporal transformer -> spatial transformer -> linear -> patches -> video

The first frame is cut into patches of its own, the rest into patches of `temporal_patch` frames: 11 frames at 2x in
time and 8x in space are (6, H/8, W/8) codes. Attention over time goes back `window` latent frames and never forward, in
training and in streams alike, so that a clip of any length is coded in flat memory. Positions are rotary; the paper
does not say which it uses.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from einops import rearrange
from pydantic import Field, model_validator
from torch import Tensor, nn

from videolm.config import Config
from videolm.tokenizers.layers.causal import begins
from videolm.tokenizers.layers.inflate import inflate
from videolm.tokenizers.layers.stream import Past
from videolm.tokenizers.layers.transformer import SpatialTransformer, TemporalTransformer
from videolm.tokenizers.protocol import VideoTokenizer
from videolm.tokenizers.quantize.config import QuantizerConfig
from videolm.tokenizers.quantize.vq import VQConfig

Positive = Annotated[int, Field(ge=1)]


class CViViTConfig(Config):
    """Paper size by default; `configs/tokenizer/` holds the presets."""

    name: Literal["c_vivit"] = "c_vivit"
    hidden_size: Positive = 512
    num_heads: Positive = 8
    mlp_size: Positive = 2048
    spatial_layers: Positive = 4
    """Of the encoder, and as many of the decoder."""
    temporal_layers: Positive = 4
    """Of the encoder, and as many of the decoder."""
    spatial_patch: Positive = 8
    """Pixels on a side of a patch."""
    temporal_patch: Positive = 2
    """Frames of a patch, but of those of the first frame."""
    window: Positive = 6
    """Latent frames that attention over time sees, the own one among them. The paper's clips have 6."""
    rotary_theta: Annotated[float, Field(gt=1)] = 100.0
    """Longest wavelength of the rotary positions over 2 pi."""
    quantizer: QuantizerConfig = VQConfig(codebook_size=8192, dim=32)

    @model_validator(mode="after")
    def _consistent(self) -> CViViTConfig:
        if self.hidden_size % (2 * self.num_heads):
            raise ValueError(f"hidden_size {self.hidden_size} must be a multiple of 2 * num_heads ({self.num_heads})")
        return self

    def image(self) -> CViViTConfig:
        """The tokenizer of pictures: the same one, which codes a first frame alone."""
        return self


class Encoder(nn.Module):
    """Video (b, 3, f, H, W) to latents (b, k, t, h, w) for the quantiser."""

    def __init__(self, config: CViViTConfig, latents: int):
        super().__init__()
        self.patch = (config.temporal_patch, config.spatial_patch)
        width, pixels = config.hidden_size, 3 * config.spatial_patch**2
        shape = (width, config.num_heads, config.mlp_size, config.rotary_theta)
        self.first = nn.Linear(pixels, width)
        self.rest = nn.Linear(pixels * config.temporal_patch, width)
        self.spatial = SpatialTransformer(config.spatial_layers, *shape)
        self.temporal = TemporalTransformer(config.temporal_layers, *shape, config.window)
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, latents)

    def forward(self, video: Tensor, past: Past | None = None) -> Tensor:
        alone = 1 if begins(past) else 0  # frames in patches of their own
        x = torch.cat(
            [
                self.first(_patches(video[:, :, :alone], 1, self.patch[1])),
                self.rest(_patches(video[:, :, alone:], *self.patch)),
            ],
            dim=1,
        )
        x = self.temporal(self.spatial(x), past)
        return rearrange(self.project(self.norm(x)), "b t h w k -> b k t h w")


class Decoder(nn.Module):
    """Vectors (b, k, t, h, w) to video: the encoder mirrored."""

    def __init__(self, config: CViViTConfig, latents: int):
        super().__init__()
        self.patch = (config.temporal_patch, config.spatial_patch)
        width, pixels = config.hidden_size, 3 * config.spatial_patch**2
        shape = (width, config.num_heads, config.mlp_size, config.rotary_theta)
        self.project = nn.Linear(latents, width)
        self.temporal = TemporalTransformer(config.temporal_layers, *shape, config.window)
        self.spatial = SpatialTransformer(config.spatial_layers, *shape)
        self.norm = nn.LayerNorm(width)
        self.first = nn.Linear(width, pixels)
        self.rest = nn.Linear(width, pixels * config.temporal_patch)

    def forward(self, vectors: Tensor, past: Past | None = None) -> Tensor:
        alone = 1 if begins(past) else 0  # latent frames that stand for one frame
        x = self.project(rearrange(vectors, "b k t h w -> b t h w k"))
        x = self.norm(self.spatial(self.temporal(x, past)))
        return torch.cat(
            [_pixels(self.first(x[:, :alone]), 1, self.patch[1]), _pixels(self.rest(x[:, alone:]), *self.patch)], dim=2
        )


class CViViT(VideoTokenizer):
    """The tokenizer; see the module docstring and `VideoTokenizer` for the contract."""

    Settings = CViViTConfig
    causal: ClassVar[bool] = True
    first_frame_alone: ClassVar[bool] = True

    def __init__(self, config: CViViTConfig):
        super().__init__(config)
        self.temporal_stride, self.spatial_stride = config.temporal_patch, config.spatial_patch
        self.quantizer = config.quantizer.make()
        self.encoder = Encoder(config, self.quantizer.dim)
        self.decoder = Decoder(config, self.quantizer.dim)

    @torch.no_grad()
    def inflate(self, image: CViViT) -> None:
        """See `VideoTokenizer.inflate`, which here holds without attention over time: a patch of several frames reads
        their mean as the first frame is read, and writes each of them as that one is written."""
        inflate(self, image)
        frames = self.config.temporal_patch
        for name, weight in (("encoder", 1 / frames), ("decoder", 1.0)):
            first, rest = (getattr(getattr(self, name), part) for part in ("first", "rest"))
            dim = 1 if name == "encoder" else 0
            rest.weight.copy_(torch.cat([first.weight * weight] * frames, dim))
            rest.bias.copy_(first.bias if name == "encoder" else first.bias.repeat(frames))


def _patches(video: Tensor, frames: int, side: int) -> Tensor:
    return rearrange(video, "b c (t pt) (h ph) (w pw) -> b t h w (pt ph pw c)", pt=frames, ph=side, pw=side)


def _pixels(patches: Tensor, frames: int, side: int) -> Tensor:
    return rearrange(patches, "b t h w (pt ph pw c) -> b c (t pt) (h ph) (w pw)", pt=frames, ph=side, pw=side)
