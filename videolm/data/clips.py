"""Films, pictures and sounds of a data set as examples: windows of them, decoded when they are asked for.

    layout ──► catalogue of clips ──► headers ──► windows ──► source[index]

A layout (`videolm/data/layouts/`) says where the clips of a data set lie and what belongs to each. Opening reads their
headers, from which the windows follow, so that the same index gives the same example. Clips that take little room
together are kept once they are decoded; of others only the window asked for is.
"""

from __future__ import annotations

import hashlib
import math
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from tqdm import tqdm

from videolm.config import Config
from videolm.data.conditions import FlowName, Footage
from videolm.data.example import IMAGE_SUFFIXES, SOUND_SUFFIXES, Example, Split
from videolm.errors import UserError
from videolm.media import Audio, Fit, Video, declared_frames, probe, read_audio, read_image, read_video
from videolm.media.clip import Pixels
from videolm.media.fit import AnyFit
from videolm.media.part import Part
from videolm.progress import progress
from videolm.shapes import Format

KEPT_BYTES = 2 * 2**30
"""Decoded frames of a data set that are kept; of a larger one none are."""
LARGER = 2
"""How much larger than the model's frames are read where parts are cut from them."""
SMALLEST = 0.5
"""The smallest part of a picture that a view shows, as a share of its sides."""
READERS = 8
"""Threads that read headers."""


@dataclass(frozen=True)
class Clip:
    """A film, a picture or a sound of a data set."""

    media: Path | Part
    captions: tuple[str, ...] = ()
    label: str = ""
    """The name of its class, where it has one."""
    start: float = 0.0
    """Seconds into the film where the clip begins."""
    stop: float | None = None
    """Seconds into the film where it ends; None: with the film."""
    split: Split | None = None
    """Which the layout says it is of. None: the clip is to train on, but for its end."""

    @property
    def kind(self) -> str:
        """ "image", "audio" or "video", by the name of its file."""
        name = self.media.name.lower()
        return "image" if name.endswith(IMAGE_SUFFIXES) else "audio" if name.endswith(SOUND_SUFFIXES) else "video"


class Catalogue(NamedTuple):
    """What a layout finds."""

    clips: list[Clip]
    missing: list[tuple[str, str]] = []  # (name, reason) of files that it names and that are not there


class DataSet(Config):
    """What every data set has."""

    weight: Annotated[float, Field(gt=0)] = 1.0
    """Its share of the steps beside other data sets."""
    tasks: tuple[str, ...] = ()
    """Tasks that learn from it; by default all."""


class ClipData(DataSet):
    """What every data set of films, pictures and sounds has; each layout's own config adds to it."""

    path: str
    fit: Fit = "crop"
    """Cut to the model's shape around the centre, or keep the whole picture between bars ("letterbox")."""
    stride: Annotated[int, Field(ge=1)] = 16
    """Frames between the starts of two windows of a clip."""
    validation_share: Annotated[float, Field(ge=0, lt=0.9)] = 0.1
    """What is kept for validation, about: of the clips, where the layout does not say."""
    views: Annotated[int, Field(ge=1)] = 1
    """Examples made of a training window, for a tokenizer: first the window itself, then `look`s at parts of it,
    without its captions. With more than one, frames are read twice as large and those to "crop" whole."""
    sound: bool = False
    """Only films that have sound; so it is where a task needs it."""
    sample_rate: Annotated[int, Field(ge=1000, le=96_000)] = 16_000
    """Samples a second that sounds are read at."""
    depth_model: str = ""
    """The folder of a depth estimator of `transformers`, for stylisation."""
    flow: FlowName = "dis"
    """Optical flow for stylisation, by OpenCV's DIS or by torchvision's RAFT."""

    def catalogue(self) -> Catalogue:
        """The clips of the data set. Raises `UserError` for a layout that is not as it should be."""
        raise NotImplementedError

    def open(self, stream: str, shape: Format, fps: float, split: Split) -> ClipSource:
        return ClipSource(self, stream, shape, fps, split)


class ClipSource:
    """See `Source`: windows of every clip, `stride` frames from one to the next.

    All windows are there as they are first, then all once more for each further view. Sounds are those of the same
    windows; where there are no films, windows of sound files.
    """

    def __init__(self, data: ClipData, stream: str, shape: Format, fps: float, split: Split):
        self.footage = Footage(stream, data.depth_model, data.flow)
        self.stream, self.fps, self.rate = stream, fps, data.sample_rate
        self.frames = 1 if stream == "image" else shape.frames
        self.size = (shape.height, shape.width)
        self.views = data.views if split == "train" and stream != "audio" else 1
        scale = 1 if self.views == 1 else LARGER
        self.fit: AnyFit = "cover" if self.views > 1 and data.fit == "crop" else data.fit
        self.read_size = (scale * shape.height, scale * shape.width)
        clips, self.unreadable = read_headers(data, fps)
        every = len(clips)
        films = [(clip, length) for clip, length in clips if clip.kind != "audio"]
        if stream == "audio" or data.sound:
            films = [(clip, length) for clip, length in films if clip.kind == "video" and has_sound(clip.media)]
        chosen = films or (clips if stream == "audio" else [])
        self.clips = [clip for clip, _ in chosen]
        total = sum(length for _, length in films) * math.prod(self.read_size) * 3
        self.keep = total <= KEPT_BYTES
        self.windows: list[tuple[int, int]] = []  # (clip, first frame)
        count = 0
        for index, (clip, length) in enumerate(chosen):
            if clip.split in (None, split):
                count += 1
                first, stop = self._stretch(clip, length, split, data.validation_share)
                self.windows += [(index, at) for at in range(first, stop - self.frames + 1, data.stride)]
        if split == "train" and not self.windows:
            kind = "sounds" if stream == "audio" else "films with sound" if data.sound else "films and pictures"
            raise UserError(
                f"no training clips in {data.path}: of its {every} files {count} are {kind} to train on "
                f"(--data.validation_share), and none has {self.frames} frames at {fps:g} a second"
            )

    def _stretch(self, clip: Clip, length: int, split: Split, share: float) -> tuple[int, int]:
        """First frame and end of a clip in a split."""
        if clip.kind == "audio":
            length = int(read_sound(clip.media, self.rate).duration * self.fps)
        if clip.split is not None:
            return 0, length
        kept = length - int(length * share)
        if length - kept < self.frames:
            kept = length  # too little would be held out
        return (0, kept) if split == "train" else (kept, length)

    def __len__(self) -> int:
        return len(self.windows) * self.views

    def name(self, index: int) -> str:
        """The file and the second that an example is of."""
        which, first = self.windows[index % len(self.windows)]
        clip = self.clips[which]
        return f"{clip.media} from {clip.start + first / self.fps:g} s"

    def __getitem__(self, index: int) -> Example[Any]:
        """Raises `UserError` for a clip that is damaged or shorter than its header declares."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        view, window = divmod(index, len(self.windows))
        which, first = self.windows[window]
        clip = self.clips[which]
        if self.stream == "audio":
            return Example(self._heard(clip, first), clip.captions, clip.label)
        try:
            frames = self._shown(clip, first)
        except UserError as error:
            raise UserError(f"{error}; leave this clip out of the data") from error
        if self.views > 1:
            frames = look(frames, self.size, np.random.default_rng([view, window]) if view else None)
        video = self.footage(Video(np.ascontiguousarray(frames), self.fps))
        return Example(video, () if view else clip.captions, clip.label)

    def _shown(self, clip: Clip, first: int) -> Pixels:
        """A window's frames (f, H, W, 3)."""
        if clip.kind == "image":
            return read_image(clip.media, size=self.read_size, fit=self.fit).pixels[None]
        frames = self._read(clip, first)
        missing = self.frames - len(frames)
        if 0 < missing <= first:  # the film ends a little before its header says, as where its sound is longer
            frames = self._read(clip, first - missing)
        if len(frames) < self.frames:
            raise UserError(
                f"{clip.media} has {len(frames)} of the {self.frames} frames wanted at {self.fps:g} a second"
            )
        return frames

    def _read(self, clip: Clip, first: int) -> Pixels:
        if self.keep:
            whole = read_whole(clip.media, clip.start, self.fps, self.read_size, self.fit)
            return whole[first : first + self.frames]
        start = clip.start + first / self.fps
        settings: Any = {"fps": self.fps, "size": self.read_size, "fit": self.fit}
        return read_video(clip.media, **settings, start=start, max_frames=self.frames).frames

    def _heard(self, clip: Clip, first: int) -> Audio:
        start, seconds = clip.start + first / self.fps, self.frames / self.fps
        if not self.keep and clip.kind != "audio":
            return read_audio(clip.media, rate=self.rate, start=start, seconds=seconds)
        sound = read_sound(clip.media, self.rate)
        begin, count = round(start * self.rate), round(seconds * self.rate)
        return Audio(sound.fitted(max(len(sound), begin + count)).samples[:, begin : begin + count], self.rate)

    def captions(self) -> list[str]:
        clips = dict.fromkeys(which for which, _ in self.windows)
        return [text for which in clips for text in self.clips[which].captions]


@lru_cache(maxsize=4)  # the data sets of a recipe
def read_headers(data: ClipData, fps: float) -> tuple[list[tuple[Clip, int]], list[tuple[str, str]]]:
    """The clips of a data set with their frames as their headers declare, and (name, reason) of files that cannot be
    read.

    Those are told on stderr. Raises `UserError` where there are clips and not one can be read.
    """
    found, missing = data.catalogue()
    good, wrong = [], list(missing)

    def header(clip: Clip) -> int | str:
        try:
            return length_of(clip, fps)
        except UserError as error:
            return " ".join(str(error).split())

    with ThreadPoolExecutor(READERS) as pool, progress(len(found), "headers", "file") as bar:
        for clip, said in zip(found, pool.map(header, found), strict=True):
            bar.update()
            if isinstance(said, str):
                wrong.append((str(clip.media), said))
            else:
                good.append((clip, said))
    if wrong and not good:
        raise UserError(f"no clips in {data.path}: not one can be read; {wrong[0][0]}: {wrong[0][1]}")
    if wrong:
        tqdm.write(f"left out {len(wrong)} unreadable clips; the first: {wrong[0][0]}: {wrong[0][1]}", file=sys.stderr)
    return good, wrong


def length_of(clip: Clip, fps: float) -> int:
    """Frames of a film or picture at a rate, by its header; 0 for a sound. Raises `UserError` as `declared_frames`."""
    if clip.kind == "audio":
        return 0
    frames = declared_frames(clip.media, fps)
    if frames is None:  # an animation
        frames = int((probe(clip.media).duration or 0) * fps + 0.5)
    frames -= math.ceil(clip.start * fps)
    if clip.stop is not None:
        frames = min(frames, math.ceil((clip.stop - clip.start) * fps - 1e-6))
    return max(0, frames)


@cache
def has_sound(media: Path | Part) -> bool:
    return probe(media).channels > 0


@cache
def read_whole(media: Path | Part, start: float, fps: float, size: tuple[int, int], fit: AnyFit) -> Pixels:
    """A film from a second on (f, H, W, 3); kept."""
    return read_video(media, fps=fps, size=size, fit=fit, start=start).frames


@cache
def read_sound(media: Path | Part, rate: int) -> Audio:
    """The sound of a film or a sound file, mono; kept."""
    return read_audio(media, rate=rate)


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


def split_by_name(name: str, share: float) -> Split:
    """Which split a clip is of, by a name alone, so that more clips move none to the other."""
    digest = hashlib.sha256(name.encode(errors="surrogateescape")).digest()
    return "validation" if int.from_bytes(digest[:6], "big") / 2**48 < share else "train"
