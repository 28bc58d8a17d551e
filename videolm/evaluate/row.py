"""A row of a benchmark: what is measured of each sample, the means of that, and the samples worth looking at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from videolm.evaluate.estimate import Estimate, estimate
from videolm.media import Video

Floats = NDArray[np.floating[Any]]

AMOUNTS = {
    "psnr": "dB",
    "psnr_hole": "dB",
    "path_error": "frame widths",
    "drift": "frame widths",
    "colour_drift": "",
    "sharpness": "",
    "sharpness_ratio": "",
    "codes_used": "",
    "perplexity": "",
}
"""Measures that are no shares, and their units."""
SUMS = ("all_right", "found")
"""Shares that say of all attributes what others say of each."""
TIES = {"path_error": 1, "drift": 1, "psnr_hole": -1, "psnr": -1}
"""What decides between samples with as much wrong, the first that is there, and which way is worse."""


class Case(NamedTuple):
    """A sample to be looked at."""

    asked: str
    """Its prompt."""
    strips: list[tuple[str, Video]]
    """Labelled clips: what was given, what was made of it, what is true."""

    def alone(self) -> Case:
        """With clips of its own, not parts of their batch, which would stay too."""
        return Case(self.asked, [(label, Video(clip.frames.copy(), clip.fps)) for label, clip in self.strips])


class Shown(NamedTuple):
    """One of the worst or best samples of a row."""

    place: str
    """ "worst" or "best"."""
    sample: int
    wrong: list[str]
    """Measures that are not wholly right."""
    case: Case


class Summary(NamedTuple):
    """What is told of a row."""

    group: str
    """The table it belongs to (`videolm.evaluate.tables.GROUPS`)."""
    samples: int
    measures: dict[str, Estimate]

    def as_json(self) -> dict[str, Any]:
        """As `scores.json` has it."""
        measures = {name: found._asdict() for name, found in self.measures.items()}
        return {"group": self.group, "samples": self.samples, "measures": measures}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Summary:
        measures = {name: Estimate(**found) for name, found in record["measures"].items()}
        return cls(record["group"], record["samples"], measures)


class Row:
    """Measures by sample, gathered batch by batch.

    Args:
        group: see `Summary`.
        shown: how many of the worst and of the best samples are kept to be looked at; no others' clips are.

    Attributes:
        measures: (n,) by name, NaN where a sample does not state one.
        weights: (n,) of the means, where samples do not count alike.
        whole: what is measured of all samples together, such as the codes in use.
    """

    def __init__(self, group: str, shown: int = 0):
        self.group, self._count = group, shown
        self.measures: dict[str, Floats] = {}
        self.weights: Floats | None = None
        self.whole: dict[str, float] = {}
        self._worst: list[tuple[tuple[float, ...], Shown]] = []
        self._best: list[tuple[tuple[float, ...], Shown]] = []

    def __len__(self) -> int:
        """Samples so far."""
        return len(next(iter(self.measures.values()), ()))

    def add(self, measures: Mapping[str, Floats], show: Callable[[int], Case]) -> None:
        """A batch of samples.

        Args:
            measures: (b,) by name.
            show: a sample of the batch, by its place there.
        """
        before, count = len(self), len(next(iter(measures.values())))
        self.measures = {
            name: np.concatenate(
                [each.get(name, np.full(n, np.nan)) for each, n in ((self.measures, before), (measures, count))]
            )
            for name in dict.fromkeys((*self.measures, *measures))
        }
        for place in range(count) if self._count else ():
            self._keep(before + place, {name: float(values[place]) for name, values in measures.items()}, place, show)

    def _keep(self, index: int, measured: dict[str, float], place: int, show: Callable[[int], Case]) -> None:
        """Keep a sample that is one of the worst or best so far; of the best twice as many, since some may be both."""
        wrong, tie = badness(measured)
        ranks = ((self._worst, (-wrong, -tie, index), self._count), (self._best, (wrong, tie, index), 2 * self._count))
        found: Shown | None = None
        for kept, rank, most in ranks:
            if len(kept) < most or rank < kept[-1][0]:
                names = [name for name, value in measured.items() if name not in AMOUNTS and value < 1]
                found = found or Shown("", index, [name for name in names if name not in SUMS], show(place).alone())
                kept.append((rank, found))
                kept.sort(key=lambda each: each[0])
                del kept[most:]

    @property
    def cases(self) -> list[Shown]:
        """The worst samples, worst first, and the best of the others, best first."""
        worst = [found for _, found in self._worst]
        best = [found for _, found in self._best if all(found.sample != other.sample for other in worst)]
        chosen = [("worst", found) for found in worst] + [("best", found) for found in best[: self._count]]
        return [found._replace(place=place) for place, found in chosen]

    def summary(self) -> Summary:
        """Means with their intervals; measures that no sample states are left out."""
        found = {
            name: estimate(values, self.weights, share=name not in AMOUNTS)
            for name, values in self.measures.items()
            if not np.isnan(values).all()
        }
        whole = {name: Estimate(value, None, None, len(self)) for name, value in self.whole.items()}
        return Summary(self.group, len(self), found | whole)

    def scores(self) -> dict[str, float]:
        """The means alone, and the number of samples as "samples"."""
        _, samples, measures = self.summary()
        return {**{name: found.mean for name, found in measures.items()}, "samples": samples}


def badness(measured: Mapping[str, float]) -> tuple[float, float]:
    """How much of a sample is wrong, and what decides between two with as much (`TIES`); more is worse.

    >>> badness({"shape": 1.0, "motion": 0.0, "all_right": 0.0, "path_error": 0.25, "psnr": 30.0})
    (1.0, 0.25)
    """
    shares = {name: value for name, value in measured.items() if name not in AMOUNTS and name not in SUMS}
    wrong = sum(1 - value for value in shares.values() if not np.isnan(value))
    stated = (name for name in TIES if not np.isnan(measured.get(name, np.nan)))
    name = next(stated, None)
    return wrong, 0.0 if name is None else TIES[name] * measured[name]
