"""Measure video tokenizers alone: PSNR, SSIM, sharpness, codes in use, speed, and on ShapesWorld the judge.

DIR is a model or the folder of a tokenizer by itself; several are measured on the same clips, side by side. Without
--data the clips are ShapesWorld's, of a seed that training does not draw from; with it they are windows of all clips
in a folder, drawn without repetition. Sharpness is that of what comes back over that of the clips: below 1 is blurred.
LPIPS and rFVD read networks from public files; where one is missing, the error says which file goes where.

examples:
  videolm evaluate tokenizer --samples 256 --json
  videolm evaluate tokenizer --model runs/own-clips/model --data my_clips/ --out scores.json --picture pairs.png
  videolm evaluate tokenizer --model runs/one/video_tokenizer --model runs/two/video_tokenizer --data my_clips/ --fvd
"""

from __future__ import annotations

import argparse
import json
import platform
import re
from pathlib import Path
from typing import Any

import torch

from videolm.cli.arguments import add_force, check_counts
from videolm.cli.output import emit, table
from videolm.errors import UserError
from videolm.evaluate.shapes import SEED
from videolm.evaluate.tokenizer import TokenizerReport, comparison, evaluate_tokenizer, open_source
from videolm.files import atomic_path, check_writable
from videolm.media import write_image
from videolm.media.clip import check_fps
from videolm.metrics import check_ssim
from videolm.pipeline.folder import INDEX, find_tokenizer, load_tasks, model_folder
from videolm.pipeline.output import SUFFIXES
from videolm.shapes import Format
from videolm.tokenizers.losses.perceptual import I3D, LPIPS
from videolm.train.engine import device as best_device

FORMAT, FPS = Format(17, 64, 64), 8.0
"""Of clips for a tokenizer by itself, whose folder does not say what it was made for."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        metavar="DIR",
        action="append",
        help="a model, a tokenizer or a hub name (default: the one that ships); once for each to compare",
    )
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
    parser.add_argument("--lpips", action="store_true", help="measure LPIPS too")
    parser.add_argument("--fvd", action="store_true", help="measure the Frechet video distance (rFVD) too")
    parser.add_argument("--out", metavar="FILE", help="write the scores as JSON here too")
    parser.add_argument("--picture", metavar="FILE", help="the worst, median and best clip above what came back")
    add_force(parser)
    parser.add_argument("--json", action="store_true", help="the scores as JSON on stdout, a line for each model")


def run(args: argparse.Namespace) -> None:
    check_counts(args)
    for path in filter(None, (args.out, args.picture)):
        check_writable(path, args.force)
    if args.picture and not args.picture.lower().endswith(pictures := SUFFIXES["image"]):
        raise UserError(f"--picture {args.picture}: a picture is written as {' or '.join(pictures)}")
    if args.data is not None and not Path(args.data).exists():
        raise UserError(f"--data {args.data} does not exist")
    names = args.model or [None]
    folders = [model_folder(name) for name in names]
    tokenizers = [find_tokenizer(folder).to(best_device()) for folder in folders]
    tasks = load_tasks(folders[0]) if (folders[0] / INDEX).is_file() else None
    shape = args.format or (tasks.formats[0] if tasks else FORMAT)
    fps = check_fps(args.fps if args.fps is not None else tasks.fps if tasks else FPS)
    for tokenizer in tokenizers:
        tokenizer.grid(tokenizer.frames(1), shape.height, shape.width)  # a misfit is said before clips are read
    check_ssim(shape.height, shape.width)
    lpips = LPIPS.load().to(best_device()) if args.lpips else None
    i3d = I3D.load().to(best_device()) if args.fvd else None
    source = open_source(args.data, shape, fps, samples=args.samples, seed=args.seed, held_out=args.held_out)
    reports = [
        evaluate_tokenizer(
            tokenizer, source, samples=args.samples, seed=args.seed, batch=args.batch, lpips=lpips, i3d=i3d
        )
        for tokenizer in tokenizers
    ]
    labels = [name or "the one that ships" for name in names]
    records = [
        {
            "model": label,
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
            **_protocol(i3d, report, shape, fps),
            **report.scores,
            **{name: round(rate, 1) for name, rate in report.speed.items()},
        }
        for label, tokenizer, report in zip(labels, tokenizers, reports, strict=True)
    ]
    if args.out:
        with atomic_path(args.out) as path:
            path.write_text(json.dumps(records if len(records) > 1 else records[0], indent=2) + "\n")
    if args.picture:
        made = dict(zip(labels, zip(reports, tokenizers, strict=True), strict=True))
        write_image(comparison(made, source), args.picture, overwrite=args.force)
    if args.json:
        for record in records:
            emit(record)
    else:
        print(table([[key, *(_cell(record.get(key, "")) for record in records)] for key in _keys(records)]))


def _protocol(i3d: I3D | None, report: TokenizerReport, shape: Format, fps: float) -> dict[str, str]:
    """What a Frechet distance depends on besides the clips: figures of other protocols are not to be compared."""
    if i3d is None:
        return {}
    clips = f"{len(report.indices)} clips of {shape.frames} frames at {fps:g} a second"
    return {"rfvd_protocol": f"{clips}, {i3d.protocol}"}


def _keys(records: list[dict[str, Any]]) -> list[str]:
    """Of all records, in order."""
    return list(dict.fromkeys(key for record in records for key in record))


def _cell(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


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
