"""SoundStream: a causal convolutional codec with residual vector quantisation (arXiv 2107.03312; VideoPoet 3.1).

    sound -> [conv] -> { residual units -> strided conv } per stride -> residual units -> conv -> RVQ -> codes
    codes -> vectors -> conv -> residual units -> { upsampling conv -> residual units } per stride -> [conv] -> sound

At paper size the strides 2, 4, 5, 8 take samples to frames of 320 step by step. The preset for a CPU has one stride of
320: windows of 640 samples become 160 channels at once, and its residual units stand behind that.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator
from torch import Tensor, nn

from videolm.config import Config
from videolm.tokenizers.audio.protocol import AudioTokenizer, Decoded
from videolm.tokenizers.layers.causal_1d import Activation, CausalConv1d, CausalUpsample1d, Chain, ResidualUnit
from videolm.tokenizers.layers.stream import Past, Stream
from videolm.tokenizers.quantize.rvq import RVQConfig

Positive = Annotated[int, Field(ge=1)]
CHUNK = 500
"""Codec frames that are streamed at a time: ten seconds."""


class SoundStreamConfig(Config):
    """Paper size by default; `configs/tokenizer/` holds the presets."""

    name: Literal["soundstream"] = "soundstream"
    sample_rate: Positive = 16000
    widths: Annotated[tuple[Positive, ...], Field(min_length=2)] = (32, 64, 128, 256, 512)
    """Channels of the samples, then after each stride. 1 for the samples: no convolution before the first stride."""
    strides: tuple[Positive, ...] = (2, 4, 5, 8)
    """Their product is the samples of a codec frame: 320, 20 ms."""
    dilations: tuple[Positive, ...] = (1, 3, 9)
    """Of the residual units before each stride of the encoder, and after each of the decoder."""
    frame_dilations: tuple[Positive, ...] = ()
    """Of the residual units between the last stride and the quantiser, on either side."""
    quantizer: RVQConfig = RVQConfig()

    @model_validator(mode="after")
    def _consistent(self) -> SoundStreamConfig:
        if len(self.widths) != len(self.strides) + 1:
            raise ValueError(f"widths needs {len(self.strides) + 1} entries, one more than strides")
        return self


class Encoder(nn.Module):
    """Sound (b, 1, n) to latents (b, dim, n / stride)."""

    def __init__(self, config: SoundStreamConfig):
        super().__init__()
        widths = config.widths
        layers: list[nn.Module] = [] if widths[0] == 1 else [CausalConv1d(1, widths[0], 7)]
        for width, wider, stride in zip(widths, widths[1:], config.strides, strict=False):
            layers += [ResidualUnit(width, dilation) for dilation in config.dilations]
            layers += [Activation()] if width > 1 else []
            layers += [CausalConv1d(width, wider, 2 * stride, stride)]
        layers += [ResidualUnit(widths[-1], dilation) for dilation in config.frame_dilations]
        self.layers = Chain([*layers, Activation(), CausalConv1d(widths[-1], config.quantizer.dim, 3)])

    def forward(self, audio: Tensor, past: Past | None = None) -> Tensor:
        return self.layers(audio, past)


class Decoder(nn.Module):
    """Vectors (b, dim, t) to sound (b, 1, t * stride): the encoder mirrored."""

    def __init__(self, config: SoundStreamConfig):
        super().__init__()
        widths = config.widths[::-1]
        layers: list[nn.Module] = [CausalConv1d(config.quantizer.dim, widths[0], 7)]
        layers += [ResidualUnit(widths[0], dilation) for dilation in config.frame_dilations]
        for width, narrower, stride in zip(widths, widths[1:], config.strides[::-1], strict=False):
            layers += [Activation(), CausalUpsample1d(width, narrower, stride)]
            layers += [ResidualUnit(narrower, dilation) for dilation in config.dilations]
        self.layers = Chain(layers if widths[-1] == 1 else [*layers, Activation(), CausalConv1d(widths[-1], 1, 7)])

    def forward(self, vectors: Tensor, past: Past | None = None) -> Tensor:
        return self.layers(vectors, past)


class SoundStream(AudioTokenizer):
    """See the module docstring."""

    Settings = SoundStreamConfig
    causal = True
    streams = True

    def __init__(self, config: SoundStreamConfig):
        super().__init__(config)
        self.sample_rate, self.stride = config.sample_rate, math.prod(config.strides)
        self.levels, self.codebook_size = config.quantizer.levels, config.quantizer.codebook_size
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.quantizer = config.quantizer.make()

    def forward(self, audio: Tensor) -> Decoded:
        latents = self.encoder(audio.unsqueeze(1)).movedim(1, -1)
        vectors, codes, losses = self.quantizer(latents)
        return Decoded(self.decoder(vectors.movedim(-1, 1)).squeeze(1), codes.movedim(-1, 1), losses)

    def stream_encoder(self) -> Stream:
        def run(audio: Tensor, past: Past) -> Tensor:
            self.check_audio(audio)
            codes = self._encode(audio, past)
            past.time += codes.shape[2]
            return codes

        return Stream(run, dim=1, out_dim=2, unit=self.stride, most=CHUNK)

    def stream_decoder(self) -> Stream:
        def run(codes: Tensor, past: Past) -> Tensor:
            self.check_codes(codes)
            audio = self._decode(codes, past)
            past.time += codes.shape[2]
            return audio

        return Stream(run, dim=2, out_dim=1, unit=1, most=CHUNK)

    def _encode(self, audio: Tensor, past: Past | None = None) -> Tensor:
        latents = self.encoder(audio.unsqueeze(1), past).movedim(1, -1)
        return self.quantizer.codes(latents).movedim(-1, 1)

    def _decode(self, codes: Tensor, past: Past | None = None) -> Tensor:
        vectors = self.quantizer.vectors(codes.movedim(1, -1)).movedim(-1, 1)
        return self.decoder(vectors.to(next(self.decoder.parameters()).dtype), past).squeeze(1)
