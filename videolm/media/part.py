"""Films, pictures and sounds that are no file of their own: parts of a larger file, and cells of a table."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes `start` to `start + size` of a file; what is read by path can be read by part."""

    file: Path
    start: int
    size: int
    name: str
    """What messages call it; nothing is opened or written by this name."""

    def __str__(self) -> str:
        return f"{self.name} in {self.file}"

    @property
    def url(self) -> str:
        """The part as FFmpeg opens it."""
        return f"subfile,,start,{self.start},end,{self.start + self.size},,:file:{self.file}"

    def open(self) -> BinaryIO:
        """The part as a file of its own."""
        return cast(BinaryIO, io.BufferedReader(_Bytes(self)))


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes that a function opens, such as the cell of a table; what is read by path can be read by blob."""

    opener: Callable[[], BinaryIO]
    """Opens them anew, as a file that can be read and sought in; they are not kept."""
    name: str
    """What messages call it."""

    def __str__(self) -> str:
        return self.name

    def open(self) -> BinaryIO:
        return self.opener()


Readable = str | os.PathLike[str] | Part | Blob
"""What clips and pictures are read from: a path, a part of a file, or bytes that are no file."""


class _Bytes(io.RawIOBase):
    """The bytes of a part. It has no descriptor: Pillow would give that of the whole file to libtiff."""

    def __init__(self, part: Part) -> None:
        self._part, self._at = part, 0
        self._file = part.file.open("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(0, offset + (0, self._at, self._part.size)[whence])
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        self._file.seek(self._part.start + self._at)
        read = self._file.readinto(memoryview(buffer)[: max(0, self._part.size - self._at)])
        self._at += read or 0
        return read

    def close(self) -> None:
        self._file.close()
        super().close()
