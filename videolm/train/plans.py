"""What `estimate.py` estimates: the trainings of a language model and of super-resolution."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from itertools import product
from typing import Any

import torch
from transformers import T5EncoderModel

from videolm.data.mixture import Rows
from videolm.data.shards import TokenData
from videolm.errors import UserError
from videolm.model.prefix_lm import PrefixLM
from videolm.pipeline.folder import outline_audio
from videolm.sequence import Layout
from videolm.shapes import Format, TokenGrid
from videolm.superres.enlarge import Enlarge
from videolm.superres.model import MaskedModel
from videolm.tokenizers.audio.protocol import AUDIO_TOKENIZERS, AudioTokenizer
from videolm.tokenizers.text.t5 import TextEncoder, make_pieces
from videolm.train import super_resolution
from videolm.train.adapters import with_adapters
from videolm.train.estimate import HERE, Plan, Variant, size_of
from videolm.train.flops import masked_row_flops, row_flops
from videolm.train.language_model import Objective
from videolm.train.recipe import Pretrained, Recipe
from videolm.train.run import layouts_of, lm_config, masked_config, vocabulary_of
from videolm.train.super_resolution import Pairs, Texts


def plan_of(recipe: Recipe, device_name: str = HERE) -> Plan:
    """The training of a recipe's language model, or where it has none that of its super-resolution.

    Raises `UserError` for a recipe without either.
    """
    if recipe.lm is not None:
        return LanguagePlan(recipe, device_name)
    if recipe.super_resolution is not None:
        return SuperResolutionPlan(recipe, device_name)
    raise UserError("the recipe has neither lm nor super_resolution: estimates are of training one of these")


class LanguagePlan(Plan):
    """The training of a language model."""

    def __init__(self, recipe: Recipe, device_name: str = HERE):
        super().__init__(recipe, device_name)
        assert recipe.lm is not None
        self.lm, self.training, self.units = recipe.lm, recipe.lm_training, recipe.lm.num_layers
        self.audio = _audio_tokenizer(recipe)
        self.vocabulary = vocabulary_of(recipe, self.tokenizer, self.audio)
        layouts = layouts_of(recipe, self.vocabulary, self.tokenizer, self.audio)
        data = [
            TokenData({}, each.weight, tuple(task for task in recipe.weights if recipe.serves(name, task)), shape)
            for (name, each), shape in product(recipe.datasets.items(), recipe.formats)
            if recipe.sources(name)
        ]
        mixture = recipe.lm_training.mixture(layouts, recipe.weights, data, recipe.engine.accumulate, recipe.seed)
        shares = dict.fromkeys(range(len(layouts)), 0.0)
        for (layout, _), share in zip(mixture.choices, mixture.overall, strict=True):
            shares[layouts.index(layout)] += float(share)
        self.variants = [
            Variant(str(row.variant), row, row.length, row.prefix, share, mixture.batch_size(row), _cost(row))
            for row, share in zip(layouts, shares.values(), strict=True)
        ]

    def objective(self, units: int) -> Objective:
        recipe = self.recipe
        small = recipe.model_copy(update={"lm": self.lm.model_copy(update={"num_layers": units})})
        lm: Any = PrefixLM(lm_config(small, self.vocabulary, self.text.d_model))
        if recipe.lora is not None:
            lm = with_adapters(lm, recipe.lora)
        text = None if recipe.frozen_text else TextEncoder(T5EncoderModel(self.text), make_pieces(["a clip"], 300))
        return Objective(lm, text).train()

    def batch(self, variant: Variant, rows: int) -> Rows:
        layout, length = variant.of, self.recipe.text_length
        _ = layout.positions  # made here, not in a pass without numbers
        ids = layout.template.expand(rows, -1).contiguous()
        if layout.text is None:
            return Rows(layout, ids, [[]] * rows)
        if not self.recipe.frozen_text:
            return Rows(layout, ids, [[0] * length] * rows)
        text = torch.zeros(rows, length, self.text.d_model), torch.ones(rows, length, dtype=torch.bool)
        return Rows(layout, ids, [[]] * rows, text)

    def recompute(self, module: Objective, on: bool) -> None:
        if on:
            module.lm.gradient_checkpointing_enable()
        else:
            module.lm.gradient_checkpointing_disable()

    def flops_of(self, module: Objective, variant: Variant) -> float:
        return row_flops(module.lm, module.text, variant.of, self.recipe.text_length)

    def parts(self, module: Objective) -> dict[str, int]:
        lm = module.lm
        embedding = size_of(lm.embedding) + size_of(lm.text_proj)
        return {"embedding": embedding, "trunk": size_of(lm.transformer), "heads": size_of(lm.head)}

    @property
    def parameters(self) -> dict[str, int]:
        audio = {} if self.audio is None else {"audio tokenizer": size_of(self.audio)}
        return super().parameters | audio

    @property
    def storage(self) -> dict[str, int]:
        recipe = self.recipe
        text = 4 * recipe.text_length + (2 * recipe.text_length * self.text.d_model if recipe.frozen_text else 0)
        return {
            source: sum(8 + 4 * self._codes(source, shape) + text for shape in recipe.formats)
            for name in recipe.datasets
            for source in recipe.sources(name)
        }

    def _codes(self, source: str, shape: Format) -> int:
        """Codes of an example."""
        if source == "audio":
            assert self.audio is not None  # the recipe says so
            return self.audio.levels * self.audio.grid.frames(shape.frames / self.recipe.fps)
        is_picture = source.endswith(".last_frame") or source.partition(".")[0] == "image"
        return self.tokenizer.grid(*(shape._replace(frames=1) if is_picture else shape)).tokens


def _cost(layout: Layout) -> Hashable:
    """What a row's cost depends on."""
    counts = Counter[str]()
    for span in layout.outputs:
        counts[span.kind] += span.length
    return layout.length, layout.prefix, layout.text is None, tuple(sorted(counts.items()))


def _audio_tokenizer(recipe: Recipe) -> AudioTokenizer | None:
    config = recipe.audio_tokenizer
    if config is None or isinstance(config, Pretrained):
        return None if config is None else outline_audio(config.pretrained)
    return AUDIO_TOKENIZERS.get(config.name).without_weights(config)  # type: ignore[attr-defined]  # each has one


class SuperResolutionPlan(Plan):
    """The training of a stage of super-resolution; a unit has a layer of every window. All codes are hidden in what is
    passed, where training hides two thirds on average: the most that a step holds."""

    def __init__(self, recipe: Recipe, device_name: str = HERE):
        super().__init__(recipe, device_name)
        assert recipe.super_resolution is not None
        self.training, self.config = recipe.super_resolution_training, recipe.super_resolution
        self.units = self.config.num_layers // len(self.config.windows)
        rows, alone = recipe.super_resolution_training.batch, recipe.super_resolution_training.pictures
        grids = [(str(shape), self.tokenizer.grid(*shape)) for shape in recipe.large_formats]
        self.variants = []
        for name, whole in grids:
            for kind, grid, share in ((name, whole, 1 - alone), (f"{name}, first frame", whole._replace(t=1), alone)):
                if share:
                    self.variants.append(Variant(kind, grid, grid.tokens, 0, share / len(grids), rows, grid))

    def objective(self, units: int) -> super_resolution.Objective:
        config = self.config.model_copy(update={"num_layers": units * len(self.config.windows)})
        small = self.recipe.model_copy(update={"super_resolution": config})
        model = MaskedModel(masked_config(small, self.tokenizer, self.text.d_model))
        return super_resolution.Objective(model, self.recipe.super_resolution_training.shown).train()

    def batch(self, variant: Variant, rows: int) -> Pairs:
        grid: TokenGrid = variant.of
        codes = torch.zeros(rows, *grid, dtype=torch.long)
        length = self.recipe.text_length
        texts = Texts(torch.zeros(rows, length, self.text.d_model), torch.ones(rows, length, dtype=torch.bool))
        everywhere, low = torch.ones_like(codes, dtype=torch.bool), codes[..., ::2, ::2]
        enlarged = torch.zeros(*codes.shape, Enlarge.size(self.tokenizer)) if self.config.enlarged else None
        places = torch.arange(codes.numel()), torch.arange(0)
        return Pairs(codes, everywhere, low, torch.zeros(rows), texts, *places, enlarged)

    def recompute(self, module: super_resolution.Objective, on: bool) -> None:
        module.model.transformer.checkpointing = on

    def flops_of(self, module: super_resolution.Objective, variant: Variant) -> float:
        return masked_row_flops(module.model, variant.of, self.recipe.text_length)

    def parts(self, module: super_resolution.Objective) -> dict[str, int]:
        model = module.model
        trunk, heads = size_of(model.transformer), size_of(model.head)
        return {"embedding": size_of(model) - trunk - heads, "trunk": trunk, "heads": heads}

    @property
    def storage(self) -> dict[str, int]:
        text = self.recipe.text_length * (4 + 2 * self.text.d_model)
        counts = [self.tokenizer.grid(*shape).tokens for shape in self.recipe.large_formats]
        large, small = super_resolution.PAIR
        return {
            large: sum(8 + 4 * count + text for count in counts),
            small: sum(8 + count + text for count in counts),  # a quarter of the codes
        }
