"""Checking files that strangers send, in a process of its own: what breaks a decoder breaks that one alone."""

from __future__ import annotations

import asyncio
import resource
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

from videolm.errors import UserError
from videolm.serve.errors import ApiError, too_large
from videolm.serve.limits import Limits

MEMORY = 4 * 2**30
"""Bytes of address space that looking at a file may take."""
SECONDS = 20.0


class Checker:
    """Looks at files before they are queued."""

    def __init__(self, limits: Limits):
        self._limits = limits
        self._pool = self._new()

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def kind(self, path: Path, param: str) -> str:
        """ "image", "video" or "audio": what a file is. Raises `ApiError` for one that cannot be used."""
        pool = self._pool
        try:
            work = asyncio.get_running_loop().run_in_executor(pool, look, path, self._limits)
            kind, wrong, large = await asyncio.wait_for(work, SECONDS)
        except (BrokenProcessPool, TimeoutError, MemoryError) as error:
            if self._pool is pool:
                for process in (pool._processes or {}).values():
                    process.kill()
                pool.shutdown(wait=False, cancel_futures=True)
                self._pool = self._new()
            raise ApiError(422, "the file cannot be decoded", param=param, code="unreadable_file") from error
        if large:
            raise too_large(wrong, param)
        if wrong:
            raise ApiError(422, wrong, param=param, code="unreadable_file")
        return kind

    def _new(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_bounded)


def _bounded() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def look(path: Path, limits: Limits) -> tuple[str, str, bool]:
    """(kind, what is wrong with it or nothing, whether it is too large)."""
    from videolm.media import probe, read_header

    try:
        try:
            header = read_header(path)
        except UserError:
            header = read_header(path, sound=True)
        if header.width * header.height > limits.pixels:
            return "", f"a picture has at most {limits.pixels} pixels here, not {header.width}x{header.height}", True
        if header.seconds > limits.film_seconds:
            return "", f"films and sounds are at most {limits.film_seconds:g} s long here", True
        if header.kind != "audio":
            probe(path)
    except UserError as error:
        return "", str(error).replace(str(path), "the file"), False
    return header.kind, "", False
