"""What an opened file of any kind gives: what it holds, and its frames with the time each is shown at."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from videolm.errors import UserError
from videolm.media.clip import Pixels
from videolm.media.fit import MAX_PIXELS
from videolm.media.part import Blob, Part, Readable

WANTED = "wanted a film (mp4, mov, mkv, webm, ...), an animation (gif, webp) or a picture (png, jpg, ...)"


class Damaged(UserError):
    """A file that cannot be decoded from some place on; what comes before that place was good."""


@dataclass(frozen=True)
class MediaInfo:
    """What a file holds, as it is shown: after turning it upright and squaring its pixels."""

    kind: Literal["video", "image"]
    width: int
    height: int
    fps: float | None
    """Mean frames per second; None for an image."""
    duration: float | None
    """Seconds; None for an image, and where the file does not say."""
    frames: int | None
    """Number of frames, an estimate for films; None where the file does not say."""
    rotation: int
    """Degrees by which the stored picture is turned counter-clockwise to stand upright: 0, 90, 180 or 270."""
    channels: int = 0
    """Of its sound; 0 where it has none."""


@dataclass(frozen=True, eq=False)
class Shown:
    """One frame of a file and when it is shown, in seconds from the start of the file."""

    time: float
    duration: float
    pixels: Callable[[], Pixels]
    """Converts the frame: (H, W, 3) uint8, upright. Costly, so called only for frames that are wanted."""
    pixel_aspect: float = 1.0

    @property
    def end(self) -> float:
        return self.time + self.duration


def damaged(path: Readable, detail: str) -> Damaged:
    """The error for a file that cannot be decoded; `detail` is put on one line."""
    return Damaged(f"{path} is damaged or cut short: {' '.join(detail.split())}")


def too_large(path: Readable, width: float | None = None, height: float | None = None) -> UserError:
    """The error for a picture or frame of more than `MAX_PIXELS`."""
    got = "too large" if width is None or height is None else f"{width:.0f}x{height:.0f} pixels"
    return UserError(f"{path} is {got}: wanted no more than {MAX_PIXELS:,} pixels a frame; make it smaller first")


def check_file(path: Readable) -> None:
    """Raise `UserError` for a file that is missing, empty, or cannot be read. What a blob opens is not looked at."""
    if isinstance(path, Blob):
        return
    file = path.file if isinstance(path, Part) else Path(path)
    if file.is_dir():
        raise UserError(f"{path} is a folder: {WANTED}")
    if not file.exists():
        raise UserError(f"{path} does not exist: {WANTED}")
    if not file.is_file() or not os.access(file, os.R_OK):
        raise UserError(f"{path} cannot be read (a device, or no permission): {WANTED}")
    if (path.size if isinstance(path, Part) else file.stat().st_size) == 0:
        raise UserError(f"{path} is empty (0 bytes): {WANTED}")
