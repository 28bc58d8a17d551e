"""What a model keeps right over more than a clip: stories of three scenes, and one object that stays where it is.

Both are told by `VideoLM.story`, several at once, each going on from the frames that it made.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

import numpy as np
import torch

from videolm import shapesworld
from videolm.evaluate.row import Case, Row
from videolm.evaluate.shapes import BATCH, SEED
from videolm.evaluate.world import LOST
from videolm.generate.sampling import generators
from videolm.media import Image, Video
from videolm.media.clip import Pixels
from videolm.metrics import mean_colour, sharpness
from videolm.pipeline import VideoLM
from videolm.pipeline.story import going_on
from videolm.progress import progress
from videolm.shapesworld import Attributes, Judgement, Scene, Story
from videolm.shapesworld.world import FRAMES, TURNS, displacement

SCENES = 3
EXTENSIONS = 20
"""Times that a long clip goes on."""
FASTEST = float(np.abs(np.diff(displacement("bounces", np.linspace(0, 1, FRAMES))[:, 1])).max())
"""Frame widths that anything moves in a frame: 0.134, when it bounces."""
JOLT = 0.05
"""Frame widths more than that, and it has jumped."""
SWELL = 1.25
"""A radius that changes by this factor in a frame has jumped too: the fastest takes 17 frames to double."""


def stories(samples: int, seed: int = SEED) -> list[Story]:
    """The first stories of a seed that have three scenes."""
    drawn = (shapesworld.draw_story(seed, index) for index in count())
    three = (story for story in drawn if len(story.scenes) == SCENES)
    return [next(three) for _ in range(samples)]


def still_scenes(samples: int, seed: int = SEED) -> list[Scene]:
    """The first scenes of a seed in which the object stays still."""
    drawn = (shapesworld.draw_scene(seed, index) for index in count())
    still = (scene for scene in drawn if scene.objects[0].motion == "stays still")
    return [next(still) for _ in range(samples)]


def story_row(model: VideoLM, samples: int, *, seed: int = SEED, batch: int = BATCH, shown: int = 0) -> Row:
    """Stories of three scenes, each begun from its true first frame where the model has image_to_video.

    - "prompts": all attributes of all three captions are right; "scene_prompt": the share of its scenes whose caption
      is wholly right.
    - "object_kept": shape and background are the same in all scenes and the object is there in every frame, its colour
      the same but where the caption lets it turn to another.
    - "smooth": from the frame that two scenes share to the next, the object's centroid moves no further than anything
      moves in a frame (`FASTEST`) and 0.05, and its radius changes by less than a factor of 1.25.

    Raises `UserError` for a model that does not go on from a clip.
    """
    shape, fps = model.tasks.formats[0], model.tasks.fps
    size, drawn, step = (shape.height, shape.width), stories(samples, seed), shape.frames - 1
    row = Row("story", shown)
    overlap(model, new_scene=True)
    with progress(samples, "story", "story") as bar:
        for start in range(0, samples, batch):
            told = drawn[start : start + batch]
            prompts = [list(texts) for texts in zip(*(story.captions for story in told), strict=True)]
            seconds = [(step + (number == 0)) / fps for number in range(SCENES)]
            options: dict[str, Any] = {"task": "text_to_video"}
            if _takes_image(model):
                firsts = [Image(shapesworld.render(story.scenes[0], FRAMES, size)[0]) for story in told]
                options = {"task": "image_to_video", "image": firsts}
            seeds = generators(seed + start, len(told))
            chunks = list(model.story(list(zip(prompts, seconds, strict=True)), **options, generator=seeds))
            films = [np.concatenate([chunk.videos[place].frames for chunk in chunks]) for place in range(len(told))]

            def show(place: int, told: list[Story] = told, films: list[Pixels] = films, given: Any = options) -> Case:
                strips = [] if "image" not in given else [("given", Video(given["image"][place].pixels[None], fps))]
                true = shapesworld.render_story(told[place], shape.frames, size)
                for number, caption in enumerate(told[place].captions):
                    made, wanted = (Video(_scene(film, number), fps) for film in (films[place], true))
                    seen = shapesworld.judge(made.frames, story=True).words
                    strips += [(f"made, scene {number + 1}: {seen}", made), (f"true: {caption}", wanted)]
                return Case("; ".join(told[place].captions), strips)

            row.add(_stacked([_judged(film, story) for film, story in zip(films, told, strict=True)]), show)
            bar.update(len(told))
    return row


def long_row(model: VideoLM, samples: int, *, seed: int = SEED, batch: int = BATCH, shown: int = 0) -> Row:
    """Clips of an object that stays still, of their prompt alone, gone on with twenty times.

    "first_right" and "last_right": all attributes of the first clip, and of as many frames at the end; "background",
    "colour", "shape" and "size" of those. "drift": frame widths from the object's first place to its last, 1 where it
    is missing. "colour_drift" and "sharpness_ratio", of the last frames added against the first clip, as `Chunk` has
    them; the latter where the first clip shows an object.

    Raises `UserError` for a model that does not go on from a clip.
    """
    shape, fps = model.tasks.formats[0], model.tasks.fps
    frames = shape.frames + EXTENSIONS * (shape.frames - overlap(model, new_scene=False))
    drawn = still_scenes(samples, seed)
    row = Row("long_video", shown)
    with progress(samples * frames, "long video", "frame") as bar:
        for start in range(0, samples, batch):
            told = drawn[start : start + batch]
            prompts = [shapesworld.caption(scene) for scene in told]
            seeds = generators(seed + start, len(told))
            first: list[Video] = []
            last: list[Pixels] = []
            for chunk in model.story([(prompts, frames / fps)], task="text_to_video", generator=seeds):
                first = first or chunk.videos
                new = [clip.frames for clip in chunk.videos]
                last = [np.concatenate(pair)[-shape.frames :] for pair in zip(last or new, new, strict=True)]
                bar.update(sum(map(len, new)))
            drifts = _drifts(first, chunk.videos)
            measured = [_lasting(one.frames, other, scene) for one, other, scene in zip(first, last, told, strict=True)]

            def show(
                place: int, told: list[Scene] = told, first: list[Video] = first, last: list[Pixels] = last
            ) -> Case:
                ends = {"first": first[place].frames, f"last {shape.frames} of {frames}": last[place]}
                strips = [(f"{end}: {shapesworld.judge(made).words}", Video(made, fps)) for end, made in ends.items()]
                return Case(shapesworld.caption(told[place]), strips)

            row.add(_stacked([{**one, **drift} for one, drift in zip(measured, drifts, strict=True)]), show)
    return row


def overlap(model: VideoLM, *, new_scene: bool) -> int:
    """Frames from which a model goes on with a clip that it made, under its prompt or another (`new_scene`).

    Raises `UserError` for a model that does not.
    """
    if not (new_scene and _takes_image(model)):
        model.tasks.get("text_to_video")
    shape = model.tasks.formats[0]
    settings: dict[str, Any] = {"prompted": True, "sound": False, "overlap": None}
    return going_on(model.tasks, new_scene=new_scene, most=shape.frames, shape=shape, **settings).prefix


def _takes_image(model: VideoLM) -> bool:
    return any(task.name == "image_to_video" for task in model.tasks.tasks)


def _scene(film: Pixels, number: int) -> Pixels:
    """A scene of a story's frames; it shares its first one with the last of the scene before."""
    step = (len(film) - 1) // SCENES
    return film[number * step : (number + 1) * step + 1]


def _judged(film: Pixels, story: Story) -> dict[str, float]:
    seen = [shapesworld.judge(_scene(film, number), story=True) for number in range(SCENES)]
    wanted = [scene.attributes[0] for scene in story.scenes]
    right = shapesworld.marks(seen, wanted)["all_right"]
    step = (len(film) - 1) // SCENES
    smooth = all(_smooth(film[number * step : number * step + 2]) for number in range(1, SCENES))
    return {
        "prompts": float(right.all()),
        "scene_prompt": float(right.mean()),
        "object_kept": float(object_kept(seen, wanted)),
        "smooth": float(smooth),
    }


def object_kept(seen: Sequence[Judgement], wanted: Sequence[Attributes]) -> bool:
    """Whether scenes show one object throughout, on one background, whatever it is; its colour may turn to what a
    caption says, and need not."""
    if any(one.motion is None for one in seen) or len({(one.shape, one.background) for one in seen}) > 1:
        return False
    ends = [TURNS.get(str(one.motion), one.colour) for one in seen]
    turned = all(
        end in (one.colour, TURNS.get(str(caption.motion)))
        for one, end, caption in zip(seen, ends, wanted, strict=True)
    )
    return turned and ends[:-1] == [one.colour for one in seen[1:]]


def _smooth(pair: Pixels) -> bool:
    """Whether nothing jumps between two frames (2, H, W, 3)."""
    centre, radius = shapesworld.track(pair)
    if np.isnan(radius).any():
        return False
    near = np.linalg.norm(centre[1] - centre[0]) <= FASTEST + JOLT
    return bool(near and 1 / SWELL < radius[1] / radius[0] < SWELL)


def _lasting(first: Pixels, last: Pixels, scene: Scene) -> dict[str, float]:
    """What is right at the beginning and at the end of a long clip."""
    begun, ended = (shapesworld.marks([shapesworld.judge(clip)], [scene]) for clip in (first, last))
    found = {name: float(ended[name][0]) for name in ("background", "colour", "shape", "size")}
    moved = shapesworld.track(last).centre[-1] - shapesworld.track(first).centre[0]
    drift = LOST if np.isnan(moved).any() else float(np.linalg.norm(moved))
    return {
        "first_right": float(begun["all_right"][0]),
        "last_right": float(ended["all_right"][0]),
        **found,
        "drift": drift,
    }


def _drifts(first: Sequence[Video], last: Sequence[Video]) -> list[dict[str, float]]:
    """How far colour and sharpness of clips have gone from those of the first, story by story."""
    begun, ended = (torch.stack([clip.to_tensor() for clip in clips]) for clips in (first, last))
    colour = (mean_colour(ended) - mean_colour(begun)).norm(dim=1)
    ratio = sharpness(ended) / sharpness(begun)
    there = [shapesworld.judge(clip.frames).found for clip in first]
    return [
        {"colour_drift": float(far), "sharpness_ratio": float(sharper) if seen else float("nan")}
        for far, sharper, seen in zip(colour, ratio, there, strict=True)
    ]


def _stacked(measured: Sequence[dict[str, float]]) -> dict[str, np.ndarray]:
    """By sample to by measure."""
    return {name: np.array([each[name] for each in measured]) for name in measured[0]}
