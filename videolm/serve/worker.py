"""A process that makes jobs: it takes them from the store, as many at a time as decode together, and writes what came
of them into their folders.
"""

from __future__ import annotations

import logging
import queue
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from videolm.errors import UserError
from videolm.generate.engine import Decoding
from videolm.serve.engine import Shared
from videolm.serve.folders import Folders
from videolm.serve.limits import Limits
from videolm.serve.making import Progress, Stopped, make
from videolm.serve.processes import end_with_parent
from videolm.serve.store import Record, Store, is_full

log = logging.getLogger("videolm.serve")
T = TypeVar("T")
TICK = 0.05
"""Seconds between reports."""


@dataclass
class Active:
    """A job that is being made."""

    record: Record
    began: float
    progress: Progress = field(default_factory=Progress)


@dataclass(frozen=True)
class Worker:
    """What a worker process runs.

    Attributes:
        name: nobody else's.
        device: that the model is on.
        threads: that it computes with.
    """

    name: str
    model: Path
    data: Path
    device: str
    decoding: Decoding
    limits: Limits
    threads: int

    def __call__(self, stopping: Any) -> None:
        """Work until the event `stopping` is set, and what was begun is done."""
        end_with_parent()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal; the server says when to stop
        torch.set_num_threads(self.threads)
        _Work(self, stopping).run()


class _Work:
    def __init__(self, worker: Worker, stopping: Any):
        self.worker, self._stopping = worker, stopping
        self.folders, self.store = Folders(worker.data), Store(Folders(worker.data).database)
        self.model = Shared.from_pretrained(worker.model, decoding=worker.decoding).to(worker.device)
        self.rows = worker.decoding.rows
        self._active: dict[str, Active] = {}
        self._over = queue.SimpleQueue[tuple[str, dict[str, Any] | BaseException]]()
        self._done = threading.Event()

    def run(self) -> None:
        """Take, report and end jobs; all that is written to the store is written here."""
        decoding = threading.Thread(target=self.model.serve, args=(self._done.is_set,), daemon=True)
        decoding.start()
        with ThreadPoolExecutor(self.rows, thread_name_prefix="job") as pool:
            try:
                while decoding.is_alive() and (self._active or not self._stopping.is_set()):
                    if not self._stopping.is_set():
                        for record in self._taken():
                            self._active[record.id] = Active(record, time.monotonic())
                            pool.submit(self._make, self._active[record.id])
                    self._end(TICK)
                    self._report()
            finally:
                self._done.set()
                for active in self._active.values():
                    active.progress.stop(Stopped())
        self.store.close()
        if not self._stopping.is_set():
            raise SystemExit("decoding has ended")  # as a crash: the jobs begin again, in a new process

    def _taken(self) -> list[Record]:
        if any(active.record.attempts > 1 for active in self._active.values()):
            return []  # one that was begun before is made alone
        free = self.rows - len(self._active)
        return (
            self._written(lambda: self.store.claim(self.worker.name, free, alone=not self._active), patient=False) or []
        )

    def _written(self, change: Callable[[], T], patient: bool = True) -> T | None:
        """A change of the store; where the disk is full it waits for room, or (not `patient`) is left."""
        while True:
            try:
                return change()
            except sqlite3.OperationalError as error:
                if not is_full(error) or (patient and self._stopping.is_set()):
                    raise
                if not patient:
                    return None
                log.error("the disk is full")
                self._stopping.wait(1.0)

    def _make(self, active: Active) -> None:
        """In a thread of its own."""
        try:
            self.model.watched(active.progress)
            out: dict[str, Any] | BaseException = make(
                self.model, active.record, self.folders, self.worker.limits, active.progress
            )
        except BaseException as error:
            out = error
        self._over.put((active.record.id, out))

    def _end(self, seconds: float) -> None:
        """Write down what has come to its end, having waited for it for a while."""
        wait = seconds
        while True:
            try:
                id, out = self._over.get(timeout=wait)
            except queue.Empty:
                return
            wait = 0.0
            del self._active[id]
            expires = time.time() + self.worker.limits.kept_seconds
            if isinstance(out, dict):
                self._written(partial(self.store.complete, id, self.worker.name, out, expires))
            elif isinstance(out, UserError):
                self._fail(id, "invalid_request", str(out))
            elif isinstance(out, Stopped):
                pass
            elif is_full(out):
                self._fail(id, "storage_full", "the server's disk is full")
            else:
                log.error("job failed", exc_info=out, extra={"job": id})
                self._fail(id, "server_error", "the job failed; the server's log says why")
            if self.store.get(id) is None:  # it was removed, and may have written since
                self.folders.remove(id)

    def _fail(self, id: str, code: str, message: str) -> None:
        expires = time.time() + self.worker.limits.kept_seconds
        self._written(lambda: self.store.fail(id, code, message, expires, self.worker.name))

    def _report(self) -> None:
        """Say how far jobs are; stop those that were cancelled or have taken too long."""
        for id, active in list(self._active.items()):
            if time.monotonic() - active.began > self.worker.limits.job_seconds:
                seconds = f"{self.worker.limits.job_seconds:g}"
                self._fail(id, "timeout", f"the job took more than {seconds} s")
                active.progress.stop(Stopped())
        now = {id: (active.progress.share, active.progress.frames) for id, active in self._active.items()}
        news = [(id, *told) for id, told in now.items()]
        if news:
            for id in self._written(lambda: self.store.report(news, self.worker.name), patient=False) or ():
                self._active[id].progress.stop(Stopped())
