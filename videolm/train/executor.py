"""`videolm prepare` by many processes, each of which makes the parts that are its own (`videolm/data/prepare.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from videolm.train.recipe import load_recipe
from videolm.train.run import Run
from videolm.workers import share


def prepare_with_workers(
    run: Run, recipe: str, changes: Mapping[str, Any], workers: int, *, slurm: str | None = None, hours: int = 24
) -> int | None:
    """Share a run's preparation among `workers` processes; returns how many parts are left, None while Slurm works.

    Args:
        recipe, changes: what `load_recipe` made the run's recipe from, for the processes.
        slurm, hours: see `share`.
    """
    works = run.preparations(*run.ready())
    here = share(
        _Prepare(recipe, dict(changes)),
        workers,
        run.folder / "prepare",
        slurm=slurm,
        hours=hours,
        total=sum(work.total() for work in works),
        done=lambda: sum(work.done() for work in works),
        what="token shards",
        unit="clip",
    )
    return run.prepare() if here else None


@dataclass(frozen=True)
class _Prepare:
    """One process's share."""

    recipe: str
    changes: dict[str, Any]

    def __call__(self, rank: int, world: int) -> None:
        Run(load_recipe(self.recipe, self.changes), resume=True).prepare(rank, world, quiet=True)
