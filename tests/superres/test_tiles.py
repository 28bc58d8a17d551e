"""Tiles: everything is covered, neighbours overlap, none is larger than it may be."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from videolm.superres.tiles import Tile, tiles

SIDE = st.integers(1, 40)


@given(size=st.tuples(SIDE, SIDE), tile=st.tuples(SIDE, SIDE), overlap=st.integers(0, 8))
def test_tiles_cover_a_grid_in_order(size: tuple[int, int], tile: tuple[int, int], overlap: int) -> None:
    covered, found = np.zeros(size, int), list(tiles(size, tile, overlap))
    for part in found:
        sides = [side.stop - side.start for side in part]
        assert all(length == min(whole, most) for length, whole, most in zip(sides, size, tile, strict=True))
        covered[part.rows, part.columns] += 1
    assert covered.min() == 1
    assert found == sorted(found, key=lambda part: (part.rows.start, part.columns.start))
    for one, other in itertools.pairwise(found):
        if one.rows == other.rows:
            assert one.columns.stop - other.columns.start >= min(overlap, tile[1] - 1)


def test_parts_of_larger_grids_and_margins() -> None:
    part = Tile(slice(2, 6), slice(0, 4))
    assert part.times(8) == Tile(slice(16, 48), slice(0, 32))
    assert part.wider(3, (7, 20)) == Tile(slice(0, 7), slice(0, 7))
