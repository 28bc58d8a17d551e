"""Which rows a training step sees: one variant a batch, tasks and data sets by weight, all from (seed, step).

Alternating gradient descent as VideoPoet 4.2: rows of a variant have one length, so a batch has no padding, and the
batch size follows from a number of tokens, so image batches hold more examples than clip batches. Pictures teach what
things look like, clips how they move: a training goes through stages with shares of their own (the same section).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from videolm.config import Config
from videolm.data.shards import Shard, TokenData, embedded
from videolm.sequence import Layout


class Stage(Config):
    """A stretch of the training with shares of its own."""

    steps: Annotated[float, Field(gt=0, le=1)]
    """Its share of all steps."""
    images: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of its steps that make pictures; among pictures and among clips the weights hold."""
    tasks: dict[str, Annotated[float, Field(ge=0)]] = {}
    """Weights of tasks in place of the recipe's."""
    only: tuple[str, ...] = ()
    """The tasks that it is of; the recipe's others wait. By default all."""

    def weights(self, usual: Mapping[str, float]) -> dict[str, float]:
        """Its weights of tasks, where the recipe's are `usual`."""
        own = {**usual, **self.tasks}
        return {name: weight if name in (self.only or own) else 0.0 for name, weight in own.items()}


VIDEOPOET = (Stage(steps=0.25, images=0.9), Stage(steps=0.75, images=0.1))
"""Mostly pictures at first, mostly clips then (VideoPoet 4.2)."""


class Rows(NamedTuple):
    """A batch of one layout."""

    layout: Layout
    ids: Tensor  # (b, n)
    captions: list[list[int]]  # token ids of each row's caption; empty where there is none or it was dropped
    text: tuple[Tensor, Tensor] | None = None  # their embeddings (b, m, d) and mask (b, m), where those are stored

    @property
    def padding(self) -> float:
        """Share of positions that stand for nothing: those in no span of the layout."""
        return 1 - sum(span.length for span in self.layout.spans) / self.ids.shape[1]


class Mixture:
    """Batches by step.

    Args:
        layouts: every variant's layout.
        weights: of the tasks by name; a task's variants share its weight.
        data: the token shards, every task served by at least one of them; a step's rows are of one.
        steps: of the whole training, in batches.
        tokens: positions a batch holds, about.
        least: rows a batch has at least.
        text_dropout: share of rows whose text is left out, for guidance.
        without_text: tasks whose text is always left out: learnt without captions.
        condition_dropout: share of rows whose clips and sounds given are left out, likewise.
        schedule: stages in order; after the last of them `weights` hold.
        examples: of tasks by name, how many examples there are, the first; by default all.
    """

    def __init__(
        self,
        layouts: Sequence[Layout],
        weights: Mapping[str, float],
        data: Sequence[TokenData],
        *,
        steps: int,
        tokens: int,
        seed: int,
        least: int = 1,
        text_dropout: float = 0.0,
        without_text: Sequence[str] = (),
        condition_dropout: float = 0.0,
        schedule: Sequence[Stage] = (),
        examples: Mapping[str, int] | None = None,
    ):
        self.steps, self.tokens, self.least, self.seed = steps, tokens, least, seed
        self.text_dropout, self.condition_dropout = text_dropout, condition_dropout
        self.without_text, self._limits = without_text, examples or {}
        self.choices = [(layout, each) for layout in layouts for each in data if each.serves(layout.variant)]
        """What a step may be of: a layout, and a data set that serves its task."""
        self._examples: dict[tuple[int, str], NDArray[np.int64]] = {}
        self._stages: list[tuple[int, NDArray[np.float64]]] = []  # (first step after it, shares of the choices)
        end = 0.0
        for stage in schedule:
            end += stage.steps
            self._stages.append((round(end * steps), self._shares(stage.weights(weights), stage.images)))
        self._last = self._shares(weights, None)

    def _shares(self, weights: Mapping[str, float], images: float | None) -> NDArray[np.float64]:
        """The probability of each choice. Without pictures or without clips their share has no effect."""
        rows = [_task(layout) for layout, _ in self.choices]
        total = {name: sum(each.weight for layout, each in self.choices if _task(layout) == name) for name in set(rows)}
        shares = [weights[name] * each.weight / total[name] for name, (_, each) in zip(rows, self.choices, strict=True)]
        share = np.array(shares)
        is_picture = np.array([layout.variant.task.makes_pictures for layout, _ in self.choices])
        pictures, clips = share * is_picture, share * ~is_picture
        if images is not None and pictures.any() and clips.any():
            return images * pictures / pictures.sum() + (1 - images) * clips / clips.sum()
        return share / share.sum()

    def shares(self, step: int) -> NDArray[np.float64]:
        """The probability of each of `choices` at a step."""
        return next((shares for stop, shares in self._stages if step < stop), self._last)

    @property
    def overall(self) -> NDArray[np.float64]:
        """The share that each of `choices` has of all steps."""
        stops = [0, *(min(stop, self.steps) for stop, _ in self._stages), self.steps]
        parts = [*(shares for _, shares in self._stages), self._last]
        lengths = zip(stops, stops[1:], parts, strict=False)
        return np.sum([(stop - start) * shares for start, stop, shares in lengths], axis=0) / self.steps

    def batch_size(self, layout: Layout) -> int:
        return max(self.least, self.tokens // layout.length)

    def at(self, step: int, rank: int = 0, world: int = 1) -> Rows:
        """The rows of a step: all ranks draw one variant, each its own examples."""
        rng = np.random.default_rng([self.seed, step])
        layout, data = self.choices[rng.choice(len(self.choices), p=self.shares(step))]
        return self.draw(layout, data, rng, self.batch_size(layout), rank, world)

    def numbers(self, layout: Layout, data: TokenData) -> NDArray[np.int64]:
        """Numbers of a data set's examples for a layout."""
        task = layout.variant.task
        key = (id(data), task.name)
        if key not in self._examples:
            self._examples[key] = data.examples(task.sources)[: self._limits.get(task.name)]
        return self._examples[key]

    def draw(
        self,
        layout: Layout,
        data: TokenData,
        rng: np.random.Generator,
        size: int,
        rank: int = 0,
        world: int = 1,
        dropout: bool = True,
    ) -> Rows:
        """`size` rows of a layout a rank, for all of `world` ranks alike from `rng`."""
        numbers = self.numbers(layout, data)
        indices = rng.integers(len(numbers), size=(world, size))[rank]
        forms, told, shown = rng.random((3, world, size))[:, rank]
        silent = _task(layout) in self.without_text
        keep = np.stack([told >= self.text_dropout, shown >= self.condition_dropout]) | (not dropout)
        keep[0] &= not silent
        return self.rows(layout, data.shards, numbers[indices], forms, *keep)

    def rows(
        self,
        layout: Layout,
        shards: Mapping[str, Shard],
        numbers: NDArray[np.int64],
        forms: NDArray[np.float64],
        told: NDArray[np.bool_],
        shown: NDArray[np.bool_],
    ) -> Rows:
        """The rows of examples (b,).

        Args:
            forms: numbers in [0, 1) that say which of its captions each has.
            told, shown: whether its text and its conditions are kept.
        """
        task = layout.variant.task
        batches = {source: shards[source].read(numbers) for source in task.sources}
        about, width = batches[task.sources[0]], shards[task.sources[0]].text_width
        by_class = task.text is not None and task.text.content == "class"
        captions: list[list[int]] = []
        stored: list[bytes] = []
        for at, (form, keep) in enumerate(zip(forms, told, strict=True)):
            texts = [about.labels[at]] * bool(len(about.labels[at])) if by_class else about.captions[at]
            said = keep and layout.text is not None and len(texts)
            which = int(form * len(texts))
            captions.append([int(i) for i in texts[which]] if said else [])
            if about.embeddings is not None:
                stored.append(about.embeddings[at][-1 if by_class else which] if said else b"")
        ids = layout.build({source: batch.codes for source, batch in batches.items()})
        ids[~shown] = layout.without_conditions(ids[~shown])
        return Rows(layout, ids, captions, embedded(stored, width) if stored and any(stored) else None)


def _task(layout: Layout) -> str:
    return layout.variant.task.name
