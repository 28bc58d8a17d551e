"""Steps of decoding by torch, on any device: one shape of tensors whatever they carry."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from videolm.generate.noise import gumbel
from videolm.generate.sampling import Sampling, draw, guide
from videolm.model.attention import Cache, Window
from videolm.model.prefix_lm import PrefixLM


class Feed(NamedTuple):
    """What a step computes for one row."""

    slots: tuple[int, ...]
    """Of the caches: the row's own, and with guidance that of what it is led away from."""
    place: int
    """Of the first id."""
    ids: list[int]
    kinds: list[str | None]
    """Of every id, the kind of the id to draw after it, if one is."""
    sampling: Sampling
    seed: int
    """Of what is drawn."""


class Steps(Protocol):
    """What computes the steps of rows that each have a cache of their own, a slot."""

    def fill(self, slot: int, cache: Cache, positions: Tensor) -> None:
        """Begin a row in a slot: keys and values of its prefix (one row), and the coordinates (n, 3) of all of it."""

    def step(self, feeds: Sequence[Feed]) -> list[list[int | None]]:
        """What was drawn after each id of every feed."""


class TorchSteps:
    """Steps by the model itself.

    All slots are computed at every step, `window` ids each: a product's rounding depends on its shape, and so there is
    only one. What is not asked for goes to places that are not read.
    """

    def __init__(self, model: PrefixLM, slots: int, length: int, window: int, compiled: bool = False):
        self.model, self.slots, self.length, self.window = model, slots, length, window
        lm = model.config.lm
        self.positions = torch.zeros(slots, length + window, 3, dtype=torch.long, device=model.device)
        like = model.transformer.norm.weight
        self.store = like.new_zeros(lm.num_layers, 2, slots, lm.num_heads, length + window, lm.head_dim)
        self._hidden = model.hidden
        if compiled:  # on a GPU as a CUDA graph too, its launches being what a small step spends its time on
            mode = "reduce-overhead" if model.device.type == "cuda" else None
            self._hidden = torch.compile(model.hidden, dynamic=False, mode=mode)

    def fill(self, slot: int, cache: Cache, positions: Tensor) -> None:
        for kept, found in zip(self.store.unbind(1), (cache.keys, cache.values), strict=True):
            kept[:, slot, :, : found[0].shape[2]] = torch.cat(found)
        self.positions[slot, : len(positions)] = positions.to(self.positions.device)

    @torch.inference_mode()
    def step(self, feeds: Sequence[Feed]) -> list[list[int | None]]:
        ids = torch.zeros(self.slots, self.window, dtype=torch.long)
        first = torch.full((self.slots,), self.length)  # what nobody asked for goes past all rows
        for feed in feeds:
            for slot in feed.slots:
                ids[slot, : len(feed.ids)] = torch.tensor(feed.ids)
                first[slot] = feed.place
        places = (first[:, None] + torch.arange(self.window)).to(self.model.device)
        positions = self.positions.gather(1, places[..., None].expand(-1, -1, 3))
        hidden = self._hidden(ids.to(places.device), positions, 0, cache=Window(self.store, places))
        drawn = [list[int | None]([None]) * len(feed.ids) for feed in feeds]
        for kind in dict.fromkeys(kind for feed in feeds for kind in feed.kinds if kind is not None):
            self._draw(kind, feeds, hidden.flatten(0, 1), drawn)
        return drawn

    def _draw(self, kind: str, feeds: Sequence[Feed], hidden: Tensor, drawn: list[list[int | None]]) -> None:
        """Draw the ids of one kind. Scores are of all positions, asked for or not, to be of one shape."""
        asked: dict[tuple[Sampling, int], list[tuple[int, int]]] = defaultdict(list)
        for n, feed in enumerate(feeds):
            own = [(n, at) for at, of in enumerate(feed.kinds) if of == kind]
            if own:
                asked[feed.sampling.of(kind), len(feed.slots)] += own
        head, chosen, offset = self.model.head, list[Tensor](), 0
        count = head.choices(kind)
        noises = {
            key: np.stack([gumbel(feeds[n].seed, feeds[n].place + at + 1, count) for n, at in places])
            for key, places in asked.items()
            if key[0].temperature
        }
        for _ in range(head.factors(kind)):
            logits = head.logits(hidden, kind, chosen)
            picks = torch.zeros(len(hidden), dtype=torch.long, device=hidden.device)
            for (sampling, copies), places in asked.items():
                rows = [[feeds[n].slots[copy] * self.window + at for n, at in places] for copy in range(copies)]
                mine = logits[rows[0]]
                if copies == 2:
                    mine = guide(mine, logits[rows[1]], sampling.guidance_scale)
                    mine = mine.nan_to_num(nan=-torch.inf)  # -inf minus -inf: ids past the codebook's end
                part = None
                if sampling.temperature:
                    noise = noises[sampling, copies][:, offset : offset + mine.shape[1]]
                    part = torch.from_numpy(noise).to(mine)
                picks[torch.tensor(rows)] = draw(mine, sampling, part)
            chosen.append(picks)
            offset += logits.shape[1]
        ids = head.join(chosen, kind).view(self.slots, self.window).tolist()
        for places in asked.values():
            for n, at in places:
                drawn[n][at] = ids[feeds[n].slots[0]][at]
