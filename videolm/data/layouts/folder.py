"""Films, pictures and sounds of a folder, with their captions in a table or beside them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from videolm.data.clips import Catalogue, Clip, ClipData
from videolm.data.example import IMAGE_SUFFIXES, SOUND_SUFFIXES, VIDEO_SUFFIXES
from videolm.errors import UserError

MEDIA_SUFFIXES = VIDEO_SUFFIXES + IMAGE_SUFFIXES + SOUND_SUFFIXES


class FolderData(ClipData):
    """A folder of clips, with captions from `metadata.jsonl`, `metadata.csv` or `clip.txt` beside `clip.mp4`.

    The class of a clip is the name of the folder it lies in below this one. The end of every clip is kept for
    validation.
    """

    kind: Literal["folder"] = "folder"
    path: str
    """The folder, sub-folders too; or one file."""
    stride: Annotated[int, Field(ge=1)] = 1
    """Frames between the starts of two windows of a clip."""
    validation_share: Annotated[float, Field(ge=0, lt=0.9)] = 0.1
    """The end of every clip that is kept for validation (none where it is shorter than a window)."""

    def catalogue(self) -> Catalogue:
        folder = Path(self.path)
        if not folder.exists():
            raise UserError(f"the folder of clips {folder} does not exist; set it with --data.path")
        files, folder = ([folder], folder.parent) if folder.is_file() else (sorted(folder.rglob("*")), folder)
        captions = read_captions(folder)
        found = []
        for file in files:
            if file.suffix.lower() in MEDIA_SUFFIXES and file.is_file():
                place = file.relative_to(folder)
                found.append(Clip(file, captions.get(place.as_posix(), ()), place.parent.name))
        return Catalogue(found)


def read_captions(folder: Path) -> dict[str, tuple[str, ...]]:
    """Captions by file name relative to `folder`.

    From `metadata.jsonl` or `metadata.csv` (`file_name`, `caption`), and from a `.txt` beside a clip.
    Raises `UserError` for a metadata file that is broken or lacks these fields.
    """
    found: dict[str, list[str]] = {}
    for table in (folder / "metadata.jsonl", folder / "metadata.csv"):
        if not table.is_file():
            continue
        try:
            text = table.read_text(encoding="utf-8")
            rows = (
                [json.loads(line) for line in text.splitlines() if line.strip()]
                if table.suffix == ".jsonl"
                else list(csv.DictReader(text.splitlines()))
            )
            for row in rows:
                found.setdefault(row["file_name"], []).append(row["caption"])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{table}: every entry needs 'file_name' and 'caption' ({error})") from error
    for path in folder.rglob("*.txt"):
        for clip in path.parent.glob(path.stem + ".*"):
            if clip.suffix.lower() in MEDIA_SUFFIXES:
                text = path.read_text(encoding="utf-8").strip()
                if text:
                    found.setdefault(clip.relative_to(folder).as_posix(), []).append(text)
    return {name: tuple(texts) for name, texts in found.items()}
