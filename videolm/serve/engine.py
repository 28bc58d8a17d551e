"""One decoder that all calls of a worker share: rows of any task come and go while others are being decoded.

A call runs in a thread of its own and waits there for its rows; one thread steps. What a call makes does not depend on
its company.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from videolm.generate.engine import Decoder
from videolm.generate.row import Row
from videolm.pipeline.job import Job
from videolm.pipeline.video_lm import OnStep, VideoLM
from videolm.serve.making import Progress, Stopped


class Shared(VideoLM):
    """A model whose calls, from any number of threads, are decoded together."""

    def __init__(self, *given: Any, **named: Any):
        super().__init__(*given, **named)
        longest = max(self.layout(variant).length for variant in self.tasks.variants())
        self._decoder = Decoder(self.lm, longest, self.decoding)
        self._changed = threading.Condition()
        self._coming = deque[list[Row]]()
        self._dropped = deque[list[Row]]()
        self._step, self._broken = 0, False
        self._watch = threading.local()

    def watched(self, progress: Progress) -> None:
        """Calls of this thread tell `progress` of each step, and end with what it raises."""
        self._watch.progress = progress

    def serve(self, stopped: Callable[[], bool]) -> None:
        """Step as long as there are rows, until `stopped` says so; what goes wrong here ends all calls."""
        try:
            while not stopped():
                with self._changed:
                    if not self._coming and not self._dropped and not self._decoder.busy:
                        self._changed.wait(0.1)
                    coming, dropped = list(self._coming), list(self._dropped)
                    self._coming.clear()
                    self._dropped.clear()
                for rows in dropped:
                    self._decoder.drop(rows)
                for rows in coming:
                    self._decoder.add(rows)
                if self._decoder.busy:
                    self._decoder.step()
                with self._changed:
                    self._step += 1
                    self._changed.notify_all()
        finally:
            with self._changed:
                self._broken = True
                self._changed.notify_all()

    def steps(self, jobs: Sequence[Job], callback: OnStep | None = None) -> Iterator[None]:
        rows, told = [row for job in jobs for row in job.rows], 0
        progress: Progress = self._watch.progress
        with self._changed:
            self._coming.append(rows)
            self._changed.notify_all()
        try:
            while not all(row.done for row in rows):
                self._next_step()
                drawn = min(job.drawn for job in jobs)
                if callback is not None and drawn > told:
                    callback(self, told := drawn, jobs[0].of, {})
                progress.step(drawn, jobs[0].of)
                yield
        finally:
            if not all(row.done for row in rows):  # the call was broken off
                with self._changed:
                    self._dropped.append(rows)

    def _next_step(self) -> None:
        """Wait for the end of a step. Raises `Stopped` where there will be none."""
        with self._changed:
            now = self._step
            self._changed.wait_for(lambda: self._step > now or self._broken)
            if self._broken:
                raise Stopped
