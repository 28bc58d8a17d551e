"""Where training clips come from: ShapesWorld, or the user's own files in a folder or in WebDataset tars."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator

from videolm import shapesworld
from videolm.config import Config
from videolm.data.conditions import FlowName, Footage
from videolm.data.example import IMAGE_SUFFIXES, SOUND_SUFFIXES, VIDEO_SUFFIXES, Example, Split
from videolm.data.webdataset import WebDatasetData
from videolm.errors import UserError
from videolm.media import Audio, Fit, Video, probe, read_audio, read_image, read_video
from videolm.media.clip import Pixels
from videolm.media.fit import AnyFit
from videolm.shapes import Format
from videolm.shapesworld.sound import RATE as SOUND_RATE
from videolm.shapesworld.world import FPS as WORLD_FPS

LARGER = 2
"""How much larger than the model's frames are kept where parts are cut from them."""

DISTINCT = 300
"""Of the 420 pictures that ShapesWorld has of one object, about as many as are soon drawn."""

GIVEN = 5
"""Frames of the scene before that a story's next scene goes on from."""
STORY_DRAW = 1
"""Tells the draw of a story's window from that of the story."""

SMALLEST = 0.5
"""The smallest part of a picture that a view shows, as a share of its sides."""


class _D(Config):
    weight: float = 1.0
    tasks: tuple[str, ...] = ()


class ShapesWorldData(_D):
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

    unreadable = ()

    def name(self, index: int) -> str:
        return f"scene {index}"

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


class FolderData(_D):
    """A folder of clips, with captions from `metadata.jsonl`, `metadata.csv` or `clip.txt` beside `clip.mp4`.

    The class of a clip is the name of the folder it lies in below this one, as in UCF-101 and Kinetics.
    """

    kind: Literal["folder"] = "folder"
    path: str
    """The folder, sub-folders too; or one file."""
    fit: Fit = "crop"
    """Cut to the model's shape around the centre, or keep the whole picture between bars ("letterbox")."""
    stride: Annotated[int, Field(ge=1)] = 1
    """Frames between the starts of two windows."""
    validation_share: Annotated[float, Field(ge=0, lt=0.9)] = 0.1
    """The end of every clip that is kept for validation (none where it is shorter than a window)."""
    views: Annotated[int, Field(ge=1)] = 1
    """Examples made of a training window, for a tokenizer: first the window itself, then `look`s at parts of it,
    without its captions. With more than one, frames are kept twice as large and those to "crop" whole."""
    sound: bool = False
    """Only films that have sound; so it is where a task needs it."""
    sample_rate: Annotated[int, Field(ge=1000, le=96_000)] = 16_000
    """Samples a second that sounds are kept at."""
    depth_model: str = ""
    """The folder of a depth estimator of `transformers`, for stylisation."""
    flow: FlowName = "dis"
    """Optical flow for stylisation, by OpenCV's DIS or by torchvision's RAFT."""

    def open(self, stream: str, shape: Format, fps: float, split: Split) -> FolderSource:
        return FolderSource(self, stream, shape, fps, split)


class FolderSource:
    """See `Source`: every window of every clip. Frames are read once, at the model's rate and size, and kept.

    All windows are there as they are first, then all once more for each further view. Sounds are those of the same
    windows; in a folder without films, windows of its sound files.
    """

    def __init__(self, config: FolderData, stream: str, shape: Format, fps: float, split: Split):
        need = 1 if stream == "image" else shape.frames
        self.footage = Footage(stream, config.depth_model, config.flow)
        self.stream, self.fps, self.frames, self.rate = stream, fps, need, config.sample_rate
        self.size = (shape.height, shape.width)
        self.views = config.views if split == "train" and stream != "audio" else 1
        larger, fit = (1, config.fit) if self.views == 1 else (LARGER, "cover" if config.fit == "crop" else config.fit)
        clips = read_folder(config.path, fit, fps, larger * shape.height, larger * shape.width)
        if config.sound or stream == "audio":
            clips = [clip for clip in clips if clip.video is None or has_sound(clip.file)]
        films = [clip for clip in clips if clip.video is not None]
        self.clips = films if films or stream != "audio" else clips
        self.windows: list[tuple[int, int]] = []  # (clip, first frame)
        for index, clip in enumerate(self.clips):
            length = self._length(clip)
            if length < need:
                continue
            kept = length - int(length * config.validation_share)
            if length - kept < need:
                kept = length  # too little would be held out
            first, stop = (0, kept) if split == "train" else (kept, length)
            self.windows += [(index, start) for start in range(first, stop - need + 1, config.stride)]
        if split == "train" and not self.windows:
            kind = "film with sound" if config.sound else "file"
            what = "sound of" if stream == "audio" else f"no {kind} has"
            raise UserError(f"no training clips in {config.path}: {what} {need} frames at {fps:g} a second")

    unreadable = ()

    def name(self, index: int) -> str:
        return str(self.clips[self.windows[index % len(self.windows)][0]].file)

    def __len__(self) -> int:
        return len(self.windows) * self.views

    def __getitem__(self, index: int) -> Example[Any]:
        view, window = divmod(index, len(self.windows))
        which, start = self.windows[window]
        clip = self.clips[which]
        if self.stream == "audio":
            return Example(self._heard(clip, start), clip.captions, clip.label)
        assert clip.video is not None
        frames = clip.video.frames[start : start + self.frames]
        if self.views > 1:
            frames = look(frames, self.size, np.random.default_rng([view, window]) if view else None)
        video = self.footage(Video(np.ascontiguousarray(frames), self.fps))
        return Example(video, () if view else clip.captions, clip.label)

    def captions(self) -> list[str]:
        return [text for clip in self.clips for text in clip.captions]

    def _length(self, clip: FolderClip) -> int:
        """Frames of a film, or that a sound file lasts for."""
        if clip.video is not None:
            return len(clip.video)
        return int(read_sound(clip.file, self.rate).duration * self.fps)

    def _heard(self, clip: FolderClip, start: int) -> Audio:
        sound = read_sound(clip.file, self.rate)
        first, count = (round(frames * self.rate / self.fps) for frames in (start, self.frames))
        return Audio(sound.fitted(max(len(sound), first + count)).samples[:, first : first + count], self.rate)


def look(frames: Pixels, size: tuple[int, int], rng: np.random.Generator | None = None) -> Pixels:
    """Frames (f, H, W, 3) at `size`: the middle of the picture, as large as its proportions allow.

    With `rng` a part of it at random, at least `SMALLEST` of that large, perhaps on its side, mirrored, upside down and
    backwards: what a code stands for should not depend on it.
    """
    if rng is None:
        return _resize(_part(frames, size, 1.0, (0.5, 0.5)), size)
    on_its_side, mirrored, upside_down, backwards = rng.random(4) < 0.5
    shape = size[::-1] if on_its_side else size
    frames = _part(frames, shape, rng.uniform(SMALLEST, 1), tuple(rng.random(2)))
    frames = frames.swapaxes(1, 2) if on_its_side else frames
    return _resize(frames[:: -1 if backwards else 1, :: -1 if upside_down else 1, :: -1 if mirrored else 1], size)


def _part(frames: Pixels, shape: tuple[int, int], share: float, place: tuple[float, float]) -> Pixels:
    """A part in the proportions of `shape`, `share` of the largest there is, at a place from (0, 0) to (1, 1)."""
    sides = frames.shape[1:3]
    scale = share * min(side / wanted for side, wanted in zip(sides, shape, strict=True))
    height, width = (max(1, round(scale * wanted)) for wanted in shape)
    y, x = (round(at * (side - part)) for at, side, part in zip(place, sides, (height, width), strict=True))
    return frames[:, y : y + height, x : x + width]


def _resize(frames: Pixels, size: tuple[int, int]) -> Pixels:
    pixels = torch.from_numpy(np.ascontiguousarray(frames)).movedim(-1, 1)
    return F.interpolate(pixels, size, mode="bilinear", antialias=True).movedim(1, -1).numpy()


DataConfig = Annotated[ShapesWorldData | FolderData | WebDatasetData, Field(discriminator="kind")]


class FolderClip(NamedTuple):
    """A film or picture, or a sound file, which has no video."""

    file: Path
    video: Video | None
    captions: tuple[str, ...]
    label: str


@cache
def read_sound(file: Path, rate: int) -> Audio:
    """The sound of a film or a sound file, mono; kept, as frames are."""
    return read_audio(file, rate=rate)


@cache
def has_sound(file: Path) -> bool:
    return file.suffix.lower() not in IMAGE_SUFFIXES and probe(file).channels > 0


@lru_cache(maxsize=2)
def read_folder(path: str, fit: AnyFit, fps: float, height: int, width: int) -> list[FolderClip]:
    """Every film, picture and sound file in a folder and below, or one: at one rate and size, with its captions.

    Raises `UserError` for a path that does not exist and for a film or picture that cannot be read.
    """
    folder = Path(path)
    if not folder.exists():
        raise UserError(f"the folder of clips {folder} does not exist; set it with --data.path")
    files, folder = ([folder], folder.parent) if folder.is_file() else (sorted(folder.rglob("*")), folder)
    captions = read_captions(folder)
    found = []
    for file in files:
        if file.suffix.lower() in VIDEO_SUFFIXES:
            video = read_video(file, fps=fps, size=(height, width), fit=fit)
        elif file.suffix.lower() in IMAGE_SUFFIXES:
            video = Video(read_image(file, size=(height, width), fit=fit).pixels[None], fps)
        elif file.suffix.lower() in SOUND_SUFFIXES:
            video = None
        else:
            continue
        place = file.relative_to(folder)
        found.append(FolderClip(file, video, captions.get(place.as_posix(), ()), place.parent.name))
    return found


def read_captions(folder: Path) -> dict[str, tuple[str, ...]]:
    """Captions by file name relative to `folder`.

    From `metadata.jsonl` or `metadata.csv` (`file_name`, `caption`), and from a `.txt` beside a clip.
    Raises `UserError` for a metadata file that is broken or lacks these fields.
    """
    found: dict[str, list[str]] = {}
    for table in (folder / "metadata.jsonl", folder / "metadata.csv"):
        if not table.is_file():
            continue
        try:
            text = table.read_text(encoding="utf-8")
            rows = (
                [json.loads(line) for line in text.splitlines() if line.strip()]
                if table.suffix == ".jsonl"
                else list(csv.DictReader(text.splitlines()))
            )
            for row in rows:
                found.setdefault(row["file_name"], []).append(row["caption"])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{table}: every entry needs 'file_name' and 'caption' ({error})") from error
    for path in folder.rglob("*.txt"):
        for clip in path.parent.glob(path.stem + ".*"):
            if clip.suffix.lower() in VIDEO_SUFFIXES + IMAGE_SUFFIXES + SOUND_SUFFIXES:
                text = path.read_text(encoding="utf-8").strip()
                if text:
                    found.setdefault(clip.relative_to(folder).as_posix(), []).append(text)
    return {name: tuple(texts) for name, texts in found.items()}
