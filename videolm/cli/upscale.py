"""Make a film or a picture of any size and length twice as high and wide, or more, by a model's super-resolution.

It is coded and filled in tile by tile, a few frames at a time, so that memory does not grow with it; its sound stays.

examples:
  videolm upscale clip.mp4 --prompt "a small red circle moves right on a white background" --out large.mp4
  videolm upscale holiday.mp4 --size 128x96 --seconds 2 --model runs/mine/model --out large.mp4
  videolm upscale still.png --steps 12 --out large.png --json
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from videolm.cli.arguments import add_force, add_model, size
from videolm.cli.output import emit, say
from videolm.errors import UserError
from videolm.files import check_writable
from videolm.media import (
    Image,
    MediaInfo,
    declared_frames,
    probe,
    read_audio,
    read_image,
    video_chunks,
    write_frames,
    write_image,
)
from videolm.media.clip import Pixels, check_fps
from videolm.pipeline import VideoLM
from videolm.pipeline.folder import model_folder, model_hash
from videolm.pipeline.output import SUFFIXES
from videolm.pipeline.upscale import Upscaler
from videolm.progress import progress

OPEN = False
CHUNK = 16
"""Frames that are read at a time."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("clip", metavar="CLIP", help="a film or a picture")
    parser.add_argument("--prompt", metavar="TEXT", help="what it shows")
    parser.add_argument("--factor", metavar="N", type=int, default=2, help="2, or 4 with two stages (default: 2)")
    parser.add_argument("--fps", metavar="R", type=float, help="frames a second to read (default: all of the film's)")
    parser.add_argument("--size", metavar="WxH", type=size, help="pixels to cut and resize to first")
    parser.add_argument("--seconds", metavar="S", type=float, help="of the film, from its beginning (default: all)")
    parser.add_argument("--seed", metavar="S", type=int, default=0, help="(default: 0)")
    add_filling(parser)
    add_model(parser)
    parser.add_argument("--out", metavar="FILE", help="(default: outputs/large.mp4, or .png)")
    add_force(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def add_filling(parser: argparse.ArgumentParser) -> None:
    """How codes are filled in; by default as the model says."""
    group = parser.add_argument_group("super-resolution")
    group.add_argument("--steps", metavar="N", type=int, help="in which codes are filled in: more is finer and slower")
    group.add_argument("--guidance-scale", metavar="G", type=float, help="1: as trained; more: closer to the prompt")
    group.add_argument("--low-guidance-scale", metavar="G", type=float, help="more: closer to the small clip")
    group.add_argument("--temperature", metavar="T", type=float, help="0: always the likeliest code")
    group.add_argument("--choice-temperature", metavar="T", type=float, help="0: the surest codes stay at every step")
    group.add_argument(
        "--expected", action=argparse.BooleanOptionalAction, default=None, help="show the mean of what a code may be"
    )
    group.add_argument("--distrust", metavar="R", type=float, help="share of the small clip's codes that may be wrong")


def run(args: argparse.Namespace) -> None:
    info = probe(args.clip)
    out = _target(args, info.kind)
    folder = model_folder(args.model)
    model = VideoLM.from_pretrained(folder)
    names = ("guidance_scale", "low_guidance_scale", "temperature", "choice_temperature", "expected", "distrust")
    changes = {name: value for name in names if (value := getattr(args, name)) is not None}
    stages = model.stages(args.factor, args.steps, **changes)
    fps = check_fps(args.fps) if args.fps is not None else info.fps or 1.0
    frames, count, shape = _read(args, info, fps)
    text = None if args.prompt is None else model.encode_prompt(args.prompt)[0][0]
    began, made = time.monotonic(), 0
    with progress(None, "upscale", "step") as bar:
        larger = Upscaler(model.tokenizer, stages, on_step=bar.update)
        bar.total = None if count is None else larger.steps(count, *shape)

        def pictures() -> Iterator[Pixels]:
            nonlocal made
            for picture in larger(frames, torch.Generator().manual_seed(args.seed), text):
                made += 1
                yield picture

        if info.kind == "image":
            (picture,) = pictures()
            write_image(Image(picture), out, overwrite=args.force)
        else:
            audio = None
            if info.channels:
                audio = read_audio(args.clip, rate=48_000, channels=min(2, info.channels), seconds=args.seconds)
            write_frames(pictures(), fps, out, audio=audio, overwrite=args.force)
    seconds, (height, width) = time.monotonic() - began, (side * larger.factor for side in shape)
    if args.json:
        record: dict[str, Any] = {"input": args.clip, "path": str(out), "prompt": args.prompt, "seed": args.seed}
        record |= {"frames": made, "fps": fps, "width": width, "height": height, "seconds": round(seconds, 3)}
        emit({**record, "model": f"{folder.name}@{model_hash(folder)}"})
    else:
        say(f"{out}: {made} frames of {width}x{height}, made in {seconds:.1f} s")


def _target(args: argparse.Namespace, kind: str) -> Path:
    """Where it goes. Raises `UserError` before anything is made where it cannot go there."""
    suffixes = SUFFIXES["image"] if kind == "image" else (".mp4",)
    out = Path(args.out or f"outputs/large{suffixes[0]}")
    if out.suffix.lower() not in suffixes:
        what = "a picture" if kind == "image" else "a film"
        raise UserError(f"--out {out}: {what} is written as {' or '.join(suffixes)}")
    if args.seconds is not None and not (args.seconds > 0 and kind == "video"):
        raise UserError(f"--seconds {args.seconds:g}: how much of a film to take, more than 0")
    check_writable(out, args.force)
    return out


def _read(
    args: argparse.Namespace, info: MediaInfo, fps: float
) -> tuple[Iterator[Pixels], int | None, tuple[int, int]]:
    """The frames, how many there are about, and their height and width."""
    shape = (info.height, info.width) if args.size is None else (args.size[1], args.size[0])
    pixels = None if args.size is None else shape
    if info.kind == "image":
        return iter([read_image(args.clip, size=pixels).pixels]), 1, shape
    chunks = video_chunks(args.clip, frames=CHUNK, fps=args.fps, size=pixels)
    frames: Iterator[Pixels] = (frame for chunk in chunks for frame in chunk.frames)
    count = info.frames if args.fps is None else declared_frames(args.clip, fps)
    if args.seconds is not None:
        most = max(1, round(args.seconds * fps))
        frames, count = itertools.islice(frames, most), most if count is None else min(count, most)
    return frames, count, shape
