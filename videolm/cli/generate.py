"""Make clips, pictures or sounds by one task, or by several, each on what the one before made (A+B+C). TASK may be left
out when the inputs make it plain.

examples:
  videolm generate text_to_video --prompt "a small red circle moves right on a white background" --num-videos 4
  videolm generate image_to_video --image first.png --out clip.mp4
  videolm generate frame_prediction --video clip.mp4 --json
  videolm generate inpainting_central --video clip.mp4 --mask 0.25,0.25,0.75,0.75
  videolm generate text_to_image+image_to_video --prompt "a large blue star shrinks on a white background"
  videolm generate --prompt "a small red circle moves right on a white background" --upscale 2
  videolm generate --prompt "a small red circle moves right on a white background" --seconds 10 --out long.mp4
  videolm generate --prompt "a large green square moves up on a black background" --stream | mpv -
  videolm generate reverse_clip --tasks my_tasks.py --video clip.mp4 --model runs/mine/model
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from videolm.cli.arguments import (
    add_decoding,
    add_force,
    add_model,
    add_sampling,
    add_upscaling,
    check_upscaling,
    decoding_of,
    sampling_of,
    size,
)
from videolm.cli.output import emit, say
from videolm.cli.story import add_telling, tell
from videolm.data.conditions import StructureMaker
from videolm.errors import UserError
from videolm.files import check_writable
from videolm.generate.sampling import generators
from videolm.media import Video, read_video, stream_frames
from videolm.metrics import psnr
from videolm.pipeline import VideoLM
from videolm.pipeline.chain import links
from videolm.pipeline.folder import model_folder, model_hash
from videolm.pipeline.output import SUFFIXES, kind_of
from videolm.pipeline.story import Scene
from videolm.progress import progress
from videolm.tasks import Variant
from videolm.tasks.file import load_tasks

OPEN = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", metavar="TASK", nargs="?", help="see `videolm tasks`; or several, A+B+C")
    parser.add_argument("--prompt", metavar="TEXT", help="what the clip shows")
    parser.add_argument("--image", metavar="FILE", help="the first frame")
    parser.add_argument("--last-image", metavar="FILE", help="the last frame")
    parser.add_argument("--video", metavar="FILE", help="a clip to go on from, to fill, to give a sound, to restyle")
    parser.add_argument(
        "--mask", metavar="FILE|BOX", help="what to make anew: a picture, white there, or L,T,R,B in 0-1"
    )
    parser.add_argument("--audio", metavar="FILE", help="a sound, or a film with one")
    parser.add_argument("--structure", metavar="FILE", help="flow and depth as a clip (instead of --video)")
    parser.add_argument("--depth-model", metavar="DIR", help="a depth estimator, to make them of --video")
    parser.add_argument("--flow", choices=["dis", "raft"], help="how, with --depth-model (default: dis)")
    parser.add_argument("--tasks", metavar="FILE", help="a Python file with tasks of your own")
    parser.add_argument("--num-frames", metavar="N", type=int, help="frames of the clip")
    parser.add_argument("--seconds", metavar="S", type=float, help="make a longer clip, or go on so long from --video")
    parser.add_argument("--size", metavar="WxH", type=size, help="pixels, for example 64x64")
    add_upscaling(parser)
    parser.add_argument("--num-videos", metavar="N", type=int, default=1, help="clips to make (default: 1)")
    parser.add_argument("--seed", metavar="S", type=int, default=0, help="of the first clip; the next ones count up")
    add_sampling(parser)
    add_telling(parser)
    add_decoding(parser)
    add_model(parser)
    parser.add_argument("--out", metavar="PATH", default="outputs/", help="a file or a folder (default: outputs/)")
    add_force(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a clip on stdout")


def run(args: argparse.Namespace) -> None:
    if args.num_videos < 1:
        raise UserError(f"--num-videos is {args.num_videos}, and must be at least 1")
    folder = model_folder(args.model)
    model = VideoLM.from_pretrained(folder, decoding=decoding_of(args))
    if args.tasks:
        model.add_tasks(load_tasks(args.tasks))
    name = f"{folder.name}@{model_hash(folder)}"
    check_upscaling(args)
    if args.seconds is not None:
        return make_long(args, model, name)
    for option in ("overlap", "judge"):
        if getattr(args, option):
            raise UserError(f"--{option} goes with --seconds")
    if args.stream and (args.num_videos > 1 or args.json):
        raise UserError("--stream writes one clip to stdout: leave out --num-videos and --json")
    tasks = args.task.split("+") if args.task else []
    inputs, variant = inputs_of(args, model, tasks)
    targets = [] if args.stream else paths(args, variant.task.name, SUFFIXES[kind_of(variant.task)])
    asked = {"prompt": args.prompt, **inputs, **sizes_of(args), **sampling_of(args)}
    asked |= {"task": tasks[0] if len(tasks) == 1 else tasks or None, "num_videos_per_prompt": args.num_videos}
    asked |= {"upscale": args.upscale, "num_inference_steps": args.upscale_steps}
    asked["generator"] = generators(args.seed, args.num_videos)
    started = time.monotonic()
    with ExitStack() as stack:  # the bar appears with the first id: what is wrong with the inputs is said before
        bar: Any = None

        def on_step(_: VideoLM, done: int, of: int, __: dict[str, Any]) -> None:
            nonlocal bar
            if bar is None or done < bar.n:  # the next task of a chain
                bar = stack.enter_context(progress(of, "generate", "id"))
            bar.update(done - bar.n)

        if args.stream:
            stream = model(**asked, stream=True, callback_on_step_end=on_step, output_type="pil")
            frames = (np.asarray(pictures[0]) for pictures in stream)
            return stream_frames(frames, model.tasks.fps, sys.stdout.buffer)
        out = model(**asked, callback_on_step_end=on_step)
    seconds = time.monotonic() - started
    video = inputs.get("video")
    truth = video if out.given and video is not None and len(video) > out.given and len(tasks) < 2 else None
    shape = out.variant.format
    for index, path in enumerate(targets):
        out.write(index, path, args.force)
        clip = out.videos[index] if out.videos else None
        record = {
            "task": "+".join(tasks) or out.variant.task.name,
            "prompt": args.prompt,
            "seed": args.seed + index,
            "path": str(path),
            "audio_path": str(path) if out.sounds and path.suffix.lower() != ".gif" else None,
            "frames": shape.frames,
            "fps": out.fps,
            "width": shape.width if clip is None else clip.width,
            "height": shape.height if clip is None else clip.height,
            "tokens": out.tokens,
            "seconds": round(seconds, 3),
            "tokens_per_second": round(out.tokens * len(targets) / seconds, 1),
            "model": name,
        }
        if truth is not None and clip is not None and args.upscale is None:
            record |= continuation(clip, truth, out.given)
        if args.json:
            emit(record)
        else:
            told = f"{path}: {shape.frames} frames, {out.tokens} tokens"
            if "psnr" in record:
                told += f"; psnr {record['psnr']} dB, repeating the last frame {record['psnr_repeat_last']} dB"
            say(told)


def make_long(args: argparse.Namespace, model: VideoLM, name: str) -> None:
    """Films of one scene, a seed each."""
    for option in ("last_image", "mask", "structure", "depth_model", "flow"):
        if getattr(args, option) is not None:
            raise UserError(f"--seconds makes a clip go on: it takes no --{option.replace('_', '-')}")
    if args.task and "+" in args.task:
        raise UserError("--seconds makes a clip of one task go on: make the others of what it made")
    if args.stream and args.num_videos > 1:
        raise UserError("--stream writes one clip to stdout: leave out --num-videos")
    targets = [Path("-")] if args.stream else paths(args, "long", (".mp4",))
    for index, path in enumerate(targets):
        options = {"task": args.task, "image": args.image, **sizes_of(args), **sampling_of(args)}
        options["generator"] = generators(args.seed + index, 1)
        tell(args, model, [Scene(args.prompt, args.seconds)], options, path, name)


def inputs_of(args: argparse.Namespace, model: VideoLM, tasks: list[str]) -> tuple[dict[str, Any], Variant]:
    """The media that a call is given, and what the last of its tasks makes."""
    inputs: dict[str, Any] = {
        "image": args.image,
        "last_image": args.last_image,
        "video": args.video,
        "mask": None if args.mask is None else mask(args.mask),
        "structure": args.structure,
        "audio": args.audio,
    }
    chain, made = len(tasks) > 1, args.depth_model is not None
    if args.flow and not made:
        raise UserError("--flow goes with --depth-model: both are what --structure is made with")
    if made and (args.structure is not None or (args.video is None and not chain)):
        raise UserError("--depth-model goes with --video: flow and depth are made of it")
    if made and not chain:
        inputs |= {"video": None, "structure": args.video}
    inputs = {name: value for name, value in inputs.items() if value is not None}
    maker = StructureMaker(args.depth_model, args.flow or "dis") if made else None
    if chain:
        inputs |= {} if maker is None else {"structure": maker}
        links(model.tasks, tasks, inputs)
        variant = model.tasks.find(tasks[-1])
    else:
        given = {*inputs, *([] if args.prompt is None else ["text"])}
        variant = model.choose(given, tasks[0] if tasks else None, **sizes_of(args))
    shape = variant.format
    for name in {"video", "structure"} & inputs.keys():
        if not callable(inputs[name]):
            pixels = (shape.height, shape.width)
            inputs[name] = read_video(inputs[name], fps=model.tasks.fps, size=pixels, max_frames=shape.frames)
    if maker is not None and not chain:
        inputs["structure"] = maker(inputs["structure"])
    return inputs, variant


def sizes_of(args: argparse.Namespace) -> dict[str, Any]:
    """The format asked for, as options of a call."""
    width, height = args.size or (None, None)
    return {"num_frames": args.num_frames, "height": height, "width": width}


def paths(args: argparse.Namespace, what: str, allowed: Sequence[str]) -> list[Path]:
    """Where each clip goes. Raises `UserError` before anything is written when one cannot go there."""
    out = Path(args.out)
    if out.suffix and not out.is_dir():
        if out.suffix.lower() not in allowed:
            raise UserError(f"--out {out}: {what} writes {' or '.join(allowed)}")
        one = args.num_videos == 1
        found = [out if one else out.with_stem(f"{out.stem}-{index}") for index in range(args.num_videos)]
    else:
        names = [f"{what}-{args.seed + index}{allowed[0]}" for index in range(args.num_videos)]
        found = [out / name for name in names]
    for path in found:
        check_writable(path, args.force)
    return found


def mask(text: str) -> Any:
    """A picture's file, or a box of four numbers.

    >>> mask("0,0,0.5,1")
    (0.0, 0.0, 0.5, 1.0)
    """
    try:
        box = tuple(map(float, text.split(",")))
    except ValueError:
        return text
    if len(box) != 4:
        raise UserError(f"--mask {text}: a box is LEFT,TOP,RIGHT,BOTTOM in shares of the picture, 0 to 1")
    return box


def continuation(clip: Video, truth: Video, given: int) -> dict[str, float]:
    """PSNR in dB of the frames after those given, beside that of repeating the last one given."""
    after = slice(given, min(len(truth), len(clip)))
    true = truth.to_tensor()[:, after][None]
    last = truth.to_tensor()[:, given - 1 : given].expand(-1, true.shape[2], -1, -1)[None]
    return {
        "psnr": round(float(psnr(clip.to_tensor()[:, after][None], true)), 2),
        "psnr_repeat_last": round(float(psnr(last, true)), 2),
    }
