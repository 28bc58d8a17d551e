"""Data sets that Hugging Face's `datasets` opens: a folder of films, tables of many formats, or a name on its hub.

Films are decoded here, never by `datasets`: those that lie in the tables are read where they lie.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Literal, cast

from videolm.data.clips import Catalogue, Clip, ClipData
from videolm.data.example import SOUND_SUFFIXES, Split
from videolm.errors import UserError
from videolm.media import Blob

MEDIA = ("video", "mp4", "webm", "image", "png", "jpg", "jpeg", "audio", "wav", "flac", "mp3", "path", "file_name")
"""Columns that may hold the media, in this order."""
CAPTIONS = ("caption", "captions", "text", "txt", "json.caption", "json.text")
LABELS = ("label", "cls")
ROWS = 1000
"""Rows that are read at a time."""


class HuggingFaceData(ClipData):
    """A data set of `datasets`; training on its split "train", validation on "validation"."""

    kind: Literal["huggingface"] = "huggingface"
    path: str
    """As `datasets.load_dataset` takes it: a folder, a name on the hub, or a format such as "parquet", "csv" or
    "webdataset"; or a folder that `save_to_disk` wrote."""
    subset: str = ""
    """Which of its configurations."""
    files: str = ""
    """Its files, where `path` is a format: a path or a pattern."""
    folder: str = ""
    """Where relative names of files begin; by default `path`, or the folder of `files`."""
    train_split: str = "train"
    validation_split: str = "validation"
    """Without such a split, what is kept for validation follows from the rows' numbers."""
    media: str = ""
    """The column of films, pictures or sounds, as the library knows them, as bytes, or as names of files; by default
    the first that the library knows as such, or one called video, mp4, image, audio, path, ..."""
    caption: str = ""
    """The column of captions, a text or a list of them; of a column within another, both with a dot between. By default
    caption, captions, text, txt, json.caption or json.text."""
    label: str = ""
    """The column of classes, names or numbers that the data set has names for; by default label or cls."""

    wanted: ClassVar[str] = "a row for every clip"

    def catalogue(self) -> Catalogue:
        tables = self._load()
        splits: dict[str, Split] = {self.train_split: "train", self.validation_split: "validation"}
        if self.train_split not in tables:
            raise UserError(
                f"{self.path} has no split '{self.train_split}', but {', '.join(tables)}: set data.train_split"
            )
        every = Catalogue([], [])
        for name, split in splits.items():
            if name in tables:
                self._read(tables[name], name, split, every)
        return every

    def _load(self) -> Mapping[str, Any]:
        try:
            from datasets import Dataset, load_dataset, load_from_disk
        except ImportError as error:
            raise UserError("data sets of Hugging Face need its library: pip install 'videolm[train]'") from error
        saved = any((Path(self.path) / name).is_file() for name in ("dataset_dict.json", "state.json"))
        try:
            if saved:
                found = load_from_disk(self.path)
            else:
                found = load_dataset(self.path, name=self.subset or None, data_files=self.files or None)
        except Exception as error:  # it raises many kinds
            reason = " ".join(str(error).split())[:300]
            raise UserError(f"cannot open the data set {self.path}: {reason}") from error
        return {self.train_split: found} if isinstance(found, Dataset) else found

    def _read(self, table: Any, name: str, split: Split, every: Catalogue) -> None:
        """Add the clips of a split."""
        from datasets import Audio, Image, Video

        known = {column: kind for column, kind in table.features.items() if isinstance(kind, Audio | Image | Video)}
        for column, kind in known.items():
            table = table.cast_column(column, type(kind)(decode=False))
        media = self._column(table, "media", self.media, (*known, *MEDIA))
        if media is None:
            columns = ", ".join(table.column_names)
            raise UserError(f"{self.path} has the columns {columns}: say which holds the films (data.media)")
        caption = self._column(table, "caption", self.caption, CAPTIONS)
        label = self._column(table, "label", self.label, LABELS)
        names = getattr(table.features[label], "names", None) if label else None
        is_sound = isinstance(known.get(media), Audio)
        arrow = table.select_columns([media]).with_format("arrow")
        for index, (path, has_bytes), texts, of in zip(
            range(len(table)), _cells(arrow, media), _values(table, caption), _values(table, label), strict=True
        ):
            said = f"row {index} of {name} in {self.path}" + (f" ({path})" if path else "")
            if not path and not has_bytes:
                every.left_out.append((said, f"{said} is empty"))
                continue
            told = tuple(str(text) for text in (texts if isinstance(texts, list) else [texts]) if text)
            of = names[of] if names and isinstance(of, int) and of >= 0 else "" if of is None or names else str(of)
            where = Blob(partial(_open, arrow, index), said) if has_bytes else self._root / path
            sound = is_sound or path.lower().endswith(SOUND_SUFFIXES)
            every.clips.append(Clip(where, told, of, sound, split=split, group=f"{name}/{index}"))

    @property
    def _root(self) -> Path:
        if self.folder:
            return Path(self.folder)
        return Path(self.files).parent if self.files else Path(self.path)

    def _column(self, table: Any, setting: str, wanted: str, usual: tuple[str, ...]) -> str | None:
        """A column's name: the one that is wanted, else the first of the usual ones."""
        names = set(table.column_names)
        for column, kind in table.features.items():
            names |= {f"{column}.{field}" for field in kind} if isinstance(kind, dict) else set()
        if wanted and wanted not in names:
            raise UserError(f"{self.path} has no column '{wanted}' (data.{setting}), but {', '.join(sorted(names))}")
        return wanted or next((name for name in usual if name in names), None)


def _cells(table: Any, column: str) -> Iterator[tuple[str, bool]]:
    """Of each row the name of its file, perhaps empty, and whether it has the bytes; which are not read."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for start in range(0, len(table), ROWS):
        cells = table[start : start + ROWS].column(column).combine_chunks()
        if pa.types.is_string(cells.type) or pa.types.is_large_string(cells.type):
            yield from ((path or "", False) for path in cells.to_pylist())
            continue
        paths, data = [""] * len(cells), cells
        if pa.types.is_struct(cells.type):
            paths, data = (pc.struct_field(cells, name) for name in ("path", "bytes"))
            paths = [path or "" for path in paths.to_pylist()]
        yield from zip(paths, pc.greater(pc.binary_length(data), 0).fill_null(False).to_pylist(), strict=True)


def _values(table: Any, column: str | None) -> Iterator[Any]:
    """Of each row what a column holds; None without one."""
    outer, _, inner = (column or "").partition(".")
    chosen = table.select_columns([outer]) if outer else table
    for start in range(0, len(table), ROWS):
        if column is None:
            yield from [None] * len(range(start, min(start + ROWS, len(table))))
            continue
        for value in chosen[start : start + ROWS][outer]:
            yield (value or {}).get(inner) if inner else value


def _open(table: Any, index: int) -> BinaryIO:
    """The bytes of a row's only column, where they lie."""
    import pyarrow as pa

    cell = table[index].column(0)[0]
    return cast(BinaryIO, pa.BufferReader((cell["bytes"] if pa.types.is_struct(cell.type) else cell).as_buffer()))
