"""Films and pictures of any length and size to token files, DIR/NAME.safetensors, in flat memory.

examples:
  videolm tokenize holiday.mp4 still.png --out tokens/
  videolm tokenize clips/*.mp4 --fps 8 --size 64x64 --model runs/own-clips/model --out tokens/
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from videolm.cli.arguments import add_model, add_outputs, outputs, size
from videolm.cli.output import emit, say
from videolm.media import declared_frames, probe
from videolm.media.clip import check_fps
from videolm.pipeline.folder import find_tokenizer
from videolm.pipeline.tokens import SUFFIX, tokenize
from videolm.progress import progress
from videolm.train.engine import device

OPEN = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help="a film or a picture")
    add_outputs(parser)
    parser.add_argument("--fps", metavar="R", type=float, help="frames a second to read (default: all of the film's)")
    parser.add_argument("--size", metavar="WxH", type=size, help="pixels to cut and resize to (default: the film's)")
    add_model(parser)


def run(args: argparse.Namespace) -> None:
    targets = outputs(args.inputs, [SUFFIX] * len(args.inputs), args.out, args.force)
    fps = None if args.fps is None else check_fps(args.fps)
    lengths = [length(path, fps) for path in args.inputs]  # what cannot be read is said before anything is written
    tokenizer = find_tokenizer(args.model).to(device())
    pixels = None if args.size is None else (args.size[1], args.size[0])
    for path, target, frames in zip(args.inputs, targets, lengths, strict=True):
        started = time.monotonic()
        with progress(frames, Path(path).name, "frame") as bar:
            info, grid = tokenize(
                path, target, tokenizer, fps=fps, size=pixels, overwrite=args.force, on_frames=bar.update
            )
        seconds = time.monotonic() - started
        record = {
            "input": str(path),
            "path": str(target),
            **info.model_dump(),
            "grid": list(grid),
            "tokens": grid.tokens,
            "seconds": round(seconds, 3),
        }
        if args.json:
            emit(record)
        else:
            say(f"{target}: {info.frames} frames, {grid.tokens} tokens, {info.frames / seconds:.0f} frames a second")


def length(path: str, fps: float | None) -> int | None:
    """Frames that will be read, about; None where the file does not say."""
    info = probe(path)
    if info.kind == "image":
        return 1
    return info.frames if fps is None else declared_frames(path, fps)
