"""Films, pictures and sounds of a data set as examples: windows of them, decoded when they are asked for.

    layout ──► catalogue of clips ──► headers ──► windows ──► source[index]

A layout (`videolm/data/layouts/`) says where the clips of a data set lie and what belongs to each. Opening reads their
headers, from which the windows follow, so that the same index gives the same example. Clips that take little room
together are kept once they are decoded; of others only the window asked for is.
"""

from __future__ import annotations

import hashlib
import sys
from abc import abstractmethod
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Annotated, Any, ClassVar, NamedTuple
from weakref import WeakValueDictionary

import numpy as np
from pydantic import Field
from tqdm import tqdm

from videolm.config import Config
from videolm.data.conditions import FlowName, Footage
from videolm.data.example import Example, Split
from videolm.data.look import look
from videolm.errors import UserError
from videolm.media import Audio, Blob, Fit, Header, Part, Video, read_audio, read_header, read_image, read_video
from videolm.media.clip import Pixels
from videolm.media.fit import AnyFit
from videolm.media.read import MAX_FRAMES, MAX_SECONDS
from videolm.progress import progress
from videolm.shapes import Format

KEPT_BYTES = 2 * 2**30
"""Decoded clips that are kept by all data sets together; one that would go beyond is decoded window by window."""
LARGER = 2
"""How much larger than the model's frames are read where parts are cut from them."""
READERS = 16
"""Threads that read headers."""
MANY = 200
"""Files whose headers take so long that progress is told."""
AT_ONCE = 10_000
"""Headers that are given to them at a time."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A film, a picture or a sound of a data set."""

    media: Path | Part | Blob
    captions: tuple[str, ...] = ()
    label: str = ""
    """The name of its class, where it has one."""
    is_sound: bool = False
    """A sound file; whether it is a film or a picture, its header says."""
    start: float = 0.0
    """Seconds into the film where the clip begins."""
    stop: float | None = None
    """Seconds into the film where it ends; None: with the film."""
    split: Split | None = None
    """Which the data set says it is of; None where it does not say."""
    group: str = ""
    """What goes to one split together where the data set does not say which, such as the cuts of one film; a clip
    without one goes by its file's name."""


class Catalogue(NamedTuple):
    """What a layout finds."""

    clips: list[Clip]
    left_out: list[tuple[str, str]]
    """(name, reason) of what can be seen to be broken or missing without opening a clip."""


class DataSet(Config):
    """What every data set has."""

    weight: Annotated[float, Field(gt=0)] = 1.0
    """Its share of the steps beside other data sets."""
    tasks: tuple[str, ...] = ()
    """Tasks that learn from it; by default all."""

    def gives(self, stream: str) -> bool:
        """Whether its settings say that it has a stream of those that tasks ask for."""
        return True


class ClipData(DataSet):
    """What every data set of films, pictures and sounds has; each layout's own config adds to it."""

    path: str
    fit: Fit = "crop"
    """Cut to the model's shape around the centre, or keep the whole picture between bars ("letterbox")."""
    stride: Annotated[int, Field(ge=1)] = 16
    """Frames between the starts of two windows of a clip."""
    validation_share: Annotated[float, Field(ge=0, lt=0.9)] = 0.1
    """Of the clips, what is kept for validation, about, where the data set names none for it; which follows from their
    names."""
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

    keeps_ends: ClassVar[bool] = False
    """Whether validation has the end of every clip, where others keep whole clips."""
    wanted: ClassVar[str]
    """What the layout is made of, for the message that there is nothing."""

    @abstractmethod
    def catalogue(self) -> Catalogue:
        """The clips of the data set, always in one order. Raises `UserError` for a layout that is not as it should
        be."""

    def gives(self, stream: str) -> bool:
        return {"audio": self.sound, "structure": bool(self.depth_model)}.get(stream, True)

    @property
    def listing(self) -> ClipData:
        """What `catalogue` goes by, without how windows are made of the clips."""
        others = ClipData.model_fields.keys() - {"path"}
        return type(self)(**{name: value for name, value in self if name not in others})

    def open(self, stream: str, shape: Format, fps: float, split: Split) -> ClipSource:
        return ClipSource(self, stream, shape, fps, split)


class ClipSource:
    """See `Source`: windows of every clip, `stride` frames from one to the next.

    All windows are there as they are first, then all once more for each further view. Sounds are those of the same
    windows; where there are no films, windows of sound files. A clip shorter than a window has none.
    """

    def __init__(self, data: ClipData, stream: str, shape: Format, fps: float, split: Split):
        self.footage = Footage(stream, data.depth_model, data.flow)
        self.stream, self.fps, self.rate, self.stride = stream, fps, data.sample_rate, data.stride
        self.frames = 1 if stream == "image" else shape.frames
        self.size = (shape.height, shape.width)
        self.views = data.views if split == "train" and stream != "audio" else 1
        scale = 1 if self.views == 1 else LARGER
        self.fit: AnyFit = "cover" if self.views > 1 and data.fit == "crop" else data.fit
        self.read_size = (scale * shape.height, scale * shape.width)
        self.clips, self.unreadable = read_headers(data.listing)
        chosen = self._of_stream(data.sound)
        by_name = not any(clip.split == "validation" for clip, _ in self.clips)
        spans = []  # (clip, first frame, windows)
        count = 0
        for which in chosen:
            length = self._length(which)
            first, stop = _span(self.clips[which][0], length, self.frames, data, split, by_name)
            count += stop > first
            if stop - first >= self.frames:
                spans.append((which, first, (stop - first - self.frames) // data.stride + 1))
        self._spans = np.array(spans, np.int64).reshape(-1, 3)
        self._ends = self._spans[:, 2].cumsum()
        if split == "train" and not spans:
            kind = "sounds" if stream == "audio" else "films with sound" if data.sound else "films and pictures"
            raise UserError(
                f"no training clips in {data.path}: of its {len(self.clips)} files {count} are {kind} to train on "
                f"(--data.validation_share), and none has {self.frames} frames at {fps:g} a second"
            )
        read_as = (self.rate,) if stream == "audio" else (self.read_size, self.fit)
        self._kept = room((id(self.clips), fps, read_as), sum(map(self._bytes, chosen)))

    def _of_stream(self, sound: bool) -> list[int]:
        """The clips that a stream has windows of."""
        every = [(which, header) for which, (_, header) in enumerate(self.clips)]
        films = [which for which, header in every if header.kind != "audio"]
        if sound or self.stream == "audio":
            films = [which for which in films if self.clips[which][1].channels]
        if self.stream == "audio" and not films:
            return [which for which, header in every if header.kind == "audio"]
        return films

    def _length(self, which: int) -> int:
        """Frames of a clip."""
        clip, header = self.clips[which]
        return header.frames(self.fps, clip.start, clip.stop)

    def _bytes(self, which: int) -> float:
        """What a clip takes, decoded."""
        if self.stream == "audio":
            return 4.0 * self._length(which) / self.fps * self.rate
        header = self.clips[which][1]
        pixels = float(self.read_size[0] * self.read_size[1])
        if self.fit == "cover" and header.width:  # perhaps it is turned
            size, sides = np.array(self.read_size), np.array([header.height, header.width])
            pixels = max(float((size / turned).max() ** 2 * turned.prod()) for turned in (sides, sides[::-1]))
        return 3.0 * self._length(which) * pixels

    def __len__(self) -> int:
        return int(self._ends[-1]) * self.views if len(self._ends) else 0

    def _place(self, index: int) -> tuple[int, int, int, int]:
        """Of an example: the view, the number of its window, the clip, and the window's first frame."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        view, window = divmod(index, int(self._ends[-1]))
        span = int(np.searchsorted(self._ends, window, side="right"))
        which, first, count = self._spans[span].tolist()
        return view, window, which, first + self.stride * (window - int(self._ends[span]) + count)

    def name(self, index: int) -> str:
        """The file, and the second in it, that an example is of."""
        _, _, which, first = self._place(index)
        clip, header = self.clips[which]
        return str(clip.media) if header.kind == "image" else f"{clip.media} from {clip.start + first / self.fps:g} s"

    def __getitem__(self, index: int) -> Example[Any]:
        """Raises `UserError` for a clip that is damaged or shorter than its header declares."""
        view, window, which, first = self._place(index)
        clip = self.clips[which][0]
        try:
            if self.stream == "audio":
                return Example(self._heard(which, first), clip.captions, clip.label)
            frames = self._shown(which, first)
        except UserError as error:
            raise UserError(f"{error}; leave this clip out of the data") from error
        if self.views > 1:
            frames = look(frames, self.size, np.random.default_rng([view, window]) if view else None)
        video = self.footage(Video(np.ascontiguousarray(frames), self.fps))
        return Example(video, () if view else clip.captions, clip.label)

    def captions(self) -> list[str]:
        return [text for which in self._spans[:, 0] for text in self.clips[which][0].captions]

    def _shown(self, which: int, first: int) -> Pixels:
        """A window's frames (f, H, W, 3)."""
        whole = None if self._kept is None else self._kept.get(which, self._whole)
        if whole is not None and first < len(whole):
            frames = whole[max(0, min(first, len(whole) - self.frames)) :][: self.frames]
        else:
            frames = self._read(which, first, self.frames)
            missing = self.frames - len(frames)
            if 0 < missing <= first:  # the film ends a little before its header says, as where its sound is longer
                frames = self._read(which, first - missing, self.frames)
        if len(frames) < self.frames:
            media = self.clips[which][0].media
            raise UserError(f"{media} has {len(frames)} of the {self.frames} frames wanted at {self.fps:g} a second")
        return frames

    def _whole(self, which: int) -> Pixels | None:
        """A clip's frames; None where they cannot be had together: where it is damaged or very long."""
        length = self._length(which)
        try:
            return self._read(which, 0, length) if length <= min(MAX_FRAMES, MAX_SECONDS * self.fps) else None
        except UserError:
            return None

    def _read(self, which: int, first: int, count: int) -> Pixels:
        clip, header = self.clips[which]
        if header.kind == "image":
            return read_image(clip.media, size=self.read_size, fit=self.fit).pixels[None]
        start = clip.start + first / self.fps
        return read_video(
            clip.media, fps=self.fps, size=self.read_size, fit=self.fit, start=start, max_frames=count
        ).frames

    def _heard(self, which: int, first: int) -> Audio:
        """A window's sound, silent where the file's is over."""
        clip, begin, count = self.clips[which][0], *(round(n * self.rate / self.fps) for n in (first, self.frames))
        whole = None if self._kept is None else self._kept.get(which, self._whole_sound)
        if whole is not None:
            whole = whole.fitted(max(len(whole), begin + count))
            return Audio(whole.samples[:, begin : begin + count], self.rate)
        start, seconds = clip.start + first / self.fps, self.frames / self.fps
        return read_audio(clip.media, rate=self.rate, start=start, seconds=seconds)

    def _whole_sound(self, which: int) -> Audio | None:
        """A clip's sound; None as for `_whole`."""
        clip = self.clips[which][0]
        try:
            seconds = self._length(which) / self.fps
            return read_audio(clip.media, rate=self.rate, start=clip.start, seconds=seconds)
        except UserError:
            return None


def _span(clip: Clip, length: int, need: int, data: ClipData, split: Split, by_name: bool) -> tuple[int, int]:
    """The first frame of a clip that a split has, and the one after the last."""
    if data.keeps_ends:
        kept = length - int(length * data.validation_share)
        if length - kept < need:
            kept = length  # too little would be held out
        return (0, kept) if split == "train" else (kept, length)
    of = clip.split
    if of is None or by_name:
        of = split_by_name(clip.group or clip.media.name, data.validation_share)
    return (0, length) if of == split else (0, 0)


def split_by_name(name: str, share: float) -> Split:
    """Which split a clip is of, by a name alone, so that more clips move none to the other."""
    digest = hashlib.sha256(name.encode(errors="surrogateescape")).digest()
    return "validation" if int.from_bytes(digest[:6], "big") / 2**48 < share else "train"


@lru_cache(maxsize=8)  # the data sets of a recipe
def read_headers(data: ClipData) -> tuple[list[tuple[Clip, Header]], list[tuple[str, str]]]:
    """The clips of a data set with their headers, and (name, reason) of what is broken or missing.

    The latter is told on stderr. Raises `UserError` where nothing is left.
    """
    found, left_out = data.catalogue()
    good, wrong = [], list(left_out)
    bar = progress(len(found), f"headers of {data.path}", "file", enabled=len(found) >= MANY)
    with ThreadPoolExecutor(READERS) as pool, bar:
        for start in range(0, len(found), AT_ONCE):
            clips = found[start : start + AT_ONCE]
            for clip, header in zip(clips, pool.map(_header, clips), strict=True):
                bar.update()
                if isinstance(header, Header):
                    good.append((clip, header))
                else:
                    wrong.append((str(clip.media), header))
    if not good:
        reason = f"not one can be read; {wrong[0][1]}" if wrong else f"wanted {data.wanted}"
        raise UserError(f"no clips in {data.path}: {reason}")
    if wrong:
        tqdm.write(f"left out {len(wrong)} unreadable clips; the first: {wrong[0][1]}", file=sys.stderr)
    return good, wrong


def _header(clip: Clip) -> Header | str:
    try:
        return read_header(clip.media, sound=clip.is_sound)
    except (ValueError, OSError) as error:  # a UserError; a name that cannot be one
        return " ".join(str(error).split())


class Kept:
    """Decoded clips of a data set."""

    def __init__(self, size: float):
        self.size = size
        """Bytes that all take."""
        self._clips: dict[int, Any] = {}
        self._locks: dict[int, Lock] = {}
        self._lock = Lock()

    def get(self, which: int, read: Callable[[int], Any]) -> Any:
        """A clip, as `read` gives it the first time; read once, be it that several threads ask."""
        with self._lock:
            lock = self._locks.setdefault(which, Lock())
        with lock:
            if which not in self._clips:
                self._clips[which] = read(which)
            return self._clips[which]


_kept: WeakValueDictionary[Hashable, Kept] = WeakValueDictionary()


def room(key: Hashable, size: float) -> Kept | None:
    """Room for the decoded clips of a data set, shared by its sources that read them alike for as long as there is one.

    None where all that is kept would take more than `KEPT_BYTES`.
    """
    kept = _kept.get(key)
    if kept is None and size + sum(other.size for other in _kept.values()) <= KEPT_BYTES:
        kept = _kept[key] = Kept(size)
    return kept
