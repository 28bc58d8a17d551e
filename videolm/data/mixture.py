"""Which rows a training step sees: one variant a batch, tasks by weight, everything from (seed, step).

Alternating gradient descent as VideoPoet 4.2: rows of a variant have one length, so a batch has no padding, and the
batch size follows from a number of tokens, so image batches hold more examples than clip batches. Pictures teach what
things look like, clips how they move: a first stage of the training may have a share of pictures of its own (the same
section).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from videolm.data.shards import Shard
from videolm.sequence import Layout


class Rows(NamedTuple):
    """A batch of one layout."""

    layout: Layout
    ids: Tensor  # (b, n)
    captions: list[list[int]]  # token ids of each row's caption; empty where there is none or it was dropped


class Mixture:
    """Batches by step.

    Args:
        layouts: every variant's layout.
        weights: of the tasks by name; a task's variants share its weight.
        shards: by source; those of one task have what belongs together at one index.
        tokens: positions a batch holds, about; at least one row.
        text_dropout: share of rows whose text is left out, for guidance.
        first_steps: length of a first stage in steps; `layouts` then need both pictures and clips.
        first_images: share of its steps that make pictures; among pictures and among clips `weights` hold.
        examples: of tasks by name, how many examples there are, the first; by default all.
    """

    def __init__(
        self,
        layouts: Sequence[Layout],
        weights: Mapping[str, float],
        shards: Mapping[str, Shard],
        *,
        tokens: int,
        text_dropout: float,
        seed: int,
        first_steps: int = 0,
        first_images: float = 0.0,
        examples: Mapping[str, int] | None = None,
    ):
        self.layouts, self.shards = list(layouts), shards
        names = [layout.variant.task.name for layout in self.layouts]
        weight = np.array([weights[name] / names.count(name) for name in names], dtype=float)
        self.share = self.first_share = weight / weight.sum()
        self.first_steps = first_steps
        if first_steps:
            is_picture = np.array([layout.variant.task.makes_pictures for layout in self.layouts])
            pictures, clips = weight * is_picture, weight * ~is_picture
            self.first_share = first_images * pictures / pictures.sum() + (1 - first_images) * clips / clips.sum()
        self.tokens, self.text_dropout, self.seed = tokens, text_dropout, seed
        self.examples = examples or {}

    def batch_size(self, layout: Layout) -> int:
        return max(1, self.tokens // layout.length)

    def at(self, step: int, rank: int = 0, world: int = 1) -> Rows:
        """The rows of a step: all ranks draw one variant, each its own examples."""
        rng = np.random.default_rng([self.seed, step])
        share = self.first_share if step < self.first_steps else self.share
        layout = self.layouts[rng.choice(len(self.layouts), p=share)]
        return self.draw(layout, rng, self.batch_size(layout), rank, world)

    def count(self, layout: Layout) -> int:
        """Examples of a layout."""
        task = layout.variant.task
        length = min(len(self.shards[source]) for source in task.sources)
        return min(length, self.examples.get(task.name, length))

    def draw(
        self, layout: Layout, rng: np.random.Generator, size: int, rank: int = 0, world: int = 1, dropout: bool = True
    ) -> Rows:
        """`size` rows of a layout a rank, for all of `world` ranks alike from `rng`."""
        indices = rng.integers(self.count(layout), size=(world, size))[rank]
        forms, kept = rng.random((2, world, size))[:, rank]
        return self.rows(layout, indices, forms, kept >= self.text_dropout if dropout else np.ones(size, bool))

    def rows(self, layout: Layout, indices: np.ndarray, forms: np.ndarray, kept: np.ndarray) -> Rows:
        """The rows of examples (b,), each with that one of its captions that a number in [0, 1) says, if kept."""
        task = layout.variant.task
        batches = {source: self.shards[source].read(indices) for source in task.sources}
        about = batches[task.sources[0]]
        by_class = task.text is not None and task.text.content == "class"
        captions: list[list[int]] = []
        for texts, label, form, keep in zip(about.captions, about.labels, forms, kept, strict=True):
            texts = [label] * bool(len(label)) if by_class else texts
            told = keep and layout.text is not None and len(texts)
            captions.append([int(i) for i in texts[int(form * len(texts))]] if told else [])
        return Rows(layout, layout.build({source: batch.codes for source, batch in batches.items()}), captions)
