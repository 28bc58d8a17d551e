"""Rotary positions: what attention sees is how far apart two positions are, on each axis."""

import pytest
import torch
from torch import Tensor

from videolm.rotary import rotary_table, rotate

DIM = 24  # 12 frequencies: 4 an axis


def scores(places: Tensor) -> Tensor:
    """Products of one query with one key that stand at two places (2, axes)."""
    q, k = torch.randn(2, 1, 1, 1, DIM, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    cos, sin = rotary_table(places, DIM, 100.0)
    return (rotate(q, cos[:1], sin[:1]) * rotate(k, cos[1:], sin[1:])).sum()


@pytest.mark.parametrize("shift", [(7, 0, 0), (0, 7, 0), (0, 0, 7), (3, 5, 11)])
def test_only_the_difference_on_each_axis_matters(shift: tuple[int, int, int]) -> None:
    one, other = torch.tensor([1, 2, 3]), torch.tensor([4, 2, 9])
    moved = torch.tensor(shift)
    here, there = scores(torch.stack([one, other])), scores(torch.stack([one + moved, other + moved]))
    torch.testing.assert_close(here, there, rtol=1e-5, atol=1e-5)
    assert not torch.isclose(here, scores(torch.stack([one, other + moved])), rtol=1e-3)


def test_axes_are_told_apart() -> None:
    origin = torch.zeros(3, dtype=torch.long)
    seen = [scores(torch.stack([origin, 2 * axis])) for axis in torch.eye(3, dtype=torch.long)]
    assert min(abs(a - b) for a, b in ((seen[0], seen[1]), (seen[1], seen[2]), (seen[0], seen[2]))) > 1e-2


def test_frequencies_are_dealt_in_turn_so_each_axis_has_the_full_range() -> None:
    step = torch.eye(3)  # one step on one axis: the angle is the frequency
    cos, sin = rotary_table(step, DIM, 100.0)
    angles = torch.atan2(sin, cos)
    for axis in range(3):
        of_axis = angles[axis, axis::3]
        torch.testing.assert_close(of_axis, 100.0 ** -(torch.arange(4) * 3 / 12))
        others = angles[axis][torch.arange(12) % 3 != axis]
        assert (others == 0).all()


def test_one_axis_is_the_usual_rotary_table() -> None:
    cos, sin = rotary_table(torch.arange(5)[:, None], 8, 10000.0)
    angles = torch.arange(5)[:, None] * 10000.0 ** -(torch.arange(4) / 4)
    torch.testing.assert_close(cos, angles.cos())
    torch.testing.assert_close(sin, angles.sin())


def test_equal_places_on_all_axes_are_one_axis() -> None:
    """Text and special tokens count up on all three axes: between them the three are as good as one."""
    places = torch.arange(6)[:, None].expand(6, 3)
    assert torch.isfinite(rotary_table(places, DIM, 100.0)[0]).all()
    assert rotary_table(places, DIM, 100.0)[0].unique(dim=0).shape[0] == 6


def test_turning_keeps_lengths_and_place_zero_changes_nothing() -> None:
    x = torch.randn(2, 3, 5, DIM, generator=torch.Generator().manual_seed(0))
    turned = rotate(x, *rotary_table(torch.arange(5)[:, None], DIM, 100.0))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(turned[:, :, 0], x[:, :, 0]) and turned.dtype == x.dtype
    assert rotate(x.bfloat16(), *rotary_table(torch.arange(5)[:, None], DIM, 100.0)).dtype == torch.bfloat16
