"""Measure a model by ShapesWorld's judge: on generated clips, and on reconstructions by its tokenizer.

example:
  videolm evaluate shapes --samples 256 --tasks text_to_video --json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from videolm.cli.arguments import add_decoding, add_force, add_model, decoding_of
from videolm.cli.output import emit, table
from videolm.config import parse
from videolm.errors import UserError
from videolm.evaluate.card import COLUMNS
from videolm.evaluate.shapes import SEED, evaluate_shapes
from videolm.files import atomic_path, check_writable
from videolm.generate.sampling import Sampling
from videolm.pipeline import VideoLM
from videolm.pipeline.folder import model_folder, model_hash


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("--samples", metavar="N", type=int, default=256, help="clips a task (default: 256)")
    parser.add_argument("--tasks", metavar="A,B", default="", help="only these (default: all that take a prompt)")
    parser.add_argument("--seed", metavar="S", type=int, default=SEED, help=f"of scenes and draws (default: {SEED})")
    for name, field in Sampling.model_fields.items():
        parser.add_argument(f"--{name.replace('_', '-')}", dest=name, metavar="X", help=field.description)
    add_decoding(parser)
    parser.add_argument("--out", metavar="FILE", help="write the scores as JSON here too")
    add_force(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a row on stdout")


def run(args: argparse.Namespace) -> None:
    if args.samples < 1:
        raise UserError(f"--samples is {args.samples}, and must be at least 1")
    if args.out:
        check_writable(args.out, args.force)
    folder = model_folder(args.model)
    model = VideoLM.from_pretrained(folder, decoding=decoding_of(args))
    changed = {name: getattr(args, name) for name in Sampling.model_fields if getattr(args, name) is not None}
    model.sampling = parse(Sampling, model.sampling.model_dump(), changed)
    scores = evaluate_shapes(model, args.samples, [name for name in args.tasks.split(",") if name], args.seed)
    about: dict[str, Any] = {
        "model": f"{folder.name}@{model_hash(folder)}",
        "seed": args.seed,
        "sampling": model.sampling.model_dump(),
        "precision": model.decoding.precision,
    }
    if args.out:
        with atomic_path(Path(args.out)) as path:
            path.write_text(json.dumps({**about, "scores": scores}, indent=2) + "\n")
    if args.json:
        for row, values in scores.items():
            emit({"row": row, **values, **about})
    else:
        print(table([["", *COLUMNS], *([row, *map(_cell, COLUMNS, [v] * len(COLUMNS))] for row, v in scores.items())]))
        first = scores["reconstruction"]
        print(f"tokenizer: {first['psnr']:.2f} dB, {first['codes_used']:.0f} codes used")


def _cell(column: str, values: dict[str, float]) -> str:
    if column not in values:
        return "-"
    return f"{values[column]:.0f}" if column == "samples" else f"{values[column]:.3f}"
