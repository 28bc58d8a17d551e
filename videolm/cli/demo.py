"""A page of clips made by the model that ships: text-to-video, image-to-video and frame prediction.

Writes mp4s, one contact sheet and an index.html that shows prompt and clip side by side.

example:
  videolm demo --out demo --force
"""

from __future__ import annotations

import argparse
import html
import shutil
import time
from pathlib import Path
from typing import NamedTuple

from videolm import shapesworld
from videolm.cli.arguments import add_model
from videolm.cli.output import emit, say
from videolm.errors import UserError
from videolm.generate.sampling import generators
from videolm.media import Video, contact_sheet, write_image, write_video
from videolm.media.clip import Image
from videolm.pipeline import VideoLM
from videolm.pipeline.folder import model_folder, model_hash
from videolm.progress import progress

PROMPTS = (
    "a large red circle moves right on a black background",
    "a small yellow star bounces on a brown background",
    "a large cyan triangle moves up on a white background",
    "a large purple square grows on a pink background",
    "a small green cross moves left on a gray background",
    "a large orange diamond shrinks on a black background",
)
LARGER = 2
"""How many of them are shown at twice their height and width too."""
SCENES = (3, 8)
"""Indices of ShapesWorld scenes whose first frames are given."""
SCENE_SEED = 2000

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>videolm demo</title>
<style>
body {{ font: 16px/1.4 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; }}
table {{ border-collapse: collapse; }} td {{ padding: .5rem 1rem .5rem 0; vertical-align: middle; }}
video, td img {{ width: 128px; height: 128px; image-rendering: pixelated; }}
small {{ color: #666; }}
</style>
<h1>videolm</h1>
<p>{count} clips by the model <code>{model}</code>, made in {seconds:.0f} s.</p>
{sections}
<p><a href="contact_sheet.png">contact sheet</a></p>
</html>
"""
SECTION = "<h2>{task}</h2>\n<table>\n{rows}\n</table>"
ROW = "<tr><td>{given}</td><td>{prompt}<br><small>seed {seed}</small></td><td>{clip}</td></tr>"
CLIP = '<video src="{name}" autoplay loop muted playsinline></video>'
PICTURE = '<img src="{name}" alt="the first frame given">'


class Made(NamedTuple):
    """One clip of the page."""

    task: str
    prompt: str
    seed: int
    given: str  # HTML of what went in
    clip: Video
    name: str


OPEN = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", metavar="DIR", default="demo", help="the folder to write (default: demo)")
    add_model(parser)
    parser.add_argument(
        "--seed", metavar="S", type=int, default=0, help="of a task's first clip, one more each (default: 0)"
    )
    parser.add_argument("--force", action="store_true", help="write over an earlier demo there")
    parser.add_argument("--json", action="store_true", help="one JSON object a clip on stdout")


def run(args: argparse.Namespace) -> None:
    out = Path(args.out)
    if out.exists() and not args.force:
        raise UserError(f"{out} exists already; choose another --out, or overwrite it with --force")
    if out.exists() and not (out.is_dir() and ((out / "index.html").exists() or not any(out.iterdir()))):
        raise UserError(f"{out} is not an earlier demo; choose another --out")
    folder = model_folder(args.model)
    model = VideoLM.from_pretrained(folder)
    started = time.monotonic()
    temporary = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        made = make(model, temporary, args.seed)
        seconds = time.monotonic() - started
        (temporary / "index.html").write_text(page(made, f"{folder.name}@{model_hash(folder)}", seconds))
        write_image(contact_sheet([(f"{m.task}: {m.prompt}", m.clip) for m in made]), temporary / "contact_sheet.png")
        shutil.rmtree(out, ignore_errors=True)
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    if args.json:
        for each in made:
            emit({"task": each.task, "prompt": each.prompt, "seed": each.seed, "path": str(out / each.name)})
    say(f"{len(made)} clips in {seconds:.1f} s; open {out / 'index.html'}")


def make(model: VideoLM, out: Path, seed: int) -> list[Made]:
    """Generate every clip of the page into `out`; a task's clips have seeds from `seed` on."""
    made: list[Made] = []
    with progress(4 if model.parts.stages else 3, "demo", "task") as bar:
        clips = model(PROMPTS, task="text_to_video", generator=generators(seed, len(PROMPTS))).videos
        for index, (prompt, clip) in enumerate(zip(PROMPTS, clips, strict=True)):
            made.append(Made("text_to_video", prompt, seed + index, "", clip, f"text_to_video-{index}.mp4"))
        bar.update()
        if model.parts.stages:
            few = PROMPTS[:LARGER]
            clips = model(few, task="text_to_video", upscale=2, generator=generators(seed, LARGER)).videos
            for index, (prompt, clip) in enumerate(zip(few, clips, strict=True)):
                small = CLIP.format(name=f"text_to_video-{index}.mp4")
                name = f"super_resolution-{index}.mp4"
                made.append(Made("super_resolution", prompt, seed + index, small, clip, name))
            bar.update()
        scenes = [shapesworld.draw_scene(SCENE_SEED, index) for index in SCENES]
        prompts = [shapesworld.caption(scene) for scene in scenes]
        for task in ("image_to_video", "frame_prediction"):
            variant = model.tasks.find(task)
            size = (variant.format.height, variant.format.width)
            given = [Video(shapesworld.render(scene, size=size)[: variant.prefix], model.tasks.fps) for scene in scenes]
            pictures = "image" in variant.task.takes
            inputs = {"image": [Image(clip.frames[0]) for clip in given]} if pictures else {"video": given}
            clips = model(prompts, task=task, **inputs, generator=generators(seed, len(prompts))).videos
            for index, (prompt, first, clip) in enumerate(zip(prompts, given, clips, strict=True)):
                stem = f"{task}-{index}"
                shown = _show(first, out, f"{stem}-given")
                made.append(Made(task, prompt, seed + index, shown, clip, f"{stem}.mp4"))
            bar.update()
    for each in made:
        write_video(each.clip, out / each.name)
    return made


def _show(given: Video, out: Path, stem: str) -> str:
    """Write what went in, and the HTML that shows it."""
    if len(given) == 1:
        write_image(Image(given.frames[0]), out / f"{stem}.png")
        return PICTURE.format(name=f"{stem}.png")
    write_video(given, out / f"{stem}.mp4")
    return CLIP.format(name=f"{stem}.mp4")


def page(made: list[Made], model: str, seconds: float) -> str:
    """The index.html of a demo."""
    sections = []
    for task in dict.fromkeys(each.task for each in made):
        rows = [
            ROW.format(given=m.given, prompt=html.escape(m.prompt), seed=m.seed, clip=CLIP.format(name=m.name))
            for m in made
            if m.task == task
        ]
        sections.append(SECTION.format(task=task.replace("_", " "), rows="\n".join(rows)))
    return PAGE.format(count=len(made), model=html.escape(model), seconds=seconds, sections="\n".join(sections))
