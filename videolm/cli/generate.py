"""Make clips, pictures or sounds by one task. TASK may be left out when the inputs make it plain.

examples:
  videolm generate text_to_video --prompt "a small red circle moves right on a blue background" --num-videos 4
  videolm generate image_to_video --image first.png --out clip.mp4
  videolm generate frame_prediction --video clip.mp4 --json
  videolm generate inpainting_central --video clip.mp4 --mask 0.25,0.25,0.75,0.75
  videolm generate reverse_clip --tasks my_tasks.py --video clip.mp4 --model runs/mine/model
"""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from videolm.cli.arguments import add_decoding, decoding_of, size
from videolm.cli.output import emit, say
from videolm.data.conditions import StructureMaker
from videolm.errors import UserError
from videolm.files import check_writable
from videolm.generate.sampling import generators
from videolm.media import Video, read_video
from videolm.metrics import psnr
from videolm.pipeline import VideoLM
from videolm.pipeline.folder import model_folder, model_hash
from videolm.pipeline.output import SUFFIXES, kind_of
from videolm.progress import progress
from videolm.tasks import Variant
from videolm.tasks.file import load_tasks

OPEN = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", metavar="TASK", nargs="?", help="see `videolm tasks`")
    parser.add_argument("--prompt", metavar="TEXT", help="what the clip shows")
    parser.add_argument("--negative-prompt", metavar="TEXT", help="what guidance leads away from")
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
    parser.add_argument("--size", metavar="WxH", type=size, help="pixels, for example 64x64")
    parser.add_argument("--num-videos", metavar="N", type=int, default=1, help="clips to make (default: 1)")
    parser.add_argument("--seed", metavar="S", type=int, default=0, help="of the first clip; the next ones count up")
    parser.add_argument("--guidance-scale", metavar="G", type=float, help="1: as trained; more: closer to the prompt")
    parser.add_argument("--guide-by", choices=("text", "all"), help="closer to the prompt, or to all that is given")
    parser.add_argument("--temperature", metavar="T", type=float, help="0: always the likeliest id")
    parser.add_argument("--top-k", metavar="K", type=int, help="draw from the K likeliest ids; 0: from all")
    parser.add_argument("--top-p", metavar="P", type=float, help="draw from the likeliest ids with this probability")
    add_decoding(parser)
    parser.add_argument("--model", metavar="DIR", help="a model folder or hub name (default: the one that ships)")
    parser.add_argument("--out", metavar="PATH", default="outputs/", help="a file or a folder (default: outputs/)")
    parser.add_argument("--force", action="store_true", help="overwrite what is there")
    parser.add_argument("--json", action="store_true", help="one JSON object a clip on stdout")


def run(args: argparse.Namespace) -> None:
    if args.num_videos < 1:
        raise UserError(f"--num-videos is {args.num_videos}, and must be at least 1")
    folder = model_folder(args.model)
    model = VideoLM.from_pretrained(folder, decoding=decoding_of(args))
    if args.tasks:
        model.add_tasks(load_tasks(args.tasks))
    width, height = args.size or (None, None)
    inputs: dict[str, Any] = {
        "image": args.image,
        "last_image": args.last_image,
        "video": args.video,
        "mask": None if args.mask is None else mask(args.mask),
        "structure": args.structure,
        "audio": args.audio,
    }
    made = args.depth_model is not None
    if args.flow and not made:
        raise UserError("--flow goes with --depth-model: both are what --structure is made with")
    if made:
        if args.video is None or args.structure is not None:
            raise UserError("--depth-model goes with --video: flow and depth are made of it")
        inputs |= {"video": None, "structure": args.video}
    inputs = {name: value for name, value in inputs.items() if value is not None}
    given = {*inputs, *([] if args.prompt is None else ["text"])}
    variant = model.choose(given, args.task, num_frames=args.num_frames, height=height, width=width)
    targets = paths(args, variant)
    shape = variant.format
    for name in {"video", "structure"} & inputs.keys():
        pixels = (shape.height, shape.width)
        inputs[name] = read_video(inputs[name], fps=model.tasks.fps, size=pixels, max_frames=shape.frames)
    if made:
        inputs["structure"] = StructureMaker(args.depth_model, args.flow or "dis")(inputs["structure"])
    started = time.monotonic()
    with ExitStack() as stack:  # the bar appears with the first id: what is wrong with the inputs is said before
        bar: Any = None

        def on_step(_: VideoLM, done: int, of: int, __: dict[str, Any]) -> None:
            nonlocal bar
            if bar is None:
                bar = stack.enter_context(progress(of, "generate", "id"))
            bar.update(done - bar.n)

        out = model(
            args.prompt,
            task=args.task,
            **inputs,
            negative_prompt=args.negative_prompt,
            height=height,
            width=width,
            num_frames=args.num_frames,
            num_videos_per_prompt=args.num_videos,
            guidance_scale=args.guidance_scale,
            guide_by=args.guide_by,
            temperature=args.temperature,
            top_k=args.top_k,
            top_p=args.top_p,
            generator=generators(args.seed, args.num_videos),
            callback_on_step_end=on_step,
        )
    seconds = time.monotonic() - started
    video = inputs.get("video")
    truth = video if out.given and video is not None and len(video) > out.given else None
    for index, path in enumerate(targets):
        out.write(index, path, args.force)
        clip = out.videos[index] if out.videos else None
        record = {
            "task": out.variant.task.name,
            "prompt": args.prompt,
            "seed": args.seed + index,
            "path": str(path),
            "audio_path": str(path) if out.sounds and path.suffix.lower() != ".gif" else None,
            "frames": shape.frames,
            "fps": out.fps,
            "width": shape.width,
            "height": shape.height,
            "tokens": out.tokens,
            "seconds": round(seconds, 3),
            "tokens_per_second": round(out.tokens * len(targets) / seconds, 1),
            "model": f"{folder.name}@{model_hash(folder)}",
        }
        if truth is not None and clip is not None:
            record |= continuation(clip, truth, out.given)
        if args.json:
            emit(record)
        else:
            told = f"{path}: {shape.frames} frames, {out.tokens} tokens"
            if "psnr" in record:
                told += f"; psnr {record['psnr']} dB, repeating the last frame {record['psnr_repeat_last']} dB"
            say(told)


def paths(args: argparse.Namespace, variant: Variant) -> list[Path]:
    """Where each clip goes. Raises `UserError` before anything is written when one cannot go there."""
    out, allowed = Path(args.out), SUFFIXES[kind_of(variant.task)]
    if out.suffix and not out.is_dir():
        if out.suffix.lower() not in allowed:
            raise UserError(f"--out {out}: {variant.task.name} writes {' or '.join(allowed)}")
        one = args.num_videos == 1
        found = [out if one else out.with_stem(f"{out.stem}-{index}") for index in range(args.num_videos)]
    else:
        names = [f"{variant.task.name}-{args.seed + index}{allowed[0]}" for index in range(args.num_videos)]
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
