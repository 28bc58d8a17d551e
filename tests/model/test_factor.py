"""Codes as factors: nothing lost, nothing past the codebook's end."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from videolm.model.factor import Factors

SIZES = st.integers(2, 2**20)
GROUPS = st.integers(1, 5)


@given(size=SIZES, groups=GROUPS)
def test_factors_cover_a_codebook_without_waste(size: int, groups: int) -> None:
    sizes = Factors.of(size, groups).sizes
    assert len(sizes) == groups and size <= math.prod(sizes) < 2 * size
    assert max(sizes) <= 2 * min(sizes) and list(sizes) == sorted(sizes, reverse=True)


@given(size=SIZES, groups=GROUPS, seed=st.integers(0, 100))
def test_codes_come_back(size: int, groups: int, seed: int) -> None:
    factors = Factors.of(size, groups)
    codes = torch.randint(size, (20,), generator=torch.Generator().manual_seed(seed))
    parts = factors.split(codes)
    assert torch.equal(factors.join(parts), codes)
    assert all(int(part.min()) >= 0 and int(part.max()) < n for part, n in zip(parts, factors.sizes, strict=True))


@given(size=st.integers(2, 300), groups=GROUPS)
def test_the_choices_that_exist_are_those_that_lead_to_a_code(size: int, groups: int) -> None:
    factors = Factors.of(size, groups)
    reached = torch.zeros(1, 0, dtype=torch.long)
    for n in factors.sizes:
        logits = factors.existing(torch.zeros(len(reached), n), list(reached.T))
        rows, choices = logits.isfinite().nonzero().T
        reached = torch.cat([reached[rows], choices[:, None]], 1)
    assert factors.join(list(reached.T)).tolist() == list(range(size))
