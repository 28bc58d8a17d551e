"""Measure a video tokenizer alone: PSNR, SSIM, codes in use, speed, and on ShapesWorld the judge.

DIR is a model or the folder of a tokenizer by itself. Without --data the clips are ShapesWorld's, of a seed that
training does not draw from; with it they are windows of all clips in a folder, drawn without repetition.

examples:
  videolm evaluate tokenizer --samples 256 --json
  videolm evaluate tokenizer --model runs/own-clips/model --data my_clips/ --out scores.json --picture pairs.png
"""

from __future__ import annotations

import argparse
import json
import platform
import re
from pathlib import Path
from typing import Any

import torch

from videolm.cli.arguments import add_force, add_model, check_counts
from videolm.cli.output import emit, table
from videolm.errors import UserError
from videolm.evaluate.shapes import SEED
from videolm.evaluate.tokenizer import comparison, evaluate_tokenizer, open_source
from videolm.files import atomic_path, check_writable
from videolm.media import write_image
from videolm.media.clip import check_fps
from videolm.metrics import check_ssim
from videolm.pipeline.folder import INDEX, find_tokenizer, load_tasks, model_folder
from videolm.pipeline.output import SUFFIXES
from videolm.shapes import Format
from videolm.train.engine import device as best_device

FORMAT, FPS = Format(17, 64, 64), 8.0
"""Of clips for a tokenizer by itself, whose folder does not say what it was made for."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser, "a model, a tokenizer")
    parser.add_argument("--data", metavar="PATH", help="a folder of clips, or one (default: ShapesWorld)")
    parser.add_argument(
        "--held-out", metavar="SHARE", type=float, default=0.0, help="only the end of each, kept from training as this"
    )
    parser.add_argument("--samples", metavar="N", type=int, default=256, help="clips (default: 256)")
    parser.add_argument(
        "--format", metavar="FxHxW", type=_format, help=f"frames and pixels (default: the model's, else {FORMAT})"
    )
    parser.add_argument("--fps", metavar="R", type=float, help=f"frames a second (default: the model's, else {FPS:g})")
    parser.add_argument("--seed", metavar="S", type=int, default=SEED, help=f"of the clips drawn (default: {SEED})")
    parser.add_argument("--batch", metavar="N", type=int, default=32, help="clips a batch (default: 32)")
    parser.add_argument("--out", metavar="FILE", help="write the scores as JSON here too")
    parser.add_argument("--picture", metavar="FILE", help="the worst, median and best clip beside what came back")
    add_force(parser)
    parser.add_argument("--json", action="store_true", help="the scores as one JSON object on stdout")


def run(args: argparse.Namespace) -> None:
    check_counts(args)
    for path in filter(None, (args.out, args.picture)):
        check_writable(path, args.force)
    if args.picture and not args.picture.lower().endswith(pictures := SUFFIXES["image"]):
        raise UserError(f"--picture {args.picture}: a picture is written as {' or '.join(pictures)}")
    if args.data is not None and not Path(args.data).exists():
        raise UserError(f"--data {args.data} does not exist")
    folder = model_folder(args.model)
    tokenizer = find_tokenizer(folder).to(best_device())
    tasks = load_tasks(folder) if (folder / INDEX).is_file() else None
    shape = args.format or (tasks.formats[0] if tasks else FORMAT)
    fps = check_fps(args.fps if args.fps is not None else tasks.fps if tasks else FPS)
    tokenizer.grid(*shape)  # what does not fit is said before clips are read
    check_ssim(shape.height, shape.width)
    source = open_source(args.data, shape, fps, samples=args.samples, seed=args.seed, held_out=args.held_out)
    report = evaluate_tokenizer(tokenizer, source, samples=args.samples, seed=args.seed, batch=args.batch)
    record: dict[str, Any] = {
        "tokenizer": tokenizer.config.name,
        "weights": tokenizer.fingerprint(),
        "codebook_size": tokenizer.codebook_size,
        "data": "shapesworld" if args.data is None else args.data,
        "held_out": args.held_out,
        "format": str(shape),
        "fps": fps,
        "seed": args.seed,
        "batch": args.batch,
        "device": device_name(),
        "threads": torch.get_num_threads(),
        **report.scores,
        **{name: round(rate, 1) for name, rate in report.speed.items()},
    }
    if args.out:
        with atomic_path(args.out) as path:
            path.write_text(json.dumps(record, indent=2) + "\n")
    if args.picture:
        write_image(comparison(report, tokenizer, source), args.picture, overwrite=args.force)
    if args.json:
        emit(record)
    else:
        shown = {name: f"{value:.6g}" if isinstance(value, float) else str(value) for name, value in record.items()}
        print(table([list(row) for row in shown.items()]))


def device_name() -> str:
    """What the processor that evaluates is called, graphics card or CPU."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    listed = Path("/proc/cpuinfo")  # Linux: Python itself knows no more than the architecture
    names = re.findall(r"^model name\s*:\s*(.+)$", listed.read_text(), re.MULTILINE) if listed.is_file() else []
    return names[0] if names else platform.processor() or platform.machine()


def _format(text: str) -> Format:
    sides = text.lower().split("x")
    if len(sides) != 3 or not all(side.isdigit() and int(side) for side in sides):
        raise argparse.ArgumentTypeError(f"a format is FRAMESxHEIGHTxWIDTH, for example {FORMAT}, not {text!r}")
    return Format(*map(int, sides))
