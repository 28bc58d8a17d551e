"""Kinetics-400, -600 and -700 (arXiv 1705.06950, 1808.01340, 1907.06987): CSV files, and a folder a class or a split.

annotations/train.csv                                label,youtube_id,time_start,time_end,split
train/riding a bike/AbCdEfGhIjK_000010_000020.mp4 ...
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from videolm.data.clips import Catalogue, Clip, ClipData
from videolm.data.example import Split
from videolm.data.layouts.files import columns_of, films_of, not_there, read_table
from videolm.errors import UserError

SPLITS: dict[str, Split] = {"train": "train", "val": "validation", "validate": "validation", "validation": "validation"}
"""Clips of the splits "test" and "holdout" are left out: the former's have no label."""
COLUMNS = ("youtube_id", "time_start", "time_end", "split")


class KineticsData(ClipData):
    """Kinetics; the class of a clip is its label, and there are no captions."""

    kind: Literal["kinetics"] = "kinetics"
    path: str
    """The folder with the clips and the CSV files, in sub-folders too. A clip is cut already, or cut out of the whole
    film where that is there (`AbCdEfGhIjK.mp4`)."""

    wanted: ClassVar[str] = f"a CSV with label, {', '.join(COLUMNS)}, of clips to train on"

    def catalogue(self) -> Catalogue:
        films = films_of(self.path)
        found: list[Clip] = []
        left_out: list[tuple[str, str]] = []
        for table in sorted(Path(self.path).rglob("*.csv")):
            if "youtube_id" not in columns_of(table):
                continue  # not one of Kinetics
            for row in read_table(table, COLUMNS):
                split = SPLITS.get(row["split"])
                if split is None:
                    continue
                if row.get("label") is None:
                    raise UserError(f"{table} has no column 'label', but {', '.join(row)}")
                try:
                    start, stop = (float(row[column]) for column in ("time_start", "time_end"))
                except ValueError as error:
                    raise UserError(f"{table}: the times of {row['youtube_id']} are no numbers ({error})") from error
                name, film = f"{row['youtube_id']}_{int(start):06d}_{int(stop):06d}", row["youtube_id"]
                if name in films:
                    found.append(Clip(films[name], (), row["label"], split=split, group=film))
                elif film in films:
                    found.append(Clip(films[film], (), row["label"], start=start, stop=stop, split=split, group=film))
                else:
                    left_out.append(not_there(name, table))
        return Catalogue(found, left_out)
