"""ShapesBench: measure a model by ShapesWorld's judge, on what it makes by each of its tasks, in stories and long
clips, by super-resolution, and by its tokenizer alone. Means have 95% intervals.

Choose settings (--guidance-scale, --temperature, ...) on scenes of another seed than the one reported: --seed 500.

examples:
  videolm evaluate shapes --out scores.json --report report/
  videolm evaluate shapes --tasks text_to_video,story --samples 64 --seed 500 --guidance-scale 3 --json
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from videolm.cli.arguments import DECODING, add_decoding, add_force, add_model, check_counts, decoding_of
from videolm.cli.output import emit, say, table
from videolm.errors import UserError
from videolm.evaluate.report import PAGE, write_report
from videolm.evaluate.shapes import BATCH, SEED
from videolm.evaluate.shapesbench import LONG_SAMPLES, OTHERS, about, evaluate_shapes, write_scores
from videolm.evaluate.tables import GROUPS, tables
from videolm.files import check_writable
from videolm.generate.sampling import Sampling
from videolm.pipeline import VideoLM
from videolm.pipeline.folder import model_folder

SHOWN = 2
"""Of the worst and of the best samples of a row, in a report."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("--samples", metavar="N", type=int, default=256, help="of each row (default: 256)")
    parser.add_argument(
        "--long-samples", metavar="N", type=int, help=f"of long_video (default: those, {LONG_SAMPLES} at most)"
    )
    parser.add_argument(
        "--tasks",
        metavar="A,B",
        default="",
        help=f"only these tasks, or {', '.join(OTHERS)} (default: all that the model can do)",
    )
    parser.add_argument("--seed", metavar="S", type=int, default=SEED, help=f"of scenes and draws (default: {SEED})")
    parser.add_argument(
        "--batch", metavar="N", type=int, default=BATCH, help=f"clips at a time; scores do not depend on it ({BATCH})"
    )
    for name, field in Sampling.model_fields.items():
        parser.add_argument(f"--{name.replace('_', '-')}", dest=name, metavar="X", help=field.description)
    add_decoding(parser)
    parser.add_argument("--out", metavar="FILE", help="write the scores as JSON here too")
    parser.add_argument("--report", metavar="DIR", help="write a page with the worst and best samples of each row here")
    add_force(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a row on stdout")


def run(args: argparse.Namespace) -> None:
    check_counts(args)
    if args.long_samples is not None and args.long_samples < 1:
        raise UserError(f"--long-samples is {args.long_samples}, and must be at least 1")
    if args.out:
        check_writable(args.out, args.force)
    if args.report:
        check_writable(Path(args.report) / PAGE, args.force)
    folder = model_folder(args.model)
    model = VideoLM.from_pretrained(folder, decoding=decoding_of(args))
    changed = {name: getattr(args, name) for name in Sampling.model_fields if getattr(args, name) is not None}
    model.sampling = model.sampling.with_changes(changed)
    found = evaluate_shapes(
        model,
        args.samples,
        [name for name in args.tasks.split(",") if name],
        args.seed,
        long_samples=args.long_samples,
        batch=args.batch,
        shown=SHOWN if args.report else 0,
    )
    rows, on = {name: row.summary() for name, row in found.items()}, about(model, folder, args.seed)
    if args.out:
        write_scores(Path(args.out), on, rows)
    if args.report:
        write_report(Path(args.report), {**on, "samples": args.samples, "command": _command(args)}, found)
        say(f"the report is {Path(args.report) / PAGE}")
    if args.json:
        for name, row in rows.items():
            emit({"row": name, **row.as_json(), **on})
        return
    for group, lines in tables(rows).items():
        print(f"{GROUPS[group].title}\n{table(lines)}\n")


def _command(args: argparse.Namespace) -> str:
    """The command that says what was measured, as it would be typed."""
    words = ["videolm", "evaluate", "shapes"]
    for name in ("model", "samples", "long_samples", "tasks", "seed", *Sampling.model_fields, *DECODING):
        value = getattr(args, name)
        if value is True:
            words.append(f"--{name.replace('_', '-')}")
        elif value not in (None, ""):
            words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)
