"""Work shared by many processes: of this machine, or as jobs of a Slurm cluster, by datatrove's executors.

Each process does what is its own by its rank; what is done is known from what was written, so that processes may be
killed and sent again.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from videolm.errors import UserError
from videolm.progress import progress, quiet_libraries

SECONDS = 0.5
"""Between two looks at how much is done."""
Work = Callable[[int, int], object]
"""(rank, number of processes) -> anything; it is pickled."""


def share(
    work: Work,
    workers: int,
    logs: Path,
    *,
    slurm: str | None = None,
    hours: int = 24,
    total: int,
    done: Callable[[], int],
    what: str,
    unit: str,
) -> bool:
    """Do `work` in `workers` processes; False where it is with Slurm now, and goes on there.

    Args:
        logs: a folder for what the processes say.
        slurm: the partition of a cluster to send the processes to as jobs, instead of starting them here.
        hours: a job may take.
        total, done, what, unit: for the bar: units in all, how many are done, what they are.

    Raises `UserError` where datatrove is not installed.
    """
    try:
        from datatrove.executor import LocalPipelineExecutor, SlurmPipelineExecutor
        from loguru import logger
    except ImportError as error:
        raise UserError("several workers need datatrove: pip install 'videolm[datatrove]'") from error
    logger.remove()  # it tells of every task on stderr; its files in the folder of logs stay
    steps = [_Step(work, local=slurm is None)]
    if slurm is not None:
        SlurmPipelineExecutor(
            steps, tasks=workers, time=f"{hours}:00:00", partition=slurm, logging_dir=str(logs), skip_completed=False
        ).run()
        return False
    executor = LocalPipelineExecutor(steps, tasks=workers, workers=workers, logging_dir=str(logs), skip_completed=False)
    over = threading.Event()
    watch = threading.Thread(target=_watch, args=(over, total, done, what, unit))
    watch.start()
    try:
        executor.run()
    finally:
        over.set()
        watch.join()
    return True


class _Step:
    """What one of the processes does; datatrove calls it with its rank."""

    def __init__(self, work: Work, local: bool):
        self.work, self.local = work, local

    def __call__(self, data: Any, rank: int = 0, world_size: int = 1) -> Any:
        quiet_libraries()
        if self.local:
            if gpus := torch.cuda.device_count():
                os.environ["CUDA_VISIBLE_DEVICES"] = str(rank % gpus)
            torch.set_num_threads(max(1, (os.cpu_count() or 1) // world_size))
        logging.getLogger("datatrove").setLevel(logging.ERROR)
        self.work(rank, world_size)
        return data


def _watch(over: threading.Event, total: int, done: Callable[[], int], what: str, unit: str) -> None:
    with progress(total, what, unit) as bar:
        while not over.wait(SECONDS):
            bar.update(done() - bar.n)
        bar.update(done() - bar.n)
