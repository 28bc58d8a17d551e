"""What every audio tokenizer offers, so that a config can swap them.

Mono sound at the tokenizer's own rate; `videolm.media` brings files to it. A codec frame is `stride` samples and has a
code at each of `levels` residual levels, the coarsest first.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

from torch import Tensor

from videolm.component import Component
from videolm.errors import UserError
from videolm.registry import Registry
from videolm.shapes import SoundGrid
from videolm.tokenizers.layers.stream import Stream


class Decoded(NamedTuple):
    """A training pass: the sound through the bottleneck and back, its codes, and the quantiser's loss terms."""

    audio: Tensor  # (b, n)
    codes: Tensor  # (b, q, t)
    losses: dict[str, Tensor]


class AudioTokenizer(Component):
    """Sound (b, n) in [-1, 1], mono <-> codes (b, q, t) int64.

    Attributes:
        sample_rate: samples a second.
        stride: samples that a codec frame stands for.
        levels: residual levels, q.
        codebook_size: codes of each level lie in [0, codebook_size).
        streams: it has `stream_encoder` and `stream_decoder`; others take a sound as a whole.
        causal: the codes of the first k frames do not depend on later samples.
    """

    sample_rate: int
    stride: int
    levels: int
    codebook_size: int
    causal: bool
    streams: bool = False

    def frames(self, samples: int) -> int:
        """Codec frames of so many samples; those past the last whole frame have none.

        34,000 samples (2.125 s at 16 kHz) are 106 frames of 320, and 80 samples over.
        """
        return samples // self.stride

    @property
    def grid(self) -> SoundGrid:
        """What a row is laid out from."""
        return SoundGrid(self.sample_rate, self.stride, self.levels)

    def encode(self, audio: Tensor) -> Tensor:
        """(b, n) in [-1, 1] -> codes (b, q, t) of its t = n / stride whole frames."""
        self.check_audio(audio)
        return self._encode(audio[:, : self.frames(audio.shape[1]) * self.stride])

    def decode(self, codes: Tensor) -> Tensor:
        """Codes (b, q, t) -> sound (b, t * stride), close to [-1, 1]. The first of the levels will do."""
        self.check_codes(codes)
        return self._decode(codes)

    @abstractmethod
    def _encode(self, audio: Tensor) -> Tensor: ...

    @abstractmethod
    def _decode(self, codes: Tensor) -> Tensor: ...

    @abstractmethod
    def forward(self, audio: Tensor) -> Decoded:
        """The differentiable round trip used in training."""

    def stream_encoder(self) -> Stream:
        """Chunks (b, n) of any length in, codes (b, q, t) out: in all those that `encode` gives the sound.

        Raises `UserError` where the tokenizer takes sounds as a whole alone.
        """
        raise UserError(f"{self.config.name} takes a sound as a whole: use encode")

    def stream_decoder(self) -> Stream:
        """Chunks of codes (b, q, t) in, sound (b, n) out: in all that `decode` gives. Raises as `stream_encoder`."""
        raise UserError(f"{self.config.name} gives a sound as a whole: use decode")

    def check_audio(self, audio: Tensor) -> None:
        """Raise `UserError` unless `audio` is (b, n), a whole frame at least, finite and in [-1, 1]."""
        if audio.ndim != 2 or not audio.is_floating_point() or audio.shape[0] < 1:
            raise UserError(f"a sound is float (b, samples), mono, not {audio.dtype} {tuple(audio.shape)}")
        if audio.shape[1] < self.stride:
            raise UserError(f"{audio.shape[1]} samples are less than a codec frame of {self.stride}")
        low, high = float(audio.min()), float(audio.max())
        if not (low >= -1.01 and high <= 1.01):  # catches NaN too
            raise UserError(f"samples must lie in [-1, 1], got [{low:g}, {high:g}]; Audio.to_tensor() scales them")

    def check_codes(self, codes: Tensor) -> None:
        """Raise `UserError` unless `codes` is (b, q, t), not empty, of integers in [0, codebook_size)."""
        if codes.ndim != 3 or codes.is_floating_point() or not codes.numel() or codes.shape[1] > self.levels:
            raise UserError(
                f"codes are integers (b, q, t) of up to {self.levels} levels, not {codes.dtype} {tuple(codes.shape)}"
            )
        low, high = int(codes.min()), int(codes.max())
        if low < 0 or high >= self.codebook_size:
            raise UserError(f"codes must lie in [0, {self.codebook_size}), got [{low}, {high}]: another tokenizer's?")


AUDIO_TOKENIZERS: Registry[type[AudioTokenizer]] = Registry(
    "audio tokenizer",
    {
        "soundstream": "videolm.tokenizers.audio.soundstream:SoundStream",
        "encodec": "videolm.tokenizers.audio.pretrained:Encodec",
        "encodec_package": "videolm.tokenizers.audio.encodec_package:EncodecPackage",
        "dac": "videolm.tokenizers.audio.pretrained:Dac",
        "mimi": "videolm.tokenizers.audio.pretrained:Mimi",
    },
)
