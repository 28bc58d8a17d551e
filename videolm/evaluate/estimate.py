"""Means with 95% intervals: what a benchmark's samples say of all the samples that might have been drawn."""

from __future__ import annotations

from math import sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

Z = 1.96
"""Standard errors on either side that hold 95% of a normal distribution."""


class Estimate(NamedTuple):
    """A mean, and between what it lies: None where that cannot be said (one sample; what is no mean)."""

    mean: float
    low: float | None
    high: float | None
    samples: int
    """That it is of: those in which the measure is stated."""


def estimate(values: ArrayLike, weights: ArrayLike | None = None, *, share: bool) -> Estimate:
    """The mean of a measure (n,); samples that are NaN do not state it.

    A weighted mean has the interval of as many samples as its weights are worth, (sum w)^2 / sum w^2 (Kish).

    >>> estimate([1.0, 0.0, 1.0, 1.0, float("nan")], share=True).samples
    4
    >>> found = estimate([28.0, 30.0, 32.0], share=False)
    >>> round(found.mean, 2), round(found.low, 2), round(found.high, 2)
    (30.0, 27.74, 32.26)

    Args:
        values: in [0, 1] for a share.
        weights: (n,), above 0; all alike by default.
        share: has Wilson's interval, any other measure 1.96 standard errors on either side.

    Raises:
        ValueError: for no sample that states it.
    """
    measured = np.asarray(values, float)
    stated = ~np.isnan(measured)
    if not stated.any():
        raise ValueError(f"none of {measured.size} samples states the measure")
    measured = measured[stated]
    weight = np.ones(measured.size) if weights is None else np.asarray(weights, float)[stated]
    mean = float(np.average(measured, weights=weight))
    worth = float(weight.sum() ** 2 / (weight**2).sum())
    if share:
        return Estimate(mean, *wilson(mean, worth), measured.size)
    if measured.size < 2:
        return Estimate(mean, None, None, measured.size)
    variance = float(np.average((measured - mean) ** 2, weights=weight)) * worth / (worth - 1)
    half = Z * sqrt(variance / worth)
    return Estimate(mean, mean - half, mean + half, measured.size)


def wilson(share: float, samples: float) -> tuple[float, float]:
    """Wilson's score interval of a share in [0, 1] (JASA 22, 1927): it has a width at 0 and 1 too, and stays in [0, 1].

    A mean of values in between varies no more than one of zeros and ones, so it holds for that as well.

    >>> [tuple(round(end, 3) for end in wilson(right / 10, 10)) for right in (0, 5, 10)]
    [(0.0, 0.278), (0.237, 0.763), (0.722, 1.0)]
    """
    scale = 1 + Z**2 / samples
    centre = (share + Z**2 / (2 * samples)) / scale
    half = Z / scale * sqrt(share * (1 - share) / samples + Z**2 / (4 * samples**2))
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))  # rounding, at the ends
