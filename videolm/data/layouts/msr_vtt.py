"""MSR-VTT (Xu et al., CVPR 2016): `video0.mp4` ..., and a JSON with twenty captions a clip.

MSRVTT/train_val_videodatainfo.json  {"videos": [{"video_id", "split", ...}], "sentences": [{"video_id", "caption"}]}
MSRVTT/TrainValVideo/video0.mp4 ...

The files are cut already; whoever has the films that they were cut from says so, and then "start time" and "end time"
count.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from videolm.data.clips import Catalogue, Clip, ClipData
from videolm.data.example import Split
from videolm.data.layouts.files import films_of, not_there, read_json_file
from videolm.errors import UserError

SPLITS: dict[str, Split] = {"train": "train", "validate": "validation", "val": "validation"}
"""Clips of the split "test" are left out."""


class MsrVttData(ClipData):
    """MSR-VTT; training on "train", validation on "validate"."""

    kind: Literal["msr_vtt"] = "msr_vtt"
    path: str
    """The folder with the clips, in sub-folders too, and one or more of its JSON files."""
    uncut: bool = False
    """The files are the whole films, from which "start time" to "end time" is the clip."""

    wanted: ClassVar[str] = "a JSON with 'videos' and 'sentences', of clips to train on"

    def catalogue(self) -> Catalogue:
        films = films_of(self.path)
        captions: dict[str, list[str]] = {}
        videos: dict[str, tuple[Split, float, float | None, Path]] = {}
        for table in sorted(Path(self.path).rglob("*.json")):
            told = read_json_file(table)
            if not (isinstance(told, dict) and {"videos", "sentences"} <= told.keys()):
                continue
            try:
                for video in told["videos"]:
                    cut = (float(video["start time"]), float(video["end time"])) if self.uncut else (0.0, None)
                    if split := SPLITS.get(video["split"]):
                        videos[video["video_id"]] = (split, *cut, table)
                for sentence in told["sentences"]:
                    captions.setdefault(sentence["video_id"], []).append(sentence["caption"])
            except (KeyError, TypeError, ValueError) as error:
                needs = "videos need video_id, split, start time and end time, sentences video_id and caption"
                raise UserError(f"{table} is not as MSR-VTT has it ({error!r}): {needs}") from error
        found = [
            Clip(films[name], tuple(captions.get(name, ())), start=start, stop=stop, split=split)
            for name, (split, start, stop, _) in videos.items()
            if name in films
        ]
        return Catalogue(found, [not_there(name, about[-1]) for name, about in videos.items() if name not in films])
