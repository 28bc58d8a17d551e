"""ShapesWorld's side of a task: what goes in for each scene, and what the judge says of what came out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from videolm import shapesworld
from videolm.data.sources import GIVEN, ShapesWorldData, ShapesWorldSource
from videolm.media import Audio, Image, Video
from videolm.shapes import Format
from videolm.shapesworld import Attributes, Scene
from videolm.tasks import Task, Text, Variant, Visual

STRAY = 0.05
"""Frame widths that the object of a styled clip may be off its true place, on average."""


class World:
    """Scenes by index, as the training data has them.

    Args:
        data: where scenes are drawn from.
        shape, fps: of clips.
        scenes: in place of those drawn (not of stories).
    """

    def __init__(self, data: ShapesWorldData, shape: Format, fps: float, scenes: Sequence[Scene] | None = None):
        self.data, self.shape, self.fps, self.given = data, shape, fps, scenes
        self._sources: dict[str, ShapesWorldSource] = {}

    def source(self, stream: str) -> ShapesWorldSource:
        if stream not in self._sources:
            source = self.data.open(stream, self.shape, self.fps, "train")
            source.scenes = self.given if self.given is not None else source.scenes
            self._sources[stream] = source
        return self._sources[stream]

    def inputs(self, variant: Variant, indices: Sequence[int]) -> dict[str, Any]:
        """What a call of `VideoLM` is given, a list for each: true media, and canonical captions."""
        task = variant.task
        found: dict[str, Any] = {}
        for part in variant.inputs:
            if isinstance(part, Text):
                about = [self.source(task.sources[0].partition(".")[0])[index] for index in indices]
                by_class = part.content == "class"
                found["prompt"] = [example.label if by_class else example.captions[0] for example in about]
                continue
            stream = part.stream if isinstance(part, Visual) else "audio"
            media = [self.source(stream)[index].media for index in indices]
            name = task.given_as(part)
            if name == "image":
                media = [Image(clip.frames[0]) for clip in media]
            elif name == "last_image":
                media = [Image(clip.frames[-1]) for clip in media]
            elif not isinstance(part, Visual) or part.frames == "all":
                pass
            else:
                media = [Video(clip.frames[: variant.prefix], clip.fps) for clip in media]
            found[name] = media
        return found

    def scores(
        self, task: Task, indices: Sequence[int], videos: Sequence[Video], sounds: Sequence[Audio], **options: Any
    ) -> dict[str, float]:
        """The share of outputs that show, and sound like, what they should.

        Attributes by `shapesworld.score` (those of a class are shape and motion); "style" and "path" of styled clips;
        "pitch", "course" and "bursts" of sounds; "all_right": every one of them at once where there is one kind, else
        the mean over the kinds.

        Args:
            options: of `shapesworld.score`.
        """
        found: dict[str, float] = {}
        rights = []
        if task.visual is not None:
            stream = task.visual.stream
            kind = self._styled if stream == "styled" else self._story if stream == "story" else self._shown
            found |= kind(task, indices, videos, options)
            rights.append(found["all_right"])
        if task.audio is not None:
            found |= self._heard(indices, sounds)
            rights.append(found["all_right"])
        return {**found, "all_right": float(np.mean(rights))}

    def _shown(
        self, task: Task, indices: Sequence[int], videos: Sequence[Video], options: dict[str, Any]
    ) -> dict[str, float]:
        scenes = [self.source("video").scene(index) for index in indices]
        truths: list[Attributes] = [scene.attributes[0] for scene in scenes]
        if task.makes_pictures:
            truths = [shapesworld.parse_caption(shapesworld.image_caption(scene))[0] for scene in scenes]
        elif task.text is not None and task.text.content == "class":
            truths = [Attributes(None, None, truth.shape, None, truth.motion) for truth in truths]
        return shapesworld.score([shapesworld.judge(clip.frames) for clip in videos], truths, **options)

    def _story(
        self, task: Task, indices: Sequence[int], videos: Sequence[Video], options: dict[str, Any]
    ) -> dict[str, float]:
        truths = [shapesworld.parse_caption(self.source("story")[index].captions[0])[0] for index in indices]
        seen = [shapesworld.judge(clip.frames[GIVEN - 1 :], story=True) for clip in videos]
        return shapesworld.score(seen, truths, **options)

    def _styled(
        self, task: Task, indices: Sequence[int], videos: Sequence[Video], options: dict[str, Any]
    ) -> dict[str, float]:
        source = self.source("styled")
        style, path = [], []
        for index, clip in zip(indices, videos, strict=True):
            found = shapesworld.judge_style(clip.frames, source.scene(index))
            style.append(found.style == source.style(index))
            path.append(found.path_error is not None and found.path_error < STRAY)
        both = np.array([style, path])
        return dict(zip(("style", "path", "all_right"), map(float, (*both.mean(1), both.all(0).mean())), strict=True))

    def _heard(self, indices: Sequence[int], sounds: Sequence[Audio]) -> dict[str, float]:
        right = []
        for index, sound in zip(indices, sounds, strict=True):
            true = shapesworld.judge_sound(self.source("audio")[index].media.samples[0])
            heard = shapesworld.judge_sound(sound.samples[0], sound.rate)
            near = zip(heard.bursts, true.bursts, strict=False)
            bursts = len(heard.bursts) == len(true.bursts) and all(abs(a - b) < 1 / self.fps for a, b in near)
            right.append((heard.shape == true.shape, heard.motion == true.motion, bursts))
        shares = np.array(right)
        values = map(float, (*shares.mean(0), shares.all(1).mean()))
        return dict(zip(("pitch", "course", "bursts", "all_right"), values, strict=True))
