"""Films: video files, decoded by PyAV (FFmpeg).

Only the formats listed here are tried, and a file can name no other file or address: playlists, which can,
are not among them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.stream import Disposition
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from videolm.errors import UserError
from videolm.media.clip import Pixels
from videolm.media.fit import MAX_PIXELS
from videolm.media.part import Blob, Part
from videolm.media.source import WANTED, MediaInfo, Shown, damaged, too_large

FILM_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,flv,asf,ogg,mxf,h264,hevc,ivf,yuv4mpegpipe"
)
SOUND_FORMATS = ",wav,flac,mp3,aac,aiff,caf,opus,w64,au"
"""Read besides where only sound is wanted."""

# Colours come back within one level of 8 bits, where swscale's defaults lose two or three; and bicubic keeps the
# edges of small clips, whose chroma has half their size: 1 dB better than bilinear after a write and a read.
EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP | Interpolation.FULL_CHR_H_INT

CUT_SHORT = 0.5
"""Seconds by which a film may end before the time its header declares; more is a file cut short."""

SEEK_EARLY = 1.0
"""Seconds to seek ahead of the time wanted: indexes go by decoding time, which runs ahead of what is shown."""

Matrix = tuple[int, int, int, int]
"""A display matrix (a, b, c, d): what is stored at (x, y) is shown at (a x + c y, b x + d y)."""


class Film:
    """A video file, decoded by PyAV; or with `sound` any file that holds sound, perhaps without moving pictures."""

    def __init__(self, path: Path | Part | Blob, sound: bool = False) -> None:
        self.path = path
        self._for_sound = sound
        self._converter = VideoReformatter()
        # Of the first frame, once it was decoded: its timestamp in seconds, and how the film is turned.
        self._origin: float | None = None
        self._matrix: Matrix = (1, 0, 0, 1)
        self._open()

    def __enter__(self) -> Film:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def _open(self) -> None:
        # The decoder's own limit is looser than ours, which counts no alignment: it guards the memory only.
        decoding = {"max_pixels": str(2 * MAX_PIXELS)}
        path = self.path
        try:
            # "file:" so that no name is taken for an address.
            self._container = av.open(
                path.open() if isinstance(path, Blob) else path.url if isinstance(path, Part) else f"file:{path}",
                "r",
                options={"format_whitelist": FILM_FORMATS + SOUND_FORMATS * self._for_sound, **decoding},
                metadata_errors="replace",
            )
        except av.FFmpegError as error:
            detail = f"in no format known here, or cut short ({error.strerror})"
            raise UserError(f"{self.path} is {detail}: {WANTED}") from error
        try:
            if self._for_sound and not self._pictures():
                return
            self._stream = self._film_stream()
        except UserError:
            self._container.close()
            raise
        self._stream.codec_context.options = decoding

    def _pictures(self) -> list[VideoStream]:
        # The cover picture of a song is a video stream by name only.
        return [s for s in self._container.streams.video if not s.disposition & Disposition.attached_pic]

    def _film_stream(self) -> VideoStream:
        streams = self._pictures()
        if not streams:
            kinds = ", ".join(sorted({s.type for s in self._container.streams})) or "nothing"
            raise UserError(f"{self.path} holds no moving pictures, only {kinds}: {WANTED}")
        if streams[0].codec_context is None:
            raise UserError(f"{self.path} is in a codec not known here: convert it, for instance to H.264")
        self._check_size(streams[0].width, streams[0].height)
        return streams[0]

    @property
    def info(self) -> MediaInfo:
        """Takes the first frame off the stream, so `frames` cannot follow."""
        with _film_errors(self.path):
            frame = next(self._container.decode(self._stream), None)
        if frame is None:
            raise damaged(self.path, "not one frame could be read")
        self._begin(frame)
        height, width = _upright(np.empty((frame.height, frame.width), bool), self._matrix).shape
        duration = self.duration
        frames = self._stream.frames or (None if duration is None else round(duration * self.rate))
        return MediaInfo(
            "video",
            max(1, round(width * self._pixel_aspect)),
            height,
            fps=self.rate,
            duration=duration,
            frames=frames,
            rotation=90 * _quarter_turns(frame),
            channels=self.channels,
        )

    @property
    def channels(self) -> int:
        """Of its sound; 0 where it has none."""
        return next((s.channels for s in self._container.streams.audio if s.codec_context is not None), 0)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) as stored, before it is turned upright; (0, 0) where there are no moving pictures."""
        return (self._stream.width, self._stream.height) if self._pictures() else (0, 0)

    def length(self) -> float:
        """Seconds as the file declares, or else as its packets tell; nothing is decoded. `frames` cannot follow."""
        pictures = self._pictures()
        declared = self.duration if pictures else (self._container.duration or 0) / av.time_base
        if declared:
            return declared
        stream = pictures[0] if pictures else self._container.streams.audio[0]
        count, first, last = 0, math.inf, -math.inf
        with _film_errors(self.path):
            for packet in self._container.demux(stream):
                count += packet.size > 0
                if packet.pts is not None and packet.time_base is not None:
                    begin = float(packet.pts * packet.time_base)
                    first, last = min(first, begin), max(last, begin + float((packet.duration or 0) * packet.time_base))
        if last > first:
            return last - first
        return count / self.rate if pictures else 0.0  # a stream alone, whose packets have no times

    @property
    def rate(self) -> float:
        """Mean frames per second."""
        return float(self._stream.average_rate or self._stream.guessed_rate or 25)

    @property
    def duration(self) -> float | None:
        """Seconds, as the file declares; None where it does not say."""
        end = self._declared_end()
        if end is None and self._container.duration:  # that of the longest stream, which may be the sound
            return self._container.duration / av.time_base
        return end

    def frames(self, start: float = 0.0) -> Iterator[Shown]:
        """Frames in order, beginning with the one shown at `start` seconds or an earlier one.

        Raises:
            UserError: a frame is damaged, or the file ends before its declared end.
        """
        if start > SEEK_EARLY:
            next(self._decode(), None)  # tells the time the film starts at
            if self._origin is not None:
                frames = self._decode(seek=start - SEEK_EARLY)
                first = next(frames, None)
                if first is not None and first.time <= start:
                    yield first
                    yield from frames
                    return
            # Some formats cannot seek, or land too late: start over and count through.
            self._container.close()
            self._open()
        yield from self._decode()

    def sound(self, start: float = 0.0) -> Iterator[tuple[float | None, AudioFrame]]:
        """The sound in pieces from `start` seconds or earlier on, and when each is heard, in seconds from the first
        picture, or else the first sound; None for right after the one before.

        Raises:
            UserError: there is no sound, or it is damaged.
        """
        if self._pictures():
            next(self._decode(), None)  # tells the time the film starts at
            self._container.close()
            self._open()
        if start > SEEK_EARLY:
            first = next(self._heard(), None)
            if first is not None and first[0] is not None:
                pieces = self._heard(seek=start - SEEK_EARLY)
                first = next(pieces, None)
                if first is not None and first[0] is not None and first[0] <= start:
                    yield first
                    yield from pieces
                    return
            # Some formats cannot seek, or land too late: start over and count through.
            self._container.close()
            self._open()
        yield from self._heard()

    def _heard(self, seek: float | None = None) -> Iterator[tuple[float | None, AudioFrame]]:
        streams = [s for s in self._container.streams.audio if s.codec_context is not None]
        if not streams:
            raise UserError(f"{self.path} holds no sound: wanted a film with sound, or a wav, flac, mp3, ...")
        tick = streams[0].time_base or Fraction(1, av.time_base)
        with _film_errors(self.path):
            if seek is not None:
                try:
                    self._container.seek(int(((self._origin or 0.0) + seek) / tick), stream=streams[0])
                except av.FFmpegError:
                    return
            for frame in self._container.decode(streams[0]):
                time = None if frame.pts is None or frame.time_base is None else float(frame.pts * frame.time_base)
                if self._origin is None and time is not None:
                    self._origin = time
                yield None if time is None or self._origin is None else time - self._origin, frame

    def _decode(self, seek: float | None = None) -> Iterator[Shown]:
        tick = self._stream.time_base or Fraction(1, av.time_base)
        end = 0.0
        with _film_errors(self.path):
            if seek is not None:
                try:
                    self._container.seek(int(((self._origin or 0.0) + seek) / tick), stream=self._stream)
                except av.FFmpegError:
                    return
            for index, frame in enumerate(self._container.decode(self._stream)):
                if index == 0 and seek is None:
                    self._begin(frame)
                if frame.is_corrupt:
                    raise damaged(self.path, f"the frame at {end:.2f} s could not be decoded")
                self._check_size(frame.width * self._pixel_aspect, frame.height)
                pts = self._timestamp(frame)
                shown = Shown(
                    time=end if pts is None or self._origin is None else pts - self._origin,
                    duration=float(frame.duration * tick) if frame.duration else 1 / self.rate,
                    pixels=partial(self._pixels, frame),
                    pixel_aspect=self._pixel_aspect,
                )
                yield shown
                end = shown.end
        if seek is None and end == 0:
            raise damaged(self.path, "not one frame could be decoded")
        declared = self._declared_end()
        if declared is not None and declared - end > CUT_SHORT:
            raise damaged(self.path, f"it ends at {end:.2f} s of {declared:.2f} s")

    def _timestamp(self, frame: av.VideoFrame) -> float | None:
        return None if frame.pts is None or frame.time_base is None else float(frame.pts * frame.time_base)

    def _begin(self, first: av.VideoFrame) -> None:
        """Once a film, not a frame: side data and frame hold each other, and would gather until Python looks."""
        self._origin, self._matrix = self._timestamp(first), _display_matrix(first)

    def _declared_end(self) -> float | None:
        if self._stream.duration and self._stream.time_base:
            return float(self._stream.duration * self._stream.time_base)
        # Matroska: hours:minutes:seconds by the file's clock, which may not start at 0.
        clock = re.fullmatch(r"(\d+):(\d\d):(\d\d\.\d+)", self._stream.metadata.get("DURATION", ""))
        if clock is None:
            return None
        hours, minutes, seconds = map(float, clock.groups())
        origin = self._origin
        if origin is None:
            origin = float((self._stream.start_time or 0) * (self._stream.time_base or 0))
        return hours * 3600 + minutes * 60 + seconds - origin

    @property
    def _pixel_aspect(self) -> float:
        """Of the film turned upright."""
        aspect = float(self._stream.sample_aspect_ratio or 1)
        return 1 / aspect if _is_turned(self._matrix) else aspect

    def _check_size(self, width: float, height: float) -> None:
        if width * height > MAX_PIXELS:
            raise too_large(self.path, width, height)

    def _pixels(self, frame: av.VideoFrame) -> Pixels:
        colorspace = None
        if frame.colorspace == 2 and not frame.format.is_rgb:  # not said: what players assume
            colorspace = Colorspace.ITU709 if frame.width >= 1280 or frame.height > 576 else Colorspace.ITU601
        with _film_errors(self.path):
            rgb = self._converter.reformat(
                frame,
                format="rgb24",
                src_colorspace=colorspace,
                dst_color_range=ColorRange.JPEG,
                interpolation=EXACT,
                threads=1,  # readers run side by side in the workers of a data loader
            )
        return np.ascontiguousarray(_upright(rgb.to_ndarray(), self._matrix))


@contextmanager
def _film_errors(path: Path | Part | Blob) -> Iterator[None]:
    try:
        yield
    except av.FFmpegError as error:
        raise damaged(path, error.strerror or str(error)) from error
    except IndexError as error:  # PyAV's way to meet a stream that the header did not name
        raise damaged(path, str(error)) from error


def _quarter_turns(frame: av.VideoFrame) -> int:
    """Counter-clockwise."""
    return round(frame.rotation / 90) % 4


def _display_matrix(frame: av.VideoFrame) -> Matrix:
    try:
        side_data: Any = frame.side_data  # PyAV's types know of motion vectors only
        a, b, _, c, d = np.frombuffer(bytes(side_data["DISPLAYMATRIX"]), np.int32)[:5].tolist()
    except KeyError:
        return 1, 0, 0, 1
    except ValueError:  # PyAV has no name for some other data of this frame; then mirroring is not known
        return ((1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0))[_quarter_turns(frame)]
    return a, b, c, d


def _is_turned(matrix: Matrix) -> bool:
    return abs(matrix[1]) > abs(matrix[0])


def _upright(pixels: NDArray[Any], matrix: Matrix) -> NDArray[Any]:
    """Turn and mirror (H, W, ...)."""
    a, b, c, d = matrix
    if _is_turned(matrix):  # x and y change places
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
