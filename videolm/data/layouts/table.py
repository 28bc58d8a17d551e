"""Films that a CSV names with their captions: Open-Sora's `path,text`, WebVid's `videoid,name,page_dir`, and others."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from videolm.data.clips import Catalogue, Clip, ClipData, split_by_name
from videolm.data.layouts.files import read_table
from videolm.errors import UserError

FILE_COLUMNS = ("path", "file_name", "video", "videoid")
CAPTION_COLUMNS = ("text", "caption", "name")


class TableData(ClipData):
    """A CSV of films and captions. Which split a film is of follows from its name."""

    kind: Literal["csv"] = "csv"
    path: str
    """The CSV. Its columns are found by their names: the file's is path, file_name, video, or videoid (with page_dir,
    as WebVid has it), the caption's text, caption or name."""
    folder: str = ""
    """Where relative names of files begin; by default the CSV's own folder."""

    def catalogue(self) -> Catalogue:
        table = Path(self.path)
        rows = read_table(table)
        columns = rows[0].keys() if rows else ()
        file = next((name for name in FILE_COLUMNS if name in columns), None)
        caption = next((name for name in CAPTION_COLUMNS if name in columns), None)
        if file is None or caption is None:
            wanted = f"one of {', '.join(FILE_COLUMNS)} and one of {', '.join(CAPTION_COLUMNS)}"
            raise UserError(f"{table} has the columns {', '.join(columns) or 'of nothing'}: wanted {wanted}")
        folder = Path(self.folder) if self.folder else table.parent
        found: list[Clip] = []
        missing: list[tuple[str, str]] = []
        for row in rows:
            name = f"{row.get('page_dir', '')}/{row[file]}.mp4".lstrip("/") if file == "videoid" else row[file]
            if (folder / name).is_file():
                split = split_by_name(name, self.validation_share)
                found.append(Clip(folder / name, (row[caption],) if row[caption] else (), split=split))
            else:
                missing.append((name, "the film is not there"))
        return Catalogue(found, missing)
