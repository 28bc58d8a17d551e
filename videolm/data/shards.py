"""Tokenised examples on disk: Arrow files by `datasets`, one folder a stored source, with a manifest.

    tokens/<data set>/<split>/<source>/    part-00000.arrow  part-00000.json  ...  manifest.json  skipped.jsonl

Reading them needs no tokenizer. The manifest names the tokenizer by the hash of its weights and every part by its size
and hash, so shards of another tokenizer are refused and a damaged file is named. `prepare.py` writes them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from videolm.component import read_json
from videolm.errors import UserError
from videolm.shapes import Format
from videolm.tasks import Variant

MANIFEST, SKIPPED = "manifest.json", "skipped.jsonl"
AGAIN = "make it again with `videolm prepare`"


class Batch(NamedTuple):
    """Examples of one source."""

    codes: Tensor  # (b, t, h, w) of clips or (b, q, t) of sounds, int64
    captions: list[list[list[int]]]  # of each example, the token ids of each of its captions
    labels: list[list[int]]  # of each example, the token ids of its class's name, if any
    embeddings: list[list[bytes]] | None  # of each caption, then of the class's name: (m, d) float16


class Shard:
    """The examples of one source, read by their numbers.

    Attributes:
        examples: numbers of those that are there, rising; broken ones are left out.
        grid: the shape of an example's codes.
        text_width: of the text embeddings that are stored, if any.
    """

    def __init__(self, folder: Path):
        """Open a folder that `prepare` has finished. Raises `UserError` for one that is not, or is damaged."""
        from datasets import Dataset, concatenate_datasets

        if not (folder / MANIFEST).is_file():
            raise UserError(f"the token shards in {folder} are not finished: go on with `videolm prepare`")
        self.folder, self.manifest = folder, read_json(folder / MANIFEST)
        parts = [part for part in self.manifest["parts"] if part["rows"]]
        for part in parts:
            _check_size(folder / part["file"], part["bytes"])
        if not parts:
            raise UserError(f"the token shards in {folder} hold no example: {SKIPPED} beside them says why")
        try:
            table = concatenate_datasets([Dataset.from_file(str(folder / part["file"])) for part in parts])
        except (OSError, ValueError) as error:
            raise UserError(f"a token shard in {folder} cannot be read ({error}): {AGAIN} --verify") from error
        self.grid = tuple(self.manifest["grid"])
        self.text_width = self.manifest["made_with"]["text_width"]
        self.examples: NDArray[np.int64] = table.data.column("example").to_numpy()
        self._table = table.with_format("numpy", columns=["codes"], output_all_columns=True)

    def __len__(self) -> int:
        return len(self.examples)

    def read(self, examples: NDArray[np.int64]) -> Batch:
        """The examples of these numbers, which must be in `examples`."""
        rows: dict[str, Any] = self._table[np.searchsorted(self.examples, examples).tolist()]
        codes = torch.from_numpy(np.stack(rows["codes"])).long().unflatten(1, self.grid)
        return Batch(codes, rows["captions"], rows["label"], rows["embeddings"] if self.text_width else None)


class TokenData(NamedTuple):
    """The shards of a data set in one format, by source.

    Attributes:
        weight: its share of the steps beside others.
        tasks: those that it serves; none: all.
        format: its clips'; pictures have the same size. None: any.
    """

    shards: dict[str, Shard]
    weight: float = 1.0
    tasks: tuple[str, ...] = ()
    format: Format | None = None

    def serves(self, variant: Variant) -> bool:
        """Whether rows of a variant are made of it."""
        task, shape, _ = variant
        fits = self.format is None or shape in (self.format, self.format._replace(frames=1))
        return fits and (not self.tasks or task.name in self.tasks)

    def examples(self, sources: Sequence[str]) -> NDArray[np.int64]:
        """Numbers of the examples that all these sources have."""
        found = [self.shards[source].examples for source in sources]
        return reduce(lambda a, b: np.intersect1d(a, b, assume_unique=True), found)


def embedded(texts: Sequence[bytes], width: int) -> tuple[Tensor, Tensor]:
    """Stored embeddings as one batch: (b, m, d) float32, zeros after the end of each, and which are tokens (b, m)."""
    rows = [torch.from_numpy(np.frombuffer(text, np.float16).reshape(-1, width).astype(np.float32)) for text in texts]
    longest = max(1, *(len(row) for row in rows))
    mask = torch.tensor([[place < len(row) for place in range(longest)] for row in rows])
    padded = torch.stack([torch.cat([row, row.new_zeros(longest - len(row), width)]) for row in rows])
    return padded, mask


def file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_size(path: Path, size: int) -> None:
    found = path.stat().st_size if path.is_file() else None
    if found != size:
        what = "is missing" if found is None else f"has {found} bytes in place of {size}"
        raise UserError(f"the token shard {path} {what}: {AGAIN}")
