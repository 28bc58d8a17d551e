"""Intervals: known values, and that they hold the truth as often as they say."""

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from videolm.evaluate.estimate import Estimate, estimate, wilson


@pytest.mark.parametrize(
    ("right", "low", "high"), [(0, 0.0, 0.27754), (5, 0.23659, 0.76341), (10, 0.72246, 1.0), (9, 0.59585, 0.98212)]
)
def test_wilson_by_the_book(right: int, low: float, high: float) -> None:
    assert wilson(right / 10, 10) == pytest.approx((low, high), abs=2e-5)
    found = estimate([1.0] * right + [0.0] * (10 - right), share=True)
    assert found == Estimate(right / 10, *wilson(right / 10, 10), 10)


@given(st.integers(0, 300), st.integers(1, 300))
def test_wilson_holds_the_share_and_stays_a_share(right: int, samples: int) -> None:
    share = min(right, samples) / samples
    low, high = wilson(share, samples)
    assert 0 <= low <= share <= high <= 1 and low < high
    more = wilson(share, 4 * samples)
    assert more[1] - more[0] < high - low


@pytest.mark.parametrize("samples", [20, 64, 256])
def test_wilsons_interval_holds_the_truth_95_times_in_100(samples: int) -> None:
    held = []
    for truth in np.linspace(0.02, 0.98, 97):
        chances = [comb(samples, k) * truth**k * (1 - truth) ** (samples - k) for k in range(samples + 1)]
        ends = [wilson(k / samples, samples) for k in range(samples + 1)]
        held.append(sum(chance for chance, (low, high) in zip(chances, ends, strict=True) if low <= truth <= high))
    assert np.mean(held) == pytest.approx(0.95, abs=0.01) and min(held) > 0.83  # near 0 and 1 it may fall short


@pytest.mark.parametrize("weighted", [False, True])
def test_the_interval_of_a_mean_holds_the_truth_95_times_in_100(weighted: bool) -> None:
    rng = np.random.default_rng(0)
    weights = rng.choice([0.2, 1.0, 3.0], 100) if weighted else None
    held = 0
    for _ in range(2000):
        found = estimate(rng.gamma(4.0, 2.0, 100), weights, share=False)
        assert found.low is not None and found.high is not None
        held += found.low <= 8.0 <= found.high
    assert held / 2000 == pytest.approx(0.945, abs=0.02)


def test_unstated_samples_do_not_count() -> None:
    values, nothing = np.array([1.0, np.nan, 0.0, 1.0]), np.full(3, np.nan)
    assert estimate(values, share=True) == estimate([1.0, 0.0, 1.0], share=True)
    weighted = estimate(values, [1.0, 50.0, 1.0, 2.0], share=True)
    assert weighted.mean == 0.75 and weighted.samples == 3
    with pytest.raises(ValueError, match="none of 3 samples states the measure"):
        estimate(nothing, share=True)


def test_weights_are_worth_fewer_samples() -> None:
    values = [1.0, 1.0, 0.0, 0.0, 1.0]
    assert estimate(values, [2.0] * 5, share=True) == estimate(values, share=True)
    uneven = estimate(values, [4.0, 1.0, 1.0, 1.0, 1.0], share=True)
    assert (uneven.low, uneven.high) == wilson(0.75, 8**2 / 20)


def test_one_sample_of_an_amount_has_no_interval() -> None:
    assert estimate([30.0], share=False) == Estimate(30.0, None, None, 1)
    assert estimate([3.0, 3.0], share=False) == Estimate(3.0, 3.0, 3.0, 2)
