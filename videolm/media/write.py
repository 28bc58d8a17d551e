"""Writing clips and pictures. Files appear whole, by rename, or not at all."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import IO

import av
import numpy as np
import PIL.Image
from av.audio.frame import AudioFrame
from av.container import OutputContainer
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter
from av.video.stream import VideoStream

from videolm.errors import UserError
from videolm.files import atomic_path, check_writable
from videolm.media.audio import LAYOUTS, Audio, resampled
from videolm.media.clip import Image, Pixels, Video, check_fps
from videolm.media.film import EXACT

BT709_MATRIX = 1  # AVCOL_SPC_BT709
AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)


def write_video(
    video: Video, path: str | os.PathLike[str], *, audio: Audio | None = None, crf: int = 12, overwrite: bool = False
) -> Path:
    """Write an .mp4 that plays in a browser, or a .gif.

    The mp4 is H.264, yuv420p, BT.709 as its tags say, and AAC, with its index in front. An odd height or width is
    padded by one row or column, a copy of the last. The gif has 256 colours a frame, loops, and is silent.

    Args:
        audio: sound from the first frame on; cut where the clip ends, silent where it is over before.
        crf: H.264 quality from 1 (best) to 51; small clips bleed colour above 12. Not used for a gif.
        overwrite: replace an existing file.

    Returns:
        `path`.

    Raises:
        UserError: an unknown suffix, a rate the format cannot hold, or see `check_writable`.
    """
    if Path(path).suffix.lower() == ".mp4":
        return write_frames(video.frames, video.fps, path, audio=audio, crf=crf, overwrite=overwrite)
    path = check_writable(path, overwrite)
    if path.suffix.lower() != ".gif":
        raise UserError(f"cannot write {path}: a clip is written as .mp4 or .gif")
    if audio is not None:
        raise UserError(f"cannot write {path}: a gif has no sound; write an .mp4, or leave the sound out")
    with atomic_path(path) as temporary:
        _write_gif(video, temporary)
    return path


def write_frames(
    frames: Iterable[Pixels],
    fps: float,
    path: str | os.PathLike[str],
    *,
    audio: Audio | Iterable[Audio] | None = None,
    crf: int = 12,
    overwrite: bool = False,
) -> Path:
    """Write frames (H, W, 3) of one size as they come, as an .mp4 of any length; see `write_video`.

    Args:
        audio: parts that follow one another are asked for as they are needed, beside the frames.

    Raises:
        UserError: as `write_video`; there is no frame; a frame is no picture of the size of the first.
    """
    path = check_writable(path, overwrite)
    if path.suffix.lower() != ".mp4":
        raise UserError(f"cannot write {path}: frames that come one by one are written as .mp4")
    if not (isinstance(crf, int) and 1 <= crf <= 51):
        raise UserError(f"crf is {crf!r}: wanted a whole number from 1 (best) to 51")
    with atomic_path(path) as temporary:
        _write_mp4(frames, check_fps(fps), temporary, crf, audio)
    return path


def write_image(image: Image, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write a .png (exact), or a .jpg (quality 95, colour not subsampled).

    Returns:
        `path`.

    Raises:
        UserError: an unknown suffix, or see `check_writable`.
    """
    path = check_writable(path, overwrite)
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UserError(f"cannot write {path}: a picture is written as .png or .jpg")
    with atomic_path(path) as temporary:
        PIL.Image.fromarray(image.pixels).save(temporary, quality=95, subsampling=0)
    return path


def stream_frames(
    frames: Iterable[Pixels],
    fps: float,
    to: IO[bytes],
    *,
    audio: Audio | Iterable[Audio] | None = None,
    crf: int = 12,
) -> None:
    """Send frames (H, W, 3) as they come, as Matroska with H.264 and AAC, to what is read meanwhile: a player's pipe.

    Raises:
        UserError: as `write_frames`, of frames and rates.
    """
    options = {"live": "1", "flush_packets": "1", "cluster_time_limit": "1"}  # a cluster is sent when it is whole
    with av.open(to, "w", format="matroska", options=options) as container:
        _encode(container, frames, check_fps(fps), crf, audio, {"tune": "zerolatency"})


def _write_mp4(
    frames: Iterable[Pixels], fps: float, path: Path, crf: int, audio: Audio | Iterable[Audio] | None
) -> None:
    with av.open(f"file:{path}", "w", format="mp4", options={"movflags": "+faststart"}) as container:
        _encode(container, frames, fps, crf, audio, {})


def _encode(
    container: OutputContainer,
    frames: Iterable[Pixels],
    fps: float,
    crf: int,
    audio: Audio | Iterable[Audio] | None,
    options: dict[str, str],
) -> None:
    rate = Fraction(fps).limit_denominator(1001)  # 1001: the NTSC rates, such as 30000/1001
    if not 0.01 <= rate <= 1000:
        raise UserError(f"the clip has {fps:g} frames per second: a film is written with 0.01 to 1000")
    converter = VideoReformatter()
    stream = sound = None
    for index, pixels in enumerate(frames):
        size = Image(pixels).pixels.shape
        if stream is None:
            first = size
            stream = _add_stream(container, rate, size, crf, options)
            sound = None if audio is None else _Sound(container, [audio] if isinstance(audio, Audio) else audio)
        elif size != first:
            raise UserError(f"frame {index} has the shape {size}, the first one {first}: a clip has one size")
        padding = ((0, size[0] % 2), (0, size[1] % 2), (0, 0))
        frame = converter.reformat(
            av.VideoFrame.from_ndarray(np.pad(pixels, padding, mode="edge"), format="rgb24"),
            format="yuv420p",
            src_color_range=ColorRange.JPEG,
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=EXACT,
            threads=1,
        )
        frame.pts, frame.time_base, frame.duration = index, 1 / rate, 1
        container.mux(stream.encode(frame))
        if sound is not None:
            sound.write_until((index + 1) / rate)
    if stream is None:
        raise UserError("a clip needs at least one frame")
    container.mux(stream.encode())
    if sound is not None:
        sound.finish()


class _Sound:
    """The sound of an .mp4 that is being written, beside its frames and no further."""

    def __init__(self, container: OutputContainer, sounds: Iterable[Audio]) -> None:
        sounds = iter(sounds)
        first = next(sounds)
        self._rate = min(AAC_RATES, key=lambda rate: (rate < first.rate, abs(rate - first.rate)))
        channels = min(first.channels, 2)
        self._parts = resampled(itertools.chain([first], sounds), self._rate, channels)
        self._container, self._waiting, self._written = container, np.zeros((channels, 0), np.float32), 0
        self._stream = container.add_stream("aac", rate=self._rate, layout=LAYOUTS[channels])
        self._stream.bit_rate = 96_000 * channels

    def write_until(self, seconds: Fraction) -> None:
        """Write what is heard up to a time, silence where the sound is over."""
        count = round(seconds * self._rate) - self._written
        while self._waiting.shape[1] < count and (more := next(self._parts, None)) is not None:
            self._waiting = np.concatenate([self._waiting, more], 1)
        part, self._waiting = np.split(self._waiting, [count], 1)
        part = np.pad(part, ((0, 0), (0, count - part.shape[1])))
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(part), format="fltp", layout=LAYOUTS[len(part)])
        frame.sample_rate, frame.pts, frame.time_base = self._rate, self._written, Fraction(1, self._rate)
        self._container.mux(self._stream.encode(frame))
        self._written += count

    def finish(self) -> None:
        self._container.mux(self._stream.encode())


def _add_stream(
    container: OutputContainer, rate: Fraction, size: tuple[int, ...], crf: int, more: dict[str, str]
) -> VideoStream:
    # With mbtree one clip gives now these bytes, now those, by what memory held before (docs/footguns.md).
    options = {"crf": str(crf), "x264-params": "mbtree=0", **more}
    stream = container.add_stream("libx264", rate=rate, options=options)
    stream.height, stream.width = size[0] + size[0] % 2, size[1] + size[1] % 2
    stream.pix_fmt = "yuv420p"
    stream.colorspace, stream.color_range = BT709_MATRIX, ColorRange.MPEG
    stream.color_primaries, stream.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
    return stream


def _write_gif(video: Video, path: Path) -> None:
    if video.fps > 50:
        raise UserError(f"the clip has {video.fps:g} frames per second: browsers show a gif at 50 at most")
    # A gif counts in hundredths of a second. Rounded down from the start of the clip, not from frame to
    # frame, the rate does not drift, and reading at the same rate meets every frame again.
    starts = [math.floor(100 * index / video.fps) for index in range(len(video) + 1)]
    first, *others = map(PIL.Image.fromarray, video.frames)
    durations = [10 * (end - start) for start, end in itertools.pairwise(starts)]
    first.save(path, format="GIF", save_all=True, append_images=others, duration=durations, loop=0)
