"""The jobs of a server, in SQLite: what was asked for, how far it is, what became of it.

The server and its workers share the file. A change is one transaction, so that after any crash each job is queued,
being made, completed or failed; those that nobody makes any more are put back into the queue (`requeue`).
"""

from __future__ import annotations

import errno
import json
import secrets
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

Status = Literal["queued", "in_progress", "completed", "failed"]

SCHEMA = f"""
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    request TEXT NOT NULL,
    shown TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN {get_args(Status)}),
    progress REAL NOT NULL DEFAULT 0,
    frames INTEGER NOT NULL DEFAULT 0,
    created REAL NOT NULL,
    started REAL,
    completed REAL,
    expires REAL,
    worker TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    cancelled INTEGER NOT NULL DEFAULT 0,
    code TEXT,
    message TEXT
);
CREATE INDEX IF NOT EXISTS jobs_by_status ON jobs (status, number);
CREATE INDEX IF NOT EXISTS jobs_by_owner ON jobs (owner, number);
"""


def is_full(error: BaseException) -> bool:
    """Whether an error says that a disk is full."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return isinstance(error, sqlite3.OperationalError) and "full" in str(error)


@dataclass(frozen=True, slots=True)
class Record:
    """A job as it stands in the store; times are seconds since 1970."""

    number: int
    id: str
    owner: str
    """Whose key asked for it; "" where no keys are wanted."""
    request: dict[str, Any]
    """The call, its media as names of files in the job's folder."""
    shown: dict[str, Any]
    """What else its video object tells: size, seconds, prompt, ..."""
    status: Status
    progress: float
    """0 to 1."""
    frames: int
    """How many can be seen by now."""
    created: float
    started: float | None
    completed: float | None
    expires: float | None
    """When what was made is removed."""
    worker: str | None
    attempts: int
    """How often it was begun."""
    cancelled: bool
    code: str | None
    """Of what it failed with."""
    message: str | None

    @property
    def over(self) -> bool:
        return self.status in ("completed", "failed")


class Store:
    """Jobs in the file `path`. Every process and thread opens its own.

    Raises `sqlite3.OperationalError` where the disk is full, having changed nothing.
    """

    def __init__(self, path: Path):
        self.path = path
        self._db = sqlite3.connect(path, timeout=30, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")  # what was acknowledged outlives a power cut
        if not self._db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'jobs'").fetchone()[0]:
            with self._change():
                for statement in SCHEMA.split(";"):
                    self._db.execute(statement)

    def close(self) -> None:
        self._db.close()

    def add(self, id: str, owner: str, request: dict[str, Any], shown: dict[str, Any], most: int) -> Record | None:
        """Queue a job; None, and nothing done, where its owner has `most` waiting or being made."""
        with self._change():
            (waiting,) = self._db.execute(
                "SELECT count(*) FROM jobs WHERE owner = ? AND status IN ('queued', 'in_progress')", (owner,)
            ).fetchone()
            if waiting >= most:
                return None
            self._db.execute(
                "INSERT INTO jobs (id, owner, request, shown, status, created) VALUES (?, ?, ?, ?, 'queued', ?)",
                (id, owner, json.dumps(request), json.dumps(shown), time.time()),
            )
        return self.get(id)

    def get(self, id: str) -> Record | None:
        row = self._db.execute("SELECT * FROM jobs WHERE id = ?", (id,)).fetchone()
        return None if row is None else _record(row)

    def page(self, owner: str, limit: int, after: str | None = None, newest_first: bool = True) -> list[Record]:
        """Jobs of an owner in the order in which they were asked for, from the one after `after` on."""
        sign, order = ("<", "DESC") if newest_first else (">", "ASC")
        where, values = "owner = ?", [owner]
        if after is not None:
            where += f" AND number {sign} (SELECT number FROM jobs WHERE id = ?)"
            values.append(after)
        rows = self._db.execute(
            f"SELECT * FROM jobs WHERE {where} ORDER BY number {order} LIMIT ?", (*values, limit)
        ).fetchall()
        return [_record(row) for row in rows]

    def claim(self, worker: str, most: int, alone: bool) -> list[Record]:
        """Up to `most` jobs to make now, the oldest first.

        Args:
            alone: whether the worker has no other. One that was begun before is made alone: it may be what broke the
                worker that had it.
        """
        if most < 1:
            return []
        with self._change():
            rows = self._db.execute(
                "SELECT * FROM jobs WHERE status = 'queued' ORDER BY number LIMIT ?", (most,)
            ).fetchall()
            again = next((index for index, row in enumerate(rows) if row["attempts"]), len(rows))
            chosen = rows[:1] if again == 0 and alone else rows[:again]
            now = time.time()
            self._db.executemany(
                "UPDATE jobs SET status = 'in_progress', worker = ?, started = ?, attempts = attempts + 1, "
                "progress = 0, frames = 0 WHERE number = ?",
                [(worker, now, row["number"]) for row in chosen],
            )
        return [found for row in chosen if (found := self.get(row["id"])) is not None]

    def report(self, told: Iterable[tuple[str, float, int]], worker: str) -> set[str]:
        """How far jobs (id, progress, frames) of a worker are. Returns the ids of those that are its own no more."""
        lost = set[str]()
        with self._change():
            for id, progress, frames in told:
                done = self._db.execute(
                    "UPDATE jobs SET progress = ?, frames = ? "
                    "WHERE id = ? AND worker = ? AND status = 'in_progress' AND NOT cancelled",
                    (progress, frames, id, worker),
                )
                if not done.rowcount:
                    lost.add(id)
        return lost

    def complete(self, id: str, worker: str, shown: dict[str, Any], expires: float | None) -> bool:
        """What was made is in the job's folder; False where it is not this worker's job any more."""
        with self._change():
            done = self._db.execute(
                "UPDATE jobs SET status = 'completed', progress = 1, completed = ?, expires = ?, shown = ? "
                "WHERE id = ? AND worker = ? AND status = 'in_progress' AND NOT cancelled",
                (time.time(), expires, json.dumps(shown), id, worker),
            )
        return bool(done.rowcount)

    def fail(self, id: str, code: str, message: str, expires: float | None, worker: str | None = None) -> bool:
        """End a job that is not over; False where it is, or where it is not that worker's."""
        with self._change():
            done = self._db.execute(
                "UPDATE jobs SET status = 'failed', completed = ?, expires = ?, code = ?, message = ? "
                "WHERE id = ? AND status IN ('queued', 'in_progress') AND worker IS coalesce(?, worker)",
                (time.time(), expires, code, message, id, worker),
            )
        return bool(done.rowcount)

    def cancel(self, id: str, expires: float | None) -> bool:
        """End a job that is not over; its worker drops it when it next reports."""
        with self._change():
            self._db.execute("UPDATE jobs SET cancelled = 1 WHERE id = ?", (id,))
            done = self._db.execute(
                "UPDATE jobs SET status = 'failed', completed = ?, expires = ?, code = 'cancelled', "
                "message = 'the job was cancelled' WHERE id = ? AND status IN ('queued', 'in_progress')",
                (time.time(), expires, id),
            )
        return bool(done.rowcount)

    def remove(self, id: str) -> None:
        with self._change():
            self._db.execute("DELETE FROM jobs WHERE id = ?", (id,))

    def making(self, worker: str | None = None) -> list[Record]:
        """Jobs that a worker, or any, has begun and not ended."""
        rows = self._db.execute(
            "SELECT * FROM jobs WHERE status = 'in_progress' AND worker IS coalesce(?, worker) ORDER BY number",
            (worker,),
        ).fetchall()
        return [_record(row) for row in rows]

    def requeue(self, ids: Iterable[str], *, forgive: bool) -> None:
        """Jobs whose worker is gone wait again, in their old places.

        Args:
            forgive: that they were begun does not count against them.
        """
        with self._change():
            self._db.executemany(
                "UPDATE jobs SET status = 'queued', worker = NULL, progress = 0, frames = 0, attempts = attempts - ? "
                "WHERE id = ? AND status = 'in_progress'",
                [(int(forgive), id) for id in ids],
            )

    def expired(self) -> list[str]:
        """Ids of jobs whose time is over."""
        rows = self._db.execute("SELECT id FROM jobs WHERE expires IS NOT NULL AND expires <= ?", (time.time(),))
        return [row["id"] for row in rows]

    def over_since(self, when: float) -> list[Record]:
        """Jobs that came to their end after a time, in this order."""
        rows = self._db.execute("SELECT * FROM jobs WHERE completed > ? ORDER BY completed", (when,)).fetchall()
        return [_record(row) for row in rows]

    def ids(self) -> set[str]:
        return {row["id"] for row in self._db.execute("SELECT id FROM jobs")}

    def counts(self) -> dict[Status, int]:
        """How many jobs there are of each status."""
        found = dict(self._db.execute("SELECT status, count(*) FROM jobs GROUP BY status").fetchall())
        return {status: found.get(status, 0) for status in get_args(Status)}

    @contextmanager
    def _change(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise


def new_id() -> str:
    """Of a job: nobody guesses it.

    >>> new_id().startswith("video_"), len(new_id())
    (True, 38)
    """
    return f"video_{secrets.token_hex(16)}"


def _record(row: sqlite3.Row) -> Record:
    values: dict[str, Any] = {**dict(row), "cancelled": bool(row["cancelled"])}
    return Record(**{**values, "request": json.loads(row["request"]), "shown": json.loads(row["shown"])})


__all__: Sequence[str] = ["Record", "Status", "Store", "new_id"]
