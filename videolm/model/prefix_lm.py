"""The prefix language model as a `transformers` model: saved, loaded and adapted as users know it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.utils import ModelOutput

from videolm.model.attention import Cache, Window
from videolm.model.config import PrefixLMConfig
from videolm.model.embedding import TokenEmbedding, place_text
from videolm.model.head import FactorizedHead, FlatHead, Kind
from videolm.model.loss import LinearCrossEntropy
from videolm.model.transformer import Transformer

Segment = tuple[str, int, int]
"""(kind, start, stop) of a run of output positions."""


@dataclass
class PrefixLMOutput(ModelOutput):
    """What a training pass returns.

    Attributes:
        loss: mean negative log-likelihood in nats over all output positions.
        by_kind: mean negative log-likelihood of each kind of position, in nats.
        accuracy: of each kind, the share of positions whose right id is the likeliest, given all ids before it.
        hidden: (b, n, d).
    """

    loss: Tensor | None = None
    by_kind: dict[str, Tensor] | None = None
    accuracy: dict[str, Tensor] | None = None
    hidden: Tensor | None = None


class PrefixLM(PreTrainedModel):
    """Decoder-only transformer: bidirectional prefix, causal output, loss on outputs alone."""

    config_class = PrefixLMConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    _no_split_modules = ["Block"]
    _supports_sdpa = True
    _input_embed_layer = "embedding"
    supports_gradient_checkpointing = True

    def __init__(self, config: PrefixLMConfig):
        super().__init__(config)
        lm = config.lm
        audio = config.audio_levels * config.audio_size
        self.embedding = TokenEmbedding(lm.hidden_size, config.special_size, config.visual_size, audio)
        self.text_proj = nn.Linear(config.text_size, lm.hidden_size, bias=False)
        self.transformer = Transformer(lm)
        start = config.special_size + config.visual_size
        kinds = [Kind("special", 0, config.special_size), Kind("visual", config.special_size, config.visual_size)]
        kinds += [
            Kind(f"audio{q}", start + q * config.audio_size, config.audio_size) for q in range(config.audio_levels)
        ]
        self.head = (FactorizedHead if lm.head == "factorized" else FlatHead)(lm, kinds)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Normal(0, 0.02), what writes into the residual stream scaled down by depth; norms are one, or `qk_gain`."""

        def named(*ends: str) -> bool:
            # Decided at the leaf: transformers skips modules that hold no weights of their own.
            return any(module is found for name, found in self.transformer.named_modules() if name.endswith(ends))

        if isinstance(module, nn.Linear | nn.Embedding | LinearCrossEntropy):
            writes = named("o_proj", "down_proj")
            nn.init.normal_(module.weight, std=0.02 / (2 * len(self.transformer.layers)) ** (0.5 if writes else 0))
        elif isinstance(module, nn.RMSNorm):
            nn.init.constant_(module.weight, self.config.lm.qk_gain if named("q_norm", "k_norm") else 1.0)

    def hidden(
        self,
        input_ids: Tensor,
        positions: Tensor,
        prefix: int,
        text: Tensor | None = None,
        text_mask: Tensor | None = None,
        text_start: int = 0,
        cache: Cache | Window | None = None,
    ) -> Tensor:
        """Hidden states (b, n, d) of ids (b, n).

        Args:
            positions: (n, 3) coordinates of the rows (`Layout.positions`), or (b, n, 3).
            prefix: leading positions that see one another.
            text: (b, m, text_size) embeddings for the positions from `text_start` on.
            text_mask: (b, m) bool, true where there is a token (everywhere, if not given); elsewhere the `<empty>`
                embedding stays.
            cache: keeps keys and values; with `Window` the ids stand at its places, and see what it has.
        """
        x = self.embedding(input_ids)
        if text is not None:
            text_mask = text.new_ones(text.shape[:2], dtype=torch.bool) if text_mask is None else text_mask
            x = place_text(x, self.text_proj(text.to(x.dtype)), text_mask, text_start)
        if self.config.lm.positions == "1d":
            here = torch.arange(x.shape[1], device=x.device)
            positions = (cache.places if isinstance(cache, Window) else here)[..., None]
        return self.transformer(x, positions, prefix, cache)

    def forward(
        self,
        input_ids: Tensor,
        positions: Tensor,
        prefix: int,
        segments: Sequence[Segment],
        text: Tensor | None = None,
        text_mask: Tensor | None = None,
        text_start: int = 0,
        **kwargs: Any,
    ) -> PrefixLMOutput:
        """One training pass over rows of one layout; see `hidden`. `segments` are the output positions by kind."""
        hidden = self.hidden(input_ids, positions, prefix, text, text_mask, text_start)
        counts = Counter[str]()
        for kind, start, stop in segments:
            counts[kind] += stop - start
        places = [(start, stop) for wanted in counts for kind, start, stop in segments if kind == wanted]
        before = torch.cat([hidden[:, start - 1 : stop - 1] for start, stop in places], 1)
        ids = torch.cat([input_ids[:, start:stop] for start, stop in places], 1)
        scores = self.head.score(before, ids, counts)

        def means(values: Tensor) -> dict[str, Tensor]:
            return {kind: part.mean() for kind, part in zip(counts, values.split([*counts.values()], 1), strict=True)}

        by_kind, accuracy = means(scores.each), means(scores.right.float())
        return PrefixLMOutput(loss=scores.loss, by_kind=by_kind, accuracy=accuracy, hidden=hidden)


AutoConfig.register(PrefixLMConfig.model_type, PrefixLMConfig)
AutoModel.register(PrefixLMConfig, PrefixLM)
