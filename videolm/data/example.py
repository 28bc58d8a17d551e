"""What training clips are: examples by index, so that any batch of any step can be made again.

This is what exact resume rests on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

from videolm.media import Video

Split = Literal["train", "validation"]
VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".gif")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


class Example(NamedTuple):
    """A clip (one frame: a picture) and the captions it may be trained with, none when it has none."""

    video: Video
    captions: tuple[str, ...]


class Source(Protocol):
    """Examples by index. `index` may be any integer below `len`; the same index gives the same example."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...

    def captions(self) -> Sequence[str]:
        """Captions to make a sentencepiece model from."""
        ...
