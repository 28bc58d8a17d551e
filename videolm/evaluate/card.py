"""The model card: what a model is, what made it, and its measured scores."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from videolm.evaluate.row import Summary
from videolm.evaluate.shapesbench import about, evaluate_shapes, name_of, read_scores, write_scores
from videolm.evaluate.super_resolution import STAGE_ROWS, closed
from videolm.evaluate.tables import GROUPS, markdown, tables
from videolm.files import atomic_path
from videolm.pipeline import VideoLM
from videolm.pipeline.folder import model_hash, stage_names
from videolm.train.recipe import Recipe

CARD = """\
---
license: apache-2.0
library_name: videolm
pipeline_tag: text-to-video
---
# {title}

{summary}

Made by `videolm train {recipe}`: {parameters}. Tasks: {tasks}.
Formats (frames, height, width): {formats} at {fps:g} frames a second. Weights {hash}, stored in float16.
{scores}"""
SCORES = """
## Scores

ShapesWorld's judge, on {samples} clips a row unless a row says otherwise (`videolm evaluate shapes --model THIS_FOLDER
--samples {samples}`; seed {seed}; {sampling}). In brackets, and after ±, are 95% intervals.
Held-out combinations of colour, shape and motion were never shown in training; they are averaged over motions.
"""
TABLE = """
### {title}

{told}

{table}
"""
UPSCALED = """
Beside bicubic interpolation of what the small clips show, and what the codes of the true large clips show ("ceiling"):
from true codes it goes {closed:.0%} of the way from bicubic to the ceiling, in dB.
"""


def evaluate_and_describe(folder: Path, recipe: Recipe, name: str) -> dict[str, Any]:
    """Judge a finished model where the recipe asks for it, and write its card (`README.md`, `scores.json`).

    Returns the rows as `scores.json` has them.
    """
    model = VideoLM.from_pretrained(folder)
    written = folder / "scores.json"
    scores = read_scores(written)
    if scores is None and recipe.evaluation_samples:
        found = evaluate_shapes(model, recipe.evaluation_samples)
        scores = about(model, folder), {row: each.summary() for row, each in found.items()}
        write_scores(written, *scores)
    with atomic_path(folder / "README.md") as path:
        path.write_text(card(model, folder, recipe, name, scores))
    return {row: each.as_json() for row, each in scores[1].items()} if scores else {}


def card(
    model: VideoLM,
    folder: Path,
    recipe: Recipe,
    name: str,
    scores: tuple[Mapping[str, Any], Mapping[str, Summary]] | None = None,
) -> str:
    """The text of the model card.

    Args:
        name: of the recipe.
        scores: what they were measured on (`about`), and the rows.
    """
    parts: dict[str, nn.Module] = {
        "video tokenizer": model.tokenizer,
        "text encoder": model.text,
        "language model": model.lm,
    }
    if model.audio is not None:
        parts["audio tokenizer"] = model.audio
    parts |= {name.replace("_", " "): each.model for name, each in zip(stage_names(), model.parts.stages, strict=False)}
    weights = {part: sum(p.numel() for p in module.parameters()) for part, module in parts.items()}
    sizes = [f"{part} {count / 1e6:.1f}M" for part, count in weights.items()]
    return CARD.format(
        title=name_of(folder),
        summary=recipe.summary,
        recipe=name,
        parameters=", ".join(sizes),
        tasks=", ".join(task.name for task in model.tasks.tasks),
        formats=", ".join(map(str, model.tasks.formats)),
        fps=model.tasks.fps,
        hash=model_hash(folder),
        scores=_measured(*scores) if scores else "",
    )


def _measured(on: Mapping[str, Any], rows: Mapping[str, Summary]) -> str:
    """The part of the card with the scores."""
    sampling = ", ".join(f"{key} {value}" for key, value in on["sampling"].items())
    text = SCORES.format(samples=max(row.samples for row in rows.values()), seed=on["seed"], sampling=sampling)
    for group, lines in tables(rows).items():
        text += TABLE.format(title=GROUPS[group].title, told=GROUPS[group].told, table=markdown(lines))
    if STAGE_ROWS[0] in rows:
        names = ("bicubic", "ours", "ceiling")
        of_true = {name: {"psnr": rows[f"{name}, of true"].measures["psnr"].mean} for name in names}
        text += UPSCALED.format(closed=closed(of_true))
    return text
