"""Token files back to films (DIR/NAME.mp4) and pictures (DIR/NAME.png), of their true length and size.

example:
  videolm detokenize tokens/*.safetensors --out decoded/
"""

from __future__ import annotations

import argparse
import time

from videolm.cli.arguments import add_model, add_outputs, outputs
from videolm.cli.output import emit, say
from videolm.pipeline.folder import find_tokenizer
from videolm.pipeline.tokens import detokenize, read_tokens
from videolm.progress import progress
from videolm.train.engine import device

OPEN = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", metavar="TOKENS", nargs="+", help="a token file, as `videolm tokenize` writes it")
    add_outputs(parser)
    add_model(parser)


def run(args: argparse.Namespace) -> None:
    lengths = [read_tokens(path)[1].frames for path in args.inputs]
    suffixes = [".png" if frames == 1 else ".mp4" for frames in lengths]
    targets = outputs(args.inputs, suffixes, args.out, args.force)
    tokenizer = find_tokenizer(args.model).to(device())
    for path, target, frames in zip(args.inputs, targets, lengths, strict=True):
        started = time.monotonic()
        with progress(frames, target.name, "frame") as bar:
            info = detokenize(path, target, tokenizer, overwrite=args.force, on_frames=bar.update)
        seconds = time.monotonic() - started
        if args.json:
            emit({"input": str(path), "path": str(target), **info.model_dump(), "seconds": round(seconds, 3)})
        else:
            say(f"{target}: {info.frames} frames, {info.frames / seconds:.0f} frames a second")
