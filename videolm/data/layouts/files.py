"""What layouts share: the films of a folder by their names, tables and JSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from videolm.data.example import VIDEO_SUFFIXES
from videolm.errors import UserError


def films_of(path: str) -> dict[str, Path]:
    """Every film in a folder and below, by its name without the suffix. Raises `UserError` for no folder."""
    folder = Path(path)
    if not folder.is_dir():
        raise UserError(f"the folder {folder} does not exist; set it with --data.path")
    return {file.stem: file for file in sorted(folder.rglob("*")) if file.suffix.lower() in VIDEO_SUFFIXES}


def not_there(name: str, table: Path) -> tuple[str, str]:
    """Of a film that a table names: how `Catalogue` lists it as left out."""
    return name, f"{name} is named by {table} and is not there"


def read_json_file(path: Path) -> Any:
    """Raises `UserError` for a file that is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}): fetch it again") from error


def columns_of(path: Path) -> list[str]:
    """The names of a table's columns. Raises `UserError` where it cannot be read."""
    return next(_lines(path))[1]


def read_table(path: Path, columns: Sequence[str]) -> Iterator[dict[str, str]]:
    """The rows of a CSV file, or of a .tsv, whose columns are set apart by tabs, one after another.

    Raises `UserError` where it cannot be read, lacks one of the columns, or has a row without one.
    """
    lines = _lines(path)
    _, there = next(lines)
    missing = [column for column in columns if column not in there]
    if missing:
        raise UserError(f"{path} has no column '{missing[0]}', but {', '.join(there) or 'is empty'}")
    for number, cells in lines:
        row = dict(zip(there, cells, strict=False))
        empty = [column for column in columns if column not in row]
        if empty and cells:
            raise UserError(f"{path}: line {number} has no '{empty[0]}': mend it")
        if cells:
            yield row


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The lines of a table by their numbers, from that with the names on."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ",")
            yield reader.line_num, next(reader, [])
            for cells in reader:
                yield reader.line_num, cells
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as a table ({error})") from error


def first_of(folder: Path, patterns: Sequence[str]) -> Path | None:
    """The first file of a folder, or below, that fits a pattern."""
    return next((path for pattern in patterns for path in sorted(folder.rglob(pattern))), None)
