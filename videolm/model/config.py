"""Configurations of transformers: validated classes, readable from a recipe and from a saved model."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from transformers import PreTrainedConfig

from videolm.config import Config, parse

Positive = Annotated[int, Field(ge=1)]


class TransformerConfig(Config):
    """Sizes that all transformers have."""

    hidden_size: Positive
    """Width."""
    num_layers: Positive
    num_heads: Positive
    intermediate_size: Positive | None = None
    """Width of the SwiGLU; none: 8/3 of the width, rounded up to a multiple of 64 (12 width^2 weights a layer)."""
    rope_theta: Annotated[float, Field(gt=1)] = 10000.0
    rope_scale: Annotated[float, Field(gt=0)] = 1.0
    """Radians that the fastest frequency turns from one position to the next."""
    norm_eps: Annotated[float, Field(gt=0)] = 1e-6

    @model_validator(mode="after")
    def _even_heads(self) -> Self:
        if self.hidden_size % (2 * self.num_heads):
            raise ValueError(f"hidden_size {self.hidden_size} must be a multiple of 2 * num_heads ({self.num_heads})")
        return self

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads

    @property
    def mlp_size(self) -> int:
        return self.intermediate_size or -(-self.hidden_size * 8 // 3 // 64) * 64


class LMConfig(TransformerConfig):
    """The `lm:` section of a recipe. The defaults are VideoPoet's 300M model: 24 x 1024, 16 heads (`configs/lm/`)."""

    hidden_size: Positive = 1024
    num_layers: Positive = 24
    num_heads: Positive = 16
    positions: Literal["1d", "axial"] = "axial"
    """Rotary positions: the place in the row, or (time, height, width) for visual tokens."""
    qk_norm: bool = True
    """Normalised queries and keys (arXiv 2010.04245), as Qwen3 has them; Llama has none."""
    qk_gain: Annotated[float, Field(gt=0)] = 1.0
    """Where the gains of the query and key norms start; attention begins at scores of this squared times sqrt(head_dim)
    at most."""
    head: Literal["factorized", "flat"] = "factorized"
    """p(a) p(b|a) over two halves of a visual code, or one softmax over all ids as in the paper."""

    @model_validator(mode="after")
    def _gain_of_norms(self) -> Self:
        if self.qk_gain != 1 and not self.qk_norm:
            raise ValueError(f"qk_gain {self.qk_gain} is of the norms that qk_norm: false leaves out; set qk_gain to 1")
        return self


class PrefixLMConfig(PreTrainedConfig):
    """`LMConfig` with the sizes of the id ranges, as `transformers` saves it.

    Args:
        architecture: the fields of `LMConfig`.
        special_size, visual_size, audio_levels, audio_size: as in `Vocabulary`.
        text_size: width of the text encoder's embeddings.
    """

    model_type = "videolm_prefix_lm"

    def __init__(
        self,
        architecture: dict[str, Any] | LMConfig | None = None,
        special_size: int = 256,
        visual_size: int = 2**18,
        audio_levels: int = 4,
        audio_size: int = 1024,
        text_size: int = 512,
        **kwargs: Any,
    ):
        lm = architecture if isinstance(architecture, LMConfig) else parse(LMConfig, architecture or {})
        self.architecture = lm.model_dump()
        self.special_size, self.visual_size = special_size, visual_size
        self.audio_levels, self.audio_size = audio_levels, audio_size
        self.text_size = text_size
        # the names that transformers and peft look for
        self.hidden_size, self.num_hidden_layers = lm.hidden_size, lm.num_layers
        self.num_attention_heads = lm.num_heads
        self.vocab_size = special_size + visual_size + audio_levels * audio_size
        kwargs.setdefault("tie_word_embeddings", False)
        super().__init__(**kwargs)

    @property
    def lm(self) -> LMConfig:
        return LMConfig(**self.architecture)
