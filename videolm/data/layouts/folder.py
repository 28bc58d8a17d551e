"""Films, pictures and sounds of a folder, with their captions in a table or beside them.

clips/a.mp4                    its caption in clips/a.txt, or in clips/metadata.jsonl (or .csv): file_name, caption
clips/archery/b.mp4            of the class "archery"
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from videolm.data.clips import Catalogue, Clip, ClipData
from videolm.data.example import IMAGE_SUFFIXES, SOUND_SUFFIXES, VIDEO_SUFFIXES
from videolm.data.layouts.files import read_table
from videolm.errors import UserError

MEDIA_SUFFIXES = VIDEO_SUFFIXES + IMAGE_SUFFIXES + SOUND_SUFFIXES
COLUMNS = ("file_name", "caption")


class FolderData(ClipData):
    """A folder of clips, with captions from `metadata.jsonl`, `metadata.csv` or `clip.txt` beside `clip.mp4`.

    The class of a clip is the name of the folder it lies in below this one.
    """

    kind: Literal["folder"] = "folder"
    path: str
    """The folder, sub-folders too; or one file."""
    stride: Annotated[int, Field(ge=1)] = 1
    """Frames between the starts of two windows of a clip."""
    validation_share: Annotated[float, Field(ge=0, lt=0.9)] = 0.1
    """The end of every clip that is kept for validation (none where it is shorter than a window)."""

    keeps_ends: ClassVar[bool] = True
    wanted: ClassVar[str] = "films (mp4, mov, ...), pictures (png, jpg, ...) or sounds (wav, flac, ...)"

    def catalogue(self) -> Catalogue:
        folder = Path(self.path)
        if not folder.exists():
            raise UserError(f"the folder of clips {folder} does not exist; set it with --data.path")
        if folder.is_file():
            files, folder = [folder, folder.with_suffix(".txt")], folder.parent
        else:
            files = sorted(folder.rglob("*"))
        captions, left_out = read_captions(folder, files)
        found = []
        for file in files:
            suffix = file.suffix.lower()
            if suffix in MEDIA_SUFFIXES and not file.is_dir():
                place = file.relative_to(folder)
                told = tuple(captions.get(place.as_posix(), ()))
                found.append(Clip(file, told, place.parent.name, suffix in SOUND_SUFFIXES))
        return Catalogue(found, left_out)


def read_captions(folder: Path, files: Iterable[Path]) -> tuple[dict[str, list[str]], list[tuple[str, str]]]:
    """Captions by file name relative to `folder`, and (name, reason) of those that cannot be read.

    From `metadata.jsonl` or `metadata.csv` (`file_name`, `caption`), and from those of `files` that are a `.txt` beside
    a clip. Raises `UserError` for a metadata file that is broken or lacks these fields.
    """
    found: dict[str, list[str]] = {}
    left_out = []
    for row in (*_json_lines(folder / "metadata.jsonl"), *_table(folder / "metadata.csv")):
        found.setdefault(row["file_name"], []).append(row["caption"])
    texts = {file.with_suffix(""): file for file in files if file.suffix.lower() == ".txt" and file.is_file()}
    for clip in files if texts else ():
        text = texts.get(clip.with_suffix("")) if clip.suffix.lower() in MEDIA_SUFFIXES else None
        if text is not None:
            try:
                if told := text.read_text(encoding="utf-8").strip():
                    found.setdefault(clip.relative_to(folder).as_posix(), []).append(told)
            except (OSError, UnicodeDecodeError) as error:
                left_out.append((str(text), f"{text} is no text in UTF-8 ({error}): its clip goes without"))
    return found, left_out


def _table(path: Path) -> Iterable[dict[str, str]]:
    return read_table(path, COLUMNS) if path.is_file() else ()


def _json_lines(path: Path) -> Iterable[dict[str, Any]]:
    if not path.is_file():
        return
    try:
        with path.open(encoding="utf-8") as file:
            for line in filter(str.strip, file):
                row = json.loads(line)
                if not all(isinstance(row[name], str) for name in COLUMNS):
                    raise TypeError(f"not {line.strip():.60}")
                yield row
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: every line needs the texts 'file_name' and 'caption' ({error})") from error
