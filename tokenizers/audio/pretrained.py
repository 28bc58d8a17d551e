"""Pretrained codecs of `transformers` behind our protocol: EnCodec, DAC and Mimi.

They are used as they are, with as many of their levels as a vocabulary has place for:

    codec = Mimi.from_hub("kyutai/mimi", levels=4)
    codec.save_pretrained("codec")          # our own folder, which knows what it holds

Weights of these codecs have licences of their own.
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor
from transformers import DacConfig, DacModel, EncodecConfig, EncodecModel, MimiConfig, MimiModel, PreTrainedModel

from videolm.config import Config
from videolm.errors import UserError
from videolm.tokenizers.audio.protocol import AudioTokenizer, Decoded

Levels = Annotated[int, Field(ge=1)]


class PretrainedConfig(Config):
    """What a codec of `transformers` is made from."""

    levels: Levels = 4
    """Of the codec's own, the first so many."""
    model: dict[str, Any] = {}
    """Its `transformers` config; what is left out is the library's default."""


class EncodecSettings(PretrainedConfig):
    """See `PretrainedConfig`."""

    name: Literal["encodec"] = "encodec"


class DacSettings(PretrainedConfig):
    """See `PretrainedConfig`."""

    name: Literal["dac"] = "dac"


class MimiSettings(PretrainedConfig):
    """See `PretrainedConfig`."""

    name: Literal["mimi"] = "mimi"


class PretrainedCodec(AudioTokenizer):
    """A codec of `transformers`. Each says how its codes are asked for; the rest is here."""

    Settings: type[PretrainedConfig]
    Model: ClassVar[type[PreTrainedModel]]
    ModelConfig: ClassVar[Any]

    def __init__(self, config: PretrainedConfig):
        super().__init__(config)
        self.model = self.Model(self.ModelConfig(**config.model)).eval()
        self._measure()
        has = self._own_levels()
        if config.levels > has:
            raise UserError(f"this {config.name} has {has} levels, not {config.levels}")  # type: ignore[attr-defined]
        self.levels, self.codebook_size = config.levels, int(self.model.config.codebook_size)
        self.sample_rate = int(self.model.config.sampling_rate)

    @classmethod
    def from_hub(cls, name: str | Path, levels: int = 4) -> Self:
        """Load a codec by its hub name, or from a folder that `transformers` saved.

        Raises `UserError` when it cannot be had, or has fewer levels.
        """
        try:
            model = cls.Model.from_pretrained(str(name), use_safetensors=True)
        except (OSError, ValueError) as error:
            raise UserError(f"cannot load the codec {name}: {str(error).splitlines()[0]}") from error
        codec = cls(cls.Settings(levels=levels, model=model.config.to_diff_dict()))
        codec.model.load_state_dict(model.state_dict())
        return codec.eval()

    def forward(self, audio: Tensor) -> Decoded:
        """Pretrained codecs are not trained here."""
        raise UserError(f"{self.config.name} is used as it is: train a soundstream instead")

    def _encode(self, audio: Tensor) -> Tensor:
        frames = self.frames(audio.shape[1])
        return self._codes(audio.unsqueeze(1))[..., :frames]

    def _decode(self, codes: Tensor) -> Tensor:
        samples = codes.shape[-1] * self.stride
        audio = self._sound(codes)[:, :samples]
        return F.pad(audio, (0, samples - audio.shape[1]))  # DAC's convolutions lose a few

    @abstractmethod
    def _measure(self) -> None:
        """Set `stride`."""

    @abstractmethod
    def _own_levels(self) -> int:
        """How many levels the codec has."""

    @abstractmethod
    def _codes(self, audio: Tensor) -> Tensor:
        """(b, 1, n) -> (b, q, t)."""

    @abstractmethod
    def _sound(self, codes: Tensor) -> Tensor:
        """(b, q, t) -> (b, n)."""


class Encodec(PretrainedCodec):
    """EnCodec (arXiv 2210.13438), the mono model of 24 kHz. Its first frames see later ones: it pads by reflection."""

    Settings, Model, ModelConfig = EncodecSettings, EncodecModel, EncodecConfig
    causal = False

    def _measure(self) -> None:
        config = self.model.config
        if config.normalize or config.chunk_length_s is not None or config.audio_channels != 1:
            raise UserError("this EnCodec scales sound or cuts it into chunks (48 kHz): take the one of 24 kHz")
        self.stride = int(config.hop_length)

    def _own_levels(self) -> int:
        return int(self.model.config.num_quantizers)

    def _codes(self, audio: Tensor) -> Tensor:
        codes: Tensor = self.model.encode(audio, bandwidth=self.model.config.target_bandwidths[-1]).audio_codes[0]
        return codes[:, : self.levels]

    def _sound(self, codes: Tensor) -> Tensor:
        return self.model.decode(codes[None], [None]).audio_values.squeeze(1)


class Dac(PretrainedCodec):
    """Descript's codec (arXiv 2306.06546). It looks ahead."""

    Settings, Model, ModelConfig = DacSettings, DacModel, DacConfig
    causal = False

    def _measure(self) -> None:
        self.stride = int(self.model.config.hop_length)

    def _own_levels(self) -> int:
        return int(self.model.config.n_codebooks)

    def _codes(self, audio: Tensor) -> Tensor:
        return self.model.encode(audio, n_quantizers=self.levels).audio_codes

    def _sound(self, codes: Tensor) -> Tensor:
        return self.model.decode(audio_codes=codes).audio_values


class Mimi(PretrainedCodec):
    """Mimi (arXiv 2410.00037), 12.5 frames a second at 24 kHz."""

    Settings, Model, ModelConfig = MimiSettings, MimiModel, MimiConfig
    causal = True

    def _measure(self) -> None:
        config = self.model.config
        self.stride = round(config.sampling_rate / config.frame_rate)

    def _own_levels(self) -> int:
        return int(self.model.config.num_quantizers)

    def _codes(self, audio: Tensor) -> Tensor:
        return self.model.encode(audio, num_quantizers=self.levels).audio_codes

    def _sound(self, codes: Tensor) -> Tensor:
        return self.model.decode(codes).audio_values.squeeze(1)
