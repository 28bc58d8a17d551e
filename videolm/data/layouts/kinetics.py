"""Kinetics-400, -600 and -700 (arXiv 1705.06950, 1808.01340): CSV files, and a folder a class.

annotations/train.csv    label,youtube_id,time_start,time_end,split
train/riding a bike/AbCdEfGhIjK_000010_000020.mp4 ...
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from videolm.data.clips import Catalogue, Clip, ClipData
from videolm.data.example import Split
from videolm.data.layouts.files import films_of, read_table
from videolm.errors import UserError

SPLITS: dict[str, Split] = {"train": "train", "val": "validation", "validate": "validation", "validation": "validation"}
"""Clips of the split "test" are left out."""
COLUMNS = ("label", "youtube_id", "time_start", "time_end", "split")


class KineticsData(ClipData):
    """Kinetics; the class of a clip is its label, and there are no captions."""

    kind: Literal["kinetics"] = "kinetics"
    path: str
    """The folder with the clips and the CSV files, in sub-folders too. A clip is cut already, or cut out of the whole
    film where that is there (`AbCdEfGhIjK.mp4`)."""

    def catalogue(self) -> Catalogue:
        films = films_of(Path(self.path))
        tables = sorted(Path(self.path).rglob("*.csv"))
        if not tables:
            raise UserError(f"{self.path} holds no CSV of Kinetics ({','.join(COLUMNS)})")
        found: list[Clip] = []
        missing: list[tuple[str, str]] = []
        for table in tables:
            for row in read_table(table, *COLUMNS):
                split = SPLITS.get(row["split"])
                if split is None:
                    continue
                try:
                    start, stop = (float(row[column]) for column in ("time_start", "time_end"))
                except ValueError as error:
                    raise UserError(f"{table}: the times of {row['youtube_id']} are no numbers ({error})") from error
                name = f"{row['youtube_id']}_{int(start):06d}_{int(stop):06d}"
                label = row["label"].replace("_", " ")
                if name in films:
                    found.append(Clip(films[name], (), label, split=split))
                elif row["youtube_id"] in films:
                    found.append(Clip(films[row["youtube_id"]], (), label, start, stop, split))
                else:
                    missing.append((name, "the film is not there"))
        return Catalogue(found, missing)
