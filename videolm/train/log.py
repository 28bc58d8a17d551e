"""What a training tells of itself: metrics as JSON lines and for TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from torch import Tensor

from videolm.files import atomic_path
from videolm.train.engine import Engine
from videolm.train.hardware import peak_flops


class Work(NamedTuple):
    """What a batch costs."""

    tokens: int
    """Positions of its rows."""
    flops: float
    """Floating-point operations of its forward and backward pass, recomputed activations left out (arXiv 2204.02311,
    appendix B)."""


class Log:
    """Writes to `folder` as of step `start`, where a run goes on with it; only rank 0 writes."""

    def __init__(self, folder: Path, rank: int, start: int = 0):
        self.rank = rank
        if rank == 0:
            from torch.utils.tensorboard import SummaryWriter

            folder.mkdir(parents=True, exist_ok=True)
            _forget_after(start, folder / "metrics.jsonl")
            self._file = (folder / "metrics.jsonl").open("a")
            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1 if start else None)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        if self.rank == 0:
            self._file.write(json.dumps({"step": step, **{k: float(f"{v:.6g}") for k, v in values.items()}}) + "\n")
            self._file.flush()
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def picture(self, step: int, name: str, pixels: Any) -> None:
        """A picture (H, W, 3) uint8."""
        if self.rank == 0:
            self._board.add_image(name, pixels, step, dataformats="HWC")

    def sound(self, step: int, name: str, samples: Tensor, rate: int) -> None:
        """A sound (n,) in [-1, 1]."""
        if self.rank == 0:
            self._board.add_audio(name, samples, step, rate)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.rank == 0:
            self._file.close()
            self._board.close()


def _forget_after(step: int, path: Path) -> None:
    """Drop the lines of steps after `step`, which will be taken again, and one that was cut off."""
    if path.exists():
        kept = []
        for line in path.read_text().splitlines(keepends=True):
            try:
                if line.endswith("\n") and json.loads(line)["step"] <= step:
                    kept.append(line)
            except ValueError:
                continue
        with atomic_path(path) as temporary:
            temporary.write_text("".join(kept))


class Meter:
    """Averages values over the steps since the last line of a log, and over the ranks; a value that only some steps
    have (the loss of one task) over those."""

    def __init__(self, engine: Engine):
        self.engine = engine
        self._clear()

    def _clear(self) -> None:
        self._values: dict[str, list[float]] = {}
        self._steps, self._seconds, self._tokens, self._flops = 0, 0.0, 0, 0.0

    def work(self, work: Work) -> None:
        self._tokens += work.tokens
        self._flops += work.flops

    def step(self, values: Mapping[str, float], seconds: float) -> None:
        self._steps += 1
        self._seconds += seconds
        for name, value in values.items():
            self._values.setdefault(name, []).append(value)

    def line(self) -> dict[str, float]:
        """The averages, and the rates of the work on all ranks; it begins anew. All ranks call it."""
        sums = {name: (sum(values), len(values)) for name, values in self._values.items()}
        ranks = self.engine.gathered((sums, self._tokens, self._flops))
        line = _means(each for each, _, _ in ranks)
        line["seconds_per_step"] = self._seconds / self._steps
        tokens, flops = (sum(rank[index] for rank in ranks) for index in (1, 2))
        if tokens:
            line["tokens_per_second"] = tokens / self._seconds
        if flops:
            peak = self.engine.world * peak_flops(self.engine.device, self.engine.dtype)
            line["mfu"] = flops / self._seconds / peak
        self._clear()
        return line


def _means(parts: Iterable[Mapping[str, tuple[float, int]]]) -> dict[str, float]:
    """Of (sum, count) by name.

    >>> _means([{"a": (6.0, 2)}, {"a": (1.0, 1), "b": (5.0, 1)}])
    {'a': 2.3333333333333335, 'b': 5.0}
    """
    totals: dict[str, tuple[float, int]] = {}
    for part in parts:
        for name, (total, count) in part.items():
            before = totals.get(name, (0.0, 0))
            totals[name] = (before[0] + total, before[1] + count)
    return {name: total / count for name, (total, count) in totals.items()}
