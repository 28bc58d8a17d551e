"""Training the prefix language model, and a text encoder with it, on token shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from videolm.data.mixture import VIDEOPOET, Mixture, Rows, Stage
from videolm.data.shards import TokenData
from videolm.generate.sampling import Sampling
from videolm.model.prefix_lm import PrefixLM
from videolm.sequence import Layout
from videolm.tokenizers.protocol import VideoTokenizer
from videolm.tokenizers.text.t5 import TextEncoder
from videolm.train.engine import Engine, EngineConfig
from videolm.train.flops import row_flops
from videolm.train.log import Log, Work
from videolm.train.loop import TrainingConfig, to_device, train
from videolm.train.optimizer import OptimizerConfig
from videolm.train.samples import sample_sheet


class LMTraining(TrainingConfig):
    """The `lm_training:` section of a recipe."""

    steps: Annotated[int, Field(ge=1)] = 5000
    tokens: Annotated[int, Field(ge=1)] = 3200
    """Row positions a batch and process, about: image batches hold more rows than clip batches."""
    least_rows: Annotated[int, Field(ge=1)] = 1
    """Rows a batch and process has at least, however long they are."""
    optimizer: OptimizerConfig = OptimizerConfig(lr=1.5e-3)
    text_dropout: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of rows trained without their text, so that guidance has something to lead away from."""
    without_text: tuple[str, ...] = ()
    """Tasks that are learnt without captions, as from clips that have none."""
    condition_dropout: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of rows trained without the clips and sounds that go in, likewise."""
    schedule: tuple[Stage, ...] = VIDEOPOET
    """Stages with shares of their own, in order; after the last of them those of `tasks` hold. By default VideoPoet's
    two: pictures 90% of the time in the first quarter, 10% in the rest; [] for the shares of `tasks` throughout."""
    examples: dict[str, Annotated[int, Field(ge=1)]] = {}
    """Of tasks by name, how many examples they learn from, the first; by default all."""
    validation_rows: Annotated[int, Field(ge=1)] = 32
    """Rows of every variant."""
    samples: Annotated[int, Field(ge=0)] = 4
    """Clips made from held-out rows at every validation, for TensorBoard, the true ones below them."""

    def mixture(
        self,
        layouts: Sequence[Layout],
        weights: Mapping[str, float],
        data: Sequence[TokenData],
        batches: int,
        seed: int,
    ) -> Mixture:
        """What is trained on, with so many batches a step."""
        return Mixture(
            layouts,
            weights,
            data,
            steps=self.steps * batches,
            tokens=self.tokens,
            least=self.least_rows,
            text_dropout=self.text_dropout,
            without_text=self.without_text,
            condition_dropout=self.condition_dropout,
            schedule=self.schedule,
            seed=seed,
            examples=self.examples,
        )


class Objective(nn.Module):
    """Language model, and the text encoder where it learns too, with their loss; a batch is `Rows`."""

    def __init__(self, lm: PrefixLM, text: TextEncoder | None):
        super().__init__()
        self.lm, self.text = lm, text

    def forward(self, rows: Rows) -> tuple[Tensor, dict[str, Tensor]]:
        layout = rows.layout
        embeddings, mask = rows.text or (None, None)
        if self.text is not None and any(rows.captions):
            embeddings, mask = self.text(rows.captions)
        out = self.lm(
            to_device(rows.ids, self.lm),
            to_device(layout.positions, self.lm),
            layout.prefix,
            [(span.kind, span.start, span.stop) for span in layout.outputs],
            text=None if embeddings is None else to_device(embeddings, self.lm),
            text_mask=None if mask is None else to_device(mask, self.lm),
            text_start=layout.text.start if layout.text else 0,
        )
        logs = {f"nll/{kind}": value for kind, value in out.by_kind.items()}
        logs |= {f"accuracy/{kind}": value for kind, value in out.accuracy.items()}
        logs |= {f"loss/{layout.variant.task.name}": out.loss, "padding": out.loss.new_tensor(rows.padding)}
        return out.loss, logs


def train_language_model(
    lm: PrefixLM,
    text: TextEncoder,
    tokenizer: VideoTokenizer,
    layouts: Sequence[Layout],
    weights: Mapping[str, float],
    data: Sequence[TokenData],
    validation: Sequence[TokenData],
    config: LMTraining,
    engine_config: EngineConfig,
    *,
    frozen_text: bool,
    sampling: Sampling,
    fps: float,
    folder: Path,
    seed: int,
) -> dict[str, float]:
    """Train both in place; returns the last validation: nats a code of every task.

    Args:
        tokenizer: decodes the samples to look at.
        data, validation: token shards, with text embeddings where `frozen_text`.
    """
    mixture, held = (
        config.mixture(layouts, weights, each, engine_config.accumulate, seed) for each in (data, validation)
    )

    def batches(step: int, engine: Engine) -> list[Rows]:
        first = step * engine_config.accumulate
        return [mixture.at(first + micro, engine.rank, engine.world) for micro in range(engine_config.accumulate)]

    @torch.inference_mode()
    def validate(module: nn.Module, log: Log, step: int) -> dict[str, float]:
        values: dict[str, list[float]] = {}
        for layout, shards in held.choices:
            mean = _nats_a_code(module, held, layout, shards, config.validation_rows, seed)
            values.setdefault(layout.variant.task.name, []).append(mean)
        if config.samples:
            sheet = sample_sheet(lm, text, tokenizer, held, sampling, fps, config.samples, seed)
            if sheet is not None:
                log.picture(step, "samples", sheet.pixels)
        return {name: sum(each) / len(each) for name, each in values.items()}

    objective = Objective(lm, None if frozen_text else text)
    length = next((layout.text.length for layout in layouts if layout.text), 0)
    flops = {id(layout): row_flops(lm, objective.text, layout, length) for layout in layouts}

    def work(rows: Rows) -> Work:
        return Work(rows.ids.numel(), len(rows.ids) * flops[id(rows.layout)])

    return train(
        objective,
        name="language model",
        folder=folder,
        config=config,
        engine_config=engine_config,
        batches=batches,
        validate=validate,
        work=work,
        gather=config.samples > 0,
        seed=seed,
    )


def _nats_a_code(module: nn.Module, held: Mixture, layout: Layout, data: TokenData, count: int, seed: int) -> float:
    """Mean negative log-likelihood of the codes of a layout's first output rows."""
    rows = held.draw(layout, data, np.random.default_rng([seed, 3]), count, dropout=False)
    codes = Counter[str]()
    for span in layout.outputs:
        codes[span.kind] += span.length if span.source else 0
    means = []
    for start in range(0, count, 8):
        part = slice(start, start + 8)
        text = None if rows.text is None else (rows.text[0][part], rows.text[1][part])
        logs = module(Rows(layout, rows.ids[part], rows.captions[part], text))[1]
        means.append(sum(logs[f"nll/{kind}"] * number for kind, number in codes.items() if number))
    return float(torch.stack(means).mean()) / sum(codes.values())
