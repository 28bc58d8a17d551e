"""A task variant and tokenised media -> one row of ids. VideoPoet 3.2, 4.1, Figure 3, Table 1.

    <bos> <task:video> <bot_i> text×64 <eot_i> <bov_i> visual×64 <eov_i> <frames:17> | <bov_o> visual×256 <eov_o> <eos>
    '------------------- prefix, attended to in both directions -------------------' '--- output, causal, with loss ---'

A layout fixes the kind of every position, so one batch needs no padding mask and every output position is trained and
sampled over its legal ids alone. What a task lacks is left out together with its begin and end tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import torch
from einops import rearrange, repeat
from torch import Tensor

from videolm.errors import UserError
from videolm.shapes import TokenGrid
from videolm.tasks import Variant
from videolm.tasks.task_set import TaskSet, task_token
from videolm.vocabulary import Vocabulary

GridOf = Callable[[int, int, int], TokenGrid]
"""(frames, height, width) -> latent grid: `VideoTokenizer.grid`."""


class Span(NamedTuple):
    """A run of positions of one kind."""

    kind: Literal["special", "text", "visual"]
    name: str
    """The special token, or the name shown."""
    start: int
    length: int
    ids: range
    """Legal ids; text positions hold `<empty>`, under the embeddings placed there."""
    stream: str = ""
    """Visual spans: which token stream fills it, from latent frame `first` on."""
    first: int = 0
    grid: TokenGrid = TokenGrid(0, 0, 0)

    @property
    def stop(self) -> int:
        return self.start + self.length

    def __str__(self) -> str:
        return self.name if self.kind == "special" else f"{self.name}×{self.length}"


@dataclass(frozen=True)
class Layout:
    """The row of one task variant.

    Attributes:
        variant: the task and format laid out.
        spans: what stands where, in order, without gaps.
        prefix: positions attended to in both directions; the rest is output.
        visual_start: first id of visual codes.
    """

    variant: Variant
    spans: tuple[Span, ...]
    prefix: int
    visual_start: int

    @property
    def length(self) -> int:
        return self.spans[-1].stop

    @property
    def text(self) -> Span | None:
        return next((span for span in self.spans if span.kind == "text"), None)

    @property
    def inputs(self) -> tuple[Span, ...]:
        """Visual spans of the prefix."""
        return tuple(s for s in self.spans if s.kind == "visual" and s.start < self.prefix)

    @property
    def outputs(self) -> tuple[Span, ...]:
        """All spans after the prefix, special tokens included."""
        return tuple(s for s in self.spans if s.start >= self.prefix)

    @cached_property
    def template(self) -> Tensor:
        """(n,) ids with special tokens in place, `<empty>` in text positions and code 0 in visual ones."""
        return torch.cat([torch.full((span.length,), span.ids[0]) for span in self.spans])

    @cached_property
    def positions(self) -> Tensor:
        """(n, 3) coordinates (time, height, width) for factorised position embeddings.

        Visual tokens stand at their place in the clip, from 0, whatever the task: frame 1 follows frame 0 the same
        way whether frame 0 was given or generated. Special and text tokens count up on all three axes, below 0 in the
        prefix and from 64 on in the output.
        """
        before = max((span.stop for span in self.spans if span.kind == "text"), default=0) + 16
        rows, count = [], 0
        for span in self.spans:
            if span.kind == "visual":
                axes = [torch.arange(size) for size in span.grid]
                axes[0] = axes[0] + span.first
                rows.append(torch.cartesian_prod(*axes))
            else:
                base = count - before if span.start < self.prefix else 64 + count
                rows.append(repeat(base + torch.arange(span.length), "n -> n a", a=3))
                count += span.length
        return torch.cat(rows)

    def build(self, streams: Mapping[str, Tensor]) -> Tensor:
        """Rows of ids from codes.

        Args:
            streams: codes (b, t, h, w) of every stream the variant uses; for generation only the frames given.

        Returns:
            (b, n) int64. Output positions whose frames are not in `streams` hold code 0.

        Raises:
            UserError: codes of another grid, or none of the frames given.
        """
        if any(span.stream not in streams for span in self.inputs):
            raise UserError(f"{self.variant} needs the codes of the frames given ({self.variant.task.output.stream})")
        batch = len(next(iter(streams.values()))) if streams else 1
        rows = repeat(self.template, "n -> b n", b=batch).clone()
        for span in self.spans:
            if span.kind == "visual" and span.stream in streams:
                codes = streams[span.stream][:, span.first : span.first + span.grid.t]
                if codes.shape[1:] == span.grid:
                    rows[:, span.start : span.stop] = rearrange(codes, "b t h w -> b (t h w)") + self.visual_start
                elif span.start < self.prefix or codes.shape[1]:  # no frames at all: they are to be generated
                    raise UserError(f"{self.variant} needs codes {tuple(span.grid)}, got {tuple(codes.shape[1:])}")
        return rows

    def codes(self, rows: Tensor) -> Tensor:
        """The whole clip's codes (b, t, h, w) from rows (b, n): frames given, then frames generated."""
        stream = self.variant.task.output.stream
        spans = [s for s in self.spans if s.kind == "visual" and s.stream == stream]
        spans.sort(key=lambda span: span.first)
        parts = [
            rearrange(rows[:, s.start : s.stop] - self.visual_start, "b (t h w) -> b t h w", t=s.grid.t, h=s.grid.h)
            for s in spans
        ]
        return torch.cat(parts, dim=1)

    def __str__(self) -> str:
        before = " ".join(str(s) for s in self.spans if s.start < self.prefix)
        return f"{before} | " + " ".join(map(str, self.outputs))


def lay_out(variant: Variant, tasks: TaskSet, vocabulary: Vocabulary, grid: GridOf) -> Layout:
    """The row of a variant.

    Args:
        tasks: for the text length.
        vocabulary: must hold the special tokens of `tasks.specials`.
        grid: `VideoTokenizer.grid`.

    Raises:
        UserError: a format that does not fit the tokenizer, or a special token the vocabulary lacks.
    """
    task, shape, prefix_frames = variant
    whole = grid(*shape)
    given = grid(prefix_frames, shape.height, shape.width).t if prefix_frames else 0
    spans: list[Span] = []

    def add(kind: Literal["special", "text", "visual"], name: str, length: int, ids: range, **visual: object) -> None:
        start = spans[-1].stop if spans else 0
        spans.append(Span(kind, name, start, length, ids, **visual))  # type: ignore[arg-type]

    def special(name: str) -> None:
        at = vocabulary.id(name)
        add("special", name, 1, range(at, at + 1))

    def visual(stream: str, frames: str) -> None:
        first, stop = {"all": (0, whole.t), "prefix": (0, given), "rest": (given, whole.t)}[frames]
        span = whole._replace(t=stop - first)
        add("visual", "visual", span.tokens, vocabulary.visual, stream=stream, first=first, grid=span)

    special("<bos>")
    special(task_token(task))
    for part in task.inputs:
        if part.kind == "text":
            special("<bot_i>")
            empty = vocabulary.id("<empty>")
            add("text", "text", tasks.text_length, range(empty, empty + 1))
            special("<eot_i>")
        else:
            special("<bov_i>")
            visual(part.stream, part.frames)
            special("<eov_i>")
    for name in tasks.format_tokens(shape):
        special(name)
    prefix = spans[-1].stop
    special("<bov_o>")
    visual(task.output.stream, task.output.frames)
    special("<eov_o>")
    if task.eos:
        special("<eos>")
    return Layout(variant, tuple(spans), prefix, vocabulary.visual.start)
