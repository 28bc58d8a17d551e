"""Writing clips and pictures. Files appear whole, by rename, or not at all."""

from __future__ import annotations

import itertools
import math
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import PIL.Image
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter

from videolm.errors import UserError
from videolm.files import atomic_path, check_writable
from videolm.media.clip import Image, Video
from videolm.media.film import EXACT

BT709_MATRIX = 1  # AVCOL_SPC_BT709


def write_video(video: Video, path: str | os.PathLike[str], *, crf: int = 12, overwrite: bool = False) -> Path:
    """Write an .mp4 that plays in a browser, or a .gif.

    The mp4 is H.264, yuv420p, BT.709 as its tags say, with its index in front. An odd height or width is
    padded by one row or column, a copy of the last. The gif has 256 colours a frame and loops.

    Args:
        crf: H.264 quality from 1 (best) to 51; small clips bleed colour above 12. Not used for a gif.
        overwrite: replace an existing file.

    Returns:
        `path`.

    Raises:
        UserError: an unknown suffix, a rate the format cannot hold, or see `check_writable`.
    """
    path = check_writable(path, overwrite)
    if path.suffix.lower() not in (".mp4", ".gif"):
        raise UserError(f"cannot write {path}: a clip is written as .mp4 or .gif")
    if not (isinstance(crf, int) and 1 <= crf <= 51):
        raise UserError(f"crf is {crf!r}: wanted a whole number from 1 (best) to 51")
    with atomic_path(path) as temporary:
        if path.suffix.lower() == ".mp4":
            _write_mp4(video, temporary, crf)
        else:
            _write_gif(video, temporary)
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


def _write_mp4(video: Video, path: Path, crf: int) -> None:
    rate = Fraction(video.fps).limit_denominator(1001)  # 1001: the NTSC rates, such as 30000/1001
    if not 0.01 <= rate <= 1000:
        raise UserError(f"the clip has {video.fps:g} frames per second: an mp4 is written with 0.01 to 1000")
    padding = ((0, video.height % 2), (0, video.width % 2), (0, 0))
    converter = VideoReformatter()
    # With mbtree one clip gives now these bytes, now those, by what memory held before (docs/footguns.md).
    options = {"crf": str(crf), "x264-params": "mbtree=0"}
    with av.open(f"file:{path}", "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=rate, options=options)
        stream.height, stream.width = video.height + video.height % 2, video.width + video.width % 2
        stream.pix_fmt = "yuv420p"
        stream.colorspace, stream.color_range = BT709_MATRIX, ColorRange.MPEG
        stream.color_primaries, stream.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        for index, pixels in enumerate(video.frames):
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
        container.mux(stream.encode())


def _write_gif(video: Video, path: Path) -> None:
    if video.fps > 50:
        raise UserError(f"the clip has {video.fps:g} frames per second: browsers show a gif at 50 at most")
    # A gif counts in hundredths of a second. Rounded down from the start of the clip, not from frame to
    # frame, the rate does not drift, and reading at the same rate meets every frame again.
    starts = [math.floor(100 * index / video.fps) for index in range(len(video) + 1)]
    first, *others = map(PIL.Image.fromarray, video.frames)
    durations = [10 * (end - start) for start, end in itertools.pairwise(starts)]
    first.save(path, format="GIF", save_all=True, append_images=others, duration=durations, loop=0)
