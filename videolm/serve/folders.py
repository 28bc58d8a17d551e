"""The files of jobs: one folder each, named by the job's id, with names that the server chooses.

DATA/jobs.sqlite        `Store`
DATA/jobs/video_…/      given-*.mp4 …   what was uploaded
                        made.mp4        and thumbnail.webp, spritesheet.webp
                        frames/00003.webp
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

ID = re.compile(r"video_[0-9a-f]{32}")
Variant = Literal["video", "thumbnail", "spritesheet"]
TYPES = {
    ".mp4": "video/mp4",
    ".png": "image/png",
    ".wav": "audio/wav",
    ".webp": "image/webp",
}
"""Of what is served."""


class Folders:
    """The folders of jobs in `data`."""

    def __init__(self, data: Path):
        self.data = data
        (data / "jobs").mkdir(parents=True, exist_ok=True)

    @property
    def database(self) -> Path:
        return self.data / "jobs.sqlite"

    def of(self, id: str) -> Path:
        """The folder of a job. Raises ValueError for what is no id, so that no path leads elsewhere."""
        if not ID.fullmatch(id):
            raise ValueError(f"{id!r} is no job's id")
        return self.data / "jobs" / id

    def made(self, id: str, variant: Variant = "video") -> Path | None:
        """What a job made, if it is there."""
        stem = "made" if variant == "video" else variant
        return next((path for suffix in TYPES if (path := self.of(id) / f"{stem}{suffix}").is_file()), None)

    def frame(self, id: str, number: int) -> Path:
        """A frame of a clip, from 0."""
        return self.of(id) / "frames" / f"{number:05}.webp"

    def remove(self, id: str) -> None:
        shutil.rmtree(self.of(id), ignore_errors=True)

    def sweep(self, known: Iterable[str], age: float = 0.0) -> None:
        """Remove the folders of jobs that there are not, if they are so many seconds old."""
        kept, before = set(known), time.time() - age
        for folder in (self.data / "jobs").iterdir():
            if folder.name not in kept and folder.stat().st_mtime <= before:
                shutil.rmtree(folder, ignore_errors=True)
