"""MSR-VTT (Xu et al., CVPR 2016): `video0.mp4` ..., and a JSON with twenty captions a clip.

    MSRVTT/
      train_val_videodatainfo.json    {"videos": [{"video_id", "split", ...}], "sentences": [{"video_id", "caption"}]}
      TrainValVideo/video0.mp4 ...

The files are cut already: "start time" and "end time" are of the films that they were cut from.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from videolm.data.clips import Catalogue, Clip, ClipData
from videolm.data.example import Split
from videolm.data.layouts.files import films_of, read_json_file
from videolm.errors import UserError

SPLITS: dict[str, Split] = {"train": "train", "validate": "validation", "val": "validation"}
"""Clips of the split "test" are left out."""


class MsrVttData(ClipData):
    """MSR-VTT; training on "train", validation on "validate"."""

    kind: Literal["msr_vtt"] = "msr_vtt"
    path: str
    """The folder with the clips, in sub-folders too, and one or more of its JSON files."""

    def catalogue(self) -> Catalogue:
        films = films_of(Path(self.path))
        captions: dict[str, list[str]] = {}
        splits: dict[str, Split] = {}
        for table in sorted(Path(self.path).rglob("*.json")):
            told = read_json_file(table)
            if not (isinstance(told, dict) and {"videos", "sentences"} <= told.keys()):
                continue
            try:
                for video in told["videos"]:
                    if video["split"] in SPLITS:
                        splits[video["video_id"]] = SPLITS[video["split"]]
                for sentence in told["sentences"]:
                    captions.setdefault(sentence["video_id"], []).append(sentence["caption"])
            except (KeyError, TypeError) as error:
                raise UserError(f"{table} is not as MSR-VTT has it: {error} is missing") from error
        if not splits:
            raise UserError(f"{self.path} holds no JSON with 'videos' and 'sentences', as MSR-VTT has it")
        found = [
            Clip(films[name], tuple(captions.get(name, ())), split=split)
            for name, split in splits.items()
            if name in films
        ]
        return Catalogue(found, [(name, "the film is not there") for name in splits if name not in films])
