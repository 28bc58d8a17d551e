"""The worker processes of a server: begun, watched, begun again when they end, one for each device.

A worker that ends unasked takes no job with it: what it had begun waits again, each then to be made alone, and only one
that breaks a worker alone is failed.
"""

from __future__ import annotations

import logging
import multiprocessing
import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.context import SpawnProcess
from typing import Any

from videolm.serve.folders import Folders
from videolm.serve.metrics import Metrics
from videolm.serve.store import Store
from videolm.serve.worker import Worker

GRACE = 30.0
"""Seconds beyond a job's own that a worker has before it counts as stuck, and to finish when told to stop."""
log = logging.getLogger("videolm.serve")


@dataclass
class Running:
    """A worker process."""

    worker: Worker
    process: SpawnProcess
    stopping: Any


class Workers:
    """Keeps the workers of a server alive, from a thread of its own.

    Args:
        workers: one for each device; their names are those of places, each process has its own.
    """

    def __init__(self, workers: Sequence[Worker], metrics: Metrics):
        self._wanted, self._metrics = list(workers), metrics
        self._context = multiprocessing.get_context("spawn")
        self._running: list[Running] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="workers", daemon=True)
        self.limits = workers[0].limits
        self.folders = Folders(workers[0].data)

    def start(self) -> None:
        store = Store(self.folders.database)
        store.requeue([record.id for record in store.making()], forgive=True)  # of a server that is no more
        self.folders.sweep(store.ids())
        store.close()
        self._running = [self._begin(worker) for worker in self._wanted]
        self._thread.start()

    def stop(self) -> None:
        """Let workers finish what they have begun, for a while; the rest begins again when the server does."""
        self._stopping.set()
        self._thread.join()
        for running in self._running:
            running.stopping.set()
        ends = time.monotonic() + GRACE
        for running in self._running:
            running.process.join(max(0.0, ends - time.monotonic()))
            if running.process.is_alive():
                running.process.kill()
                running.process.join()
        store = Store(self.folders.database)
        store.requeue([record.id for record in store.making()], forgive=True)
        store.close()

    @property
    def alive(self) -> int:
        return sum(running.process.is_alive() for running in self._running)

    def _begin(self, worker: Worker) -> Running:
        own, stopping = replace(worker, name=f"{worker.name}-{secrets.token_hex(4)}"), self._context.Event()
        process = self._context.Process(target=own, args=(stopping,), name=own.name, daemon=True)
        process.start()
        return Running(own, process, stopping)

    def _watch(self) -> None:
        store, pause, counted = Store(self.folders.database), 0.0, time.time()
        while not self._stopping.wait(0.2 + pause):
            pause = 0.0
            try:
                for index, running in enumerate(self._running):
                    late = self._late(store, running)
                    if late:
                        running.process.kill()
                        running.process.join()
                    if not running.process.is_alive():
                        log.error(
                            "worker ended", extra={"worker": running.worker.name, "code": running.process.exitcode}
                        )
                        self._bury(store, running, late)
                        self._metrics.workers(self.alive, deaths=1)
                        self._running[index], pause = self._begin(self._wanted[index]), 1.0
                self._metrics.workers(self.alive)
                for job in store.over_since(counted):
                    self._metrics.ended(job)
                    counted = job.completed or counted
                self._expire(store)
            except Exception:
                log.exception("workers could not be looked after; trying again")
                pause = 1.0
        store.close()

    def _late(self, store: Store, running: Running) -> set[str]:
        """Jobs with which a worker is stuck: it should have given them up itself."""
        most = time.time() - self.limits.job_seconds - GRACE
        return {job.id for job in store.making(running.worker.name) if job.started is not None and job.started < most}

    def _bury(self, store: Store, running: Running, late: set[str]) -> None:
        begun = store.making(running.worker.name)
        expires = time.time() + self.limits.kept_seconds
        for job in begun:
            if job.id in late:
                store.fail(job.id, "timeout", f"the job took more than {self.limits.job_seconds:g} s", expires)
            elif job.attempts > 1:
                store.fail(job.id, "worker_crashed", "the process that made it broke down, twice", expires)
        store.requeue([job.id for job in begun], forgive=bool(late))

    def _expire(self, store: Store) -> None:
        for id in store.expired():
            self.folders.remove(id)
            store.remove(id)
