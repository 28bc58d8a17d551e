"""The decode loop: rows with a prefix in, rows with their outputs drawn out.

    rows ──► prefix, once for rows that share it ──► steps ──► ids

Each row has a slot, a cache of its own, and with guidance a second one for what it is led away from. A step computes a
few ids of every row there is; rows come and go at any time. What computes a step is one C++ call on a CPU where there
is a compiler, else torch (`Decoding.engine`).
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from videolm.config import Config
from videolm.errors import UserError
from videolm.generate import native
from videolm.generate.row import Plan, Prefix, Row, TextInput
from videolm.generate.sampling import Sampling
from videolm.generate.steps import Feed, Steps, TorchSteps
from videolm.model.attention import Cache
from videolm.model.prefix_lm import PrefixLM


class Decoding(Config):
    """How ids are computed; which ids they are does not depend on it, but for rounding."""

    engine: Literal["auto", "native", "torch"] = "auto"
    """A step in C++, or by torch; "auto": C++ where it can be."""
    precision: native.Precision = "float32"
    """Of weights in C++: less is faster, and other ids are drawn."""
    window: Annotated[int, Field(ge=1, le=64)] = 8
    """Ids of a row that a step takes, all but the first guessed: the same ids in fewer steps."""
    compiled: bool = False
    """The torch step by torch.compile, on a GPU with CUDA graphs; untested there."""
    rows: Annotated[int, Field(ge=1)] = 8
    """Rows at a time; further ones wait."""


AS_IS = Decoding()
"""How they are computed unless told otherwise."""


class Decoder:
    """Rows being decoded, each from the moment it is added until its last id is drawn."""

    def __init__(self, model: PrefixLM, length: int, decoding: Decoding = AS_IS):
        """
        Args:
            length: of the longest row.
        """
        self.model, self.length, self.decoding = model, length, decoding
        count = 2 * decoding.rows  # with guidance a row has two
        self._steps = steps_of(model, count, length, decoding)
        self._free = list(range(count))[::-1]
        self._waiting = deque[Row]()
        self._slots: dict[Row, tuple[int, ...]] = {}
        self._made: list[tuple[Prefix, Plan, Cache]] = []
        """Prefixes computed that the next rows share."""

    def add(self, rows: Iterable[Row]) -> None:
        """Rows to decode, in this order as slots get free.

        Raises ValueError for a row that is too long for this decoder, or whose places may hold only part of a kind's
        ids.
        """
        for row in rows:
            if len(row.ids) > self.length:
                raise ValueError(f"a row has {len(row.ids)} places, and this decoder is for {self.length}")
            for out in row.plan.outputs:
                whole = self.model.head.kinds[out.kind]
                if len(out.ids) > 1 and out.ids != range(whole.start, whole.start + whole.size):
                    raise ValueError(f"positions {out.start}..{out.stop} may hold only part of the {out.kind} ids")
            self._waiting.append(row)
        self._admit()

    def drop(self, rows: Iterable[Row]) -> None:
        """Give up rows; those that are done already, or were never added, are passed over."""
        gone = set(rows)
        self._waiting = deque(row for row in self._waiting if row not in gone)
        for row in [row for row in self._slots if row in gone]:
            self._free += self._slots.pop(row)
        self._admit()

    @property
    def busy(self) -> bool:
        return bool(self._slots)

    @torch.inference_mode()
    def step(self) -> list[Row]:
        """Go on with every row; returns those that have come to their end."""
        feeds = []
        for row, slots in self._slots.items():
            ids = row.feed(self.decoding.window - 1)[: self.decoding.window]
            kinds = [row.wanted(place) for place in range(row.cached, row.cached + len(ids))]
            feeds.append(Feed(slots, row.cached, ids, kinds, row.sampling, row.seed))
        drawn = self._steps.step(feeds)
        for row, found in zip(self._slots, drawn, strict=True):
            row.take(found)
        done = [row for row in self._slots if row.done]
        for row in done:
            self._free += self._slots.pop(row)
        self._admit()
        return done

    @torch.inference_mode()
    def _admit(self) -> None:
        """Give waiting rows slots, and compute their prefixes, one that several share once."""
        begun = len(self._slots)
        while self._waiting and len(self._free) >= len(self._waiting[0].prefixes):
            row = self._waiting.popleft()
            self._slots[row] = tuple(self._free.pop() for _ in row.prefixes)
            for slot, prefix in zip(self._slots[row], row.prefixes, strict=True):
                self._steps.fill(slot, self._cached(prefix, row.plan), row.plan.positions)
        if len(self._slots) > begun:
            soon = itertools.islice(self._waiting, self.decoding.rows)
            shared = [(prefix, row.plan) for row in soon for prefix in row.prefixes]
            self._made = [made for made in self._made if any(p is made[1] and same(q, made[0]) for q, p in shared)]

    def _cached(self, prefix: Prefix, plan: Plan) -> Cache:
        found = next((cache for made, of, cache in self._made if of is plan and same(made, prefix)), None)
        if found is None:
            found = self._compute(prefix, plan)
            self._made.append((prefix, plan, found))
        return found

    def _compute(self, prefix: Prefix, plan: Plan) -> Cache:
        """The cache of a prefix, alone in its batch, so that it is the same in any."""
        cache, positions = Cache(), plan.positions[: plan.prefix].to(prefix.ids.device)
        text, mask, start = prefix.text or (None, None, 0)
        self.model.hidden(prefix.ids, positions, plan.prefix, text, mask, start, cache)
        return cache


def steps_of(model: PrefixLM, slots: int, length: int, decoding: Decoding) -> Steps:
    """What computes steps. Raises `UserError` where C++ is asked for and cannot be had."""
    if decoding.compiled and (decoding.engine == "native" or decoding.precision != "float32"):
        raise UserError("compiled is for steps by torch, at the model's own precision")
    by_torch = decoding.engine == "torch" or decoding.compiled
    trouble = "" if by_torch else native.misfit(model)
    if not by_torch and not trouble:
        return native.NativeSteps(model, slots, length, decoding.precision)
    if decoding.engine == "native" or decoding.precision != "float32":
        raise UserError(trouble or f"precision {decoding.precision} is for decoding in C++: leave engine as it is")
    return TorchSteps(model, slots, length, decoding.window, decoding.compiled)


def same(one: Prefix, other: Prefix) -> bool:
    """Whether two prefixes are the same."""
    if one is other:
        return True
    if (one.text is None) != (other.text is None) or not torch.equal(one.ids, other.ids):
        return False
    if one.text is None or other.text is None:
        return True
    return (
        one.text.start == other.text.start
        and torch.equal(one.text.mask, other.text.mask)
        and torch.equal(one.text.embeddings, other.text.embeddings)
    )


def decode(model: PrefixLM, rows: Sequence[Row], decoding: Decoding = AS_IS) -> Tensor:
    """Draw the outputs of rows of one length: (b, n) ids, each row's the same in any batch."""
    decoder = Decoder(model, len(rows[0].ids), decoding)
    decoder.add(rows)
    while decoder.busy:
        decoder.step()
    return torch.tensor([row.ids for row in rows], device=model.device)


def rows_of(
    plan: Plan,
    rows: Tensor,
    sampling: Sampling,
    generators: Sequence[torch.Generator],
    text: TextInput | None = None,
    negative: TextInput | None = None,
    bare: Tensor | None = None,
) -> list[Row]:
    """Rows to decode, of one plan; `sampling.best_of` for each of those given, one after another.

    Args:
        rows: (b, n) ids, of which only the prefix is read.
        generators: one for each of `rows`; the first row of several is the one that there were without the others.
        text: what the rows are prompted with.
        negative: what guidance leads away from; by default no text. Read only when `guidance_scale` is not 1.
        bare: rows (b, n) whose prefix guidance leads away from, where that is not the same.
    """
    prompted = text is not None and bool(text.mask.any())
    guided = sampling.guidance_scale != 1 and (prompted or bare is not None)

    def prefix(ids: Tensor, index: int, text: TextInput | None) -> Prefix:
        return Prefix(ids[index, None, : plan.prefix], None if text is None else text.alone(index))

    found = []
    for index, generator in enumerate(generators):
        prefixes = [prefix(rows, index, text)]
        if guided:
            prefixes.append(prefix(rows if bare is None else bare, index, negative))
        for _ in range(sampling.best_of):
            seed = int(torch.randint(2**62, (), generator=generator))
            found.append(Row(prefixes, plan, sampling, seed))
    return found
