"""What training data is: examples by index, so that any batch of any step can be made again.

This is what exact resume rests on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar

from videolm.media import Audio, Video

Split = Literal["train", "validation"]
Media = TypeVar("Media", Video, Audio)
VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".gif")
SOUND_SUFFIXES = (".wav", ".flac", ".mp3", ".m4a", ".ogg", ".opus")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


class Example(NamedTuple, Generic[Media]):
    """A clip (one frame: a picture) or a sound, and the captions it may be trained with, none when it has none."""

    media: Media
    captions: tuple[str, ...]
    label: str = ""
    """The name of its class, where it has one."""


class Source(Protocol[Media]):
    """Examples of one stream by index. `index` may be any integer below `len`; the same index gives the same example,
    and another stream of the same data has there what belongs to it."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example[Media]: ...

    @property
    def unreadable(self) -> Sequence[tuple[str, str]]:
        """(name, reason) of files that were left out when it was opened."""
        ...

    def name(self, index: int) -> str:
        """What an example is called where it is listed: its file, and where in it."""
        ...

    def captions(self) -> Sequence[str]:
        """Captions to make a sentencepiece model from."""
        ...


class InTurn:
    """Several sources as one, an example of each in turn."""

    def __init__(self, sources: Sequence[Source[Any]]):
        self.sources = sources

    @property
    def unreadable(self) -> Sequence[tuple[str, str]]:
        return [each for source in self.sources for each in source.unreadable]

    def name(self, index: int) -> str:
        at, which = divmod(index, len(self.sources))
        return self.sources[which].name(at)

    def __len__(self) -> int:
        return len(self.sources) * min(map(len, self.sources))

    def __getitem__(self, index: int) -> Example[Any]:
        at, which = divmod(index, len(self.sources))
        return self.sources[which][at]

    def captions(self) -> Sequence[str]:
        return [text for source in self.sources for text in source.captions()]
