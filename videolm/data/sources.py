"""Where training clips come from: ShapesWorld, or the user's own files in any of the layouts in `layouts/`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

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
        size = (self.shape.height, self.shape.width)
        if self.stream == "story":
            return self._across_scenes(index, size)
        scene = self.scene(index)
        label = f"{scene.objects[0].shape} {scene.objects[0].motion}"
        if self.stream == "image":
            pixels = shapesworld.render_image(scene, size)[None]
            return Example(Video(pixels, self.fps), shapesworld.image_captions(scene), label)
        frames = self.shape.frames
        whole = 1 + 4 * -(-(frames - 1) // 4)  # a scene is shown in so many; 16 frames are the first of 17
        if self.stream == "audio":
            samples = shapesworld.sound(scene, whole)[None, : round(frames * SOUND_RATE / self.fps)]
            return Example(Audio(samples, SOUND_RATE), shapesworld.captions(scene), label)
        captions: tuple[str, ...] = shapesworld.captions(scene)
        if self.stream == "styled":
            style = self.style(index)
            clip = shapesworld.render_style(scene, style, whole, size)
            captions = tuple(shapesworld.in_style(text, style) for text in captions)
        elif self.stream == "structure":
            clip = shapesworld.render_structure(scene, whole, size)
        else:
            clip = shapesworld.render(scene, whole, size)
        return Example(Video(clip[:frames], self.fps), captions, label)

    def _across_scenes(self, index: int, size: tuple[int, int]) -> Example[Any]:
        """A window of a story whose first five frames end a scene or go a little into the next, and the next's caption.

        A scene has as many frames as the window, and the last that is given is at most the fifth of it.
        """
        frames = self.shape.frames
        story = shapesworld.draw_story(self.seed, index)
        rng = np.random.default_rng([self.seed, index, STORY_DRAW])
        which = int(rng.integers(1, len(story.scenes)))
        clip = shapesworld.render_story(story, frames, size)
        begin = (frames - 1) * which - (GIVEN - 1) + int(rng.integers(GIVEN))
        shown = np.ascontiguousarray(clip[begin : begin + frames])
        return Example(Video(shown, self.fps), shapesworld.captions(story.scenes[which]))

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
        scenes = [self.scene(index) for index in range(min(self.length, 2000))]
        return [text for scene in scenes for text in (*shapesworld.captions(scene), *shapesworld.image_captions(scene))]


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
