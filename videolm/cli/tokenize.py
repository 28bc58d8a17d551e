"""Films, pictures and sounds of any length and size to token files, DIR/NAME.safetensors; films in flat memory.

Of a film its pictures are taken; with --sound, what is heard in it.

examples:
  videolm tokenize holiday.mp4 still.png --out tokens/
  videolm tokenize clips/*.mp4 --fps 8 --size 64x64 --model runs/own-clips/model --out tokens/
  videolm tokenize bell.wav --model runs/shapesworld-soundstream/audio_tokenizer --out tokens/
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from videolm.cli.arguments import add_model, add_outputs, outputs, size
from videolm.cli.output import emit, say
from videolm.data.example import SOUND_SUFFIXES
from videolm.errors import UserError
from videolm.media import declared_frames, probe
from videolm.media.clip import check_fps
from videolm.pipeline.folder import find_audio_tokenizer, find_tokenizer
from videolm.pipeline.tokens import SUFFIX, tokenize, tokenize_sound
from videolm.progress import progress
from videolm.train.engine import device

OPEN = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help="a film, a picture or a sound")
    add_outputs(parser)
    parser.add_argument("--fps", metavar="R", type=float, help="frames a second to read (default: all of the film's)")
    parser.add_argument("--size", metavar="WxH", type=size, help="pixels to cut and resize to (default: the film's)")
    parser.add_argument("--sound", action="store_true", help="the sound of films")
    add_model(parser, "a model, a tokenizer")


def run(args: argparse.Namespace) -> None:
    targets = outputs(args.inputs, [SUFFIX] * len(args.inputs), args.out, args.force)
    sounds = [args.sound or Path(path).suffix.lower() in SOUND_SUFFIXES for path in args.inputs]
    if any(sounds) and not all(sounds):
        raise UserError("films and sounds are tokenised by two tokenizers: name them in two calls")
    if any(sounds):
        _sounds(args, targets)
        return
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


def _sounds(args: argparse.Namespace, targets: list[Path]) -> None:
    if args.fps is not None or args.size is not None:
        raise UserError("--fps and --size are for films and pictures")
    tokenizer = find_audio_tokenizer(args.model).to(device())
    for path, target in zip(args.inputs, targets, strict=True):
        started = time.monotonic()
        info = tokenize_sound(path, target, tokenizer, overwrite=args.force)
        grid = [tokenizer.levels, -(-info.samples // tokenizer.stride)]
        tokens, seconds = grid[0] * grid[1], time.monotonic() - started
        if args.json:
            record = {"input": str(path), "path": str(target), **info.model_dump(), "grid": grid, "tokens": tokens}
            emit({**record, "seconds": round(seconds, 3)})
        else:
            say(f"{target}: {info.samples / info.sample_rate:.2f} seconds, {tokens} tokens")


def length(path: str, fps: float | None) -> int | None:
    """Frames that will be read, about; None where the file does not say."""
    info = probe(path)
    if info.kind == "image":
        return 1
    return info.frames if fps is None else declared_frames(path, fps)
