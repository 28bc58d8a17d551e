"""Cutting what is larger than a model was trained on into tiles that overlap."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple


class Tile(NamedTuple):
    """Rows and columns of a grid, as slices."""

    rows: slice
    columns: slice

    def times(self, factor: int) -> Tile:
        """The same part of a grid that is so many times as large."""
        return Tile(*(slice(side.start * factor, side.stop * factor) for side in self))

    def within(self, whole: Tile) -> Tile:
        """The same part, of a tile that it lies in."""
        return Tile(*(slice(a.start - b.start, a.stop - b.start) for a, b in zip(self, whole, strict=True)))

    def wider(self, margin: int, size: tuple[int, int]) -> Tile:
        """With a margin all around, as far as the grid reaches."""
        pairs = zip(self, size, strict=True)
        return Tile(*(slice(max(0, side.start - margin), min(length, side.stop + margin)) for side, length in pairs))


def tiles(size: tuple[int, int], tile: tuple[int, int], overlap: int) -> Iterator[Tile]:
    """Tiles of a grid (rows, columns) in raster order, each but the last of a row or column `overlap` into the next.

    >>> [(t.rows.start, t.columns.start) for t in tiles((8, 20), (8, 8), 2)]
    [(0, 0), (0, 6), (0, 12)]
    """
    for (top, bottom), (left, right) in product(*(_spans(n, t, overlap) for n, t in zip(size, tile, strict=True))):
        yield Tile(slice(top, bottom), slice(left, right))


def _spans(size: int, tile: int, overlap: int) -> list[tuple[int, int]]:
    """Stretches of one axis; the last ends with it, and overlaps more where it must."""
    if size <= tile:
        return [(0, size)]
    step = max(1, tile - overlap)
    starts = [*range(0, size - tile, step), size - tile]
    return [(start, start + tile) for start in starts]
