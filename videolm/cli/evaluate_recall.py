"""Measure what a model knows by heart of what it was trained on: the codes that greedy decoding gives back, by task.

For models that were meant to learn a few clips, to see that every row trains and decodes.

example:
  videolm evaluate recall runs/overfit-every-task
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from videolm.cli.arguments import add_force
from videolm.cli.output import emit, table
from videolm.config import parse, read_yaml
from videolm.errors import UserError
from videolm.evaluate.recall import evaluate_recall
from videolm.files import atomic_path, check_writable
from videolm.pipeline import VideoLM
from videolm.train.recipe import Recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="the folder of a finished run (`videolm train`)")
    parser.add_argument("--examples", metavar="N", type=int, default=64, help="of each task at most (default: 64)")
    parser.add_argument("--out", metavar="FILE", help="write the scores as JSON here too")
    add_force(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a row on stdout")


def run(args: argparse.Namespace) -> None:
    folder = Path(args.run)
    if args.examples < 1:
        raise UserError(f"--examples is {args.examples}, and must be at least 1")
    if not (folder / "model").is_dir():
        raise UserError(f"{folder} holds no finished run (its model is missing)")
    if args.out:
        check_writable(args.out, args.force)
    recipe = parse(Recipe, read_yaml(folder / "recipe.yaml"), source=str(folder / "recipe.yaml"))
    model = VideoLM.from_pretrained(folder / "model")
    found = evaluate_recall(model, recipe, folder, examples=args.examples)
    if args.out:
        with atomic_path(Path(args.out)) as path:
            path.write_text(json.dumps(found, indent=2) + "\n")
    if args.json:
        for name, scores in found.items():
            emit({"variant": name, **scores})
        return
    rows = [["", "row", "examples", "tokens right", "judge: all right"]]
    for name, scores in found.items():
        judged = f"{scores['all_right']:.1%}" if "all_right" in scores else "-"
        rows.append([name, f"{scores['row']:.0f}", f"{scores['examples']:.0f}", f"{scores['tokens']:.2%}", judged])
    print(table(rows))
