"""UCF-101 (arXiv 1212.0402): a folder a class, and lists of what to train and to test on.

UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi ...
ucfTrainTestlist/trainlist01.txt    "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1"
ucfTrainTestlist/testlist01.txt     "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi"
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal

from videolm.data.clips import Catalogue, Clip, ClipData
from videolm.data.example import Split
from videolm.data.layouts.files import films_of, first_of, not_there
from videolm.errors import UserError

LISTS: dict[str, Split] = {"trainlist": "train", "testlist": "validation"}


class Ucf101Data(ClipData):
    """UCF-101; training on the first list, validation on the test list. The class of a clip is its folder's name in
    words, and there are no captions."""

    kind: Literal["ucf101"] = "ucf101"
    path: str
    """The folder with the classes' folders and the lists, in sub-folders too. Without lists some of the films that
    clips were cut from (`g01`, `g02`, ...) are kept for validation whole."""
    fold: Literal[1, 2, 3] = 1
    """Which of the three divisions."""

    wanted: ClassVar[str] = "a folder a class of v_Class_g01_c01.avi and so on"

    def catalogue(self) -> Catalogue:
        folder = Path(self.path)
        films = films_of(self.path)
        lists: dict[str, tuple[Split, Path]] = {}
        for name, split in LISTS.items():
            if table := first_of(folder, [f"{name}{self.fold:02d}.txt"]):
                try:
                    lines = [line.split() for line in table.read_text(encoding="utf-8").splitlines() if line.strip()]
                except (OSError, UnicodeDecodeError) as error:
                    raise UserError(f"{table} cannot be read as a list of files ({error}): fetch it again") from error
                lists |= {PurePosixPath(line[0]).stem: (split, table) for line in lines}
        found = []
        for name, film in films.items():
            group, label = name.rpartition("_c")[0], in_words(film.parent.name)
            if name in lists or not lists:
                found.append(Clip(film, (), label, split=lists[name][0] if lists else None, group=group))
        return Catalogue(found, [not_there(name, about[1]) for name, about in lists.items() if name not in films])


def in_words(name: str) -> str:
    """
    >>> in_words("ApplyEyeMakeup"), in_words("YoYo"), in_words("TaiChi")
    ('apply eye makeup', 'yo yo', 'tai chi')
    """
    return " ".join(re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)).lower() or name
