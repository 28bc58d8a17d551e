"""What commands print: text for people, or one JSON object a line for programs."""

from __future__ import annotations

import json
import sys
from typing import Any


def say(message: str) -> None:
    """A line for people, on stderr, so that stdout stays what a program reads."""
    print(message, file=sys.stderr)


def emit(record: dict[str, Any]) -> None:
    """One JSON object on a line of stdout."""
    print(json.dumps(record, ensure_ascii=False), flush=True)


def table(rows: list[list[str]]) -> str:
    """Rows of cells in aligned columns.

    >>> print(table([["task", "tokens"], ["text_to_video", "320"]]))
    task           tokens
    text_to_video  320
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)
