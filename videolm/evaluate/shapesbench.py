"""ShapesBench: every row of a model that ShapesWorld's judge can tell right from wrong.

    reconstruction ─┐
    each task ──────┤
    stories ────────┼─► rows (samples x measures) ──► means with intervals ──► scores.json, tables, card, report
    long clips ─────┤
    super-resolution┘

Settings such as guidance are chosen on one seed and scores reported on another, or they are of the scenes that they
were chosen on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from videolm.data.conditions import Footage
from videolm.errors import UserError
from videolm.evaluate.row import Row, Summary
from videolm.evaluate.shapes import BATCH, SEED, reconstruction_row, task_rows
from videolm.evaluate.stories import long_row, overlap, story_row
from videolm.evaluate.super_resolution import evaluate_stage
from videolm.files import atomic_path
from videolm.pipeline import VideoLM
from videolm.pipeline.folder import model_hash
from videolm.shapesworld.world import FPS
from videolm.tasks import Task, Text, Visual

OTHERS = ("reconstruction", "story", "long_video", "super_resolution")
"""Rows that are of no task."""
LONG_SAMPLES = 64
"""Of long clips at most, unless more are asked for: each takes as long as sixteen others."""


def able(model: VideoLM) -> list[str]:
    """What a model can be measured by: its tasks that have inputs and make what ShapesWorld has, and `OTHERS`."""
    tasks = [task.name for task in model.tasks.tasks if task.inputs and _known(task, model.tasks.fps)]
    others = []
    for name in OTHERS[1:]:
        with suppress(UserError):
            check(model, name)
            others.append(name)
    return [OTHERS[0], *tasks, *others]


def check(model: VideoLM, name: str) -> None:
    """Raise `UserError` for what a model cannot be measured by."""
    if name in ("story", "long_video"):
        overlap(model, new_scene=name == "story")
    elif name == "super_resolution":
        model.tasks.get("text_to_video")
        model.stages(2)
    elif name not in OTHERS:
        model.tasks.get(name)


def evaluate_shapes(
    model: VideoLM,
    samples: int,
    tasks: Sequence[str] = (),
    seed: int = SEED,
    *,
    long_samples: int | None = None,
    batch: int = BATCH,
    shown: int = 0,
) -> dict[str, Row]:
    """The rows of a model.

    Args:
        samples: of each row.
        tasks: of these tasks and `OTHERS` alone; by default all that the model can do.
        seed: of scenes and draws.
        long_samples: of long clips, by default `samples`, and no more than 64.
        batch: clips made at a time, on which no score depends.
        shown: see `Row`.

    Raises `UserError` for a task that the model does not have, or that cannot be judged.
    """
    names = list(dict.fromkeys(tasks)) or able(model)
    for name in names:
        check(model, name)
    settings: dict[str, Any] = {"seed": seed, "batch": batch, "shown": shown}
    rows: dict[str, Row] = {}
    for name in names:
        if name == "reconstruction":
            rows[name] = reconstruction_row(model, samples, **settings)
        elif name == "story":
            rows[name] = story_row(model, samples, **settings)
        elif name == "long_video":
            rows[name] = long_row(model, long_samples or min(samples, LONG_SAMPLES), **settings)
        elif name == "super_resolution":
            rows |= evaluate_stage(model, samples, **settings)
        else:
            rows |= task_rows(model, name, samples, **settings)
    return rows


def about(model: VideoLM, folder: Path, seed: int = SEED) -> dict[str, Any]:
    """What rows were measured on: the model by name and hash, and the settings that they follow from."""
    return {
        "model": f"{name_of(folder)}@{model_hash(folder)}",
        "seed": seed,
        "sampling": model.sampling.model_dump(),
        "precision": model.decoding.precision,
    }


def name_of(folder: Path) -> str:
    """What a model folder is called: that of a run is called as the run.

    >>> name_of(Path("runs/shapesworld-small/model")), name_of(Path("weights/shapesworld"))
    ('shapesworld-small', 'shapesworld')
    """
    return folder.parent.name if folder.name == "model" else folder.name


def write_scores(path: Path, about: Mapping[str, Any], rows: Mapping[str, Summary]) -> None:
    """Write `scores.json`: `about`, and "rows", each with its group, its samples, and of each measure mean, low, high
    and samples."""
    with atomic_path(path) as temporary:
        record = {**about, "rows": {name: row.as_json() for name, row in rows.items()}}
        temporary.write_text(json.dumps(record, indent=2) + "\n")


def read_scores(path: Path) -> tuple[dict[str, Any], dict[str, Summary]] | None:
    """What `write_scores` wrote: `about` and the rows; None for a file that is missing or of another form."""
    try:
        record = json.loads(path.read_text())
        rows = {name: Summary.from_json(row) for name, row in record.pop("rows").items()}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record, rows


def _known(task: Task, fps: float) -> bool:
    """Whether ShapesWorld has what goes in and what should come out."""
    parts = [part for part in (*task.inputs, *task.outputs) if not isinstance(part, Text)]
    seen = [part for part in parts if isinstance(part, Visual)]
    return (
        all(part.stream in Footage.STREAMS for part in seen)
        and (len(seen) == len(parts) or fps == FPS)
        and (task.visual is None or task.visual.view is None)
    )
