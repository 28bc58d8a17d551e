"""Run a recipe: from raw clips to a model folder, in stages that can be resumed.

RECIPE is the name of one that ships or a YAML file; any setting of it can be given as --dotted.key VALUE.

examples:
  videolm train own_clips --data.path my_clips/
  videolm train shapesworld/small --lm.num_layers 4 --out runs/four-layers
  videolm train shapesworld/small --resume
  torchrun --nproc_per_node 2 -m videolm train shapesworld/tokenizer
"""

from __future__ import annotations

import argparse

from videolm.cli.output import emit, say
from videolm.config import dump_yaml
from videolm.errors import UserError

OPEN = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from videolm.train.recipe import recipe_names

    parser.add_argument("recipe", metavar="RECIPE", help=f"a YAML file, or one of: {', '.join(recipe_names())}")
    parser.add_argument("--resume", action="store_true", help="go on with the run in the recipe's folder")
    parser.add_argument("--print_config", action="store_true", help="print what would run, and stop")
    parser.add_argument("--json", action="store_true", help="the result as a JSON object on stdout")


def run(args: argparse.Namespace, rest: list[str]) -> None:
    from videolm.evaluate.card import evaluate_and_describe
    from videolm.train.engine import rank
    from videolm.train.recipe import Run, load_recipe

    recipe = load_recipe(args.recipe, overrides(rest))
    if args.print_config:
        print(dump_yaml(recipe), end="")
        return
    made = Run(recipe, args.resume).train()
    if rank():
        return
    if recipe.lm is None:
        scores = {}
        told = f"the tokenizer is in {made}"
        told += "" if recipe.tokenizer is None else f"; try: videolm evaluate tokenizer --model {made}"
    else:
        scores = evaluate_and_describe(made, recipe, args.recipe)
        told = f"the model is in {made}; try: videolm generate --model {made}"
    if args.json:
        emit({"model": str(made), "scores": scores})
    else:
        say(told)


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
