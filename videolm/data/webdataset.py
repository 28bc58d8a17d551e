"""Clips in WebDataset tars, as video2dataset writes them: `00001.mp4` with `00001.txt` and `00001.json` beside it.

Opening reads the tars' headers, those of the clips and the captions. From these follow the windows, so that the same
index gives the same example; its frames are decoded when it is asked for, where they lie in the tar. Nothing is
extracted.
"""

from __future__ import annotations

import glob
import hashlib
import json
import sys
import tarfile
from collections.abc import Iterable
from functools import cache, lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field
from tqdm import tqdm

from videolm.config import Config
from videolm.data.conditions import FlowName, Footage
from videolm.data.example import IMAGE_SUFFIXES, VIDEO_SUFFIXES, Example, Split
from videolm.errors import UserError
from videolm.media import Fit, Part, Video, declared_frames, probe, read_audio, read_image, read_video
from videolm.progress import progress
from videolm.shapes import Format


class WebDatasetData(Config):
    weight: float = 1.0
    tasks: tuple[str, ...] = ()

    """WebDataset tars; the files of a sample share the name before the first dot, captions are its .txt or .json, its
    class is its .cls."""

    kind: Literal["webdataset"] = "webdataset"
    path: str
    """A plain .tar, a folder of them (sub-folders too), or a pattern such as `shards/0000[0-3].tar`."""
    fit: Fit = "crop"
    """Cut to the model's shape around the centre, or keep the whole picture between bars ("letterbox")."""
    stride: Annotated[int, Field(ge=1)] = 16
    """Frames between the starts of two windows. Each is decoded when it is asked for, so more than a folder's."""
    validation_share: Annotated[float, Field(ge=0, lt=0.9)] = 0.1
    """Samples that are kept for validation, about; which follows from the tar's name and the sample's."""
    sound: bool = False
    """Only films that have sound; so it is where a task needs it."""
    sample_rate: Annotated[int, Field(ge=1000, le=96_000)] = 16_000
    """Samples a second that sounds are read at."""
    depth_model: str = ""
    """The folder of a depth estimator of `transformers`, for stylisation."""
    flow: FlowName = "dis"
    """Optical flow for stylisation, by OpenCV's DIS or by torchvision's RAFT."""

    def open(self, stream: str, shape: Format, fps: float, split: Split) -> WebDatasetSource:
        return WebDatasetSource(self, stream, shape, fps, split)


class WebDatasetSource:
    """See `Source`: windows of every clip, every `stride` frames of what its header declares.

    A clip that declares no length, such as a GIF, gives its first window.
    """

    def __init__(self, config: WebDatasetData, stream: str, shape: Format, fps: float, split: Split):
        need = 1 if stream == "image" else shape.frames
        self.need, self.fps, self.fit, self.size = need, fps, config.fit, (shape.height, shape.width)
        self.rate = config.sample_rate if stream == "audio" else None
        self.footage = Footage(stream, config.depth_model, config.flow)
        every = read_tars(config.path, fps)
        clips = [clip for clip in every if (clip.lot < config.validation_share) == (split == "validation")]
        if config.sound or stream == "audio":
            clips = [clip for clip in clips if not clip.is_picture and has_sound(clip.part)]
        self.windows: list[tuple[Clip, int]] = []  # (clip, first frame)
        for clip in clips:
            length = need if clip.frames is None else clip.frames
            self.windows += [(clip, first) for first in range(0, length - need + 1, config.stride)]
        if split == "train" and not self.windows:
            raise UserError(
                f"no training clips in {config.path}: {len(clips)} of its {len(every)} films and pictures are to train "
                f"on (--data.validation_share), and none has {need} frames at {fps:g} a second"
            )

    unreadable = ()

    def name(self, index: int) -> str:
        return str(self.windows[index][0].part)

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> Example[Any]:
        """Raises `UserError` for a clip that is damaged or shorter than its header declares."""
        clip, first = self.windows[index]
        try:
            if self.rate is not None:
                start, seconds = first / self.fps, self.need / self.fps
                sound = read_audio(clip.part, rate=self.rate, start=start, seconds=seconds)
                return Example(sound, clip.captions, clip.label)
            if clip.is_picture:
                video = Video(read_image(clip.part, size=self.size, fit=self.fit).pixels[None], self.fps)
            else:
                video = self._window(clip.part, first)
        except UserError as error:
            raise UserError(f"{error}; leave this sample out of the tar") from error
        return Example(self.footage(video), clip.captions, clip.label)

    def _window(self, part: Part, first: int) -> Video:
        video = self._read(part, first)
        missing = self.need - len(video)
        if 0 < missing <= first:  # the film ends a little before its header says, as where its sound is longer
            video = self._read(part, first - missing)
        if len(video) < self.need:
            raise UserError(f"{part} has {len(video)} of the {self.need} frames wanted at {self.fps:g} a second")
        return video

    def _read(self, part: Part, first: int) -> Video:
        start = first / self.fps
        return read_video(part, fps=self.fps, size=self.size, fit=self.fit, start=start, max_frames=self.need)

    def captions(self) -> list[str]:
        clips = {clip.part: clip for clip, _ in self.windows}
        return [text for clip in clips.values() for text in clip.captions]


class Clip(NamedTuple):
    """A film or picture in a tar."""

    part: Part
    frames: int | None  # as its header declares; None where it does not
    is_picture: bool
    captions: tuple[str, ...]
    label: str
    lot: float  # of its sample, in [0, 1): those below the share are for validation


@cache
def has_sound(part: Part) -> bool:
    """Whether a film's header names a sound."""
    return probe(part).channels > 0


@lru_cache(maxsize=2)  # a recipe's `data` and `tokenizer_data`
def read_tars(path: str, fps: float) -> list[Clip]:
    """Every film and picture of the tars at `path`, in their order. Those whose header is broken are left out and told.

    Raises `UserError` where there is no tar, a broken one, a broken caption file, or no clip that can be read.
    """
    tars, clips, unreadable = find_tars(path), [], []
    with progress(len(tars), "open tars", "tar") as bar:
        for tar in tars:
            found, wrong = read_tar(tar, fps)
            clips += found
            unreadable += wrong
            bar.update()
    if not clips:
        reason = f"not one can be read; {unreadable[0]}" if unreadable else "wanted 00001.mp4 with 00001.txt and so on"
        raise UserError(f"no clips in {path}: {reason}")
    if unreadable:
        tqdm.write(f"left out {len(unreadable)} unreadable clips; the first: {unreadable[0]}", file=sys.stderr)
    return clips


def find_tars(path: str) -> list[Path]:
    """The tars that a path, a folder or a pattern names, sorted. Raises `UserError` where there is none."""
    place = Path(path)
    if place.is_dir():
        tars = list(place.rglob("*.tar"))
    else:
        tars = [place] if place.exists() else [Path(name) for name in glob.glob(path, recursive=True)]
    if not tars:
        said = "holds no .tar" if place.is_dir() else "does not exist"
        advice = "set --data.path to a plain .tar, a folder of them or a pattern of * ? [0-9]; unpack .tar.gz first"
        raise UserError(f"{path} {said}: {advice}")
    return sorted(tars)


def read_tar(path: Path, fps: float) -> tuple[list[Clip], list[str]]:
    """The clips of a tar, and what is wrong with those that cannot be read."""
    clips, wrong = [], []
    for key, parts in samples(path).items():
        readable = []
        for part in parts:
            if _suffix(part) in VIDEO_SUFFIXES + IMAGE_SUFFIXES:
                try:
                    readable.append((part, declared_frames(part, fps)))
                except UserError as error:
                    wrong.append(str(error))  # not the error, which holds on to what was open
        if readable:
            told, lot = captions(parts), _lot(f"{path.name}/{key}")
            label = next((_text(part).strip() for part in parts if _suffix(part) == ".cls"), "")
            clips += [
                Clip(part, frames, _suffix(part) in IMAGE_SUFFIXES, told, label, lot) for part, frames in readable
            ]
    return clips, wrong


def samples(path: Path) -> dict[str, list[Part]]:
    """The files of a tar by the key of their sample: the name up to the first dot, with the folders before it.

    Raises `UserError` for what is no plain tar or a broken one.
    """
    found: dict[str, list[Part]] = {}
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                folder, slash, name = member.name.rpartition("/")
                key = name.partition(".")[0]
                if key and member.isreg():
                    part = Part(path, member.offset_data, member.size, member.name)
                    found.setdefault(folder + slash + key, []).append(part)
            file.seek(tar.offset)
            if file.read(tarfile.BLOCKSIZE).strip(b"\0"):  # a broken header ends the loop as the zeros at the end do
                raise tarfile.ReadError(f"bad header at byte {tar.offset}")
    except (tarfile.TarError, OSError) as error:
        advice = "unpack it if it is compressed (gunzip), else get it again"
        raise UserError(f"{path} is no plain tar, or a broken one ({error}): {advice}") from error
    return found


def captions(parts: Iterable[Part]) -> tuple[str, ...]:
    """Of a sample: the text of its .txt; where that is missing or empty, `caption` or `text` of its .json, if any.

    Raises `UserError` for a file that is broken or holds something else.
    """
    texts = [_text(part) for part in parts if _suffix(part) == ".txt"]
    if not any(text.strip() for text in texts):
        texts = [text for part in parts if _suffix(part) == ".json" for text in _described(part)]
    return tuple(text.strip() for text in texts if text.strip())


def _text(part: Part) -> str:
    with part.open() as file:
        try:
            return file.read().decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{part} is not text in UTF-8 ({error}): mend it and pack the tar again") from error


def _described(part: Part) -> list[str]:
    try:
        fields = json.loads(_text(part))
        told = fields.get("caption") or fields.get("text") or []
        texts = told if isinstance(told, list) else [told]
        if not all(isinstance(text, str) for text in texts):
            raise TypeError(f"the caption is {told!r:.40}")
    except (json.JSONDecodeError, AttributeError, TypeError) as error:
        advice = "mend it and pack the tar again"
        raise UserError(
            f"{part}: wanted an object with a text or a list of texts as 'caption' ({error}): {advice}"
        ) from error
    return texts


def _suffix(part: Part) -> str:
    return "." + part.name.rpartition(".")[2].lower()


def _lot(name: str) -> float:
    """A number in [0, 1) that follows from a name alone, so that more tars move no sample to the other split."""
    digest = hashlib.sha256(name.encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
