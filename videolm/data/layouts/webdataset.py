"""Clips in WebDataset tars, as video2dataset writes them: `00001.mp4` with `00001.txt` and `00001.json` beside it.

They are read where they lie in the tar; nothing is extracted.
"""

from __future__ import annotations

import glob
import json
import tarfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar, Literal

from videolm.data.clips import READERS, Catalogue, Clip, ClipData
from videolm.data.example import IMAGE_SUFFIXES, SOUND_SUFFIXES, VIDEO_SUFFIXES
from videolm.errors import UserError
from videolm.media import Part
from videolm.progress import progress


class WebDatasetData(ClipData):
    """WebDataset tars; the files of a sample share the name before the first dot, captions are its .txt or .json, its
    class is its .cls."""

    kind: Literal["webdataset"] = "webdataset"
    path: str
    """A plain .tar, a folder of them (sub-folders too), or a pattern such as `shards/0000[0-3].tar`."""

    wanted: ClassVar[str] = "00001.mp4 with 00001.txt and so on"

    def catalogue(self) -> Catalogue:
        tars = find_tars(self.path)
        every = Catalogue([], [])
        with ThreadPoolExecutor(READERS) as pool, progress(len(tars), "open tars", "tar") as bar:
            for found in pool.map(read_tar, tars):
                every.clips.extend(found.clips)
                every.left_out.extend(found.left_out)
                bar.update()
        return every


def find_tars(path: str) -> list[Path]:
    """The tars that a path, a folder or a pattern names, sorted. Raises `UserError` where there is none."""
    place = Path(path)
    if place.is_dir():
        tars = list(place.rglob("*.tar"))
    else:
        tars = [place] if place.exists() else [Path(name) for name in glob.glob(path, recursive=True)]
    if not tars:
        said = "holds no .tar" if place.is_dir() else "does not exist"
        advice = "set --data.path to a plain .tar, a folder of them or a pattern of * ? [0-9]; unpack .tar.gz first"
        raise UserError(f"{path} {said}: {advice}")
    return sorted(tars)


def read_tar(path: Path) -> Catalogue:
    """The films and pictures of a tar, and its sounds where a sample has nothing else.

    A tar that is broken is left out, and a sample whose caption is.
    """
    clips: list[Clip] = []
    left_out: list[tuple[str, str]] = []
    try:
        every = samples(path)
    except UserError as error:
        return Catalogue([], [(str(path), str(error))])
    for key, parts in every.items():
        shown = [part for part in parts if _suffix(part) in VIDEO_SUFFIXES + IMAGE_SUFFIXES]
        shown = shown or [part for part in parts if _suffix(part) in SOUND_SUFFIXES]
        if shown:
            try:
                told = captions(parts)
                label = next((_text(part).strip() for part in parts if _suffix(part) == ".cls"), "")
            except UserError as error:
                left_out.append((str(shown[0]), str(error)))
                continue
            clips += [
                Clip(part, told, label, _suffix(part) in SOUND_SUFFIXES, group=f"{path.name}/{key}") for part in shown
            ]
    return Catalogue(clips, left_out)


def samples(path: Path) -> dict[str, list[Part]]:
    """The files of a tar by the key of their sample: the name up to the first dot, with the folders before it.

    Raises `UserError` for what is no plain tar or a broken one.
    """
    found: dict[str, list[Part]] = {}
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                folder, slash, name = member.name.rpartition("/")
                key = name.partition(".")[0]
                if key and member.isreg():
                    part = Part(path, member.offset_data, member.size, member.name)
                    found.setdefault(folder + slash + key, []).append(part)
            file.seek(tar.offset)
            if file.read(tarfile.BLOCKSIZE).strip(b"\0"):  # a broken header ends the loop as the zeros at the end do
                raise tarfile.ReadError(f"bad header at byte {tar.offset}")
    except (tarfile.TarError, OSError) as error:
        advice = "unpack it if it is compressed (gunzip), else get it again"
        raise UserError(f"{path} is no plain tar, or a broken one ({error}): {advice}") from error
    return found


def captions(parts: Iterable[Part]) -> tuple[str, ...]:
    """Of a sample: the text of its .txt; where that is missing or empty, `caption` or `text` of its .json, if any.

    Raises `UserError` for a file that is broken or holds something else.
    """
    texts = [_text(part) for part in parts if _suffix(part) == ".txt"]
    if not any(text.strip() for text in texts):
        texts = [text for part in parts if _suffix(part) == ".json" for text in _described(part)]
    return tuple(text.strip() for text in texts if text.strip())


def _text(part: Part) -> str:
    with part.open() as file:
        try:
            return file.read().decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{part} is not text in UTF-8 ({error}): mend it and pack the tar again") from error


def _described(part: Part) -> list[str]:
    try:
        fields = json.loads(_text(part))
        told = fields.get("caption") or fields.get("text") or []
        texts = told if isinstance(told, list) else [told]
        if not all(isinstance(text, str) for text in texts):
            raise TypeError(f"the caption is {told!r:.40}")
    except (json.JSONDecodeError, AttributeError, TypeError) as error:
        advice = "mend it and pack the tar again"
        raise UserError(
            f"{part}: wanted an object with a text or a list of texts as 'caption' ({error}): {advice}"
        ) from error
    return texts


def _suffix(part: Part) -> str:
    return "." + part.name.rpartition(".")[2].lower()
