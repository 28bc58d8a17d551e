"""A masked transformer over a clip's codes, prompted by the codes of the clip at half the size and by text.

It sees some of the codes and predicts the others (MaskGIT, arXiv 2202.04200; VideoPoet 3.3 and A.3). Without `low` it
is the same model over clips alone, as Phenaki's and MAGVIT's generators are.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from videolm.component import Component
from videolm.model.config import Positive
from videolm.model.factor import Factors
from videolm.model.head import CodeHead
from videolm.model.windowed import WindowedConfig, WindowedTransformer, half
from videolm.model.windows import Window
from videolm.shapes import TokenGrid


class MaskedConfig(WindowedConfig):
    """The `super_resolution:` section of a recipe. `configs/super_resolution/` has the sizes of the paper."""

    groups: Annotated[int, Field(ge=1, le=8)] = 2
    """Factors that a code is embedded and predicted in."""
    low: bool = True
    """Whether it is prompted by the clip at half the size."""
    enlarged: bool = False
    """Show it, place by place, the small clip enlarged by bicubic interpolation too, its pixels and what the tokenizer
    makes of them. The paper's model is not shown this; it learns far longer."""

    @model_validator(mode="after")
    def _halves(self) -> MaskedConfig:
        if self.enlarged and not self.low:
            raise ValueError("enlarged is of the small clip, which a model without `low` is not given")
        if self.low:
            for window in self.windows:
                half(window)
        return self


class MaskedModelConfig(MaskedConfig):
    """`MaskedConfig` with what follows from the tokenizer, the text encoder and the clips, as it is saved."""

    codebook_size: Positive
    text_size: Positive
    """Width of the text encoder's embeddings."""
    grid: TokenGrid
    """Codes of the clips that it was trained on, which larger and longer ones are cut into."""
    enlarged_size: Annotated[int, Field(ge=0)] = 0
    """Numbers a place of `Enlarge`, where they are shown."""

    @model_validator(mode="after")
    def _even(self) -> MaskedModelConfig:
        if self.low:
            half(Window(*self.grid))
        if self.enlarged != bool(self.enlarged_size):
            raise ValueError("enlarged_size is of what `enlarged` shows: both or neither")
        return self


class MaskedModel(Component):
    """Codes (b, t, h, w), some of them hidden, to hidden states (b, t, h, w, d); `head` predicts codes from those."""

    Settings = MaskedModelConfig
    config: MaskedModelConfig

    def __init__(self, config: MaskedModelConfig):
        super().__init__(config)
        width, factors = config.hidden_size, Factors.of(config.codebook_size, config.groups)
        self.codes = factors
        self.embedding = CodeEmbedding(width, factors)
        self.mask = nn.Parameter(torch.empty(width))
        self.first = nn.Parameter(torch.empty(width))
        """Marks the first latent frame, which stands for one frame."""
        if config.low:
            self.low_embedding = CodeEmbedding(width, factors)
            self.low_norm = nn.RMSNorm(width, config.norm_eps)
            self.rate = nn.Parameter(torch.empty(width))
            self.no_low = nn.Parameter(torch.empty(width))
        if config.enlarged:
            self.enlarged_proj = nn.Linear(config.enlarged_size, width)
        self.text_proj = nn.Linear(config.text_size, width, bias=False)
        self.no_text = nn.Parameter(torch.empty(width))
        self.transformer = WindowedTransformer(config, low=config.low)
        self.head = CodeHead(width, factors, config.norm_eps)
        self._begin()

    def _begin(self) -> None:
        """Normal(0, 0.02), what writes into the residual stream scaled down by depth."""
        for vector in self.parameters(recurse=False):
            nn.init.normal_(vector, std=0.02)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                writes = name.startswith("transformer.") and name.endswith(("o_proj", "down_proj"))
                nn.init.normal_(module.weight, std=0.02 / (2 * self.config.num_layers if writes else 1) ** 0.5)

    @property
    def device(self) -> torch.device:
        return self.mask.device

    def forward(
        self,
        codes: Tensor,
        hidden: Tensor,
        low: Tensor | None = None,
        rate: Tensor | None = None,
        text: Tensor | None = None,
        text_mask: Tensor | None = None,
        enlarged: Tensor | None = None,
    ) -> Tensor:
        """Hidden states (b, t, h, w, d).

        Args:
            codes: (b, t, h, w).
            hidden: (b, t, h, w) bool, codes that are not seen.
            low: (b, t, h / 2, w / 2) codes of the clip at half the size; negative throughout a row that goes without.
            rate: (b,) the share of `low` that was drawn anew at random; by default 0.
            text: (b, m, text_size) embeddings.
            text_mask: (b, m) bool, where there is a token; nowhere in a row that goes without.
            enlarged: (b, t, h, w, enlarged_size) of the small clip (`Enlarge`); not counted in a row without `low`.
        """
        x = torch.where(hidden[..., None], self.mask, self.embedding(codes))
        if self.config.enlarged and low is not None and enlarged is not None:
            shown = (low[:, :1, :1, :1] >= 0)[..., None]
            x = x + shown * self.enlarged_proj(enlarged.to(x.dtype))
        small = self._low(x, low, rate) if self.config.low else None
        return self.transformer(self._marked(x), small, self._text(x, text, text_mask))

    def _low(self, x: Tensor, low: Tensor | None, rate: Tensor | None) -> Tensor:
        batch, t, h, w = x.shape[:4]
        if low is None:
            low = torch.full((batch, t, h // 2, w // 2), -1, device=x.device)
        rate = x.new_zeros(batch) if rate is None else rate.to(x.dtype)
        y = self.low_embedding(low.clamp_min(0)) + rate[:, None, None, None, None] * self.rate
        y = torch.where((low < 0)[..., None], self.no_low, y)
        return self.low_norm(self._marked(y))

    def _marked(self, x: Tensor) -> Tensor:
        return torch.cat([x[:, :1] + self.first, x[:, 1:]], 1)

    def _text(self, x: Tensor, text: Tensor | None, mask: Tensor | None) -> Tensor:
        if text is None:
            return self.no_text.expand(len(x), 1, -1)
        mask = text.new_ones(text.shape[:2], dtype=torch.bool) if mask is None else mask
        return torch.where(mask[..., None], self.text_proj(text.to(x.dtype)), self.no_text)


class CodeEmbedding(nn.Module):
    """Codes to vectors, the sum of a small table's row for each of their factors."""

    def __init__(self, width: int, factors: Factors):
        super().__init__()
        self.codes = factors
        self.tables = nn.ModuleList(nn.Embedding(size, width) for size in factors.sizes)

    def forward(self, codes: Tensor) -> Tensor:
        parts = self.codes.split(codes)
        return torch.stack([table(part) for table, part in zip(self.tables, parts, strict=True)]).sum(0)
