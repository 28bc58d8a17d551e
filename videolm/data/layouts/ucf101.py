"""UCF-101 (arXiv 1212.0402): a folder a class, and lists of what to train and to test on.

UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi ...
ucfTrainTestlist/trainlist01.txt    "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1"
ucfTrainTestlist/testlist01.txt     "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi"
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from videolm.data.clips import Catalogue, Clip, ClipData, split_by_name
from videolm.data.example import Split
from videolm.data.layouts.files import films_of, first_of

LISTS: dict[str, Split] = {"trainlist": "train", "testlist": "validation"}


class Ucf101Data(ClipData):
    """UCF-101; the class of a clip is its folder's name in words, and there are no captions."""

    kind: Literal["ucf101"] = "ucf101"
    path: str
    """The folder with the classes' folders and, where validation is to be the official one, the lists."""
    fold: Literal[1, 2, 3] = 1
    """Which of the three lists; without lists the split follows from the film that clips were cut from."""

    def catalogue(self) -> Catalogue:
        folder = Path(self.path)
        films = films_of(folder)
        lists: dict[str, Split] = {}
        for listed, of in LISTS.items():
            if table := first_of(folder, [f"{listed}{self.fold:02d}.txt"]):
                lines = [line.split() for line in table.read_text(encoding="utf-8").splitlines() if line.strip()]
                lists |= dict.fromkeys((Path(line[0]).stem for line in lines), of)
        found = []
        for name, film in films.items():
            group = name.rpartition("_c")[0] or name
            split = lists.get(name) if lists else split_by_name(group, self.validation_share)
            if split is not None:
                found.append(Clip(film, (), in_words(film.parent.name), split=split))
        return Catalogue(found, [(name, "the film is not there") for name in lists if name not in films])


def in_words(name: str) -> str:
    """
    >>> in_words("ApplyEyeMakeup"), in_words("YoYo"), in_words("TaiChi")
    ('apply eye makeup', 'yo yo', 'tai chi')
    """
    return " ".join(re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)).lower() or name
