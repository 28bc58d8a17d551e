"""Reading clips and pictures: the wanted frames, at the wanted rate and size.

Frames are resampled in time by what is on the screen: frame k of the result is the picture the file shows
at start + k / fps seconds, whatever the file's own rate and however uneven. Each frame is resized as it
is decoded, and decoding stops at the last frame wanted, so memory is that of the result.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from videolm.errors import UserError
from videolm.media.clip import Image, Pixels, Video, check_fps
from videolm.media.film import Film
from videolm.media.fit import AnyFit, Fit, check_fit, place
from videolm.media.part import Blob, Part, Readable
from videolm.media.picture import Animation, Still, open_picture
from videolm.media.source import Damaged, MediaInfo, Shown, check_file, damaged

MAX_FRAMES = 16_384
"""The most frames that one clip may have."""
MAX_BYTES = 4 * 2**30
"""The most memory that one clip may take."""
MAX_SECONDS = 3600.0
"""The longest stretch of a file that one clip may be read from."""
LONGEST_STILL = 600.0
"""Seconds one frame may be shown for; more is a damaged timestamp, which would repeat it without end."""

LONGEST_FILM = 24 * 3600.0
"""Seconds a header may declare; more is damage, which would list windows without end."""

SLACK = 0.0006
"""Seconds. Containers round the time of a frame, Matroska to 1 ms: a frame this little late is on time."""


def probe(path: Readable) -> MediaInfo:
    """What a file holds, as it would be shown, by its header and first frame; an animation is read whole.

    Raises:
        UserError: the file is missing, empty, damaged, over the size limit or in no known format.
    """
    with _open(path) as source:
        return source.info


@dataclass(frozen=True, slots=True)
class Header:
    """What the header of a file declares."""

    kind: Literal["video", "image", "audio"]
    width: int
    """Pixels as stored, before it is turned upright; 0 of a sound."""
    height: int
    seconds: float
    """0 of a picture."""
    channels: int
    """Of its sound; 0 where it has none."""

    def frames(self, fps: float, start: float = 0.0, stop: float | None = None) -> int:
        """How many frames `read_video` gives at `fps` from `start` to `stop` seconds; of a sound, how many it lasts."""
        if self.kind == "image":
            return 1
        seconds = (self.seconds if stop is None else min(stop, self.seconds)) - start
        whole = math.floor((seconds + SLACK) * fps) if self.kind == "audio" else math.ceil((seconds - SLACK) * fps)
        return max(0, whole)


def read_header(path: Readable, *, sound: bool = False) -> Header:
    """What a file's header declares, with nothing decoded; an animation, which declares no length, is read whole.

    Args:
        path: as for `read_video`, or a picture.
        sound: it may be a sound file too.

    Raises:
        UserError: as `probe`, for what the header shows.
    """
    if sound:
        check_file(path)
        source: Film | Animation | Still = Film(path if isinstance(path, Part | Blob) else Path(path), sound=True)
    else:
        source = _open(path)
    with source:
        if isinstance(source, Still):
            return Header("image", *source.size, seconds=0.0, channels=0)
        if isinstance(source, Animation):
            return Header("video", *source.size, seconds=source.info.duration or 0.0, channels=0)
        seconds = source.length()
        if seconds > LONGEST_FILM:
            raise damaged(path, f"its header declares {seconds:.0f} s")
        width, height = source.size
        return Header("video" if width else "audio", width, height, seconds, source.channels)


def declared_frames(path: Readable, fps: float = 8.0) -> int | None:
    """The number of frames `read_video` gives at `fps`, by what the header declares: nothing is decoded.

    A still picture has one. None where the header does not say, as that of an animation.

    Raises:
        UserError: as `probe`, for what the header shows.
    """
    check_fps(fps)
    with _open(path) as source:
        if isinstance(source, Still):
            return 1
        seconds = source.duration
    if seconds is None:
        return None
    if seconds > LONGEST_FILM:
        raise damaged(path, f"its header declares {seconds:.0f} s")
    return math.ceil((seconds - SLACK) * fps)


def read_video(
    path: Readable,
    *,
    fps: float | None = 8.0,
    size: tuple[int, int] | None = None,
    fit: AnyFit = "crop",
    start: float = 0.0,
    max_frames: int | None = None,
) -> Video:
    """Read a film or an animation.

    Args:
        path: a film (mp4, mov, mkv, webm, avi, ...) or an animated GIF, WebP or PNG; or a `Part` or `Blob` that is one.
        fps: frames per second of the result; None takes every frame of the file, at its mean rate.
        size: (height, width) of the result; None keeps that of the file.
        fit: "crop" fills the size and cuts what sticks out, "letterbox" shows all between black bars,
            "cover" fills it and keeps what sticks out.
        start: seconds into the file.
        max_frames: stop after so many; None reads to the end. A shorter file gives fewer.

    Returns:
        Frames turned upright, (f, *size, 3).

    Raises:
        UserError: the file is missing, empty, damaged before the last frame wanted, a still picture, or in no
            known format; it ends before `start`; an argument or a limit (`MAX_FRAMES`, `MAX_BYTES`,
            `MAX_SECONDS`, `fit.MAX_PIXELS`) is out of range.
    """
    _check(size, fit, fps, max_frames=max_frames)
    if not (math.isfinite(start) and start >= 0):
        raise UserError(f"start is {start!r}: wanted seconds from 0 on")
    with _open_video(path) as source:
        rate = source.rate if fps is None else check_fps(fps)
        data, count = bytearray(), 0
        shape: tuple[int, ...] = ()
        if max_frames is None and source.duration is not None:  # rather now than after an hour of decoding
            _check_seconds(source.duration - start, path)
            _check_clip(int((source.duration - start) * rate), (1,), path)
        shown = _resample(_bounded(_steady(source.frames(start), path), start, path), fps, start)
        try:
            for pixels in _placed(itertools.islice(shown, max_frames), size, fit):
                shape = pixels.shape
                count += 1
                _check_clip(count, shape, path)
                data += pixels.data  # grows in place: a list of frames would be held twice when stacked
        except Damaged as error:
            raise Damaged(f"{error}; max_frames={count} can be read" if count else str(error)) from error
    if not count:
        raise UserError(f"{path} ends before {start:g} s, where reading was to start: start earlier")
    return Video(np.frombuffer(data, np.uint8).reshape(count, *shape), rate)


def video_windows(
    path: Readable,
    *,
    frames: int,
    fps: float | None = 8.0,
    size: tuple[int, int] | None = None,
    fit: Fit = "crop",
    stride: int | None = None,
) -> Iterator[Video]:
    """Cut a film or an animation of any length into clips of `frames` frames, in one pass over the file.

    Clip i holds frames i * stride to i * stride + frames - 1 of what `read_video` would give. What is left at
    the end is dropped, so a file that is too short yields nothing. Memory is that of one clip or two.

    Args:
        path, fps, size, fit: as for `read_video`.
        frames: frames of each clip.
        stride: frames from the start of one clip to the start of the next; `frames` unless said. Less makes
            clips overlap, more leaves frames out.

    Raises:
        UserError: at the call for arguments, at the first clip for the file, as `read_video`; where the file
            is damaged, after the whole clips before that place.
    """
    stride = frames if stride is None else stride
    _check(size, fit, fps, frames=frames, stride=stride)
    return _windows(path, frames, fps, size, fit, stride)


def video_chunks(
    path: Readable,
    *,
    frames: int,
    fps: float | None = None,
    size: tuple[int, int] | None = None,
    fit: Fit = "crop",
) -> Iterator[Video]:
    """Read a film or an animation of any length in pieces of `frames` frames, the last perhaps shorter, in one pass.

    Together they are what `read_video` would give; memory is that of one.

    Args:
        path, fps, size, fit: as for `read_video`.

    Raises:
        UserError: as `video_windows`; what is left before a damaged place comes first.
    """
    _check(size, fit, fps, frames=frames)
    return _chunks(path, frames, fps, size, fit)


def _chunks(path: Readable, frames: int, fps: float | None, size: tuple[int, int] | None, fit: Fit) -> Iterator[Video]:
    with _open_video(path) as source:
        rate = source.rate if fps is None else check_fps(fps)
        placed = _placed(_resample(_steady(source.frames(), path), fps), size, fit)
        while chunk := list(itertools.islice(placed, frames)):
            _check_clip(frames, chunk[0].shape, path)
            yield Video(np.stack(chunk), rate)


def _windows(
    path: Readable,
    frames: int,
    fps: float | None,
    size: tuple[int, int] | None,
    fit: Fit,
    stride: int,
) -> Iterator[Video]:
    with _open_video(path) as source:
        rate = source.rate if fps is None else check_fps(fps)
        shown = _resample(_steady(source.frames(), path), fps)
        wanted = (item for index, item in enumerate(shown) if index % stride < frames)
        window: deque[Pixels] = deque(maxlen=frames)
        step = min(stride, frames)  # frames left out by a longer stride never reach the window
        for index, pixels in enumerate(_placed(wanted, size, fit)):
            _check_clip(frames, pixels.shape, path)
            window.append(pixels)
            if index >= frames - 1 and (index - frames + 1) % step == 0:
                yield Video(np.stack(window), rate)


def read_image(path: Readable, *, size: tuple[int, int] | None = None, fit: AnyFit = "crop") -> Image:
    """Read a still picture.

    It is turned upright as its EXIF data say; transparency is laid on white; palettes, grey levels of 8 or
    16 bits and CMYK become RGB. Colour profiles are not applied.

    Args:
        path: a png, jpg, webp, gif, avif, bmp, tiff, ppm or jp2 file.
        size, fit: as for `read_video`.

    Returns:
        (*size, 3).

    Raises:
        UserError: the file is missing, empty, damaged, over the size limit, a film or an animation, or in no
            known format; `size` or `fit` is wrong.
    """
    _check(size, fit)
    with _open(path) as source:
        if not isinstance(source, Still):
            raise UserError(f"{path} is a video: wanted a still picture; read_video with max_frames=1 takes one")
        return Image(place(source.pixels(), size, fit))


def _open(path: Readable) -> Film | Animation | Still:
    """Open a file by what it holds, never by its name."""
    check_file(path)
    path = path if isinstance(path, Part | Blob) else Path(path)
    return open_picture(path) or Film(path)


def _open_video(path: Readable) -> Film | Animation:
    source = _open(path)
    if isinstance(source, Still):
        with source:
            raise UserError(f"{path} is a still picture: wanted a video; give it as an image (read_image)")
    return source


def _resample(frames: Iterable[Shown], fps: float | None, start: float = 0.0) -> Iterator[Shown]:
    """What is on the screen at start + k / fps for k = 0, 1, ...; without fps, each frame from `start` on.

    Before the first frame, that is the first. A file that is damaged still gives what comes before.

    >>> film = [Shown(time, 0.04, None) for time in (0.0, 0.04, 0.08, 0.12, 0.16)]
    >>> [shown.time for shown in _resample(film, fps=12.5)]
    [0.0, 0.08, 0.16]
    """
    count, held, damage = 0, None, None
    source = iter(frames)
    while True:
        try:
            item = next(source, None)
        except Damaged as error:
            item, damage = None, error
        if held is not None:
            until = held.end if item is None else item.time
            while start + (count / fps if fps else 0) < until - SLACK:
                yield held
                count += 1
                if fps is None:
                    break
        if item is None:
            break
        held = item
    if damage is not None:
        raise damage


def _placed(frames: Iterable[Shown], size: tuple[int, int] | None, fit: AnyFit) -> Iterator[Pixels]:
    """The pixels of each frame, all of one size; a frame that is repeated is converted once."""
    last, pixels = None, np.empty((0, 0, 3), np.uint8)
    for shown in frames:
        if shown is not last:
            last, pixels = shown, place(shown.pixels(), size, fit, shown.pixel_aspect)
            size = size or (pixels.shape[0], pixels.shape[1])  # a file may change its size midway
        yield pixels


def _steady(frames: Iterable[Shown], path: Readable) -> Iterator[Shown]:
    last = None
    for shown in frames:
        if max(shown.duration, shown.time - (last or shown).time) > LONGEST_STILL:
            raise damaged(path, f"the time of the frame at {shown.time:.2f} s is wrong, or it stands too long")
        last = shown
        yield shown


def _bounded(frames: Iterable[Shown], start: float, path: Readable) -> Iterator[Shown]:
    for shown in frames:
        _check_seconds(shown.time - start, path)
        yield shown


def _check_seconds(seconds: float, path: Readable) -> None:
    if seconds > MAX_SECONDS:
        advice = "ask for max_frames, or cut it with video_windows"
        raise UserError(f"{path} is longer than the {MAX_SECONDS:g} s one clip is read from: {advice}")


def _check(size: tuple[int, int] | None, fit: str, fps: float | None = None, **counts: int | None) -> None:
    check_fit(size, fit)
    if fps is not None:
        check_fps(fps)
    for name, count in counts.items():
        if count is not None and (not isinstance(count, int) or count < 1):
            raise UserError(f"{name} is {count!r}: wanted a whole number of frames, 1 or more")


def _check_clip(count: int, shape: tuple[int, ...], path: Readable) -> None:
    if count > MAX_FRAMES:
        advice = "ask for max_frames, or cut it with video_windows"
        raise UserError(f"{path} gives more than the {MAX_FRAMES:,} frames of one clip: {advice}")
    if count * math.prod(shape) > MAX_BYTES:
        advice = "ask for fewer frames or a smaller size"
        raise UserError(f"{path} gives more than the {MAX_BYTES / 2**30:g} GiB of one clip: {advice}")
