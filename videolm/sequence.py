"""A task variant and tokenised media -> one row of ids. VideoPoet 3.2, 4.1, Figure 3, Table 1.

    <bos> <task:video> <bot_i> text×64 <eot_i> <bov_i> visual×64 <eov_i> <frames:17> | <bov_o> visual×256 <eov_o> <eos>
    '------------------- prefix, attended to in both directions -------------------' '--- output, causal, with loss ---'

A layout fixes the kind of every position, so one batch needs no padding mask and every output position is trained and
sampled over its legal ids alone. What a task lacks is left out together with its begin and end tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from einops import rearrange, repeat
from torch import Tensor

from videolm.errors import UserError
from videolm.shapes import SoundGrid, TokenGrid
from videolm.tasks import Audio, Text, Variant, Visual
from videolm.tasks.task_set import TaskSet, task_token
from videolm.vocabulary import Vocabulary

GridOf = Callable[[int, int, int], TokenGrid]
"""(frames, height, width) -> latent grid: `VideoTokenizer.grid`."""

APART = 32
"""Latent frames between the places of a clip and of a condition that shows it, in `Layout.positions`."""
SOUND_COLUMN = 64
"""Where the sound's levels stand beside the pictures, in `Layout.positions`."""


class Span(NamedTuple):
    """A run of positions of one kind."""

    kind: str
    """ "special", "text", "visual", or "audio0", "audio1", ...: a level of the sound."""
    name: str
    """The special token, or the name shown."""
    start: int
    length: int
    ids: range
    """Legal ids; text positions hold `<empty>`, under the embeddings placed there."""
    source: str = ""
    """Which token stream fills it, from latent or codec frame `first` on."""
    first: int = 0
    grid: TokenGrid = TokenGrid(0, 0, 0)
    """Of visual spans."""
    level: int = 0
    """Of spans of sound."""
    apart: int = 0
    """Visual conditions are counted from 1: how many times `APART` before the clip they stand."""

    @property
    def stop(self) -> int:
        return self.start + self.length

    @property
    def is_sound(self) -> bool:
        return self.kind.startswith("audio")

    def __str__(self) -> str:
        return self.name if self.kind == "special" else f"{self.name}×{self.length}"


@dataclass(frozen=True)
class Layout:
    """The row of one task variant.

    Attributes:
        variant: the task and format laid out.
        spans: what stands where, in order, without gaps.
        prefix: positions attended to in both directions; the rest is output.
        empty: the id of `<empty>`, in the place of text that is missing and of conditions that are dropped.
        sound_times: of every codec frame of the clip, the latent frame that is shown then.
    """

    variant: Variant
    spans: tuple[Span, ...]
    prefix: int
    empty: int
    sound_times: tuple[int, ...] = ()

    @property
    def length(self) -> int:
        return self.spans[-1].stop

    @property
    def text(self) -> Span | None:
        return next((span for span in self.spans if span.kind == "text"), None)

    @property
    def inputs(self) -> tuple[Span, ...]:
        """Spans of codes in the prefix."""
        return tuple(s for s in self.spans if s.source and s.start < self.prefix)

    @property
    def outputs(self) -> tuple[Span, ...]:
        """All spans after the prefix, special tokens included."""
        return tuple(s for s in self.spans if s.start >= self.prefix)

    @cached_property
    def template(self) -> Tensor:
        """(n,) ids with special tokens in place, `<empty>` in text positions and code 0 in those of codes."""
        return torch.cat([torch.full((span.length,), span.ids[0]) for span in self.spans])

    @cached_property
    def positions(self) -> Tensor:
        """(n, 3) coordinates (time, height, width) for factorised position embeddings.

        Visual tokens stand at their place in the clip, from 0, whatever the task: frame 1 follows frame 0 the same
        way whether frame 0 was given or generated. Conditions that show the clip (masked, structure, last frame) stand
        as far before it as they are many. Sound stands at the latent frame that is shown when it is heard, its codec
        frames there counted along the height, its levels beside the pictures. Special and text tokens count up on all
        three axes, below 0 in the prefix and from 64 on in the output.
        """
        before = max((span.stop for span in self.spans if span.kind == "text"), default=0) + 16
        before += APART * max(span.apart for span in self.spans)
        rows, count = [], 0
        for span in self.spans:
            if span.kind == "visual":
                axes = [torch.arange(size) for size in span.grid]
                axes[0] = axes[0] + span.first - APART * span.apart
                rows.append(torch.cartesian_prod(*axes))
            elif span.is_sound:
                times = torch.tensor(self.sound_times)
                beginnings = torch.searchsorted(times, times)  # the first codec frame of each latent frame
                places = [
                    times,
                    torch.arange(len(times)) - beginnings,
                    torch.full_like(times, SOUND_COLUMN + span.level),
                ]
                rows.append(torch.stack(places, dim=-1)[span.first : span.first + span.length])
            else:
                base = count - before if span.start < self.prefix else 64 + count
                rows.append(repeat(base + torch.arange(span.length), "n -> n a", a=3))
                count += span.length
        return torch.cat(rows)

    def build(self, streams: Mapping[str, Tensor]) -> Tensor:
        """Rows of ids from codes.

        Args:
            streams: codes of every source the variant uses, (b, t, h, w) of clips and (b, q, t) of sounds; for
                generation only what is given.

        Returns:
            (b, n) int64. Output positions whose frames are not in `streams` hold code 0.

        Raises:
            UserError: codes of another grid, or none of an input.
        """
        missing = [span.source for span in self.inputs if span.source not in streams]
        if missing:
            raise UserError(f"{self.variant} needs the codes of what is given ({missing[0]})")
        batch = len(next(iter(streams.values()))) if streams else 1
        rows = repeat(self.template, "n -> b n", b=batch).clone()
        for span in self.spans:
            if not span.source or span.source not in streams:
                continue
            codes = streams[span.source]
            if span.is_sound:
                codes = codes[:, span.level, span.first : span.first + span.length]
                wanted: tuple[int, ...] = (span.length,)
            else:
                codes = codes[:, span.first : span.first + span.grid.t]
                wanted = span.grid
            if codes.shape[1:] == wanted:
                rows[:, span.start : span.stop] = codes.flatten(1) + span.ids.start
            elif span.start < self.prefix or codes.shape[1]:  # no frames at all: they are to be generated
                raise UserError(f"{self.variant} needs codes {tuple(wanted)}, got {tuple(codes.shape[1:])}")
        return rows

    def without_conditions(self, rows: Tensor) -> Tensor:
        """Rows (b, n) with `<empty>` in the place of the codes that go in, as those whose conditions are dropped."""
        rows = rows.clone()
        for span in self.inputs:
            rows[:, span.start : span.stop] = self.empty
        return rows

    def codes(self, rows: Tensor) -> dict[str, Tensor]:
        """Codes of what comes out, from rows (b, n), by source: what was given of it, then what was generated."""
        found: dict[str, Tensor] = {}
        for part in self.variant.task.outputs:
            spans = sorted((s for s in self.spans if s.source == part.source), key=lambda span: span.first)
            if isinstance(part, Audio):
                found[part.source] = self._sound(rows, spans)
            else:
                parts = [_codes(rows, s, "b (t h w) -> b t h w", t=s.grid.t, h=s.grid.h) for s in spans]
                found[part.source] = torch.cat(parts, dim=1)
        return found

    def _sound(self, rows: Tensor, spans: Sequence[Span]) -> Tensor:
        levels = [
            torch.cat([_codes(rows, span, "b t -> b t") for span in spans if span.level == level], dim=1)
            for level in sorted({span.level for span in spans})
        ]
        return torch.stack(levels, dim=1)

    def __str__(self) -> str:
        before = " ".join(str(s) for s in self.spans if s.start < self.prefix)
        return f"{before} | " + " ".join(map(str, self.outputs))


def _codes(rows: Tensor, span: Span, pattern: str, **sizes: int) -> Tensor:
    return rearrange(rows[:, span.start : span.stop] - span.ids.start, pattern, **sizes)


def lay_out(
    variant: Variant, tasks: TaskSet, vocabulary: Vocabulary, grid: GridOf, sound: SoundGrid | None = None
) -> Layout:
    """The row of a variant.

    Args:
        tasks: for the text length and the rate.
        vocabulary: must hold the special tokens of `tasks.specials`.
        grid: `VideoTokenizer.grid`.
        sound: of the audio tokenizer, which tasks with sound need.

    Raises:
        UserError: a format that does not fit the tokenizer, a special token the vocabulary lacks, or sound without an
            audio tokenizer.
    """
    task, shape, prefix_frames = variant
    whole = grid(*shape)
    given = grid(prefix_frames, shape.height, shape.width).t if prefix_frames else 0
    spans: list[Span] = []
    conditions, empty = 0, vocabulary.id("<empty>")

    def add(kind: str, name: str, length: int, ids: range, **more: object) -> None:
        start = spans[-1].stop if spans else 0
        spans.append(Span(kind, name, start, length, ids, **more))  # type: ignore[arg-type]

    def special(name: str) -> None:
        at = vocabulary.id(name)
        add("special", name, 1, range(at, at + 1))

    def visual(part: Visual, apart: int) -> None:
        first, stop = {"all": (0, whole.t), "prefix": (0, given), "rest": (given, whole.t), "last": (0, 1)}[part.frames]
        span = whole._replace(t=stop - first)
        add("visual", "visual", span.tokens, vocabulary.visual, source=part.source, first=first, grid=span, apart=apart)

    def audio(part: Audio) -> None:
        if sound is None:
            raise UserError(f"{task.name} has sound, and there is no audio tokenizer: add one to the model")
        heard, known = sound.frames(shape.frames / tasks.fps), sound.frames(prefix_frames / tasks.fps)
        first, stop = {"all": (0, heard), "prefix": (0, known), "rest": (known, heard)}[part.frames]
        for level in range(sound.levels):
            ids = vocabulary.audio(level)
            add(f"audio{level}", f"audio{level}", stop - first, ids, source=part.source, first=first, level=level)

    special("<bos>")
    special(task_token(task))
    for part in variant.inputs:
        if isinstance(part, Text):
            special("<bot_i>")
            add("text", "text", tasks.text_length, range(empty, empty + 1))
            special("<eot_i>")
        elif isinstance(part, Visual):
            shown = part.source in {made.source for made in task.outputs} or task.visual is None
            conditions += not shown
            special("<bov_i>")
            visual(part, 0 if shown else conditions)
            special("<eov_i>")
        else:
            special("<boa_i>")
            audio(part)
            special("<eoa_i>")
    for name in tasks.format_tokens(shape):
        special(name)
    prefix = spans[-1].stop
    for made in task.outputs:
        if isinstance(made, Visual):
            special("<bov_o>")
            visual(made, 0)
            special("<eov_o>")
        else:
            special("<boa_o>")
            audio(made)
            special("<eoa_o>")
    if task.eos:
        special("<eos>")
    times: tuple[int, ...] = ()
    if sound is not None and any(span.is_sound for span in spans):
        stride = (shape.frames - 1) / (whole.t - 1) if whole.t > 1 else 1.0
        seconds = [(k + 0.5) * sound.stride / sound.sample_rate for k in range(sound.frames(shape.frames / tasks.fps))]
        shown_at = [min(int(at * tasks.fps), shape.frames - 1) for at in seconds]
        times = tuple(0 if frame == 0 else 1 + int((frame - 1) // stride) for frame in shown_at)
    return Layout(variant, tuple(spans), prefix, empty, times)
