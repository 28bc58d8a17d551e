"""Prompts to embeddings: a sentencepiece model and a T5 encoder (VideoPoet 4.1 uses T5 XL, frozen).

Either a pretrained one (a local folder or a hub name, any T5 v1.1 / Flan / original checkpoint with safetensors), or a
small one made from scratch and trained with the language model.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import sentencepiece
import torch
from pydantic import Field
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import T5Config, T5EncoderModel
from transformers.utils import cached_file

from videolm.component import require_weights
from videolm.config import Config
from videolm.errors import UserError

SENTENCEPIECE_FILE = "spiece.model"
PAD, EOS, UNKNOWN = 0, 1, 2  # as in every T5


class T5Settings(Config):
    """The `text:` section of a recipe: `pretrained`, or the sizes of an encoder made from scratch."""

    pretrained: str | None = None
    """A folder or hub name with a T5 encoder and its `spiece.model`; the sizes below are then unused."""
    frozen: bool = False
    """Keep the encoder as it is while the language model trains."""
    pieces: Annotated[int, Field(ge=16)] = 512
    """Most sentencepiece pieces; fewer are made where the captions do not need them."""
    d_model: Annotated[int, Field(ge=8)] = 128
    num_layers: Annotated[int, Field(ge=1)] = 2
    num_heads: Annotated[int, Field(ge=1)] = 4
    d_ff: Annotated[int, Field(ge=8)] = 256


V1_1 = {
    "google/t5-v1_1-small": {"d_model": 512, "d_ff": 1024, "num_layers": 8, "num_heads": 6},
    "google/t5-v1_1-base": {"d_model": 768, "d_ff": 2048, "num_layers": 12, "num_heads": 12},
    "google/t5-v1_1-large": {"d_model": 1024, "d_ff": 2816, "num_layers": 24, "num_heads": 16},
    "google/t5-v1_1-xl": {"d_model": 2048, "d_ff": 5120, "num_layers": 24, "num_heads": 32},
    "google/t5-v1_1-xxl": {"d_model": 4096, "d_ff": 10240, "num_layers": 24, "num_heads": 64},
}
"""Sizes of the encoders of T5 v1.1 (arXiv 2002.05202), known without the hub; heads are 64 wide, pieces 32,128."""


def encoder_config(settings: T5Settings, pieces: int | None = None) -> T5Config:
    """The sizes of the encoder that settings name, without its weights.

    Args:
        pieces: of a new one; by default as many as it may have.

    Raises `UserError` when they cannot be read.
    """
    name, sizes = settings.pretrained, {"d_kv": 64, "vocab_size": 32128}
    if name is None:
        sizes = {"d_kv": settings.d_model // settings.num_heads, "vocab_size": pieces or settings.pieces}
        sizes |= settings.model_dump(include={"d_model", "num_layers", "num_heads", "d_ff"})
    elif name in V1_1 and not Path(name).is_dir():
        sizes |= V1_1[name]
    else:
        try:
            config: T5Config = T5Config.from_pretrained(name)
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read the text encoder {name}: {' '.join(str(error).split())}") from error
        return config
    return T5Config(
        **sizes, dropout_rate=0.0, feed_forward_proj="gated-gelu", is_encoder_decoder=False, use_cache=False
    )


class TextEncoder(nn.Module):
    """Prompts to (b, m, width) embeddings, one for each piece and one for T5's end token."""

    def __init__(self, encoder: T5EncoderModel, sentencepiece_model: bytes):
        super().__init__()
        self.encoder = encoder
        self.sentencepiece_model = sentencepiece_model
        self.pieces = sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_model)

    @property
    def width(self) -> int:
        return int(self.encoder.config.d_model)

    def tokenize(self, prompts: Sequence[str]) -> list[list[int]]:
        """Piece ids of each prompt, T5's end token last; an empty prompt has none."""
        return [[*ids, EOS] if ids else [] for ids in self.pieces.encode(list(prompts))]

    def forward(self, ids: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Token ids of b prompts -> embeddings (b, m, width) and mask (b, m), m the longest prompt (at least 1)."""
        device = self.encoder.device
        longest = max(1, *(len(row) for row in ids))
        padded = torch.tensor([[*row, *[PAD] * (longest - len(row))] for row in ids], device=device)
        lengths = torch.tensor([len(row) for row in ids], device=device)
        mask = torch.arange(longest, device=device) < lengths[:, None]
        seen = mask.clone()
        seen[:, 0] = True  # a prompt without tokens attends to one pad, or softmax has nothing to sum over
        embeddings = self.encoder(input_ids=padded, attention_mask=seen.long()).last_hidden_state
        return embeddings, mask

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write a folder that `from_pretrained` here and transformers' `T5EncoderModel` read."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        copy.deepcopy(self.encoder).to(device="cpu", dtype=dtype).save_pretrained(folder)
        (folder / SENTENCEPIECE_FILE).write_bytes(self.sentencepiece_model)

    @classmethod
    def from_pretrained(cls, name: str | Path, dtype: torch.dtype = torch.float32) -> TextEncoder:
        """Load from a local folder or the hub; safetensors only. Raises `UserError` when a file is missing."""
        if Path(name).is_dir():
            require_weights(name)
        try:
            pieces = cached_file(str(name), SENTENCEPIECE_FILE)
            assert pieces is not None
            encoder = T5EncoderModel.from_pretrained(str(name), use_safetensors=True, dtype=dtype)
        except (OSError, ValueError, SafetensorError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"cannot load the text encoder {name}: {reason}") from error
        return cls(encoder.eval(), Path(pieces).read_bytes())

    @classmethod
    def from_captions(cls, settings: T5Settings, captions: Iterable[str]) -> TextEncoder:
        """A new encoder with random weights, and a sentencepiece model made from `captions`."""
        pieces = make_pieces(captions, settings.pieces)
        count = sentencepiece.SentencePieceProcessor(model_proto=pieces).get_piece_size()
        return cls(T5EncoderModel(encoder_config(settings, count)), pieces)


def make_pieces(captions: Iterable[str], most: int) -> bytes:
    """A serialised sentencepiece model with T5's pad, end and unknown ids; any text is encodable (byte fallback)."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(captions),
        model_writer=model,
        vocab_size=max(most, 300),
        hard_vocab_limit=False,
        model_type="bpe",
        byte_fallback=True,
        character_coverage=1.0,
        pad_id=PAD,
        eos_id=EOS,
        unk_id=UNKNOWN,
        bos_id=-1,
        minloglevel=2,
    )
    return model.getvalue()
