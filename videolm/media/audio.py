"""`Audio`: sound as a value, and reading it from films and sound files at any rate and number of channels.

Outside the models samples are float32, channels first: (c, n) in [-1, 1].
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
import torch
from av.audio.frame import AudioFrame
from numpy.typing import ArrayLike, NDArray

from videolm.errors import UserError
from videolm.files import atomic_path, check_writable
from videolm.media.film import SEEK_EARLY, Film
from videolm.media.part import Blob, Part, Readable
from videolm.media.source import check_file, damaged

Samples = NDArray[np.float32]

MAX_SECONDS = 3600.0
"""The longest sound that is held in memory."""
GAP = 0.02
"""Seconds between two pieces of a sound from which on they are not one: what lies between is silence."""
BLOCK = 16_384
"""Samples that are read from a sound file, or resampled, at a time."""


@dataclass(frozen=True, eq=False)
class Audio:
    """A sound.

    Raises:
        UserError: `samples` is not a finite float32 array of shape (c, n) with at least one channel and one sample,
            or `rate` is not a whole number above 0.
    """

    samples: Samples
    """(c, n) float32 in [-1, 1]."""
    rate: int
    """Samples a second."""

    def __post_init__(self) -> None:
        if not isinstance(self.samples, np.ndarray) or self.samples.dtype != np.float32:
            kind = getattr(self.samples, "dtype", type(self.samples).__name__)
            raise UserError(f"samples are {kind}: wanted a float32 array (c, n); from_array converts")
        if self.samples.ndim != 2 or 0 in self.samples.shape:
            raise UserError(f"samples have shape {self.samples.shape}: wanted (c, n), neither of them 0")
        if not np.isfinite(self.samples).all():
            raise UserError("samples hold NaN or infinite values: wanted finite floats in [-1, 1]")
        if not (isinstance(self.rate, int) and self.rate > 0):
            raise UserError(f"rate is {self.rate!r}: wanted a whole number of samples a second above 0")

    @classmethod
    def from_array(cls, array: ArrayLike, rate: int) -> Audio:
        """A sound from (n,) or (c, n): floats in [-1, 1], or int16.

        Raises:
            UserError: the shape or dtype is wrong, or a value is beyond [-1, 1] by more than rounding, or NaN.
        """
        values = np.atleast_2d(np.asarray(array))
        if values.dtype == np.int16:
            return cls(values.astype(np.float32) / np.float32(32768), rate)
        if values.dtype.kind != "f":
            raise UserError(f"the array has dtype {values.dtype}: wanted floats in [-1, 1], or int16")
        if values.size and np.abs(values).max() > 1.001:
            raise UserError(f"the array holds values up to {np.abs(values).max():g}, beyond [-1, 1]: scale them")
        return cls(np.ascontiguousarray(values, np.float32).clip(-1, 1), rate)

    @classmethod
    def from_tensor(cls, tensor: torch.Tensor, rate: int) -> Audio:
        """A sound from a model's output (n,) or (c, n), on any device and of any float type.

        Models overshoot a little, so values beyond [-1, 1] are clamped; NaN is an error.
        """
        values = torch.atleast_2d(tensor.detach().to("cpu", torch.float32))
        if values.isnan().any():
            raise UserError("the tensor holds NaN: wanted floats in [-1, 1]")
        return cls(np.ascontiguousarray(values.clamp(-1, 1).numpy()), rate)

    def to_tensor(self) -> torch.Tensor:
        """(c, n) float32 in [-1, 1], on the CPU."""
        return torch.from_numpy(self.samples.copy())

    def __len__(self) -> int:
        """The number of samples of each channel."""
        return self.samples.shape[1]

    @property
    def channels(self) -> int:
        return self.samples.shape[0]

    @property
    def duration(self) -> float:
        """Seconds."""
        return len(self) / self.rate

    def fitted(self, samples: int) -> Audio:
        """The first `samples` samples, with silence behind where there are fewer."""
        kept = self.samples[:, :samples]
        return Audio(np.pad(kept, ((0, 0), (0, samples - kept.shape[1]))), self.rate)

    def last(self, samples: int) -> Audio:
        """The last `samples` samples, or as many as there are."""
        return Audio(self.samples[:, max(0, len(self) - samples) :], self.rate)

    def converted(self, rate: int, channels: int | None = None) -> Audio:
        """At another rate, and mixed to `channels` (as many as it has unless said): 1 or 2."""
        channels = self.channels if channels is None else channels
        if (rate, channels) == (self.rate, self.channels):
            return self
        length = round(len(self) * rate / self.rate)
        return Audio(np.concatenate(list(resampled([self], rate, channels)), 1), rate).fitted(max(1, length))


def resampled(sounds: Iterable[Audio], rate: int, channels: int) -> Iterator[Samples]:
    """Sounds of one rate that follow one another, as one at another rate and number of channels, 1 or 2: part by part
    (channels, n), as they come."""

    def frames() -> Iterator[AudioFrame]:
        for sound in sounds:
            parts = np.split(sound.samples, range(BLOCK, len(sound), BLOCK), axis=1)
            yield from (_frame(part, sound.rate) for part in parts)

    return _resampled(frames(), rate, channels)


def read_audio(
    path: Readable,
    *,
    rate: int = 16_000,
    channels: int | None = 1,
    start: float = 0.0,
    seconds: float | None = None,
) -> Audio:
    """Read the sound of a film, or a sound file (wav, flac, ogg, mp3, m4a, ...).

    In a film, time runs from its first picture on, so what is heard at frame k of `read_video` at `fps` is at sample
    k * rate / fps. Where the file has no sound for a while, it is silent.

    Args:
        path: the file, or a `Part` or `Blob` that is one.
        rate: samples a second of the result.
        channels: 1 or 2, to which others are mixed; None keeps those of the file.
        start: seconds into the file.
        seconds: of sound, with silence where the file's is over; None reads to its end.

    Raises:
        UserError: the file is missing, damaged, in no known format or has no sound; the sound ends before `start`, or
            is longer than `MAX_SECONDS`; an argument is out of range.
    """
    _check(rate, channels, start, seconds)
    if seconds is not None and seconds > MAX_SECONDS:
        raise UserError(f"seconds is {seconds:g}: one sound has {MAX_SECONDS:g} s at most")
    pieces = list(_pieces(path, rate, channels, start, None if seconds is None else start + seconds))
    first = round(start * rate)
    end = max((at + piece.shape[1] for at, piece in pieces), default=0)
    length = max(0, end - first) if seconds is None else round(seconds * rate)
    if end <= first and seconds is None:
        raise UserError(f"{path} has no sound from {start:g} s on: start earlier")
    found = next((piece.shape[0] for _, piece in pieces), channels or 1)
    samples = np.zeros((found, max(1, length)), np.float32)
    for at, piece in pieces:
        low, high = max(at - first, 0), min(at + piece.shape[1] - first, samples.shape[1])
        if low < high:
            samples[:, low:high] = piece[:, low + first - at : high + first - at]
    return Audio(samples.clip(-1, 1), rate)


def write_audio(audio: Audio, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write a .wav or .flac of 16 bits.

    Returns:
        `path`.

    Raises:
        UserError: an unknown suffix, or see `check_writable`.
    """
    path = check_writable(path, overwrite)
    if path.suffix.lower() not in (".wav", ".flac"):
        raise UserError(f"cannot write {path}: a sound is written as .wav or .flac")
    with atomic_path(path) as temporary:
        soundfile.write(temporary, audio.samples.T, audio.rate, "PCM_16", format=path.suffix[1:].upper())
    return path


def _check(rate: int, channels: int | None, start: float, seconds: float | None) -> None:
    if not (isinstance(rate, int) and 1000 <= rate <= 384_000):
        raise UserError(f"rate is {rate!r}: wanted 1,000 to 384,000 samples a second")
    if channels not in (None, 1, 2):
        raise UserError(f"channels is {channels!r}: wanted 1 or 2, or None for those of the file")
    if not (math.isfinite(start) and start >= 0):
        raise UserError(f"start is {start!r}: wanted seconds from 0 on")
    if seconds is not None and not (math.isfinite(seconds) and seconds > 0):
        raise UserError(f"seconds is {seconds!r}: wanted a time above 0")


def _pieces(
    path: Readable, rate: int, channels: int | None, start: float, end: float | None
) -> Iterator[tuple[int, Samples]]:
    """Unbroken stretches of a file's sound from `start` seconds or earlier on: the sample that each begins at, and its
    samples (c, n)."""
    check_file(path)
    stretch: list[AudioFrame] = []
    begin = expected = 0.0
    blocks = _sound_file(path, start)
    for time, frame in _film(path, start) if blocks is None else blocks:
        time = expected if time is None else time
        if (time if end is None else min(time, end)) - start > MAX_SECONDS:
            raise UserError(f"{path} is longer than the {MAX_SECONDS:g} s of one sound: ask for fewer seconds")
        if stretch and abs(time - expected) > GAP:
            yield _stretch(stretch, begin, rate, channels)
            stretch = []
        if not stretch:
            begin = time
        if end is not None and time > end + GAP:
            break
        stretch.append(frame)
        expected = (expected if len(stretch) > 1 else time) + frame.samples / frame.sample_rate
    if stretch:
        yield _stretch(stretch, begin, rate, channels)


def _stretch(frames: list[AudioFrame], begin: float, rate: int, channels: int | None) -> tuple[int, Samples]:
    parts = list(_resampled(frames, rate, channels or frames[0].layout.nb_channels))
    return round(begin * rate), np.concatenate(parts, 1) if parts else np.zeros((1, 0), np.float32)


def _sound_file(path: Readable, start: float) -> Iterator[tuple[float | None, AudioFrame]] | None:
    """What libsndfile reads; None for what it does not know."""
    try:
        file = soundfile.SoundFile(path.open() if isinstance(path, Part | Blob) else os.fspath(path))
    except (soundfile.SoundFileError, OSError, TypeError):
        return None
    if file.format == "MP3":  # soundfile seeks after each block, where an mp3 then breaks off: FFmpeg reads it whole
        file.close()
        return None

    def blocks() -> Iterator[tuple[float | None, AudioFrame]]:
        with closing(file):
            early = int(max(0.0, start - SEEK_EARLY)) * file.samplerate  # whole seconds: at any rate a whole sample
            read = file.seek(min(early, file.frames)) if early and file.seekable() else 0
            while read < file.frames:
                try:
                    block = file.read(BLOCK, "float32", always_2d=True)
                except soundfile.SoundFileError as error:
                    raise damaged(path, str(error)) from error
                if not len(block):
                    raise damaged(path, f"it ends at {read / file.samplerate:.2f} s")
                yield read / file.samplerate, _frame(block.T, file.samplerate)
                read += len(block)

    return blocks()


def _film(path: Readable, start: float) -> Iterator[tuple[float | None, AudioFrame]]:
    with Film(path if isinstance(path, Part | Blob) else Path(path), sound=True) as film:
        yield from film.sound(start)


LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}


def _frame(samples: NDArray[Any], rate: int) -> AudioFrame:
    if len(samples) not in LAYOUTS:
        raise UserError(f"the sound has {len(samples)} channels: wanted 1 to {max(LAYOUTS)}")
    values = np.ascontiguousarray(samples, np.float32)
    frame = AudioFrame.from_ndarray(values, format="fltp", layout=LAYOUTS[len(samples)])
    frame.sample_rate = rate
    return frame


def _resampled(frames: Iterable[AudioFrame], rate: int, channels: int) -> Iterator[Samples]:
    """Frames one after another, resampled and mixed: parts (channels, n)."""
    resampler = av.AudioResampler(format="fltp", layout=LAYOUTS[channels], rate=rate)
    for frame in itertools.chain(frames, [None]):
        if frame is not None:
            frame.pts = None  # one after another, whatever their clocks say
        yield from (part.to_ndarray().astype(np.float32, copy=False) for part in resampler.resample(frame))
