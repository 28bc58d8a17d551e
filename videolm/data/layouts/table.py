"""Clips that a CSV names with their captions: Open-Sora's, WebVid's, and any other.

clips.csv      path,text                       Open-Sora: the file, in the CSV's folder or anywhere
webvid.csv     videoid,name,page_dir, ...      WebVid (arXiv 2104.00650): the file is page_dir/videoid.mp4
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from videolm.data.clips import Catalogue, Clip, ClipData
from videolm.data.example import SOUND_SUFFIXES, Split
from videolm.data.layouts.files import columns_of, read_table
from videolm.errors import UserError

FILES = ("{path}", "{page_dir}/{videoid}.mp4", "{file_name}", "{video}")
CAPTIONS = ("text", "caption", "name")
LABEL = "label"
COLUMN = re.compile(r"\{(.+?)\}")


class TableData(ClipData):
    """A CSV of clips and captions, or a TSV."""

    kind: Literal["csv"] = "csv"
    path: str
    """The table."""
    folder: str = ""
    """Where relative names of files begin; by default the table's own folder."""
    file: str = ""
    """The name of a file, with columns in braces; by default {path}, {page_dir}/{videoid}.mp4, {file_name} or {video},
    whichever there is."""
    caption: str = ""
    """The column of captions; by default text, caption or name."""
    validation: str = ""
    """A table of the clips to validate with, where there is one."""

    wanted: ClassVar[str] = "a row for every clip"

    def catalogue(self) -> Catalogue:
        folder = Path(self.folder) if self.folder else Path(self.path).parent
        found: list[Clip] = []
        tables: dict[str, Split | None] = {self.path: "train" if self.validation else None}
        if self.validation:
            tables[self.validation] = "validation"
        for table, split in tables.items():
            for file, caption, label in self._rows(Path(table)):
                told, is_sound = (caption,) if caption.strip() else (), file.lower().endswith(SOUND_SUFFIXES)
                found.append(Clip(folder / file, told, label, is_sound, split=split, group=file))
        return Catalogue(found, [])

    def _rows(self, table: Path) -> Iterator[tuple[str, str, str]]:
        """The file, caption and class of each row."""
        there = columns_of(table)
        files = [self.file] if self.file else [name for name in FILES if set(COLUMN.findall(name)) <= set(there)]
        captions = [self.caption] if self.caption else [name for name in CAPTIONS if name in there]
        if not files or not captions:
            lacks = "captions (data.caption: text, ...)" if files else "files' names (data.file: {path}, ...)"
            raise UserError(f"{table} has the columns {', '.join(there) or 'of nothing'}: say which has the {lacks}")
        for row in read_table(table, [*COLUMN.findall(files[0]), captions[0]]):
            name = COLUMN.sub(lambda match, row=row: row[match[1]], files[0])  # type: ignore[misc]
            yield name, row[captions[0]], row.get(LABEL, "")
