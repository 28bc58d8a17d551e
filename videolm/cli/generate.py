"""Make clips by one task. TASK may be left out when the inputs make it plain.

examples:
  videolm generate text_to_video --prompt "a small red circle moves right on a blue background" --num-videos 4
  videolm generate image_to_video --image first.png --out clip.mp4
  videolm generate frame_prediction --video clip.mp4 --json
"""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from videolm.cli.arguments import size
from videolm.cli.output import emit, say
from videolm.errors import UserError
from videolm.files import check_writable
from videolm.generate.sampling import generators
from videolm.media import Video, read_video, write_image, write_video
from videolm.media.clip import Image
from videolm.metrics import psnr
from videolm.pipeline import VideoLM
from videolm.pipeline.folder import model_folder, model_hash
from videolm.progress import progress
from videolm.tasks import Variant

SUFFIXES = (".mp4", ".gif")
PICTURES = (".png", ".jpg", ".jpeg")

OPEN = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", metavar="TASK", nargs="?", help="see `videolm tasks`")
    parser.add_argument("--prompt", metavar="TEXT", help="what the clip shows")
    parser.add_argument("--negative-prompt", metavar="TEXT", help="what guidance leads away from")
    parser.add_argument("--image", metavar="FILE", help="the first frame")
    parser.add_argument("--video", metavar="FILE", help="a clip whose first frames are gone on from")
    parser.add_argument("--num-frames", metavar="N", type=int, help="frames of the clip")
    parser.add_argument("--size", metavar="WxH", type=size, help="pixels, for example 64x64")
    parser.add_argument("--num-videos", metavar="N", type=int, default=1, help="clips to make (default: 1)")
    parser.add_argument("--seed", metavar="S", type=int, default=0, help="of the first clip; the next ones count up")
    parser.add_argument("--guidance-scale", metavar="G", type=float, help="1: as trained; more: closer to the prompt")
    parser.add_argument("--temperature", metavar="T", type=float, help="0: always the likeliest id")
    parser.add_argument("--top-k", metavar="K", type=int, help="draw from the K likeliest ids; 0: from all")
    parser.add_argument("--top-p", metavar="P", type=float, help="draw from the likeliest ids with this probability")
    parser.add_argument("--model", metavar="DIR", help="a model folder or hub name (default: the one that ships)")
    parser.add_argument("--out", metavar="PATH", default="outputs/", help="a file or a folder (default: outputs/)")
    parser.add_argument("--force", action="store_true", help="overwrite what is there")
    parser.add_argument("--json", action="store_true", help="one JSON object a clip on stdout")


def run(args: argparse.Namespace) -> None:
    if args.num_videos < 1:
        raise UserError(f"--num-videos is {args.num_videos}, and must be at least 1")
    folder = model_folder(args.model)
    model = VideoLM.from_pretrained(folder)
    width, height = args.size or (None, None)
    inputs = {"text": args.prompt, "image": args.image, "video": args.video}
    given = {name for name, value in inputs.items() if value is not None}
    variant = model.choose(given, args.task, num_frames=args.num_frames, height=height, width=width)
    targets = paths(args, variant)
    shape = variant.format
    video = None
    if args.video is not None:
        pixels = (shape.height, shape.width)
        video = read_video(args.video, fps=model.tasks.fps, size=pixels, max_frames=shape.frames)
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
            image=args.image,
            video=video,
            negative_prompt=args.negative_prompt,
            height=height,
            width=width,
            num_frames=args.num_frames,
            num_videos_per_prompt=args.num_videos,
            guidance_scale=args.guidance_scale,
            temperature=args.temperature,
            top_k=args.top_k,
            top_p=args.top_p,
            generator=generators(args.seed, args.num_videos),
            callback_on_step_end=on_step,
        )
    seconds = time.monotonic() - started
    truth = video if video is not None and len(video) > out.given else None
    for index, (clip, path) in enumerate(zip(out.videos, targets, strict=True)):
        write(clip, path, args.force)
        record = {
            "task": out.variant.task.name,
            "prompt": args.prompt,
            "seed": args.seed + index,
            "path": str(path),
            "audio_path": None,
            "frames": len(clip),
            "fps": clip.fps,
            "width": clip.width,
            "height": clip.height,
            "tokens": out.tokens,
            "seconds": round(seconds, 3),
            "tokens_per_second": round(out.tokens * len(out.videos) / seconds, 1),
            "model": f"{folder.name}@{model_hash(folder)}",
        }
        if truth is not None:
            record |= continuation(clip, truth, out.given)
        if args.json:
            emit(record)
        else:
            told = f"{path}: {len(clip)} frames, {out.tokens} tokens"
            if truth is not None:
                told += f"; psnr {record['psnr']} dB, repeating the last frame {record['psnr_repeat_last']} dB"
            say(told)


def paths(args: argparse.Namespace, variant: Variant) -> list[Path]:
    """Where each clip goes. Raises `UserError` before anything is written when one cannot go there."""
    out, picture = Path(args.out), variant.format.frames == 1
    allowed = PICTURES if picture else SUFFIXES
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


def write(clip: Video, path: Path, force: bool) -> None:
    """A clip, or a picture when it has one frame."""
    if len(clip) == 1:
        write_image(Image(clip.frames[0]), path, overwrite=force)
    else:
        write_video(clip, path, overwrite=force)


def continuation(clip: Video, truth: Video, given: int) -> dict[str, float]:
    """PSNR in dB of the frames after those given, beside that of repeating the last one given."""
    after = slice(given, min(len(truth), len(clip)))
    true = truth.to_tensor()[:, after][None]
    last = truth.to_tensor()[:, given - 1 : given].expand(-1, true.shape[2], -1, -1)[None]
    return {
        "psnr": round(float(psnr(clip.to_tensor()[:, after][None], true)), 2),
        "psnr_repeat_last": round(float(psnr(last, true)), 2),
    }
