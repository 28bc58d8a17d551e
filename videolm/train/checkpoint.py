"""Checkpoints that any number of ranks and any ZeRO stage can go on from.

    step-00001200/
      rank-00000-000.safetensors   pieces: "kind:name of the weight:start" -> (n,)
      rank-00001-000.safetensors
      state.json                   the step and what else the loop keeps; the size of every file

Each rank writes the pieces it holds. Loading, a rank takes what it needs out of all of them, so nothing is gathered and
nothing is converted. The folder must be one that every rank sees. A checkpoint appears by rename.
"""

from __future__ import annotations

import errno
import json
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from tqdm import tqdm

from videolm.errors import UserError
from videolm.train.engine import Engine, Piece, wait_for_all

FILE_BYTES = 2**30
"""Of a file, about: as much is copied to the CPU at a time."""


class Checkpoints:
    """The checkpoints of a run in `folder`, the last `keep` of them."""

    def __init__(self, folder: Path, engine: Engine, keep: int):
        self.folder, self.engine, self.keep = folder, engine, keep
        if engine.rank == 0:
            folder.mkdir(parents=True, exist_ok=True)
            for unfinished in folder.glob(".step-*.tmp"):
                shutil.rmtree(unfinished)
        wait_for_all()

    def save(self, step: int, state: dict[str, Any], more: Sequence[Piece] = ()) -> None:
        """Write a checkpoint of the engine and of `more` pieces, whole or not at all. All ranks call it.

        Raises `UserError` on every rank where one of them cannot write; older checkpoints stay.
        """
        engine, done = self.engine, self.folder / f"step-{step:08d}"
        temporary = self.folder / f".{done.name}.tmp"
        if engine.rank == 0:
            temporary.mkdir(exist_ok=True)
        wait_for_all()
        pieces = [*engine.pieces(), *more] if engine.stage or engine.rank == 0 else []
        pieces += engine.buffers() if engine.rank == 0 else []
        self._try(temporary, lambda: _write(temporary, engine.rank, pieces))

        def finish() -> None:
            if engine.rank == 0:
                sizes = {path.name: path.stat().st_size for path in temporary.iterdir()}
                about = {"step": step, "world": engine.world, "zero_stage": engine.stage, "files": sizes, **state}
                (temporary / "state.json").write_text(json.dumps(about, indent=1))
                shutil.rmtree(done, ignore_errors=True)
                temporary.rename(done)

        self._try(temporary, finish)
        if engine.rank == 0:
            for old in self._found()[self.keep :]:
                shutil.rmtree(old)

    def load(self, more: Sequence[Piece] = ()) -> dict[str, Any] | None:
        """Go on from the newest checkpoint that is whole; returns its state, or None where there is none at all.

        Raises `UserError` where none is whole, or where it is of another module or optimiser.
        """
        chosen: Path | None = None
        trouble = None
        if self.engine.rank == 0:
            for folder in self._found():
                trouble = damage(folder)
                if trouble is None:
                    chosen = folder
                    break
                tqdm.write(f"the checkpoint {folder} is damaged ({trouble}): trying the one before", sys.stderr)
        chosen, trouble = self.engine.gathered((chosen, trouble))[0]
        if chosen is None:
            if trouble is not None:
                raise UserError(f"no checkpoint in {self.folder} is whole: remove the folder to train from the start")
            return None
        state: dict[str, Any] = json.loads((chosen / "state.json").read_text())
        stored = Stored(chosen)
        steps: dict[int, Tensor] = {}
        for piece in [*self.engine.pieces(), *self.engine.buffers(), *more]:
            if piece.kind == "step":  # weights that ZeRO lays into one tensor have one count
                count = torch.zeros_like(piece.values)
                stored.read(piece._replace(values=count))
                seen = steps.setdefault(piece.values.data_ptr(), torch.zeros_like(count))
                piece.values.copy_(torch.maximum(seen, count))
                seen.copy_(piece.values)
            elif piece.kind != "average" or (piece.kind, piece.name) in stored:
                stored.read(piece)
        self.engine.spread()
        for piece in more:
            if (piece.kind, piece.name) not in stored:  # none was kept: it begins with the weights
                weight = next(w for w in self.engine.weights() if (w.name, w.start) == (piece.name, piece.start))
                piece.values.copy_(weight.values)
        return state

    def _found(self) -> list[Path]:
        """Newest first."""
        return sorted(self.folder.glob("step-*"), reverse=True)

    def _try(self, temporary: Path, write: Callable[[], None]) -> None:
        """Call `write` on every rank; where it fails on one, all remove what there is and raise."""
        problem = None
        try:
            write()
        except OSError as error:
            problem = error.strerror or str(error)
        problem = next((said for said in self.engine.gathered(problem) if said is not None), None)
        if problem is None:
            return
        if self.engine.rank == 0:
            shutil.rmtree(temporary, ignore_errors=True)
        raise UserError(f"cannot write a checkpoint to {self.folder} ({problem}): make room, then go on with --resume")


@contextmanager
def needing_room(folder: Path) -> Iterator[None]:
    """Say as a `UserError` that there is no room left for what is written to `folder`."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise UserError(f"cannot write to {folder} ({error.strerror}): make room, then go on with --resume") from error


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint, judged by the sizes and headers of its files; None where nothing is."""
    try:
        files = json.loads((folder / "state.json").read_text())["files"]
        for name, size in files.items():
            if (folder / name).stat().st_size != size:
                return f"{name} does not have its {size} bytes"
            with safe_open(folder / name, "pt"):
                pass
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        return f"{type(error).__name__}: {error}"
    return None


class Stored:
    """The pieces of a checkpoint, those of all ranks that wrote it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._places: dict[tuple[str, str], list[tuple[int, int, Any, str]]] = {}
        for path in sorted(folder.glob("*.safetensors")):
            file = safe_open(path, "pt")
            for key in file.keys():  # noqa: SIM118  # no dictionary
                kind, name, start = key.split(":")
                size = file.get_slice(key).get_shape()[0]
                self._places.setdefault((kind, name), []).append((int(start), int(start) + size, file, key))

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def read(self, piece: Piece) -> None:
        """Fill `piece` from the stored ones that it overlaps; `UserError` where they leave a gap."""
        first, last = piece.start, piece.start + len(piece.values)
        filled = first
        for start, stop, file, key in sorted(self._places.get(piece[:2], ()), key=lambda place: place[:2]):
            low, high = max(first, start), min(last, stop)
            if low < high and low <= filled:
                piece.values[low - first : high - first].copy_(file.get_slice(key)[low - start : high - start])
                filled = max(filled, high)
        if filled < last:
            raise UserError(
                f"the checkpoint {self.folder} does not fit: it has no {piece.kind} of '{piece.name}' of this size; "
                "resume with the settings it was written with"
            )


def _write(folder: Path, rank: int, pieces: Iterable[Piece]) -> None:
    for number, part in enumerate(_parts(pieces)):
        (folder / f"rank-{rank:05d}-{number:03d}.safetensors").write_bytes(save(part))


def _parts(pieces: Iterable[Piece]) -> Iterator[dict[str, Tensor]]:
    """The tensors of one file after another."""
    part: dict[str, Tensor] = {}
    size = 0
    for kind, name, start, values in pieces:
        part[f"{kind}:{name}:{start}"] = values.detach().to("cpu", copy=True)
        size += values.numel() * values.element_size()
        if size >= FILE_BYTES:
            yield part
            part, size = {}, 0
    if part:
        yield part
