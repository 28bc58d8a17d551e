"""The model card: what a model is, what made it, and its measured scores."""

from __future__ import annotations

import json
from pathlib import Path

from torch import nn

from videolm.evaluate.shapes import evaluate_shapes
from videolm.evaluate.super_resolution import STAGE_ROWS, evaluate_stage
from videolm.files import atomic_path
from videolm.pipeline import VideoLM
from videolm.pipeline.folder import model_hash, stage_names
from videolm.train.recipe import Recipe

LARGE = ("psnr", "sharpness", "shape", "all_right")
COLUMNS = ("background", "colour", "shape", "size", "motion", "all_right", "samples")
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
Measured on {samples} clips a row with `videolm evaluate shapes --model THIS_FOLDER --samples {samples}`
(sampling: {sampling}).
Held-out combinations of colour, shape and motion were never shown in training; they are averaged over motions.

{table}

The tokenizer alone, on clips it was not trained on: {psnr:.2f} dB, {codes:.0f} codes in use,
perplexity {perplexity:.0f}.
"""
UPSCALED = """
Super-resolution to twice the height and width, on {samples} clips a row: from the codes of true small clips, beside
bicubic interpolation of what they show and beside what the codes of the true large clips show ("ceiling"), and from
clips that the language model made. In dB it goes {closed:.0%} of the way from bicubic to the ceiling.

{table}
"""


def evaluate_and_describe(folder: Path, recipe: Recipe, name: str) -> dict[str, dict[str, float]]:
    """Judge a finished model where the recipe asks for it, and write its card (`README.md`, `scores.json`)."""
    model = VideoLM.from_pretrained(folder)
    written = folder / "scores.json"
    scores: dict[str, dict[str, float]] = {}
    if written.is_file():
        scores = json.loads(written.read_text())
    elif recipe.evaluation_samples:
        scores = evaluate_shapes(model, recipe.evaluation_samples)
        if model.parts.stages:
            scores |= evaluate_stage(model, recipe.evaluation_samples)
        with atomic_path(written) as path:
            path.write_text(json.dumps(scores, indent=2) + "\n")
    with atomic_path(folder / "README.md") as path:
        path.write_text(card(model, folder, recipe, name, scores))
    return scores


def card(model: VideoLM, folder: Path, recipe: Recipe, name: str, scores: dict[str, dict[str, float]]) -> str:
    """The text of the model card."""
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
    measured = ""
    if scores:
        first = scores["reconstruction"]
        measured = SCORES.format(
            samples=int(first["samples"]),
            sampling=", ".join(f"{key} {value}" for key, value in model.sampling),
            table=score_table({name: row for name, row in scores.items() if name not in STAGE_ROWS}),
            psnr=first["psnr"],
            codes=first["codes_used"],
            perplexity=first["perplexity"],
        )
    if STAGE_ROWS[0] in scores:
        rows = {name: scores[name] for name in STAGE_ROWS}
        low, ours, high = (rows[f"{name}, of true"]["psnr"] for name in ("bicubic", "ours", "ceiling"))
        told = {"samples": int(rows[STAGE_ROWS[0]]["samples"]), "closed": (ours - low) / (high - low)}
        measured += UPSCALED.format(table=stage_table(rows), **told)
    return CARD.format(
        title=folder.parent.name if folder.name == "model" else folder.name,
        summary=recipe.summary,
        recipe=name,
        parameters=", ".join(sizes),
        tasks=", ".join(task.name for task in model.tasks.tasks),
        formats=", ".join(map(str, model.tasks.formats)),
        fps=model.tasks.fps,
        hash=model_hash(folder),
        scores=measured,
    )


def score_table(scores: dict[str, dict[str, float]]) -> str:
    """Scores by row as a Markdown table, in percent."""
    lines = ["| | " + " | ".join(COLUMNS).replace("_", " ") + " |", "| --- |" + " --- |" * len(COLUMNS)]
    for row, values in scores.items():
        cells = [
            "–" if column not in values else f"{values[column]:.0f}" if column == "samples" else f"{values[column]:.1%}"
            for column in COLUMNS
        ]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def stage_table(scores: dict[str, dict[str, float]]) -> str:
    """Scores of super-resolution by row as a Markdown table: dB, and shares in percent."""
    lines = ["| | " + " | ".join(LARGE).replace("_", " ") + " |", "| --- |" + " --- |" * len(LARGE)]
    form = {"psnr": "{:.2f} dB", "sharpness": "{:.5f}"}
    for row, values in scores.items():
        cells = [form.get(name, "{:.1%}").format(values[name]) if name in values else "–" for name in LARGE]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
