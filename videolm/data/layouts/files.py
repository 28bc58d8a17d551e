"""What layouts share: the files of a folder by their names, and tables."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from videolm.data.example import VIDEO_SUFFIXES
from videolm.errors import UserError


def films_of(folder: Path) -> dict[str, Path]:
    """Every film in a folder and below, by its name without the suffix. Raises `UserError` for no folder."""
    if not folder.is_dir():
        raise UserError(f"the folder {folder} does not exist; set it with --data.path")
    return {file.stem: file for file in sorted(folder.rglob("*")) if file.suffix.lower() in VIDEO_SUFFIXES}


def read_json_file(path: Path) -> Any:
    """Raises `UserError` for a file that is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}): fetch it again") from error


def read_table(path: Path, *columns: str) -> list[dict[str, str]]:
    """The rows of a CSV file. Raises `UserError` where it lacks one of the columns."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as a table ({error})") from error
    missing = [column for column in columns if column not in (reader.fieldnames or ())]
    if missing:
        raise UserError(f"{path} has no column '{missing[0]}': wanted {', '.join(columns)}")
    return rows


def first_of(folder: Path, patterns: Sequence[str]) -> Path | None:
    """The first file of a folder, or below, that fits a pattern."""
    return next((path for pattern in patterns for path in sorted(folder.rglob(pattern))), None)
