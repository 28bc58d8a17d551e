"""Clips of any length: each goes on from the last frames of the one before, under the prompt of its scene.

    scene 1 ──► clip ─┐ last frames, coded anew      Phenaki 2.3, Figure 3; VideoPoet 4.3 goes on from the last second
    scene 2 ──────────┴─► clip ─┐
    scene 3 ────────────────────┴─► ...

Only the last frames are kept, so that memory does not grow with the length. A long clip is a story of one scene.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from videolm.errors import UserError
from videolm.generate.sampling import Sampling
from videolm.media import Audio, Image, Video, read_audio
from videolm.metrics import mean_colour, sharpness
from videolm.pipeline.job import Options, Prompt, listed
from videolm.pipeline.output import VideoLMOutput
from videolm.shapes import Format
from videolm.tasks import Text, Variant, Visual
from videolm.tasks.task_set import TaskSet

if TYPE_CHECKING:
    from videolm.pipeline.video_lm import VideoLM

FADE = 0.02
"""Seconds over which sound that goes on passes from where it was to where it is made to be."""
KEPT = ("negative_prompt", "negative_prompt_embeds", *Sampling.model_fields, "generator")
"""Options of every call; the others are of the first one."""


class Scene(NamedTuple):
    """What is to be seen for how long."""

    prompt: Prompt | None
    """Of a story, or one for each of several that are told at once."""
    seconds: float


class Chunk(NamedTuple):
    """What one call added to the stories.

    Attributes:
        scene: its number, from 0.
        start: of its first frame, from 0 where the story begins.
        videos: its new frames, of every story.
        sounds: what is heard then, if there is sound.
        variant: what made it.
        tokens: ids drawn for each.
        colour_distance: of its mean colour from that of the first chunk, channels in [0, 1]; a mean over the stories.
        sharpness: the variance of its Laplacian over that of the first chunk's, likewise.
    """

    scene: int
    start: int
    videos: list[Video]
    sounds: list[Audio]
    variant: Variant
    tokens: int
    colour_distance: float
    sharpness: float


def tell(model: VideoLM, scenes: Sequence[Scene], overlap: int | None, options: Options) -> Iterator[Chunk]:
    """The chunks of a story, or of several at once; see `VideoLM.story`."""
    told = _Told(model, overlap, options)
    stop = 0.0
    for number, scene in enumerate(scenes):
        stop += scene.seconds
        while told.frames < round(stop * model.tasks.fps):
            yield told.add(told.go_on(scene.prompt, number > 0), number, round(stop * model.tasks.fps))


def texts(model: VideoLM, scenes: Sequence[Scene]) -> Callable[[int], Tensor | None]:
    """What a stage of super-resolution is told of each frame of one story: its scene's prompt.

    Frames from 0 where the story begins; nothing is known of those before.
    """
    stops, told, seconds = list[int](), list[Tensor | None](), 0.0
    for prompt, length in scenes:
        seconds += length
        stops.append(round(seconds * model.tasks.fps))
        told.append(None if prompt is None else model.encode_prompt(prompt)[0][0])
    return lambda frame: None if frame < 0 else told[min(bisect_right(stops, frame), len(told) - 1)]


def going_on(
    tasks: TaskSet,
    *,
    prompted: bool,
    sound: bool,
    new_scene: bool,
    most: int,
    shape: Format | None,
    overlap: int | None,
) -> Variant:
    """The variant that goes on from the last frames of a clip: the most of them in a second, or `overlap`.

    Args:
        sound: whether there is sound, which goes on too.
        new_scene: whether the prompt is another than where the clip began; a task that was taught that is taken first.
        most: frames that there are.

    Raises `UserError` for a model without such a task.
    """
    wanted = {"visual", *(("audio",) if sound else ())}
    found: list[Variant] = []
    for variant in tasks.variants():
        task = variant.task
        visual = next((part for part in task.prefix_parts if isinstance(part, Visual)), None)
        others = [part for part in task.inputs if not isinstance(part, Text) and part not in task.prefix_parts]
        if visual is None or others or {part.kind for part in task.prefix_parts} != wanted or task.visual is None:
            continue
        if task.visual.source != visual.source or {part.kind for part in task.outputs} != wanted:
            continue
        if task.text is not None and (task.text.content == "class" or not (prompted or task.text.optional)):
            continue
        if 0 < variant.prefix <= most and shape in (None, variant.format) and overlap in (None, variant.prefix):
            found.append(variant)
    if not found:
        what = "clip with its sound" if sound else "clip"
        given = f" of {overlap} frames" if overlap else ""
        raise UserError(f"no task of this model goes on from the end{given} of a {what}; `videolm tasks` shows them")

    def worth(variant: Variant) -> tuple[bool, bool, int]:
        taught = any(isinstance(part, Visual) and part.stream == "story" for part in variant.task.inputs)
        short = variant.prefix <= tasks.fps
        return taught == new_scene, short, variant.prefix if short else -variant.prefix

    return max(found, key=worth)


class _Told:
    """Stories so far: their last frames, and what is heard there."""

    def __init__(self, model: VideoLM, overlap: int | None, options: Options):
        self.model, self.overlap, self.frames = model, overlap, 0
        self._options: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
        if "upscale" in self._options:
            raise UserError("a story goes on from what it made: upscale what comes out of it (`VideoLM.upscale`)")
        self._videos: list[Video] = []
        self._sounds: list[Audio] = []
        self._shape: Format | None = None
        self._first: tuple[Tensor, Tensor] | None = None
        if (video := self._options.pop("video", None)) is not None:
            self._videos = list(video) if isinstance(video, list | tuple) else [video]
            sound = self._options.pop("audio", None)
            self._sounds = [] if sound is None else self._alongside(sound)
            for name in self._options.keys() - {*KEPT}:
                raise UserError(f"a story that goes on from a video takes no {name}")

    def go_on(self, prompt: Prompt | None, new_scene: bool) -> VideoLMOutput:
        """The first clip, or one that begins with the last frames."""
        if not self._videos:
            out = self.model(prompt, **self._options)
            if out.kind != "video":
                raise UserError(f"{out.variant.task.name} makes no clip to go on from")
            return out
        task, shape, given = going_on(
            self.model.tasks,
            prompted=bool(prompt),
            sound=bool(self._sounds),
            new_scene=new_scene,
            most=min(map(len, self._videos)),
            shape=self._shape,
            overlap=self.overlap,
        )
        last = [Video(clip.frames[-given:], clip.fps) for clip in self._videos]
        part = next(part for part in task.prefix_parts if isinstance(part, Visual))
        as_picture = task.given_as(part) == "image"
        asked: dict[str, Any] = {"image": [Image(clip.frames[0]) for clip in last]} if as_picture else {"video": last}
        if self._sounds:
            asked["audio"] = [sound.last(self._samples(given)) for sound in self._sounds]
        if prompt and task.text is not None:
            prompts = listed(prompt)
            asked["prompt"] = [text for text in prompts for _ in range(len(last) // len(prompts))]
        asked |= {"task": task.name, "num_frames": shape.frames, "height": shape.height, "width": shape.width}
        asked |= {name: self._options[name] for name in KEPT if name in self._options}
        return self.model(**asked)

    def add(self, out: VideoLMOutput, scene: int, stop: int) -> Chunk:
        """Keep what was made up to the frame `stop`, and say what it is."""
        start, going = self.frames, bool(self._videos)
        given = out.given if going else 0
        clips = [Video(clip.frames[given : given + stop - start], clip.fps) for clip in out.videos]
        self.frames += len(clips[0])
        begin, length = self._samples(given), self._samples(self.frames) - self._samples(start)
        sounds = [sound.fitted(begin + length) for sound in out.sounds]
        if going:
            sounds = [_joined(sound, before, begin) for sound, before in zip(sounds, self._sounds, strict=True)]
        self._shape, self._sounds = out.variant.format, sounds
        self._videos = [Video(clip.frames[: given + len(clips[0])], clip.fps) for clip in out.videos]
        pixels = torch.stack([clip.to_tensor() for clip in clips])
        now = mean_colour(pixels), sharpness(pixels)
        self._first = self._first or now
        distance = float((now[0] - self._first[0]).norm(dim=1).mean())
        sharper = float((now[1] / self._first[1].clamp_min(1e-12)).mean())
        new = [Audio(sound.samples[:, begin:], sound.rate) for sound in sounds]
        return Chunk(scene, start, clips, new, out.variant, out.tokens, distance, sharper)

    def _alongside(self, sound: Any) -> list[Audio]:
        """Sounds as long as the clips that they come with."""
        rate = None if self.model.audio is None else self.model.audio.sample_rate
        if rate is None:
            raise UserError("this model has no audio tokenizer, so it takes no sound")
        found = []
        for each, video in zip(sound if isinstance(sound, list | tuple) else [sound], self._videos, strict=True):
            heard = each if isinstance(each, Audio) else read_audio(each, rate=rate, channels=1)
            found.append(heard.converted(rate, 1).fitted(round(video.duration * rate)))
        return found

    def _samples(self, frames: int) -> int:
        """Samples that are heard in so many frames."""
        rate = 0 if self.model.audio is None else self.model.audio.sample_rate
        return round(frames / self.model.tasks.fps * rate)


def _joined(sound: Audio, before: Audio, begin: int) -> Audio:
    """A sound whose samples from `begin` on follow the last one of `before` without a step."""
    samples = sound.samples.copy()
    count = min(round(FADE * sound.rate), samples.shape[1] - begin)
    step = before.samples[:, -1:] - samples[:, begin - 1 : begin]
    samples[:, begin : begin + count] += step * np.linspace(1, 0, count, dtype=np.float32)
    return Audio(samples.clip(-1, 1), sound.rate)
