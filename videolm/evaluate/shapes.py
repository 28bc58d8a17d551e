"""Tasks by ShapesWorld's judge, who reads attributes back from pixels and sounds; and the tokenizer alone, since
reconstruction is the ceiling of generation.

scenes of a seed ──► true inputs, canonical captions ──► VideoLM ──► clips, sounds ──► judge ──► a row of measures

What is drawn for a scene follows from the seed and the scene's index alone, so it is the same in batches of any size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch

from videolm import shapesworld
from videolm.data.sources import ShapesWorldData
from videolm.errors import UserError
from videolm.evaluate.pictures import masked, waveform
from videolm.evaluate.row import Case, Row
from videolm.evaluate.tokenizer import evaluate_tokenizer, open_source
from videolm.evaluate.world import World, hidden_of
from videolm.generate.sampling import generators
from videolm.media import Audio, Image, Video
from videolm.pipeline import VideoLM
from videolm.progress import progress
from videolm.shapes import Format
from videolm.shapesworld import Scene
from videolm.shapesworld.world import FPS
from videolm.tasks import Audio as AudioPart
from videolm.tasks import Task, Variant, Visual

Split = Literal["train", "held_out"]
SEED = 1000
"""Of evaluation scenes; training draws from small seeds."""
BATCH = 32
SEEN = 0.2
"""Of the object, which is to be seen beside a mask in some frame: what is hidden whole cannot be painted."""
TRIES = 1000
"""Scenes drawn for each that is seen so, before it is said that there are none."""


def scenes(count: int, split: Split, seed: int = SEED) -> list[Scene]:
    """Scenes to evaluate on: combinations seen in training, or held out of it."""
    return [shapesworld.draw_scene(seed, index, split=split) for index in range(count)]


def pairs(count: int, seed: int = SEED) -> list[Scene]:
    """Scenes of two objects."""
    return [shapesworld.draw_scene(seed, index, two_objects=1.0) for index in range(count)]


def scenes_for(task: Task, shape: Format, samples: int, seed: int = SEED) -> list[Scene]:
    """The first scenes of a seed; for a task with a mask those of which enough is seen beside it (`SEEN`).

    Raises `UserError` for a mask beside which hardly anything is ever seen.
    """
    hidden = hidden_of(task, shape)
    if hidden is None:
        return scenes(samples, "train", seed)
    source, found = ShapesWorldData(seed=seed).open("video", shape, FPS, "train"), list[Scene]()
    for index in range(TRIES * samples):
        thing = shapesworld.foreground(source[index].media.frames)
        seen = (thing & ~hidden).sum((1, 2)) / thing.sum((1, 2)).clip(1)
        if seen.max() >= SEEN:
            found.append(source.scene(index))
        if len(found) == samples:
            return found
    raise UserError(f"{task.name} hides more than {1 - SEEN:.0%} of the object in nearly every scene")


def evaluate_task(
    model: VideoLM,
    task: str,
    samples: int,
    *,
    split: Split = "train",
    seed: int = SEED,
    batch: int = BATCH,
    prompted: bool = True,
) -> dict[str, float]:
    """The means of a task's row (`task_row`), of its variant with most frames given, and the number of samples.

    `held_out` scores are averaged over motions. Tasks whose text is optional can be judged without it (`prompted`).
    Raises `UserError` as `task_row`.
    """
    variant = model.tasks.find(task)
    drawn = scenes(samples, split, seed) if split == "held_out" else None
    row = task_row(model, variant, samples, drawn, seed=seed, batch=batch, prompted=prompted)
    if drawn is not None:
        row.weights = shapesworld.motion_weights(drawn)
    return row.scores()


def evaluate_reconstruction(model: VideoLM, samples: int, seed: int = SEED) -> dict[str, float]:
    """The means of `reconstruction_row`, and the number of samples."""
    return reconstruction_row(model, samples, seed=seed).scores()


@torch.inference_mode()
def reconstruction_row(model: VideoLM, samples: int, *, seed: int = SEED, batch: int = BATCH, shown: int = 0) -> Row:
    """The judge's attributes of true clips that training did not see after the tokenizer alone, and "psnr" in dB; of
    all of them together "sharpness_ratio" (over the true clips'), "codes_used" and "perplexity".

    Raises `UserError` for a format that ShapesWorld does not have.
    """
    source = open_source(None, model.tasks.formats[0], model.tasks.fps, samples=samples, seed=seed)
    report = evaluate_tokenizer(model.tokenizer, source, batch=batch, with_ssim=False)
    row = Row("tokenizer", shown)
    for start in range(0, samples, batch):
        decoded = model.tokenizer.decode(report.codes[start : start + batch].to(model.device)).float().clamp(-1, 1)
        clips = [Video.from_tensor(clip, model.tasks.fps) for clip in decoded[:, :, : model.tasks.formats[0].frames]]
        examples = [source[index] for index in report.indices[start : start + batch]]
        seen = [shapesworld.judge(clip.frames) for clip in clips]
        measured = shapesworld.marks(seen, [example.captions[0] for example in examples])

        def show(place: int, examples: Any = examples, clips: list[Video] = clips, seen: Any = seen) -> Case:
            strips = [(f"came back: {seen[place].words}", clips[place]), ("true", examples[place].media)]
            return Case(examples[place].captions[0], strips)

        row.add({**measured, "psnr": np.array(report.psnr[start : start + batch])}, show)
    row.whole = {"sharpness_ratio": report.scores["sharpness"]}
    row.whole |= {name: report.scores[name] for name in ("codes_used", "perplexity")}
    return row


def task_rows(
    model: VideoLM, name: str, samples: int, *, seed: int = SEED, batch: int = BATCH, shown: int = 0
) -> dict[str, Row]:
    """The rows of a task, in its first format: one for each number of frames given; of text-to-video also on held-out
    combinations and on two objects, if captions of two are not too long; of a clip for a sound also without the prompt,
    which says much of what the sound does.

    Raises `UserError` as `task_row`.
    """
    settings: dict[str, Any] = {"seed": seed, "batch": batch, "shown": shown}
    task, shape = model.tasks.get(name), model.tasks.find(name).format
    variants = [variant for variant in task.variants(model.tasks.formats) if variant.format == shape]
    rows: dict[str, Row] = {}
    for variant in variants:
        frames = f"{variant.prefix} frame{'s' * (variant.prefix != 1)} given"
        title = f"{name}, {frames}" if len(variants) > 1 else name
        rows[title] = task_row(model, variant, samples, title=title, **settings)
    if name == "text_to_video":
        title, drawn = f"{name}, held out", scenes(samples, "held_out", seed)
        rows[title] = task_row(model, variants[0], samples, drawn, title=title, **settings)
        rows[title].weights = shapesworld.motion_weights(drawn)
        title, drawn = f"{name}, two objects", pairs(samples, seed)
        longest = max(map(len, model.text.tokenize([shapesworld.caption(scene) for scene in drawn])))
        if longest <= model.tasks.text_length:
            rows[title] = task_row(model, variants[0], samples, drawn, title=title, **settings)
    if AudioPart() in task.inputs and task.visual is not None and task.text is not None and task.text.optional:
        title = f"{name}, without prompt"
        rows[title] = task_row(model, variants[0], samples, title=title, prompted=False, **settings)
    return rows


def task_row(
    model: VideoLM,
    variant: Variant,
    samples: int,
    drawn: Sequence[Scene] | None = None,
    *,
    title: str = "",
    seed: int = SEED,
    batch: int = BATCH,
    prompted: bool = True,
    shown: int = 0,
) -> Row:
    """What the judge says of a task (`World.measures`).

    Args:
        drawn: scenes in place of those that are drawn for it (`scenes_for`).
        title: of its progress.
        prompted: False leaves out a prompt that is optional.
        shown: see `Row`.

    Raises `UserError` for a model at another rate, and for a task that nothing goes into.
    """
    task, shape, _ = variant
    if not task.inputs:
        raise UserError(f"{task.name} takes nothing, so there is nothing to judge it by")
    drawn = scenes_for(task, shape, samples, seed) if drawn is None else drawn
    world = World(ShapesWorldData(seed=seed, clips=samples), shape, model.tasks.fps, drawn)
    row = Row(_group(task), shown)
    with progress(samples, title or task.name, "clip") as bar:
        for start in range(0, samples, batch):
            indices = range(start, min(start + batch, samples))
            inputs = world.inputs(variant, indices)
            if not prompted:
                inputs.pop("prompt", None)
            out = model(task=task.name, **inputs, generator=generators(seed + start, len(indices)))
            measured = world.measures(task, indices, out.videos, out.sounds, prompted=prompted)

            def show(place: int, start: int = start, inputs: dict[str, Any] = inputs, out: Any = out) -> Case:
                given = {name: values[place] for name, values in inputs.items()}
                video, sound = (made[place] if made else None for made in (out.videos, out.sounds))
                return _case(world, variant, start + place, given, video, sound)

            row.add(measured, show)
            bar.update(len(indices))
    return row


def _group(task: Task) -> str:
    parts = [*task.inputs, *task.outputs]
    if any(isinstance(part, AudioPart) for part in parts):
        return "sound"
    return "conditions" if any(isinstance(part, Visual) for part in task.inputs) else "prompts"


def _case(
    world: World, variant: Variant, index: int, given: dict[str, Any], video: Video | None, sound: Audio | None
) -> Case:
    """What went in, came out and is true, as pictures."""
    strips: list[tuple[str, Video]] = []
    task, hidden = variant.task, hidden_of(variant.task, world.shape)
    for name, value in given.items():
        if isinstance(value, Image):
            strips.append((f"given: {name.replace('_', ' ')}", Video(value.pixels[None], world.fps)))
        elif isinstance(value, Audio):
            first = round(variant.prefix / world.fps * value.rate)  # no more is heard of one that is gone on with
            part = AudioPart(frames="prefix") in task.inputs
            strips.append(("given: sound", waveform(value.fitted(first) if part else value)))
        elif isinstance(value, Video):
            frames = f" of {len(value)} frames" if len(value) < world.shape.frames else ""
            strips.append((f"given: {name}{frames}", value if hidden is None else masked(value, hidden)))
    said = f"made: {world.told(task, index, video, sound)}"
    if task.visual is not None and video is not None:
        strips.append((said, video))
        strips.append(("true", world.source(task.visual.stream)[index].media))
    if task.audio is not None and sound is not None:
        strips.append(("made: sound" if task.visual is not None else said, waveform(sound)))
        strips.append(("true: sound", waveform(world.source("audio")[index].media)))
    asked = given.get("prompt")
    if asked is None:
        true = world.source(task.sources[0].partition(".")[0])[index]
        asked = f"no prompt; of {true.captions[0]}"
    return Case(asked, strips)
