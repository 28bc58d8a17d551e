"""Checking files that strangers send, in a process of its own: what breaks a decoder breaks that one alone."""

from __future__ import annotations

import asyncio
import resource
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from videolm.errors import UserError
from videolm.media import Header, probe, read_header
from videolm.serve.errors import ApiError, too_large
from videolm.serve.limits import Limits
from videolm.serve.processes import end_with_parent

MEMORY = 4 * 2**30
"""Bytes of address space that looking at a file may take."""
SECONDS = 10.0
"""For one file, by a process that has begun."""
START_SECONDS = 120.0
"""For a process to begin: what it imports takes a busy machine a while, which is not the file's fault."""


class Checker:
    """Looks at files before they are queued, one after the other."""

    def __init__(self, limits: Limits):
        self._limits = limits
        self._pool: ProcessPoolExecutor | None = None
        self._turn = asyncio.Lock()

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    async def kind(self, path: Path, param: str) -> str:
        """ "image", "video" or "audio": what a file is. Raises `ApiError` for one that cannot be used."""
        async with self._turn:
            kind, wrong, large = await self._look(path, param, again=True)
        if large:
            raise too_large(wrong, param)
        if wrong:
            raise ApiError(422, wrong, param=param, code="unreadable_file")
        return kind

    async def _look(self, path: Path, param: str, again: bool) -> tuple[str, str, bool]:
        pool = self._pool = self._pool or _new()
        run = partial(asyncio.get_running_loop().run_in_executor, pool)
        try:
            # sending it `look` has the process import all that it needs, before the file's time begins
            await asyncio.wait_for(run(callable, look), START_SECONDS)
            return await asyncio.wait_for(run(look, path, self._limits), SECONDS)
        except (BrokenProcessPool, TimeoutError, MemoryError) as error:
            for process in (pool._processes or {}).values():
                process.kill()
            pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
            if again and isinstance(error, BrokenProcessPool):  # it may have ended before
                return await self._look(path, param, again=False)
            raise ApiError(422, "the file cannot be decoded", param=param, code="unreadable_file") from error


def _new() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_limit)


def _limit() -> None:
    end_with_parent()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def look(path: Path, limits: Limits) -> tuple[str, str, bool]:
    """(kind, what is wrong with it or nothing, whether it is too large)."""
    try:
        try:
            header = read_header(path)
        except UserError as error:
            header = _heard(path, error)
        if header.width * header.height > limits.pixels:
            return "", f"a picture has at most {limits.pixels} pixels here, not {header.width}x{header.height}", True
        if header.seconds > limits.film_seconds:
            return "", f"films and sounds are at most {limits.film_seconds:g} s long here", True
        if header.kind != "audio":
            probe(path)
    except UserError as error:
        return "", str(error).replace(str(path), "the file"), False
    return header.kind, "", False


def _heard(path: Path, error: UserError) -> Header:
    """The header of a sound, or what was wrong with the file as a film."""
    try:
        return read_header(path, sound=True)
    except UserError:
        raise error from None
