"""EnCodec by its authors' own package, `encodec`, behind our protocol (arXiv 2210.13438).

The package imports torchaudio, which has no build beside a torch for CPUs alone; where it cannot be loaded, `Encodec`
runs the same model by `transformers`.
"""

from __future__ import annotations

import importlib
from typing import Any, Literal

from torch import Tensor

from videolm.config import Config
from videolm.errors import UserError
from videolm.tokenizers.audio.pretrained import Levels
from videolm.tokenizers.audio.protocol import AudioTokenizer, Decoded

BANDWIDTHS = (1.5, 3.0, 6.0, 12.0, 24.0)
"""Kilobits a second that the model of 24 kHz was trained for: 2, 4, 8, 16 and 32 levels."""


class EncodecPackageSettings(Config):
    """The mono model of 24 kHz."""

    name: Literal["encodec_package"] = "encodec_package"
    levels: Levels = 4
    """Of its 32, the first so many."""


class EncodecPackage(AudioTokenizer):
    """`encodec`'s model of 24 kHz, 75 codec frames a second; new weights until `load_state_dict` or `from_pretrained`.

    Raises `UserError` where the package, or the torchaudio it needs, cannot be imported.
    """

    Settings = EncodecPackageSettings
    causal = False  # it pads by reflection, so its first frames see later ones

    def __init__(self, config: EncodecPackageSettings):
        super().__init__(config)
        kind = _package().EncodecModel
        self.model: Any = kind._get_model(list(BANDWIDTHS), sample_rate=24_000, channels=1, causal=True)
        has = int(self.model.quantizer.n_q)
        if config.levels > has:
            raise UserError(f"this encodec has {has} levels, not {config.levels}")
        self.levels, self.codebook_size = config.levels, int(self.model.quantizer.bins)
        self.sample_rate, self.stride = int(self.model.sample_rate), int(self.model.encoder.hop_length)

    def forward(self, audio: Tensor) -> Decoded:
        """Pretrained codecs are not trained here."""
        raise UserError(f"{self.config.name} is used as it is: train a soundstream instead")

    def _encode(self, audio: Tensor) -> Tensor:
        frames = self.model.encoder(audio.unsqueeze(1))
        codes: Tensor = self.model.quantizer.vq.encode(frames, n_q=self.levels)  # (q, b, t)
        return codes.transpose(0, 1)[..., : self.frames(audio.shape[1])]

    def _decode(self, codes: Tensor) -> Tensor:
        vectors = self.model.quantizer.decode(codes.transpose(0, 1))
        sound: Tensor = self.model.decoder(vectors)
        return sound.squeeze(1)[:, : codes.shape[-1] * self.stride]


def _package() -> Any:
    try:
        return importlib.import_module("encodec")
    except (ImportError, OSError) as error:  # OSError: torchaudio of another torch
        reason = str(error).splitlines()[0]
        raise UserError(
            f"the package encodec cannot be loaded ({reason}): pip install 'videolm[encodec]' where torchaudio fits "
            "your torch, or take 'encodec', the same model by transformers"
        ) from error
