"""What a call is given, as the clips and sounds that its task's inputs are tokenised from.

A list is one for each prompt; anything else is for all of them. Pictures and clips are cut and resized to the model's
size, sounds to the tokenizer's rate and the clip's length.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from videolm.data.conditions import box_mask, picture_mask
from videolm.errors import UserError
from videolm.media import Audio, Image, Video, read_audio, read_image, read_video
from videolm.media.fit import place
from videolm.tasks import Audio as AudioPart
from videolm.tasks import Task, Variant, Visual
from videolm.tasks.masks import hide
from videolm.tasks.task_set import TaskSet
from videolm.tasks.views import VIEWS, Masked

ImageInput = Image | PIL.Image.Image | np.ndarray | str | os.PathLike[str]
VideoInput = Video | np.ndarray | Sequence[PIL.Image.Image] | str | os.PathLike[str]
AudioInput = Audio | str | os.PathLike[str]
MaskInput = ImageInput | tuple[float, float, float, float]

PICTURES = ("image", "last_image")
NAMES = {
    "text": "a prompt",
    "image": "an image",
    "last_image": "a last image",
    "video": "a video",
    "structure": "a structure clip (flow and depth; --depth-model makes one of --video)",
    "audio": "a sound",
    "mask": "a mask",
}
MEDIA = tuple(name for name in NAMES if name != "text")
"""What a call may be given beside a prompt."""


def misfit(task: Task, given: Collection[str]) -> str | None:
    """What keeps a task from these inputs, or None when they fit."""
    takes = taken(task)
    missing = [NAMES[name] for name, needed in takes.items() if needed and name not in given]
    if missing:
        return f"{task.name} needs {' and '.join(missing)}"
    surplus = [NAMES[name].partition(" ")[2] for name in sorted(given) if name not in takes]
    return f"{task.name} takes no {surplus[0]}" if surplus else None


def choose(
    tasks: TaskSet,
    given: Collection[str],
    task: str | None = None,
    *,
    num_frames: int | None = None,
    height: int | None = None,
    width: int | None = None,
) -> Variant:
    """The variant that a call runs. Raises `UserError` where no task or format is so.

    Args:
        given: names of its inputs: "text", "image", "video", ...
        task: by default the first that takes exactly these, those that make clips before those that make pictures.
    """
    if (height is None) != (width is None):
        raise UserError("height and width go together")
    chosen = tasks.get(task) if task else _first_fitting(tasks, given)
    if said := misfit(chosen, given):
        raise UserError(said)
    size = (height, width) if height is not None and width is not None else None
    return tasks.find(chosen.name, frames=num_frames, size=size)


def _first_fitting(tasks: TaskSet, given: Collection[str]) -> Task:
    found = sorted(tasks.tasks, key=lambda task: task.makes_pictures)
    for task in found:
        if not misfit(task, given):
            return task
    what = " and ".join(sorted(given)) or "no input"
    raise UserError(f"no task of this model takes {what} alone; name one: {', '.join(t.name for t in found)}")


def taken(task: Task) -> dict[str, bool]:
    """`Task.takes`, and the mask of a task that has one."""
    return {**task.takes, **({} if mask_of(task) is None else {"mask": False})}


def mask_of(task: Task) -> Visual | None:
    """The input whose pixels the task hides, if one is."""
    seen = (part for part in task.inputs if isinstance(part, Visual) and part.view in VIEWS)
    return next((part for part in seen if isinstance(VIEWS.get(str(part.view)), Masked)), None)


class Inputs:
    """The media of one call.

    Args:
        task: whose inputs they are.
        values: by the names of `Task.takes`, and "mask".
        prompts: how many there are (`asked_for`).
        fps, size, frames: of the model's clips; size is (height, width).
        rate: samples a second of its sounds, if it has any.

    Raises:
        UserError: media that cannot be read, another number of them than of prompts, or a clip at another rate.
    """

    def __init__(
        self,
        task: Task,
        values: Mapping[str, Any],
        prompts: int,
        *,
        fps: float,
        size: tuple[int, int],
        frames: int,
        rate: int | None,
    ):
        self.fps, self.size, self.frames, self.rate = fps, size, frames, rate
        self.clips: dict[str, list[Video]] = {}
        self.sounds: list[Audio] = []
        for name in dict.fromkeys(task.given_as(part) for part in task.inputs):
            if name not in values or name == "text":
                continue
            each = one_each(name, values[name], prompts)
            if name == "audio":
                self.sounds = [self._sound(value) for value in each]
            else:
                self.clips[name] = [(self._picture if name in PICTURES else self._clip)(value) for value in each]
        self.mask = self._mask(values["mask"]) if "mask" in values else None

    def fitting(self, variant: Variant) -> Variant:
        """The variant of the same task and format that is given the most of the frames there are."""
        task, shape, _ = variant
        name = next((task.given_as(part) for part in task.prefix_parts if isinstance(part, Visual)), None)
        if name is None:
            return variant
        available = min(map(len, self.clips[name])) if name in self.clips else 0
        fitting = [v for v in task.variants([shape]) if v.prefix <= available]
        if not fitting:
            raise UserError(
                f"{task.name} needs at least {min(task.prefixes)} frames at {self.fps:g} a second, "
                f"the video has {available}"
            )
        return max(fitting, key=lambda v: v.prefix)

    def of(self, part: Visual | AudioPart, variant: Variant) -> Tensor:
        """What an input is tokenised from: clips (b, c, f, H, W), or sounds (b, n)."""
        task, shape, prefix = variant
        name = task.given_as(part)
        frames = {"all": shape.frames, "prefix": prefix, "last": 1}[part.frames]
        if not isinstance(part, Visual):
            assert self.rate is not None
            samples = round(frames / self.fps * self.rate)
            return torch.stack([sound.fitted(samples).to_tensor()[0] for sound in self.sounds])
        clips = self.clips[name]
        if min(map(len, clips)) < frames:
            raise UserError(
                f"{task.name} needs {frames} frames at {self.fps:g} a second, the {name.replace('_', ' ')} has "
                f"{min(map(len, clips))}"
            )
        tensor = torch.stack([Video(clip.frames[:frames], self.fps).to_tensor() for clip in clips])
        if part.view is None:
            return tensor
        if self.mask is not None and part == mask_of(task):
            return hide(tensor, self.mask)
        return torch.stack([VIEWS.get(part.view)(clip, False) for clip in tensor])

    def shown(self, variant: Variant) -> tuple[list[Video], Tensor] | None:
        """The clips of a task with a mask and which of their pixels (f, H, W) it leaves as they are, if it has one."""
        part = mask_of(variant.task)
        if part is None:
            return None
        frames, height, width = variant.format
        view = VIEWS.get(str(part.view))
        assert isinstance(view, Masked)
        mask = self.mask if self.mask is not None else view.mask(frames, height, width, False)
        return self.clips[variant.task.given_as(part)], ~mask.expand(frames, height, width)

    def _picture(self, value: ImageInput) -> Video:
        if isinstance(value, str | os.PathLike):
            value = read_image(value, size=self.size)
        pixels = value.pixels if isinstance(value, Image) else Image.from_array(np.asarray(value)).pixels
        return Video(place(pixels, self.size, "crop")[None], self.fps)

    def _clip(self, value: VideoInput) -> Video:
        if isinstance(value, str | os.PathLike):
            return read_video(value, fps=self.fps, size=self.size, max_frames=self.frames)
        if isinstance(value, Video):
            if value.fps != self.fps:
                raise UserError(
                    f"the clip has {value.fps:g} frames a second, this model {self.fps:g}: read_video resamples"
                )
            video = value
        else:
            array = np.stack([np.asarray(picture) for picture in value]) if isinstance(value, Sequence) else value
            video = Video.from_array(array, self.fps)
        return Video(np.stack([place(frame, self.size, "crop") for frame in video.frames]), self.fps)

    def _sound(self, value: AudioInput) -> Audio:
        if self.rate is None:
            raise UserError("this model has no audio tokenizer, so it takes no sound")
        seconds = self.frames / self.fps
        sound = value if isinstance(value, Audio) else read_audio(value, rate=self.rate, channels=1, seconds=seconds)
        return sound.converted(self.rate, 1)

    def _mask(self, value: MaskInput) -> Tensor:
        if isinstance(value, tuple):
            return box_mask(value, *self.size)
        if isinstance(value, str | os.PathLike):
            value = read_image(value)
        return picture_mask(value if isinstance(value, Image) else Image.from_array(np.asarray(value)), *self.size)


def one_each(name: str, value: Any, prompts: int) -> list[Any]:
    """The inputs of a call: the one given for all prompts, or one for each."""
    each = _several(name, value)
    if each and len(each) != prompts:
        raise UserError(f"{len(each)} inputs were given for {prompts} prompts")
    return each or [value]


def asked_for(prompts: Sequence[str], media: Mapping[str, Any]) -> int:
    """How many outputs a call asks for: one for each prompt, or without any for each of the media."""
    return len(prompts) or max([1, *(len(_several(name, value)) for name, value in media.items() if name != "mask")])


def _several(name: str, value: Any) -> list[Any]:
    """What is given as one for each output, where it is; pictures given for a clip are its frames."""
    if not isinstance(value, list | tuple) or not value:
        return []
    return [] if isinstance(value[0], PIL.Image.Image) and name not in PICTURES else list(value)
