"""A report of a benchmark: a page with its tables, and under each the worst and the best samples of its rows.

The page needs nothing but the pictures beside it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from videolm.evaluate.row import Row, Shown
from videolm.evaluate.tables import GROUPS, tables
from videolm.files import atomic_path
from videolm.media import contact_sheet, write_image

PAGE = "index.html"
FRAMES = 9
"""Of a clip, that are shown."""
HEIGHT = 64
"""Of a frame, in pixels, at least: nothing is made smaller."""
HTML = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --ink: #1c1c1e; --soft: #66666c; --line: #d9d9de; --ground: #fff; --bad: #b3261e; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #e6e6e9; --soft: #a0a0a8; --line: #3a3a40; --ground: #17171a; --bad: #ff8a80; }}
}}
body {{ margin: 2rem auto; max-width: 80rem; padding: 0 1rem; color: var(--ink); background: var(--ground);
  font: 15px/1.5 system-ui, sans-serif; }}
h2 {{ margin: 2.5rem 0 0; }} p {{ max-width: 50rem; margin: .3rem 0 1rem; color: var(--soft); }}
.wide {{ overflow-x: auto; }} a {{ color: inherit; }} code {{ overflow-wrap: anywhere; }}
table {{ border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .3rem 1rem .3rem 0; text-align: left; border-bottom: 1px solid var(--line); white-space: nowrap; }}
th {{ color: var(--soft); }} .settings td {{ white-space: normal; }}
.cases {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 34rem), 1fr)); gap: 1.2rem; }}
figure {{ margin: 0; }} figcaption {{ font-size: 13px; }} .wrong {{ color: var(--bad); }}
img {{ max-width: 100%; height: auto; border: 1px solid var(--line); }}
</style>
<h1>{title}</h1>
{body}
</html>
"""


def write_report(folder: Path, about: Mapping[str, Any], rows: Mapping[str, Row]) -> None:
    """Write the page (`PAGE`) and its pictures into a folder, over what is there of the same names.

    Args:
        about: "model" and other settings, which are listed.
        rows: which have kept samples to be shown.
    """
    folder.mkdir(parents=True, exist_ok=True)
    body = [_settings(about)]
    for group, lines in tables({name: row.summary() for name, row in rows.items()}).items():
        title, told = escape(GROUPS[group].title), escape(GROUPS[group].told)
        body.append(f"<h2>{title}</h2>\n<p>{told}</p>\n{html_table(lines, linked=True)}")
        for name, *_ in lines[1:]:
            figures = [_figure(folder, name, number, case) for number, case in enumerate(rows[name].cases, 1)]
            body.append(f'<h3 id="{slug(name)}">{escape(name)}</h3>\n<div class="cases">\n{"".join(figures)}</div>')
    with atomic_path(folder / PAGE) as path:
        page = HTML.format(title=f"ShapesBench: {escape(str(about['model']))}", body="\n".join(body))
        path.write_text(page, encoding="utf-8")


def slug(name: str) -> str:
    """A row's name in links and in names of files.

    >>> slug("frame_prediction, 5 frames given")
    'frame-prediction-5-frames-given'
    """
    return re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")


def _settings(about: Mapping[str, Any]) -> str:
    def said(value: Any) -> str:
        if isinstance(value, Mapping):
            return ", ".join(f"{key} {each}" for key, each in value.items())
        return value if isinstance(value, str) else json.dumps(value)

    lines = [f"<tr><th>{escape(key)}</th><td>{escape(said(value))}</td></tr>" for key, value in about.items()]
    return f'<table class="settings">\n{"".join(lines)}\n</table>'


def html_table(lines: list[list[str]], linked: bool = False) -> str:
    """A table of `tables`; its rows lead to their sections where they are `linked`."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in lines[0])
    rows = []
    for name, *cells in lines[1:]:
        found = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        label = f'<a href="#{slug(name)}">{escape(name)}</a>' if linked else escape(name)
        rows.append(f"<tr><td>{label}</td>{found}</tr>")
    return f'<div class="wide"><table>\n<tr>{head}</tr>\n{"".join(rows)}\n</table></div>'


def _figure(folder: Path, row: str, number: int, shown: Shown) -> str:
    """A sample's picture, written, and what the page says of it."""
    place, sample, wrong, (asked, strips) = shown
    verdict = f"wrong: {', '.join(wrong).replace('_', ' ')}" if wrong else "nothing wrong"
    (label, clip), *others = strips
    labelled = [(f"{asked} | {verdict} | {label}", clip), *others]
    sheet = contact_sheet(labelled, frames=FRAMES, height=max(HEIGHT, *(each.height for _, each in strips)))
    path = folder / f"{slug(row)}-{number}-{place}.png"
    write_image(sheet, path, overwrite=True)
    said = f"<b>{place}</b>, sample {sample}: {escape(asked)}; "
    said += f'<span class="wrong">{escape(verdict)}</span>' if wrong else escape(verdict)
    alt = escape("; ".join(label for label, _ in strips))
    return f'<figure><img src="{path.name}" alt="{alt}" loading="lazy"><figcaption>{said}</figcaption></figure>\n'
