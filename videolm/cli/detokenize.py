"""Token files back to films (DIR/NAME.mp4), pictures (DIR/NAME.png) and sounds (DIR/NAME.wav), of their true length.

example:
  videolm detokenize tokens/*.safetensors --out decoded/
"""

from __future__ import annotations

import argparse
import time

from videolm.cli.arguments import add_model, add_outputs, outputs
from videolm.cli.output import emit, say
from videolm.errors import UserError
from videolm.pipeline.folder import find_audio_tokenizer, find_tokenizer
from videolm.pipeline.tokens import TokenInfo, detokenize, detokenize_sound, read_tokens
from videolm.progress import progress
from videolm.train.engine import device

OPEN = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", metavar="TOKENS", nargs="+", help="a token file, as `videolm tokenize` writes it")
    add_outputs(parser)
    add_model(parser, "a model, a tokenizer")


def run(args: argparse.Namespace) -> None:
    about = [read_tokens(path)[1] for path in args.inputs]
    lengths = [info.frames for info in about if isinstance(info, TokenInfo)]
    if lengths and len(lengths) < len(about):
        raise UserError("films and sounds are decoded by two tokenizers: name them in two calls")
    suffixes = [".png" if frames == 1 else ".mp4" for frames in lengths] or [".wav"] * len(about)
    targets = outputs(args.inputs, suffixes, args.out, args.force)
    if not lengths:
        codec = find_audio_tokenizer(args.model).to(device())
        for path, target in zip(args.inputs, targets, strict=True):
            sound = detokenize_sound(path, target, codec, overwrite=args.force)
            record = {"input": str(path), "path": str(target), **sound.model_dump()}
            emit(record) if args.json else say(f"{target}: {sound.samples / sound.sample_rate:.2f} seconds")
        return
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
