"""What a training takes: weights, operations, memory, time, storage.

Nothing is read of the data and no weight is made: batches follow from the configurations alone, and what a step
computes and holds from passes without numbers (`dry_run.py`). Seconds come from a device's peak and the share of it
that is assumed to be used, or from real steps here through one unit of layers and through two, which tell of any
number. What is trained is in `plans.py`.
"""

from __future__ import annotations

import os
import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import T5EncoderModel

from videolm.errors import UserError
from videolm.pipeline.folder import outline
from videolm.tokenizers.protocol import VIDEO_TOKENIZERS, VideoTokenizer
from videolm.tokenizers.text.t5 import encoder_config
from videolm.train.average import Average
from videolm.train.dry_run import Activations, DryRun, activations
from videolm.train.engine import Engine, device, fast_bfloat16
from videolm.train.hardware import named_peak, peak_flops
from videolm.train.loop import TrainingConfig
from videolm.train.optimizer import parameter_groups
from videolm.train.recipe import Pretrained, Recipe

HERE = "this"
"""The name of the device that this runs on."""
MFU = 0.4
"""Share of a GPU's peak that is assumed: published trainings in bfloat16 reach 0.33 to 0.46 (torchtitan's Llama 3.1 8B
on 8 H100s, nanochat's d18)."""
RECOMPUTED = 4 / 3
"""Operations with activations recomputed over those without."""
BUCKET = 500_000_000
"""Numbers in the buffer that DeepSpeed gathers gradients in, from ZeRO stage 1 on."""
LIVE = 1_000_000_000
"""Weights that DeepSpeed holds whole at a time at most under ZeRO stage 3."""
LONGEST = 4.0
"""Seconds that a measured pass may take, about; else fewer rows are measured."""
PATIENCE = 45.0
"""Seconds after which no further variant is measured."""
ROUNDS = 3
"""Measured steps of a variant, after one that is not counted; the median is taken."""


class Variant(NamedTuple):
    """A kind of batch."""

    name: str
    of: Any
    """What its rows are made of."""
    length: int
    """Positions of a row."""
    prefix: int
    """Of them, those that are given."""
    share: float
    """Of the batches."""
    rows: int
    """A batch."""
    shape: Hashable
    """What a row's cost depends on."""

    @property
    def tokens(self) -> int:
        """Positions a batch."""
        return self.rows * self.length


class Memory(NamedTuple):
    """Bytes on one device at the most. Where optimiser or weights are offloaded, `host` has them."""

    stage: int
    weights: float
    gradients: float
    optimizer: float
    """State, and weights in float32 beside those in bfloat16."""
    average: float
    buffers: float
    """DeepSpeed's: gradients on their way, and from stage 3 on layers that are whole for a while."""
    activations: float
    """Held between forward and backward."""
    working: float
    """What comes and goes: logits and gradients of activations, or at the step gradients in float32."""
    host: float

    @property
    def total(self) -> float:
        return sum(self[1:8])


class Speed(NamedTuple):
    """How long a step takes."""

    seconds: float
    mfu: float
    """The share of the device's peak that operations make up, recomputed ones left out."""
    peak: float
    """FLOP/s."""
    measured: bool


class Plan(ABC):
    """A recipe's training, without weights and data.

    Attributes:
        training: its settings.
        units: how many times the layers come that `objective` is given so many times.
        variants: the kinds of its batches.
        dtype: of weights and activations.
    """

    training: TrainingConfig
    units: int
    variants: list[Variant]

    def __init__(self, recipe: Recipe, device_name: str = HERE):
        self.recipe, self.tokenizer, self.text = recipe, _tokenizer(recipe), encoder_config(recipe.text)
        fast = device_name != HERE or fast_bfloat16(device())
        bfloat16 = recipe.engine.precision == "bfloat16" or (recipe.engine.precision == "auto" and fast)
        self.dtype = torch.bfloat16 if bfloat16 else torch.float32

    # --- modules

    @abstractmethod
    def objective(self, units: int) -> Any:
        """What is trained, with so many units of layers and new weights; without memory under `DryRun.making`."""

    @abstractmethod
    def batch(self, variant: Variant, rows: int) -> Any:
        """A batch with nothing in it but texts of full length."""

    @abstractmethod
    def recompute(self, module: Any, on: bool) -> None:
        """Whether a pass computes activations of layers again."""

    @abstractmethod
    def flops_of(self, module: Any, variant: Variant) -> float:
        """Operations of a row, forward and backward."""

    @abstractmethod
    def parts(self, module: Any) -> dict[str, int]:
        """Weights of "embedding", "trunk" and "heads"."""

    @property
    @abstractmethod
    def storage(self) -> dict[str, int]:
        """Bytes of token shards an example by source, in all formats, with one caption of full length, which is stored
        with each."""

    @cached_property
    def _dry(self) -> tuple[DryRun, Any, Any]:
        dry = DryRun(self.dtype)
        with dry.making():
            return dry, self.objective(1), self.objective(2)

    def _of_all_layers(self, one: float, two: float) -> float:
        return one + (two - one) * (self.units - 1)

    def _count(self, what: Callable[[Any], int]) -> int:
        """A number that is linear in the layers, of the whole model."""
        return int(self._of_all_layers(*(what(module) for module in self._dry[1:])))

    # --- weights

    @cached_property
    def parameters(self) -> dict[str, int]:
        """Weights by part; the tokenizers and a frozen text encoder are not trained here."""
        one, two = (self.parts(module) for module in self._dry[1:])
        found = {name: int(self._of_all_layers(one[name], two[name])) for name in one}
        with torch.device("meta"):
            found["text encoder"] = size_of(T5EncoderModel(self.text))
        found["video tokenizer"] = size_of(self.tokenizer)
        return found

    @cached_property
    def trained(self) -> int:
        """Weights that the optimiser steps."""
        return self._count(lambda m: sum(p.numel() for p in m.parameters() if p.requires_grad))

    @cached_property
    def _held(self) -> int:
        """Weights that a device holds."""
        return self._count(size_of)

    @cached_property
    def _by_muon(self) -> int:
        optimizer = self.training.optimizer

        def count(module: nn.Module) -> int:
            groups = parameter_groups(module, optimizer)
            return sum(p.numel() for group in groups if group.get("use_muon") for p in group["params"])

        return self._count(count)

    # --- steps

    @property
    def tokens(self) -> float:
        """Positions a step and device, on average."""
        return self.recipe.engine.accumulate * sum(v.share * v.tokens for v in self.variants)

    @cached_property
    def row_flops(self) -> dict[Hashable, float]:
        """Operations of a row, forward and backward, by the shapes of variants."""
        return {
            v.shape: self._of_all_layers(*(self.flops_of(module, v) for module in self._dry[1:])) for v in self.variants
        }

    def batch_flops(self, variant: Variant) -> float:
        """Operations of a batch, forward and backward."""
        return variant.rows * self.row_flops[variant.shape]

    @property
    def flops(self) -> float:
        """Operations a step and device, on average, recomputed ones left out."""
        return self.recipe.engine.accumulate * sum(v.share * self.batch_flops(v) for v in self.variants)

    @property
    def six_n_d(self) -> float:
        """Six times trunk and heads times the tokens of a step: the usual estimate, which leaves attention out."""
        return 6 * (self.parameters["trunk"] + self.parameters["heads"]) * self.tokens

    # --- memory

    @property
    def largest(self) -> Variant:
        """The variant whose batch holds most."""
        return max(self.variants, key=lambda v: (v.tokens, v.length - v.prefix))

    def activations(self, recompute: bool) -> Activations:
        """What a pass of the largest batch holds, where blocks' activations are kept or computed again."""
        dry, *modules = self._dry
        found = []
        for module in modules:
            self.recompute(module, recompute)
            with dry.calling():
                batch = self.batch(self.largest, self.largest.rows)  # without numbers too, or it would count as held
                found.append(activations(module, batch))
            self.recompute(module, False)
        return Activations(*(self._of_all_layers(one, two) for one, two in zip(*found, strict=True)))

    def memory(self, stage: int, devices: int, held: Activations) -> Memory:
        """What a device holds at the most under a ZeRO stage."""
        width, trained = self.dtype.itemsize, self.trained
        offload = self.recipe.engine.offload if stage else "none"
        share = 1 / devices if stage else 1.0
        masters = 4 * trained if stage or self.dtype != torch.float32 else 0
        optimizer = share * (masters + 8 * trained - 4 * self._by_muon)
        average = share * 4 * trained if self.training.ema else 0.0
        weights = width * (self._held / devices if stage == 3 else self._held)
        gathered = 1 if stage == 1 and self.recipe.engine.accumulate > 1 else 0
        gradients = width * trained * (share + gathered)
        buffers = width * (BUCKET if stage else 0) + width * (min(LIVE, self._held) if stage == 3 else 0)
        at_step = 4 * trained * share if masters else 0.0
        working = max(held.peak, at_step) - held.held
        host = 0.0
        if offload != "none":
            host, optimizer, average = optimizer + average, 0.0, 0.0
        if offload == "all" and stage == 3:
            host, weights = host + weights, 0.0
        return Memory(stage, weights, gradients, optimizer, average, buffers, held.held, working, host)

    # --- time

    def speed(self, device_name: str = HERE, mfu: float | None = None) -> Speed:
        """Seconds a step: measured on this device, or from the peak of the one that is named."""
        if device_name == HERE and mfu is None:
            return self._measured()
        place = torch.device(device())
        peak = peak_flops(place, self.dtype) if device_name == HERE else named_peak(device_name, self.dtype)
        used = mfu or MFU / (RECOMPUTED if self.recipe.engine.checkpoint_activations else 1)
        return Speed(self.flops / (peak * used), used, peak, measured=False)

    def _measured(self) -> Speed:
        """From real steps through one and two layers."""
        peak = peak_flops(torch.device(device()), self.dtype)
        self._check_room()
        shapes = {v.shape: v for v in sorted(self.variants, key=lambda v: v.share * self.batch_flops(v))}
        ordered = list(reversed(shapes.values()))
        began = time.monotonic()
        timed: list[Variant] = []
        passes: list[dict[Hashable, float]] = []
        steps = []
        for units in (1, 2):
            stop = began + PATIENCE * units / 2
            found, optimizer = self._time(units, ordered if units == 1 else timed, stop, peak)
            timed = [v for v in ordered if v.shape in found]
            passes.append(found)
            steps.append(optimizer)
        whole = {v.shape: self._of_all_layers(*(found[v.shape] for found in passes)) for v in timed}
        rate = sum(whole.values()) / sum(self.row_flops[shape] for shape in whole)  # of those that were not measured
        per_pass = sum(v.share * v.rows * whole.get(v.shape, rate * self.row_flops[v.shape]) for v in self.variants)
        seconds = self.recipe.engine.accumulate * per_pass + self._of_all_layers(*steps)
        return Speed(seconds, self.flops / seconds / peak, peak, measured=True)

    def _time(
        self, units: int, variants: list[Variant], stop: float, peak: float
    ) -> tuple[dict[Hashable, float], float]:
        """Seconds of a row by the shapes of variants, forward and backward, and of the optimiser's step.

        Two batches make a step: the second one's time beyond the first one's is the optimiser's.
        """
        config = self.recipe.engine.model_copy(update={"accumulate": 2, "zero_stage": 0, "offload": "none"})
        module = self.objective(units).to(device())
        self.recompute(module, self.recipe.engine.checkpoint_activations)
        engine = Engine(module, self.training.optimizer, config)
        average = Average(engine.weights(), self.training.ema) if self.training.ema else None
        found: dict[Hashable, float] = {}
        optimizer = []
        for variant in variants:
            if len(found) > 1 and time.monotonic() > stop:
                break
            expected = 2 * self.row_flops[variant.shape] * units / self.units / peak
            count = max(1, min(variant.rows, int(LONGEST / expected)))
            batch = self.batch(variant, count)
            firsts = []
            for measured in [False] + [True] * ROUNDS:
                marks = list(_marks(engine, batch, average))
                if measured:
                    firsts.append(marks[1] - marks[0])
                    optimizer.append((marks[2] - marks[1]) - (marks[1] - marks[0]))
            found[variant.shape] = statistics.median(firsts) / count
        engine.finish()
        return found, max(0.0, statistics.median(optimizer))

    def _check_room(self) -> None:
        """Raise `UserError` where two layers do not fit here."""
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if torch.cuda.is_available():
            free = torch.cuda.mem_get_info()[0]
        need = (16 + self.dtype.itemsize + 4) * size_of(self._dry[2])
        if need > free:
            raise UserError(
                f"measuring takes two layers of the model, {need / 1e9:.0f} GB, and {free / 1e9:.0f} GB are free here: "
                "name a device, as --device h100, or give --mfu"
            )


def size_of(module: nn.Module) -> int:
    """Weights of a module."""
    return sum(weight.numel() for weight in module.parameters())


def _marks(engine: Engine, batch: Any, average: Average | None) -> Iterator[float]:
    """When a step's first batch begins, its second, and when the step is done."""
    marks = []

    def batches() -> Iterator[Any]:
        for _ in range(2):
            marks.append(_now())
            yield batch

    engine.step(batches(), 0.0)
    if average is not None:
        average.update(0)
    yield from (*marks, _now())


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def _tokenizer(recipe: Recipe) -> VideoTokenizer:
    config = recipe.tokenizer
    if isinstance(config, Pretrained):
        return outline(config.pretrained)
    assert config is not None  # what is trained here needs one
    return VIDEO_TOKENIZERS.get(config.name).without_weights(config)  # type: ignore[attr-defined]  # each has one
