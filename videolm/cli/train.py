"""Run a recipe: from raw clips to a model folder, in stages that can be resumed.

RECIPE is the name of one that ships or a YAML file; any setting of it can be given as --dotted.key VALUE.

examples:
  videolm train own_clips --data.path my_clips/
  videolm train shapesworld/small --lm.num_layers 4 --out runs/four-layers
  videolm train shapesworld/small --resume
  videolm train finetune --from shipped --task_file my_tasks.py --tasks '{reverse: 1}' --data.path my_clips/
  videolm train shapesworld/small --resume --export model-so-far
  torchrun --nproc_per_node 2 -m videolm train shapesworld/small
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from videolm.cli.output import emit, say
from videolm.config import dump_yaml
from videolm.errors import UserError

if TYPE_CHECKING:
    from videolm.train.recipe import Recipe
    from videolm.train.run import Run

OPEN = True

LEFT_OUT = (
    "not trained further, as the data are not known to have sound or structure: {tasks} "
    "(--data.sound true, --data.depth_model DIR, or --replay_data '{{kind: shapesworld}}')"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from videolm.train.recipe import recipe_names

    parser.add_argument("recipe", metavar="RECIPE", help=f"a YAML file, or one of: {', '.join(recipe_names())}")
    parser.add_argument("--resume", action="store_true", help="go on with the run in the recipe's folder")
    parser.add_argument(
        "--from", metavar="MODEL", dest="start", help="the model to go on from: a folder, a hub name, or shipped"
    )
    parser.add_argument("--export", metavar="DIR", help="train no further: write the newest checkpoint as a model")
    parser.add_argument("--print_config", action="store_true", help="print what would run, and stop")
    parser.add_argument("--json", action="store_true", help="the result as a JSON object on stdout")


def run(args: argparse.Namespace, rest: list[str]) -> None:
    from videolm.evaluate.card import evaluate_and_describe
    from videolm.train.engine import rank
    from videolm.train.recipe import load_recipe
    from videolm.train.run import Run

    start = {} if args.start is None else {"start": args.start}
    recipe = load_recipe(args.recipe, {**overrides(rest), **start})
    if args.print_config:
        print(dump_yaml(recipe), end="")
        return
    if args.export:
        _export(Run(recipe, resume=True), Path(args.export), args.json)
        return
    if not rank():
        say_left_out(recipe)
    made = Run(recipe, args.resume).train()
    if rank():
        return
    scores: dict[str, dict[str, float]] = {}
    if recipe.lm is None and made.name != "model" and recipe.super_resolution is not None:
        told = f"the stage of super-resolution is in {made}"
    elif recipe.lm is None and recipe.super_resolution is None:
        told = f"the tokenizer is in {made}"
        told += "" if recipe.tokenizer is None else f"; try: videolm evaluate tokenizer --model {made}"
    else:
        scores = evaluate_and_describe(made, recipe, args.recipe)
        told = f"the model is in {made}; try: videolm generate --model {made}"
    if args.json:
        emit({"model": str(made), "scores": scores})
    else:
        say(told)


def say_left_out(recipe: Recipe) -> None:
    """Say which of a start model's tasks the recipe leaves out, and what would keep them."""
    if recipe.left_out:
        say(LEFT_OUT.format(tasks=", ".join(recipe.left_out)))


def _export(run: Run, folder: Path, as_json: bool) -> None:
    if folder.exists():
        raise UserError(f"{folder} exists already; choose another folder")
    step = run.export(folder)
    if as_json:
        emit({"model": str(folder), "step": step})
    else:
        say(f"the model of step {step} is in {folder}; try: videolm generate --model {folder}")


def overrides(words: list[str]) -> dict[str, str]:
    """`--key value` and `--key=value` pairs.

    >>> overrides(["--lm.num_layers", "4", "--out=runs/x"])
    {'lm.num_layers': '4', 'out': 'runs/x'}
    """
    found: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        key, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not key:
            raise UserError(f"unexpected argument '{word}': settings are given as --key VALUE")
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise UserError(f"--{key} needs a value")
            value = rest.pop(0)
        found[key] = value
    return found
