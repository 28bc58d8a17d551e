"""What a call gives back: clips and sounds, as arrays and as files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import PIL.Image
import torch

from videolm.errors import UserError
from videolm.files import check_writable
from videolm.media import Audio, Image, Video, write_audio, write_image, write_video
from videolm.media.clip import Pixels
from videolm.tasks import Task, Variant

SUFFIXES = {"video": (".mp4", ".gif"), "image": (".png", ".jpg", ".jpeg"), "audio": (".wav", ".flac", ".mp4")}
"""What a task's output may be written as, the first by default. An .mp4 of a sound shows the clip that it is for."""

OutputType = Literal["np", "pt", "pil"]


@dataclass(frozen=True)
class VideoLMOutput:
    """Generated clips and sounds.

    Attributes:
        frames: "np": (B, T, H, W, C) float32 in [0, 1]; "pt": (B, T, C, H, W); "pil": a list of pictures a clip.
        audio: (B, 1, samples) float32 in [-1, 1], or None for a task without sound.
        audio_sampling_rate: samples a second of `audio`.
        videos: the same clips as `media.Video`; where a task makes sound alone, the clips that it is for.
        sounds: the same sounds as `media.Audio`; none without sound.
        tokens: ids drawn for each clip.
        fps: frames a second.
        variant: the task and format made.
        given: frames at the start of each clip that were given.
    """

    frames: Any
    audio: np.ndarray | None
    audio_sampling_rate: int | None
    videos: list[Video]
    sounds: list[Audio]
    tokens: int
    fps: float
    variant: Variant
    given: int

    @classmethod
    def of(
        cls, videos: Sequence[Video], sounds: Sequence[Audio], tokens: int, fps: float, variant: Variant, to: OutputType
    ) -> VideoLMOutput:
        """Clips of one size, and sounds of one length and rate."""
        frames = as_type(np.stack([clip.frames for clip in videos]), to) if videos else None
        audio = np.stack([sound.samples for sound in sounds]) if sounds else None
        rate = sounds[0].rate if sounds else None
        return cls(frames, audio, rate, list(videos), list(sounds), tokens, fps, variant, variant.prefix)

    @property
    def kind(self) -> str:
        """ "video", "image" or "audio": what the task makes; clips may have sound."""
        return kind_of(self.variant.task)

    def save(self, path: str | Path, overwrite: bool = False) -> list[Path]:
        """Write what was made: `clip.mp4`, or `clip-0.mp4`, `clip-1.mp4` … when there are several.

        Raises `UserError` for a suffix that the task does not write.
        """
        path, count = Path(path), max(len(self.videos), len(self.sounds))
        names = [path] if count == 1 else [path.with_stem(f"{path.stem}-{index}") for index in range(count)]
        for name in names:
            check_writable(name, overwrite)
        for index, name in enumerate(names):
            self.write(index, name, overwrite)
        return names

    def write(self, index: int, path: Path, overwrite: bool = False) -> None:
        """Write one of them. A .gif leaves the sound out."""
        suffix = path.suffix.lower()
        if suffix not in SUFFIXES[self.kind]:
            raise UserError(f"cannot write {path}: {self.variant.task.name} writes {' or '.join(SUFFIXES[self.kind])}")
        sound = self.sounds[index] if self.sounds else None
        if self.kind == "image":
            write_image(Image(self.videos[index].frames[0]), path, overwrite=overwrite)
        elif suffix in (".mp4", ".gif"):
            if not self.videos:
                raise UserError(f"cannot write {path}: there is no clip to show; write a .wav")
            write_video(self.videos[index], path, audio=None if suffix == ".gif" else sound, overwrite=overwrite)
        else:
            assert sound is not None
            write_audio(sound, path, overwrite=overwrite)


def kind_of(task: Task) -> str:
    """ "video", "image" or "audio": what a task makes; clips may have sound."""
    return "audio" if task.visual is None else "image" if task.makes_pictures else "video"


def check_type(to: str) -> None:
    """Raise `UserError` for an output type that there is not."""
    if to not in get_args(OutputType):
        raise UserError(f"unknown output_type {to!r}; one of {', '.join(get_args(OutputType))}")


def as_type(pixels: Pixels, to: OutputType) -> Any:
    """Pixels (..., H, W, 3) as floats in [0, 1], as a tensor (..., 3, H, W) of them, or as lists of pictures."""
    if to == "pil":
        return PIL.Image.fromarray(pixels) if pixels.ndim == 3 else [as_type(part, to) for part in pixels]
    values = pixels.astype(np.float32) / 255
    return torch.from_numpy(values).movedim(-1, -3) if to == "pt" else values
