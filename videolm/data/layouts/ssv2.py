"""Something-Something V2 (arXiv 1706.04261): `1234.webm` ..., and a JSON a split.

something-something-v2-train.json          [{"id", "label", "template", "placeholders"}]   (or labels/train.json)
something-something-v2-validation.json     (or labels/validation.json)
20bn-something-something-v2/1234.webm ...

`labels.json`, which numbers the classes, is not needed: a class is its own name here.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from videolm.data.clips import Catalogue, Clip, ClipData
from videolm.data.example import Split
from videolm.data.layouts.files import films_of, first_of, not_there, read_json_file
from videolm.errors import UserError

FILES: dict[Split, list[str]] = {
    "train": ["something-something-v2-train.json", "train.json"],
    "validation": ["something-something-v2-validation.json", "validation.json"],
}
FIELDS = ("id", "label", "template")


class SomethingData(ClipData):
    """Something-Something V2; the label is the caption ("holding potato"), its template the class ("Holding
    something")."""

    kind: Literal["ssv2"] = "ssv2"
    path: str
    """The folder with the clips and the JSON files, in sub-folders too."""

    wanted: ClassVar[str] = f"{FILES['train'][0]} with an entry for every clip"

    def catalogue(self) -> Catalogue:
        folder = Path(self.path)
        films = films_of(self.path)
        found: list[Clip] = []
        left_out: list[tuple[str, str]] = []
        for split, names in FILES.items():
            table = first_of(folder, names)
            if table is None:
                continue
            for row in read_json_file(table):
                try:
                    name, caption, template = (str(row[field]) for field in FIELDS)
                except (KeyError, TypeError) as error:
                    needs = f"every entry needs {', '.join(FIELDS)}"
                    raise UserError(f"{table} is not as Something-Something has it ({error!r}): {needs}") from error
                if name in films:
                    label = template.replace("[", "").replace("]", "")
                    found.append(Clip(films[name], (caption,), label, split=split))
                else:
                    left_out.append(not_there(name, table))
        return Catalogue(found, left_out)
