"""`videolm prepare` by many processes: of this machine, or as jobs of a Slurm cluster, by datatrove's executors.

Each process makes the parts that are its own (`videolm/data/prepare.py`); what is done is known from the parts, so that
jobs may be killed and sent again.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from typing import Any

import torch

from videolm.errors import UserError
from videolm.progress import progress, quiet_libraries
from videolm.train.recipe import load_recipe
from videolm.train.run import Run

SECONDS = 0.5
"""Between two looks at how much is done."""


def prepare_with_workers(
    run: Run, recipe: str, changes: Mapping[str, Any], workers: int, *, slurm: str | None = None, hours: int = 24
) -> int | None:
    """Share a run's preparation among `workers` processes; returns how many parts are left, None while Slurm works.

    Args:
        recipe, changes: what `load_recipe` made the run's recipe from, for the processes.
        slurm: the partition of a cluster to send the processes to as jobs, instead of starting them here.
        hours: a job may take.
    """
    try:
        from datatrove.executor import LocalPipelineExecutor, SlurmPipelineExecutor
        from loguru import logger
    except ImportError as error:
        raise UserError("several workers need datatrove: pip install 'videolm[datatrove]'") from error
    logger.remove()  # it tells of every task on stderr; its files in the folder of logs stay
    step = Share(recipe, dict(changes), local=slurm is None)
    logs = str(run.folder / "prepare")
    run.ready()
    if slurm is not None:
        SlurmPipelineExecutor(
            [step], tasks=workers, time=f"{hours}:00:00", partition=slurm, logging_dir=logs, skip_completed=False
        ).run()
        return None
    executor = LocalPipelineExecutor([step], tasks=workers, workers=workers, logging_dir=logs, skip_completed=False)
    done = threading.Event()
    watch = threading.Thread(target=_watch, args=(run, done))
    watch.start()
    try:
        executor.run()
    finally:
        done.set()
        watch.join()
    return run.prepare()


class Share:
    """What one of the processes does; datatrove calls it with its rank."""

    def __init__(self, recipe: str, changes: dict[str, Any], local: bool):
        self.recipe, self.changes, self.local = recipe, changes, local

    def __call__(self, data: Any, rank: int = 0, world_size: int = 1) -> Any:
        quiet_libraries()
        if self.local:
            if gpus := torch.cuda.device_count():
                os.environ["CUDA_VISIBLE_DEVICES"] = str(rank % gpus)
            torch.set_num_threads(max(1, (os.cpu_count() or 1) // world_size))
        logging.getLogger("datatrove").setLevel(logging.ERROR)
        Run(load_recipe(self.recipe, self.changes), resume=True).prepare(rank, world_size, quiet=True)
        return data


def _watch(run: Run, done: threading.Event) -> None:
    """Show how many clips are done by the parts that are there."""
    works = run.preparations(*run.ready())
    with progress(sum(work.total() for work in works), "token shards", "clip") as bar:
        while not done.wait(SECONDS):
            bar.update(sum(work.done() for work in works) - bar.n)
        bar.update(sum(work.done() for work in works) - bar.n)
