"""Make the clips of a file of prompts, by one process or by many: the same clips whatever their number.

FILE has a call a line: a prompt, or a JSON object with "prompt", "task", "seed", "image" and other options of a call.
Stop it whenever you like: given again, the command goes on. Several machines share the work with --rank and --world
(or under torchrun or srun), or by datatrove with --workers or --slurm.

examples:
  videolm batch prompts.txt --out clips/
  videolm batch calls.jsonl --out clips/ --workers 2 --json
  videolm batch calls.jsonl --out clips/ --slurm gpu --workers 64
"""

from __future__ import annotations

import argparse
from pathlib import Path

from videolm.cli.arguments import add_decoding, add_model, add_workers, decoding_of, place
from videolm.cli.output import emit, say
from videolm.errors import UserError
from videolm.pipeline.batch import Batch, read_requests
from videolm.workers import share

OPEN = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a prompt or a JSON object a line")
    parser.add_argument("--out", metavar="DIR", required=True, help="the folder to write in, and to go on in")
    parser.add_argument(
        "--seed", metavar="S", type=int, default=0, help="of the first line, one more each (default: 0)"
    )
    add_model(parser)
    add_workers(parser)
    add_decoding(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a call on stdout, when all are done")


def run(args: argparse.Namespace) -> None:
    out = Path(args.out)
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file: name a folder")
    work = Batch(read_requests(Path(args.file), args.seed), out, args.model, decoding_of(args))
    rank, world = place(args)
    work.left()
    if args.slurm or args.workers > 1:
        here = share(
            work,
            args.workers,
            out / "logs",
            slurm=args.slurm,
            hours=args.hours,
            total=len(work.requests),
            done=work.done,
            what="batch",
            unit="call",
        )
        if not here:
            say(f"the jobs are with Slurm; their logs will be in {out / 'logs'}")
            return
    else:
        work(rank, world, quiet=False)
    records = list(work.records())
    failed = [record for record in records if "error" in record]
    if args.json:
        for record in records:
            emit(record)
    left = len(work.requests) - len(records)
    say(f"{len(records) - len(failed)} of {len(work.requests)} calls are made in {out}")
    if left:
        say(f"{left} calls are left to the other processes")
    if failed:
        first = failed[0]
        raise UserError(f"{len(failed)} calls failed, for example {first['request']}: {first['error']}")
