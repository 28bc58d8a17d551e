"""Where training clips come from: ShapesWorld, or the user's own files in any of the layouts in `layouts/`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from videolm import shapesworld
from videolm.data.clips import DataSet
from videolm.data.conditions import Footage
from videolm.data.example import Example, Split
from videolm.data.layouts.folder import FolderData
from videolm.data.layouts.huggingface import HuggingFaceData
from videolm.data.layouts.kinetics import KineticsData
from videolm.data.layouts.msr_vtt import MsrVttData
from videolm.data.layouts.ssv2 import SomethingData
from videolm.data.layouts.table import TableData
from videolm.data.layouts.ucf101 import Ucf101Data
from videolm.data.layouts.webdataset import WebDatasetData
from videolm.errors import UserError
from videolm.media import Audio, Video
from videolm.media.clip import Pixels
from videolm.shapes import Format
from videolm.shapesworld.sound import RATE as SOUND_RATE
from videolm.shapesworld.world import FPS as WORLD_FPS

DISTINCT = 300
"""Of the 420 pictures that ShapesWorld has of one object, about as many as are soon drawn."""

GIVEN = 5
"""Frames of the scene before that a story's next scene goes on from."""
STORY_DRAW = 1
"""Tells the draw of a story's window from that of the story."""


class ShapesWorldData(DataSet):
    """Clips drawn by `videolm.shapesworld`."""

    kind: Literal["shapesworld"] = "shapesworld"
    seed: int = 1
    """Of the training clips; validation draws from the next seed."""
    clips: Annotated[int, Field(ge=1)] = 20000
    """Training clips; pictures are as many again."""
    validation_clips: Annotated[int, Field(ge=1)] = 256
    two_objects: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of training scenes with two objects: twice as much to learn from in a clip."""
    crowd: Annotated[int, Field(ge=0)] = 0
    """Objects of every training scene where not 0: for a tokenizer, whom it does not trouble that some are hidden."""
    distinct: bool = False
    """Only scenes whose pictures differ in size, colour, shape or background, so that a caption is of one clip alone:
    for learning a few by heart."""

    @model_validator(mode="after")
    def _consistent(self) -> ShapesWorldData:
        if self.distinct and max(self.clips, self.validation_clips) > DISTINCT:
            raise ValueError(f"distinct allows {DISTINCT} clips at most")
        return self

    def open(self, stream: str, shape: Format, fps: float, split: Split) -> ShapesWorldSource:
        return ShapesWorldSource(self, stream, shape, fps, split)


class Window(NamedTuple):
    """Frames of a story across or after the end of a scene: the first `GIVEN` of them are given, the rest follow under
    the next scene's caption."""

    story: shapesworld.Story
    scene: int
    """That whose caption it has, from 0."""
    late: int
    """Frames of that scene, but for the one that it shares with the scene before, among those given."""


class ShapesWorldSource:
    """See `Source`: canonical, background-first and listed captions; held-out combinations are never shown.

    A scene's sound is at the index of its clip.
    """

    unreadable: Sequence[tuple[str, str]] = ()

    def __init__(self, config: ShapesWorldData, stream: str, shape: Format, fps: float, split: Split):
        if stream not in Footage.STREAMS:
            raise UserError(f"ShapesWorld has no '{stream}': a task of yours takes {', '.join(Footage.STREAMS)}")
        self.stream, self.shape, self.fps = stream, shape, fps
        self.seed = config.seed + (split == "validation")
        self.length = config.clips if split == "train" else config.validation_clips
        train = split == "train"
        self.two_objects, self.crowd = (config.two_objects, config.crowd) if train else (0.0, 0)
        self.scenes: Sequence[shapesworld.Scene] | None = self._distinct(self.length) if config.distinct else None
        if stream == "audio" and fps != WORLD_FPS:
            raise UserError(f"ShapesWorld sounds at {WORLD_FPS} frames a second, not {fps:g}: set fps to {WORLD_FPS}")

    def name(self, index: int) -> str:
        return f"scene {index} of seed {self.seed}"

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Example[Any]:
        size, captions = (self.shape.height, self.shape.width), self._captions(index)
        if self.stream == "story":
            return Example(Video(self._across_scenes(index, size), self.fps), captions)
        scene = self.scene(index)
        label = f"{scene.objects[0].shape} {scene.objects[0].motion}"
        if self.stream == "image":
            return Example(Video(shapesworld.render_image(scene, size)[None], self.fps), captions, label)
        frames = self.shape.frames
        whole = 1 + 4 * -(-(frames - 1) // 4)  # a scene is shown in so many; 16 frames are the first of 17
        if self.stream == "audio":
            samples = shapesworld.sound(scene, whole)[None, : round(frames * SOUND_RATE / self.fps)]
            return Example(Audio(samples, SOUND_RATE), captions, label)
        if self.stream == "styled":
            clip = shapesworld.render_style(scene, self.style(index), whole, size)
        elif self.stream == "structure":
            clip = shapesworld.render_structure(scene, whole, size)
        else:
            clip = shapesworld.render(scene, whole, size)
        return Example(Video(clip[:frames], self.fps), captions, label)

    def _captions(self, index: int) -> tuple[str, ...]:
        if self.stream == "story":
            window = self.window(index)
            return shapesworld.captions(window.story.scenes[window.scene])
        scene = self.scene(index)
        if self.stream == "image":
            return shapesworld.image_captions(scene)
        told = shapesworld.captions(scene)
        if self.stream == "styled":
            return tuple(shapesworld.in_style(text, self.style(index)) for text in told)
        return told

    def _across_scenes(self, index: int, size: tuple[int, int]) -> Pixels:
        frames, window = self.shape.frames, self.window(index)
        begin = (frames - 1) * window.scene - (GIVEN - 1) + window.late
        return np.ascontiguousarray(shapesworld.render_story(window.story, frames, size)[begin : begin + frames])

    def window(self, index: int) -> Window:
        """What an example of the stream "story" shows: see `Window`.

        A scene has as many frames as the window. A third of them are late by none, as where a story turns to its next
        scene, a third by as many as a window adds, as where it goes on with that, the rest by any number up to that.
        In a story's last scene nothing follows the window, so there it is late by `GIVEN` - 1 at most.
        """
        story = shapesworld.draw_story(self.seed, index)
        rng = np.random.default_rng([self.seed, index, STORY_DRAW])
        scene = int(rng.integers(1, len(story.scenes)))
        most = GIVEN - 1 if scene + 1 == len(story.scenes) else self.shape.frames - GIVEN
        late = (0, most, int(rng.integers(most + 1)))[int(rng.integers(3))]
        return Window(story, scene, late)

    def _distinct(self, count: int) -> list[shapesworld.Scene]:
        """The first so many scenes without those that look like an earlier one."""
        found: dict[str, shapesworld.Scene] = {}
        index = 0
        while len(found) < count:
            scene = shapesworld.draw_scene(self.seed, index, two_objects=self.two_objects, crowd=self.crowd)
            found.setdefault(shapesworld.image_caption(scene), scene)
            index += 1
        return list(found.values())

    def style(self, index: int) -> str:
        """That of a styled clip."""
        return shapesworld.STYLES[index % len(shapesworld.STYLES)]

    def scene(self, index: int) -> shapesworld.Scene:
        """What a clip that is no story shows."""
        if self.scenes is not None:
            return self.scenes[index]
        return shapesworld.draw_scene(self.seed, index, two_objects=self.two_objects, crowd=self.crowd)

    def captions(self) -> list[str]:
        return [text for index in range(min(self.length, 2000)) for text in self._captions(index)]


DataConfig = Annotated[
    ShapesWorldData
    | FolderData
    | WebDatasetData
    | HuggingFaceData
    | TableData
    | MsrVttData
    | Ucf101Data
    | KineticsData
    | SomethingData,
    Field(discriminator="kind"),
]
