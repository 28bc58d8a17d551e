"""Something-Something V2 (arXiv 1706.04261): `1234.webm` ..., and a JSON a split.

something-something-v2-train.json    [{"id", "label", "template", "placeholders"}]   (or labels/train.json)
20bn-something-something-v2/1234.webm ...
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from videolm.data.clips import Catalogue, Clip, ClipData
from videolm.data.example import Split
from videolm.data.layouts.files import films_of, first_of, read_json_file
from videolm.errors import UserError

FILES: dict[Split, list[str]] = {
    "train": ["something-something-v2-train.json", "labels/train.json"],
    "validation": ["something-something-v2-validation.json", "labels/validation.json"],
}


class SomethingData(ClipData):
    """Something-Something V2; the label is the caption ("holding potato"), its template the class ("Holding
    something")."""

    kind: Literal["ssv2"] = "ssv2"
    path: str
    """The folder with the clips and the JSON files, in sub-folders too."""

    def catalogue(self) -> Catalogue:
        folder = Path(self.path)
        films = films_of(folder)
        found: list[Clip] = []
        missing: list[tuple[str, str]] = []
        for split, names in FILES.items():
            table = first_of(folder, names)
            if table is None:
                continue
            for row in read_json_file(table):
                try:
                    name, caption, template = str(row["id"]), row["label"], row["template"]
                except (KeyError, TypeError) as error:
                    raise UserError(f"{table} is not as Something-Something has it: {error} is missing") from error
                if name in films:
                    label = template.replace("[", "").replace("]", "")
                    found.append(Clip(films[name], (caption,), label, split=split))
                else:
                    missing.append((name, "the film is not there"))
        if not found and not missing:
            raise UserError(f"{folder} holds no {FILES['train'][0]}")
        return Catalogue(found, missing)
