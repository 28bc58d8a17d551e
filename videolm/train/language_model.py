"""Training the prefix language model, and a text encoder with it, on token shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from videolm.config import Config
from videolm.data.mixture import Mixture, Rows
from videolm.data.shards import Shard
from videolm.model.prefix_lm import PrefixLM
from videolm.sequence import Layout
from videolm.tokenizers.text.t5 import TextEncoder
from videolm.train.engine import Engine, EngineConfig, OptimizerConfig
from videolm.train.loop import Log, TrainingConfig, to_device, train


class FirstStage(Config):
    """A first stage with a share of pictures of its own. VideoPoet 4.2 begins with mostly pictures."""

    steps: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Its share of all steps."""
    images: Annotated[float, Field(ge=0, le=1)] = 0.9
    """Share of its steps that make pictures. After it the shares of `tasks` hold."""


class LMTraining(TrainingConfig):
    """The `lm_training:` section of a recipe."""

    steps: Annotated[int, Field(ge=1)] = 5000
    tokens: Annotated[int, Field(ge=1)] = 3200
    """Row positions a batch and process, about: image batches hold more rows than clip batches."""
    optimizer: OptimizerConfig = OptimizerConfig(lr=1.5e-3)
    text_dropout: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of rows trained without their text, so that guidance has something to lead away from."""
    first_stage: FirstStage | None = None
    examples: dict[str, Annotated[int, Field(ge=1)]] = {}
    """Of tasks by name, how many examples they learn from, the first; by default all."""
    validation_rows: Annotated[int, Field(ge=1)] = 32
    """Rows of every variant."""


class Objective(nn.Module):
    """Text encoder and language model with their loss, as the engine calls them: a batch is `Rows`."""

    def __init__(self, lm: PrefixLM, text: TextEncoder, frozen: bool):
        super().__init__()
        self.lm, self.text = lm, text
        self.text.requires_grad_(not frozen)

    def forward(self, rows: Rows) -> tuple[Tensor, dict[str, Tensor]]:
        layout = rows.layout
        embeddings, mask = self.text(rows.captions) if layout.text and any(rows.captions) else (None, None)
        out = self.lm(
            to_device(rows.ids, self.lm),
            to_device(layout.positions, self.lm),
            layout.prefix,
            [(span.kind, span.start, span.stop) for span in layout.outputs],
            text=embeddings,
            text_mask=mask,
            text_start=layout.text.start if layout.text else 0,
        )
        return out.loss, {f"nll/{kind}": value for kind, value in out.by_kind.items()}


def train_language_model(
    lm: PrefixLM,
    text: TextEncoder,
    layouts: Sequence[Layout],
    weights: Mapping[str, float],
    shards: Mapping[str, Shard],
    validation: Mapping[str, Shard],
    config: LMTraining,
    engine_config: EngineConfig,
    *,
    frozen_text: bool,
    folder: Path,
    seed: int,
) -> dict[str, float]:
    """Train both in place; returns the last validation: nats a code of every task."""
    settings: Any = {
        "tokens": config.tokens,
        "text_dropout": config.text_dropout,
        "seed": seed,
        "examples": config.examples,
    }
    if stage := config.first_stage:
        first_steps = round(stage.steps * config.steps) * engine_config.accumulate
        settings |= {"first_steps": first_steps, "first_images": stage.images}
    mixture = Mixture(layouts, weights, shards, **settings)
    held = Mixture(layouts, weights, validation, **settings)

    def batches(step: int, engine: Engine) -> list[Rows]:
        first = step * engine_config.accumulate
        return [mixture.at(first + micro, engine.rank, engine.world) for micro in range(engine_config.accumulate)]

    @torch.inference_mode()
    def validate(module: nn.Module, log: Log, step: int) -> dict[str, float]:
        values: dict[str, list[float]] = {}
        for layout in layouts:
            rng = np.random.default_rng([seed, 3])
            rows = held.draw(layout, rng, config.validation_rows, dropout=False)
            parts = range(0, config.validation_rows, 8)
            losses = [module(Rows(layout, rows.ids[i : i + 8], rows.captions[i : i + 8]))[1] for i in parts]
            codes = Counter[str]()
            for span in layout.outputs:
                codes[span.kind] += span.length if span.source else 0
            each = [sum(loss[f"nll/{kind}"] * count for kind, count in codes.items() if count) for loss in losses]
            mean = float(torch.stack(each).mean()) / sum(codes.values())
            values.setdefault(layout.variant.task.name, []).append(mean)
        return {name: sum(each) / len(each) for name, each in values.items()}

    return train(
        Objective(lm, text, frozen_text),
        name="language model",
        folder=folder,
        config=config,
        engine_config=engine_config,
        batches=batches,
        validate=validate,
    )
