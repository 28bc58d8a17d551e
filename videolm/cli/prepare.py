"""Turn a recipe's raw media into token shards, once, so that training reads no media.

Any number of processes share the work, each with parts of its own: started by `torchrun` or `srun`, by hand with
--rank and --world, or by datatrove with --workers or --slurm. Stop it whenever you like: started again, it goes on.
What cannot be read is left out and listed in skipped.jsonl.

examples:
  videolm prepare own_clips --data.path my_clips/
  videolm prepare own_clips --data.path my_clips/ --workers 8
  srun --ntasks 64 videolm prepare recipe.yaml
  videolm prepare recipe.yaml --slurm gpu --workers 64
"""

from __future__ import annotations

import argparse

from videolm.cli.arguments import add_workers, place
from videolm.cli.output import emit, say
from videolm.cli.train import overrides, say_left_out

OPEN = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from videolm.train.recipe import recipe_names

    parser.add_argument("recipe", metavar="RECIPE", help=f"a YAML file, or one of: {', '.join(recipe_names())}")
    parser.add_argument("--from", metavar="MODEL", dest="start", help="the model to go on from, as in `videolm train`")
    add_workers(parser)
    parser.add_argument(
        "--verify", action="store_true", help="check all parts by their hashes, and mend what is damaged"
    )
    parser.add_argument("--json", action="store_true", help="the result as a JSON object on stdout")


def run(args: argparse.Namespace, rest: list[str]) -> None:
    from videolm.train.recipe import load_recipe
    from videolm.train.run import Run

    start = {} if args.start is None else {"start": args.start}
    changes = {**overrides(rest), **start}
    rank, world = place(args)
    recipe = load_recipe(args.recipe, changes)
    if not rank:
        say_left_out(recipe)
    work = Run(recipe, resume=None)
    if args.slurm or args.workers > 1:
        from videolm.train.executor import prepare_with_workers

        left = prepare_with_workers(work, args.recipe, changes, args.workers, slurm=args.slurm, hours=args.hours)
        if left is None:
            say(f"the jobs are with Slurm; their logs will be in {work.folder / 'prepare'}")
            return
    else:
        left = work.prepare(rank, world, verify=args.verify)
    if args.json:
        emit({"tokens": str(work.tokens), "parts_left": left, **work.prepared()})
    elif left:
        say(f"{left} parts are left to the other processes; when all are done, the last one to finish says so")
    else:
        found = work.prepared()
        say(f"{found['rows']} rows in {work.tokens}; {found['skipped']} left out, {found['captions_cut']} captions cut")
        say(f"now: videolm train {args.recipe} --resume, with the same settings")
