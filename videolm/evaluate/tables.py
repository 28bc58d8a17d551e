"""Rows as tables: which belong together, which measures they show, and how a number is written."""

from __future__ import annotations

from collections.abc import Mapping
from math import floor, log10
from typing import NamedTuple

from videolm.evaluate.estimate import Estimate
from videolm.evaluate.row import AMOUNTS, Summary

SEEN = ("background", "colour", "shape", "size", "motion")


class Group(NamedTuple):
    """Rows of one table."""

    title: str
    told: str
    """What they have in common."""
    columns: tuple[str, ...]
    """Measures, in order; those that no row states are left out."""


GROUPS = {
    "tokenizer": Group(
        "The tokenizer alone",
        "True clips, coded and decoded: what the language model can reach at best.",
        (*SEEN, "all_right", "psnr", "sharpness_ratio", "codes_used", "perplexity"),
    ),
    "prompts": Group("From prompts", "All that is given is a prompt.", (*SEEN, "all_right")),
    "conditions": Group(
        "From pictures and clips",
        "Frames or pixels are given, to be gone on from, filled in or followed; and the prompt.",
        (*SEEN, "style", "path", "all_right", "path_error", "psnr_hole"),
    ),
    "sound": Group(
        "With sound",
        "Sound goes in, or comes out, or both.",
        (*SEEN, "bounces", "pitch", "course", "bursts", "all_right"),
    ),
    "story": Group(
        "Stories",
        "Three scenes, each under a prompt of its own and going on from the one before.",
        ("prompts", "scene_prompt", "object_kept", "smooth"),
    ),
    "long_video": Group(
        "Long clips",
        "An object that stays still, gone on with twenty times; attributes are those of the end.",
        ("first_right", "last_right", *SEEN[:4], "drift", "colour_drift", "sharpness_ratio"),
    ),
    "super_resolution": Group(
        "Super-resolution",
        "To twice the height and width, of the codes of true small clips and of made ones.",
        (*SEEN, "all_right", "psnr", "sharpness"),
    ),
}
"""Tables in their order, by `Summary.group`."""


def cell(name: str, found: Estimate) -> str:
    """A mean with its interval; shares in percent, others to two digits of what they are uncertain by.

    >>> cell("shape", Estimate(0.9734, 0.948, 0.9911, 256)), cell("psnr", Estimate(30.314, 30.194, 30.434, 256))
    ('97.3% (95–99)', '30.31 ± 0.12')
    >>> cell("codes_used", Estimate(77.0, None, None, 256)), cell("perplexity", Estimate(14.1704, None, None, 256))
    ('77', '14.2')
    """
    mean, low, high, _ = found
    if name not in AMOUNTS:
        return f"{mean:.1%}" + ("" if low is None or high is None else f" ({100 * low:.0f}–{100 * high:.0f})")
    if low is None or high is None or low == high:
        return f"{mean:.{0 if mean.is_integer() else _places(mean, 3)}f}"
    half = (high - low) / 2
    places = _places(half, 2)
    return f"{mean:.{places}f} ± {half:.{places}f}"


def heading(name: str) -> str:
    """A measure's name over a column, with its unit.

    >>> heading("psnr_hole"), heading("all_right")
    ('psnr hole (dB)', 'all right')
    """
    unit = AMOUNTS.get(name, "")
    return name.replace("_", " ") + (f" ({unit})" if unit else "")


def tables(rows: Mapping[str, Summary]) -> dict[str, list[list[str]]]:
    """By group, in order, those that have rows: a line of headings, then a line a row, the number of samples last."""
    found: dict[str, list[list[str]]] = {}
    for key, group in GROUPS.items():
        own = {name: row for name, row in rows.items() if row.group == key}
        columns = [name for name in group.columns if any(name in row.measures for row in own.values())]
        lines = [["", *map(heading, columns), "samples"]]
        for name, row in own.items():
            cells = [cell(column, row.measures[column]) if column in row.measures else "–" for column in columns]
            lines.append([name, *cells, str(row.samples)])
        if own:
            found[key] = lines
    return found


def markdown(lines: list[list[str]]) -> str:
    """A table in Markdown.

    >>> print(markdown([["", "shape"], ["text_to_video", "97.3%"]]))
    | | shape |
    | --- | --- |
    | text_to_video | 97.3% |
    """
    first, *rest = [f"| {' | '.join(line)} |".replace("|  |", "| |") for line in lines]
    return "\n".join([first, "|" + " --- |" * len(lines[0]), *rest])


def _places(value: float, digits: int) -> int:
    """Decimals that show so many digits of a number.

    >>> _places(0.00050123, 2), _places(437.0, 3), _places(14.17, 3)
    (5, 0, 1)
    """
    return max(0, digits - 1 - floor(log10(abs(value)))) if value else 0
