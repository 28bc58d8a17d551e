"""A page of what the model that ships can do: clips of prompts, pictures, clips and sounds, and stories.

Writes mp4s, one contact sheet and an index.html that shows what was given and what was made side by side, and how often
such clips are right.

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

import numpy as np

from videolm.cli.arguments import add_model
from videolm.cli.output import emit, say
from videolm.data.sources import ShapesWorldData
from videolm.errors import UserError
from videolm.evaluate.pictures import masked, waveform
from videolm.evaluate.report import html_table
from videolm.evaluate.shapesbench import read_scores
from videolm.evaluate.tables import GROUPS, tables
from videolm.evaluate.world import World, hidden_of
from videolm.generate.sampling import generators
from videolm.media import Audio, Video, contact_sheet, write_audio, write_image, write_video
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
GIVEN = (
    *("image_to_video", "frame_prediction", "frame_interpolation", "inpainting_central", "outpainting_central"),
    *("stylization", "audio_to_video", "video_to_audio", "text_to_video_with_audio"),
)
"""Tasks that are shown with true inputs, those of them that a model has."""
SCENES = (3, 8)
"""Indices of ShapesWorld scenes that are given; with sound it is the first that bounces and the first that rises."""
SCENE_SEED = 2000
STORY = (
    "a small red circle moves right on a white background",
    "a small red circle moves left on a white background",
    "a small red circle turns blue on a white background",
)

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>videolm demo</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.4 system-ui, sans-serif; margin: 2rem auto; max-width: 64rem; padding: 0 1rem; }}
h2 {{ margin: 2rem 0 .5rem; }} small, .scores th {{ opacity: .65; }}
.made {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)); gap: 1rem; }}
figure {{ margin: 0; display: flex; gap: .8rem; align-items: center; }}
figure video, figure img {{ width: 128px; height: 128px; image-rendering: pixelated; object-fit: contain; }}
audio {{ width: 128px; }}
.scores {{ overflow-x: auto; }} .scores table {{ border-collapse: collapse; font-size: 13px; }}
.scores th, .scores td {{ padding: .3rem 1rem .3rem 0; text-align: left; white-space: nowrap; }}
</style>
<h1>videolm</h1>
<p>{count} clips by the model <code>{model}</code>, made in {seconds:.0f} s.</p>
{sections}
<p><a href="contact_sheet.png">contact sheet</a></p>
</html>
"""
SECTION = '<h2>{title}</h2>\n<div class="made">\n{figures}\n</div>'
FIGURE = "<figure>{given}{clip}<figcaption>{prompt}<br><small>seed {seed}</small></figcaption></figure>"
CLIP = '<video src="{name}" autoplay loop muted playsinline></video>'
SOUNDING = '<video src="{name}" controls loop playsinline></video>'
SOUND = '<audio src="{name}" controls></audio>'
PICTURE = '<img src="{name}" alt="a picture that was given">'
SCORES = "<h2>How often such clips are right</h2>\n<p>By measurement; in brackets 95% intervals.</p>\n{tables}"


class Made(NamedTuple):
    """One clip of the page."""

    task: str
    prompt: str
    seed: int
    given: str  # HTML of what went in
    name: str
    clip: Video
    sound: Audio | None = None


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
        name = f"{folder.name}@{model_hash(folder)}"
        (temporary / "index.html").write_text(page(made, name, seconds, measured(folder)), encoding="utf-8")
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
    known = {task.name for task in model.tasks.tasks}
    given = [task for task in GIVEN if task in known]
    told = "story_continuation" in known
    made: list[Made] = []
    with progress(1 + bool(model.parts.stages) + len(given) + told, "demo", "task") as bar:
        clips = model(PROMPTS, task="text_to_video", generator=generators(seed, len(PROMPTS))).videos
        for index, (prompt, clip) in enumerate(zip(PROMPTS, clips, strict=True)):
            made.append(Made("text_to_video", prompt, seed + index, "", f"text_to_video-{index}.mp4", clip))
        bar.update()
        if model.parts.stages:
            few = PROMPTS[:LARGER]
            clips = model(few, task="text_to_video", upscale=2, generator=generators(seed, LARGER)).videos
            for index, (prompt, clip) in enumerate(zip(few, clips, strict=True)):
                small = CLIP.format(name=f"text_to_video-{index}.mp4")
                made.append(
                    Made("super_resolution", prompt, seed + index, small, f"super_resolution-{index}.mp4", clip)
                )
            bar.update()
        for task in given:
            made += _of_scenes(model, task, out, seed)
            bar.update()
        if told:
            made.append(_story(model, seed))
            bar.update()
    for each in made:
        write_video(each.clip, out / each.name, audio=each.sound)
    return made


def _of_scenes(model: VideoLM, name: str, out: Path, seed: int) -> list[Made]:
    """Two clips of a task, whose inputs are those of true scenes."""
    variant = model.tasks.find(name)
    task = variant.task
    world = World(ShapesWorldData(seed=SCENE_SEED), variant.format, model.tasks.fps)
    chosen = SCENES
    if "audio" in task.sources:
        scenes = [world.source("video").scene(index) for index in range(100)]
        motions = [scene.objects[0].motion for scene in scenes]
        chosen = (motions.index("bounces"), motions.index("moves up"))
    inputs = world.inputs(variant, chosen)
    made = model(task=name, **inputs, generator=generators(seed, len(chosen)))
    found = []
    for index, prompt in enumerate(inputs["prompt"]):
        media = {key: values[index] for key, values in inputs.items() if key != "prompt"}
        if (hidden := hidden_of(task, variant.format)) is not None:
            media["video"] = masked(media["video"], hidden)
        given = "".join(_show(each, out, f"{name}-{index}-{key}") for key, each in media.items())
        sound = made.sounds[index] if made.sounds else None
        found.append(Made(name, prompt, seed + index, given, f"{name}-{index}.mp4", made.videos[index], sound))
    return found


def _story(model: VideoLM, seed: int) -> Made:
    shape, fps = model.tasks.formats[0], model.tasks.fps
    scenes = [(prompt, (shape.frames - (number > 0)) / fps) for number, prompt in enumerate(STORY)]
    chunks = model.story(scenes, task="text_to_video", generator=generators(seed, 1))
    film = Video(np.concatenate([chunk.videos[0].frames for chunk in chunks]), fps)
    return Made("story", "; then ".join(STORY), seed, "", "story.mp4", film)


def _show(given: Video | Image | Audio, out: Path, stem: str) -> str:
    """Write what went in, and the HTML that shows it."""
    if isinstance(given, Audio):
        write_audio(given, out / f"{stem}.wav")
        write_image(Image(waveform(given).frames[0]), out / f"{stem}.png")
        return f"<span>{PICTURE.format(name=f'{stem}.png')}<br>{SOUND.format(name=f'{stem}.wav')}</span>"
    if isinstance(given, Image):
        write_image(given, out / f"{stem}.png")
        return PICTURE.format(name=f"{stem}.png")
    write_video(given, out / f"{stem}.mp4")
    return CLIP.format(name=f"{stem}.mp4")


def measured(folder: Path) -> str:
    """HTML of the tables of a model's `scores.json`, nothing where it has none."""
    found = read_scores(folder / "scores.json")
    if found is None:
        return ""
    shown = [
        f"<h3>{html.escape(GROUPS[group].title)}</h3>\n{html_table(lines)}" for group, lines in tables(found[1]).items()
    ]
    return SCORES.format(tables=f'<div class="scores">{"".join(shown)}</div>')


def page(made: list[Made], model: str, seconds: float, scores: str = "") -> str:
    """The index.html of a demo."""
    sections = []
    for task in dict.fromkeys(each.task for each in made):
        figures = [
            FIGURE.format(
                given=m.given,
                prompt=html.escape(m.prompt),
                seed=m.seed,
                clip=(CLIP if m.sound is None else SOUNDING).format(name=m.name),
            )
            for m in made
            if m.task == task
        ]
        sections.append(SECTION.format(title=task.replace("_", " "), figures="\n".join(figures)))
    told = "\n".join([*sections, scores])
    return PAGE.format(count=len(made), model=html.escape(model), seconds=seconds, sections=told)
