"""Data sets that Hugging Face's `datasets` opens: a folder of films or parquet files, or a name on its hub.

Films are decoded here, never by `datasets`. Those that lie in the tables themselves are written out once, beside the
library's own cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from videolm.data.clips import Catalogue, Clip, ClipData, split_by_name
from videolm.data.example import Split
from videolm.errors import UserError
from videolm.files import atomic_path

MEDIA = {"video": ".mp4", "image": ".png", "audio": ".wav", "mp4": ".mp4", "png": ".png", "jpg": ".jpg"}
"""Columns that may hold the media, in this order, and what a file is called that has no name."""
CAPTIONS = ("caption", "captions", "text", "txt")


class HuggingFaceData(ClipData):
    """A data set of `datasets`. Without a split for validation, which rows are for it follows from their files' names,
    or numbers."""

    kind: Literal["huggingface"] = "huggingface"
    path: str
    """As `datasets.load_dataset` takes it: a folder, a name on the hub, "videofolder", "parquet", "webdataset", ..."""
    name: str = ""
    """Which of its configurations."""
    files: str = ""
    """Its files, where `path` names a format: a pattern."""
    train_split: str = "train"
    validation_split: str = "validation"
    media: str = ""
    """The column of films, pictures or sounds; by default video, image or audio."""
    caption: str = ""
    """The column of captions, a text or a list of them; by default caption, captions or text."""
    label: str = "label"
    """The column of classes."""

    def catalogue(self) -> Catalogue:
        tables = self._load()
        found: list[Clip] = []
        missing: list[tuple[str, str]] = []
        splits: dict[str, Split] = {self.train_split: "train", self.validation_split: "validation"}
        if self.train_split not in tables:
            raise UserError(
                f"{self.path} has no split '{self.train_split}', but {', '.join(tables)}: set data.train_split"
            )
        for name, split in splits.items():
            if name not in tables:
                continue
            alone = split == "train" and self.validation_split not in tables
            table, media, caption, names = self._columns(tables[name])
            for index, row in enumerate(table):
                told = row[caption] if caption else None
                texts = tuple(told) if isinstance(told, list) else (told,) if told else ()
                label = row.get(self.label)
                label = names[label] if names and isinstance(label, int) and label >= 0 else str(label or "")
                file = self._file(row[media], table, f"{name}-{index:08d}", MEDIA.get(media, ".mp4"))
                if file is None:
                    missing.append((f"row {index} of {name}", f"its {media} is empty or not there"))
                    continue
                of = split_by_name(file.name, self.validation_share) if alone else split
                found.append(Clip(file, texts, label, split=of))
        return Catalogue(found, missing)

    def _load(self) -> Mapping[str, Any]:
        try:
            from datasets import DatasetDict, load_dataset
        except ImportError as error:
            raise UserError("data sets of Hugging Face need its library: pip install 'videolm[train]'") from error
        settings: dict[str, Any] = {"name": self.name or None, "data_files": self.files or None}
        try:
            found = load_dataset(self.path, **settings)
        except Exception as error:  # it raises many kinds
            reason = " ".join(str(error).split())[:300]
            raise UserError(f"cannot open the data set {self.path}: {reason}") from error
        return found if isinstance(found, DatasetDict) else {self.train_split: found}

    def _columns(self, table: Any) -> tuple[Any, str, str | None, list[str] | None]:
        """The table with media as they are stored, its columns of media and captions, and the names of its classes."""
        from datasets import Audio, Image, Video

        columns = table.column_names
        media = self.media or next((name for name in MEDIA if name in columns), "")
        if media not in columns:
            raise UserError(f"{self.path} has the columns {', '.join(columns)}: say which holds the films (data.media)")
        caption = self.caption or next((name for name in CAPTIONS if name in columns), None)
        if caption is not None and caption not in columns:
            raise UserError(f"{self.path} has no column '{caption}' of captions, but {', '.join(columns)}")
        feature = table.features[media]
        if isinstance(feature, Audio | Image | Video):
            table = table.cast_column(media, type(feature)(decode=False))
        names = getattr(table.features.get(self.label), "names", None)
        return table, media, caption, names

    def _file(self, value: Any, table: Any, name: str, suffix: str) -> Path | None:
        """Where the media of a row lie, written out where they are in the table; None where there are none."""
        if isinstance(value, str):
            value = {"path": value, "bytes": None}
        if not isinstance(value, dict):
            value = {"path": None, "bytes": value}
        path, data = value.get("path"), value.get("bytes")
        if data is None:
            return Path(path) if path and Path(path).is_file() else None
        if not len(data):
            return None
        from datasets.config import HF_DATASETS_CACHE

        folder = Path(HF_DATASETS_CACHE) / "videolm" / table._fingerprint
        file = folder / (name + (Path(path).suffix if path else suffix))
        if not file.is_file():
            with atomic_path(file) as temporary:
                temporary.write_bytes(data)
        return file
