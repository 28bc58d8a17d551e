"""A row being decoded: which ids are final, which are guessed, what a step is to compute for it.

A step computes places one after another, each from the id that stands there, and draws the id after it. Where that id
was a guess and the draw before it says otherwise, what was drawn after it is of no use; where it says the same, several
ids are final at once. The noise of a place being fixed, they are the ids that steps of one would have drawn (Jacobi
decoding; arXiv 2410.01699 for images).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from videolm.generate.sampling import Sampling
from videolm.sequence import Layout

AHEAD = 3
"""Guesses for each id that the last step made final."""


class Output(NamedTuple):
    """A run of output positions: head kind, place in the row, legal ids."""

    kind: str
    start: int
    stop: int
    ids: range


class Plan(NamedTuple):
    """What stands where in rows of one kind."""

    positions: Tensor
    """(n, 3) coordinates."""
    prefix: int
    """Places that are given."""
    outputs: tuple[Output, ...]
    """What each place from there on is, in order and without gaps."""
    parents: tuple[int, ...]
    """For every place another before it, whose id is a first guess at its own, or -1."""

    @classmethod
    def of(cls, layout: Layout) -> Plan:
        """The plan of a layout. The parent of a visual place is where the same spot was a latent frame before, else the
        one above it, else the one to its left."""
        places: dict[tuple[int, ...], int] = {}
        parents = [-1] * layout.length
        spots = layout.positions.tolist()
        for span in layout.spans:
            for place in range(span.start, span.stop) if span.kind == "visual" else ():
                t, h, w = spots[place]
                near = ((t - 1, h, w), (t, h - 1, w), (t, h, w - 1))
                parents[place] = next((places[spot] for spot in near if spot in places), -1)
                places[t, h, w] = place
        outputs = tuple(Output(span.kind, span.start, span.stop, span.ids) for span in layout.outputs)
        return cls(layout.positions, layout.prefix, outputs, tuple(parents))


class TextInput(NamedTuple):
    """Text embeddings for rows: (b, m, width), which of them are tokens (b, m), and where they go in the row."""

    embeddings: Tensor
    mask: Tensor
    start: int

    def alone(self, index: int) -> TextInput | None:
        """That of one row, without the padding that others need; None where it has no tokens."""
        if not self.mask[index].any():
            return None
        own = (index, None, slice(int(self.mask[index].nonzero().max()) + 1))
        return TextInput(self.embeddings[own], self.mask[own], self.start)


class Prefix(NamedTuple):
    """What stands before the output: ids (1, prefix), and the text among them, if any."""

    ids: Tensor
    text: TextInput | None


class Row:
    """One row from its prefix to its last id.

    Args:
        prefixes: what is given; a second one is what guidance leads away from.
        plan: of its places.
        seed: of what is drawn.

    Attributes:
        ids: those up to `known` are final.
        known: places whose ids are final.
        cached: places that have been computed from final ids.
    """

    def __init__(self, prefixes: Sequence[Prefix], plan: Plan, sampling: Sampling, seed: int):
        self.prefixes, self.plan, self.sampling, self.seed = tuple(prefixes), plan, sampling, seed
        self.ids: list[int] = prefixes[0].ids[0].tolist()
        self.kinds: list[str | None] = [None] * plan.prefix
        """Of every place what kind of id is drawn there, None where there is one choice."""
        for out in plan.outputs:
            count = out.stop - out.start
            self.ids += [out.ids[0]] * count
            self.kinds += [out.kind if len(out.ids) > 1 else None] * count
        self.known = plan.prefix
        self.drawn, self.of = 0, sum(kind is not None for kind in self.kinds)
        self._settle()
        self.cached = plan.prefix - (self.known == plan.prefix)  # the last one again where it is drawn after
        self._guessed = self.known
        """Places that have a guess."""
        self._ahead = AHEAD
        """Guesses worth a step's time: more where the last step's were right."""

    @property
    def done(self) -> bool:
        return self.known == len(self.ids)

    def _settle(self) -> None:
        """Go past the places that have one choice."""
        while self.known < len(self.ids) and self.kinds[self.known] is None:
            self.known += 1

    def feed(self, guesses: int) -> list[int]:
        """The ids of the places to compute, from `cached` on: those that are final, and so many guesses at most."""
        stop = min(self.known + min(guesses, self._ahead), len(self.ids) - 1)
        for place in range(self._guessed, stop):
            if self.kinds[place] is not None and self.plan.parents[place] >= 0:
                self.ids[place] = self.ids[self.plan.parents[place]]
        self._guessed = max(self._guessed, stop)
        return self.ids[self.cached : stop]

    def wanted(self, place: int) -> str | None:
        """The kind of id to draw after a place, if one is."""
        return self.kinds[place + 1] if place + 1 >= self.known else None

    def take(self, drawn: Sequence[int | None]) -> None:
        """Go on by what was drawn after each place of the last `feed`."""
        fed = self.ids[self.cached : self.cached + len(drawn)]
        valid, before = True, self.drawn
        for place, (had, got) in enumerate(zip(fed, drawn, strict=True), self.cached):
            after = place + 1
            valid = valid and place < self.known and had == self.ids[place]
            if got is not None and after >= self.known:
                self.ids[after] = got  # final, or the next guess
                self._guessed = max(self._guessed, after + 1)
            if not valid:
                continue
            self.cached = after
            if after == self.known:
                self.known += 1
                self.drawn += 1
                self._settle()
        self._ahead = AHEAD * (self.drawn - before)
