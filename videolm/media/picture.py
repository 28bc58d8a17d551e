"""Pictures and animations, decoded by Pillow."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import PIL.ExifTags
import PIL.Image
import PIL.ImageOps

from videolm.errors import UserError
from videolm.media.clip import Pixels
from videolm.media.fit import MAX_PIXELS
from videolm.media.part import Blob, Part
from videolm.media.source import MediaInfo, Shown, damaged, too_large

PICTURE_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "AVIF", "BMP", "TIFF", "PPM", "JPEG2000")
ANIMATION_FORMATS = ("PNG", "WEBP", "GIF", "AVIF")  # a TIFF or JPEG of several pages is still a picture
EXIF_ROTATION = {3: 180, 4: 180, 5: 270, 6: 270, 7: 90, 8: 90}  # counter-clockwise; 4, 5 and 7 mirror as well

# What damaged bytes make Pillow raise: each of its formats has its own way.
PILLOW_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    RuntimeError,
    LookupError,
    ArithmeticError,
    TypeError,
    struct.error,
)


def open_picture(path: Path | Part | Blob) -> Still | Animation | None:
    """Open a picture by what it holds, never by its name; None where Pillow knows no such format.

    Raises:
        UserError: the picture is over `MAX_PIXELS`, or its header is damaged.
    """
    with _pillow_errors(path):
        try:
            picture = PIL.Image.open(path if isinstance(path, Path) else path.open(), formats=PICTURE_FORMATS)
        except PIL.UnidentifiedImageError:
            return None
        if picture.width * picture.height > MAX_PIXELS:
            picture.close()
            raise too_large(path, picture.width, picture.height)
        animated = picture.format in ANIMATION_FORMATS and getattr(picture, "is_animated", False)
        return Animation(path, picture) if animated else Still(path, picture)


class Still:
    """A still picture, decoded by Pillow."""

    def __init__(self, path: Path | Part | Blob, picture: PIL.Image.Image) -> None:
        self.path = path
        self._picture = picture

    def __enter__(self) -> Still:
        return self

    def __exit__(self, *_: object) -> None:
        self._picture.close()

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) as stored, before it is turned upright."""
        return self._picture.size

    @property
    def info(self) -> MediaInfo:
        with _pillow_errors(self.path):
            orientation = self._picture.getexif().get(PIL.ExifTags.Base.Orientation, 1)
        rotation = EXIF_ROTATION.get(orientation, 0)
        width, height = self._picture.size if rotation % 180 == 0 else self._picture.size[::-1]
        return MediaInfo("image", width, height, fps=None, duration=None, frames=1, rotation=rotation)

    def pixels(self) -> Pixels:
        """(H, W, 3) uint8, upright, transparency on white."""
        with _pillow_errors(self.path):
            self._picture.load()
            return _flatten(PIL.ImageOps.exif_transpose(self._picture), self.path)


class Animation:
    """An animated GIF, WebP, PNG or AVIF, decoded by Pillow."""

    duration: float | None = None  # known only once every frame was read: see `info`

    def __init__(self, path: Path | Part | Blob, picture: PIL.Image.Image) -> None:
        self.path = path
        self._picture = picture

    def __enter__(self) -> Animation:
        return self

    def __exit__(self, *_: object) -> None:
        self._picture.close()

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self._picture.size

    @property
    def rate(self) -> float:
        """Mean frames per second."""
        return self.info.fps or 10.0

    @cached_property
    def info(self) -> MediaInfo:
        count, end = 0, 0.0
        for shown in self.frames():
            count, end = count + 1, shown.end
        return MediaInfo("video", *self.size, fps=count / end, duration=end, frames=count, rotation=0)

    def frames(self, start: float = 0.0) -> Iterator[Shown]:
        """Every frame in order; what is shown before `start` too, since frames build on one another."""
        time = 0.0
        with _pillow_errors(self.path):
            count: int = getattr(self._picture, "n_frames", 1)
        for index in range(count):
            with _pillow_errors(self.path):
                self._picture.seek(index)
                self._picture.load()  # only then does Pillow know the frame's duration
                frame = self._picture.copy()
            # As browsers do: a frame shown for no more than 10 ms is shown for 100.
            milliseconds = self._picture.info.get("duration", 0)
            duration = milliseconds / 1000 if milliseconds > 10 else 0.1
            yield Shown(time, duration, partial(_flatten, frame, self.path))
            time += duration


@contextmanager
def _pillow_errors(path: Path | Part | Blob) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning) as error:
        raise too_large(path) from error
    except PILLOW_ERRORS as error:
        raise damaged(path, str(error)) from error


def _flatten(picture: PIL.Image.Image, path: Path | Part | Blob) -> Pixels:
    """(H, W, 3) uint8 of a picture in any of Pillow's modes, transparency on white."""
    if picture.mode.startswith("I"):  # grey of 16 bits, in a wider type for some formats
        grey = np.asarray(picture)
        if grey.min() < 0 or grey.max() > 65535:
            raise UserError(f"{path} has grey levels from {grey.min()} to {grey.max()}: wanted 0 to 65535")
        return np.repeat(np.rint(grey / 257).astype(np.uint8)[..., None], 3, axis=2)
    if picture.mode == "F":
        raise UserError(f"{path} holds floating-point levels of no known range: save it with 8 or 16 bits")
    if picture.has_transparency_data:
        white = PIL.Image.new("RGBA", picture.size, "white")
        picture = PIL.Image.alpha_composite(white, picture.convert("RGBA"))
    return np.array(picture.convert("RGB"))
