"""What the routes do: requests checked, their files received, jobs queued and looked after."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException

from videolm.pipeline.folder import Outline
from videolm.serve.asking import REFERENCES, plan, read_fields
from videolm.serve.errors import ApiError, full
from videolm.serve.folders import ID, Folders, Variant
from videolm.serve.limits import Limits
from videolm.serve.metrics import Metrics
from videolm.serve.references import save
from videolm.serve.store import Record, Store, is_full, new_id
from videolm.serve.uploads import Checker
from videolm.serve.workers import Workers

T = TypeVar("T")
POLL = 0.1
"""Seconds between looks at a job that somebody waits for."""


@dataclass
class Service:
    """What the application stands on."""

    name: str
    """Of the model."""
    outline: Outline
    folders: Folders
    limits: Limits
    metrics: Metrics
    workers: Workers
    hosts: frozenset[str] = frozenset()
    """That references may be read from."""
    began: float = field(default_factory=time.time)


class Api:
    """What the routes do."""

    def __init__(self, service: Service):
        self.service, self.folders, self.limits = service, service.folders, service.limits
        self.checker = Checker(service.limits)

    def close(self) -> None:
        self.checker.close()

    async def stored(self, call: Callable[[Store], T]) -> T:
        """What `call` makes of the store, in a thread: no request waits for another's disk."""

        def run() -> T:
            store = Store(self.folders.database)
            try:
                return call(store)
            except sqlite3.OperationalError as error:
                raise full() if is_full(error) else error from error
            finally:
                store.close()

        return await asyncio.to_thread(run)

    async def job(self, id: str, owner: str) -> Record:
        """A job of this owner. Raises `ApiError` where there is none."""
        record = await self.stored(lambda store: store.get(id)) if ID.fullmatch(id) else None
        if record is None or record.owner != owner:
            raise ApiError(404, f"there is no video '{id[:60]}'", param="video_id", code="not_found")
        return record

    async def create(self, request: Request, source: str | None = None, extends: bool = False) -> Record:
        """Queue what a request asks for.

        Args:
            source: a further field for media, the video that is to be edited or to go on.
            extends: whether it is to go on.
        """
        async with self._room() as room:
            fields, files = await self._body(request, room, source)
            if source is not None and not {source, "video_reference"} & files.keys():
                raise ApiError(400, 'say which video: a file, or {"id": ...}', param=source)
            given = await self._given(files, room)
            asked, service = read_fields(fields, self.limits), self.service
            seed = secrets.randbelow(2**32)  # few enough digits to be typed
            made = plan(asked, given, service.outline, service.name, self.limits, seed, extends=extends)
            return await self._add(room, request.state.owner, {**made.request, "given": given}, made.shown)

    async def _given(self, files: dict[str, Path], room: Path) -> dict[str, str]:
        """The inputs that files are, and their names in the job's folder."""
        given = dict[str, str]()
        for source, path in files.items():
            kind = await self.checker.kind(path, source)
            name = REFERENCES.get(source, "video") or kind
            fits = kind == KIND_OF[name] or (name, kind) == ("audio", "video")  # the sound of a film
            if not fits:
                raise ApiError(400, f"{source} is of the kind {kind}, and has to be {KIND_OF[name]}", param=source)
            if name in given:
                raise ApiError(400, f"{name} was given twice", param=source)
            given[name] = f"given-{name}"
            path.rename(room / given[name])
        return given

    async def _add(self, room: Path, owner: str, request: dict[str, Any], shown: dict[str, Any]) -> Record:
        """Queue a job whose files are in `room`, which becomes its folder."""
        id = new_id()
        room.rename(self.folders.of(id))
        try:
            record = await self.stored(lambda store: store.add(id, owner, request, shown, self.limits.queue))
        except BaseException:
            self.folders.remove(id)
            raise
        if record is None:
            self.folders.remove(id)
            said = f"there are {self.limits.queue} videos of yours in the queue; wait for one"
            raise ApiError(429, said, code="queue_full", headers={"retry-after": "5"})
        return record

    @asynccontextmanager
    async def _room(self) -> AsyncIterator[Path]:
        """A folder for what arrives, beside those of jobs; it is gone afterwards, unless it became one."""
        try:
            room = Path(tempfile.mkdtemp(prefix="new-", dir=self.folders.data / "jobs"))
        except OSError as error:
            raise full() if is_full(error) else error from error
        try:
            yield room
        except OSError as error:
            raise full() if is_full(error) else error from error
        finally:
            shutil.rmtree(room, ignore_errors=True)

    async def _body(
        self, request: Request, room: Path, source: str | None = None
    ) -> tuple[dict[str, Any], dict[str, Path]]:
        """Fields and files of a body: a form or JSON. References to media are read into files."""
        media = {*REFERENCES, *([source] if source else [])}
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "application/json":
            given = await self._json(request)
        elif kind in ("multipart/form-data", "application/x-www-form-urlencoded"):
            given = await self._form(request, room, media)
        else:
            raise ApiError(415, "send multipart/form-data or application/json", code="unsupported_media_type")
        fields, files = dict[str, Any](), dict[str, Path]()
        for name, value in given.items():
            if name not in media:
                fields[name] = value
            elif isinstance(value, Path):
                files[name] = value
            elif value is not None and value != "":
                files[name] = await self._referred(name, value, room, request.state.owner)
        return fields, files

    async def _json(self, request: Request) -> dict[str, Any]:
        try:
            given = json.loads(await request.body())
        except (ValueError, RecursionError) as error:
            raise ApiError(400, "the body is no JSON", code="invalid_json") from error
        if not isinstance(given, dict):
            raise ApiError(400, "the body is a JSON object", code="invalid_json")
        return given

    async def _form(self, request: Request, room: Path, media: Collection[str]) -> dict[str, Any]:
        """Fields of a form, `a[b]` as {"a": {"b": ...}}; its files moved to `room`."""
        given = dict[str, Any]()
        try:
            async with request.form(max_files=len(media), max_fields=100, max_part_size=2**20) as form:
                for name, value in form.multi_items():
                    outer, bracket, inner = name.partition("[")
                    if isinstance(value, UploadFile):
                        if name in given or name not in media:
                            raise ApiError(400, f"unknown file '{name[:60]}'", param=name[:60])
                        path = room / f"upload-{len(given)}"
                        await asyncio.to_thread(_copy, value, path)
                        given[name] = path
                    elif bracket and inner.endswith("]"):
                        given.setdefault(outer, {})
                        if not isinstance(given[outer], dict):
                            raise ApiError(400, f"{outer[:60]} was given twice", param=outer[:60])
                        given[outer][inner[:-1]] = value
                    elif name in given:
                        raise ApiError(400, f"{name[:60]} was given twice", param=name[:60])
                    else:
                        given[name] = value
        except MultiPartException as error:
            raise ApiError(400, f"the form is broken: {error.message}", code="invalid_form") from error
        except HTTPException as error:
            raise ApiError(400, f"the form is broken: {error.detail}", code="invalid_form") from error
        return given

    async def _referred(self, name: str, value: Any, room: Path, owner: str) -> Path:
        """The file that a reference is to: {"image_url": address}, {"id": of a video here}, or the address alone."""
        if isinstance(value, str) and value.lstrip().startswith("{"):
            try:
                value = json.loads(value)
            except ValueError as error:
                raise ApiError(400, f"{name} is no JSON", param=name) from error
        path = room / f"referred-{name}"
        if isinstance(value, Mapping) and set(value) == {"id"}:
            source = await self.result(str(value["id"]), owner)
            await asyncio.to_thread(shutil.copyfile, source, path)
            return path
        address = value
        if isinstance(value, Mapping) and len(value) == 1:
            ((kind, address),) = value.items()
            if kind not in ("image_url", "video_url", "audio_url", "url"):
                raise ApiError(400, f'{name} is a file, {{"image_url": ...}} or {{"id": ...}}', param=name)
        if not isinstance(address, str):
            raise ApiError(400, f'{name} is a file, {{"image_url": ...}} or {{"id": ...}}', param=name)
        limits, hosts = self.limits, self.service.hosts

        def read() -> None:
            save(address, path, hosts=hosts, most=limits.upload_bytes, seconds=limits.body_seconds, param=name)

        await asyncio.to_thread(read)
        return path

    async def result(self, id: str, owner: str, variant: Variant = "video") -> Path:
        """What a finished job made. Raises `ApiError` where it is not there (yet, or any more)."""
        record = await self.job(id, owner)
        if record.status == "failed":
            raise ApiError(409, f"the video failed: {record.message}", param="video_id", code=record.code)
        if record.status != "completed":
            said = f"the video is not ready: it is {record.status.replace('_', ' ')}"
            raise ApiError(409, said, param="video_id", code="not_ready", headers=poll_after())
        path = self.folders.made(id, variant)
        if path is None:
            raise ApiError(404, f"this video has no {variant}", param="variant", code="not_found")
        return path

    async def remix(self, id: str, request: Request) -> Record:
        """The same again with another prompt."""
        record = await self.job(id, request.state.owner)
        if record.status != "completed":
            raise ApiError(409, "only a completed video is remixed", param="video_id", code="not_ready")
        async with self._room() as room:
            fields, _ = await self._body(request, room)
            asked = read_fields(fields, self.limits)
            prompt = asked.prompt
            if not prompt or not fields.keys() <= {"prompt", "seed"}:
                raise ApiError(400, "a remix takes a prompt, and a seed if one likes", param="prompt")
            scenes = [(prompt, seconds) for _, seconds in record.request["scenes"]]
            again = {**record.request, "scenes": scenes, "prompt": record.request["prompt"] and prompt}
            again |= {} if asked.seed is None else {"seed": asked.seed}
            if not scenes and record.request["prompt"] is None:
                raise ApiError(400, f"{record.shown['task']} was made without a prompt", param="prompt")
            for file in record.request["given"].values():
                await asyncio.to_thread(shutil.copyfile, self.folders.of(id) / file, room / file)
            told = {**record.shown, "prompt": prompt, "seed": again["seed"], "remixed_from_video_id": id}
            return await self._add(room, record.owner, again, told)

    async def cancel(self, id: str) -> None:
        """End a job that is not over."""
        expires = time.time() + self.limits.kept_seconds
        await self.stored(lambda store: store.cancel(id, expires))

    async def remove(self, record: Record) -> None:
        """End a job, and remove all of it. What is over makes room first, without which nothing can be written down."""
        if record.over:
            await asyncio.to_thread(self.folders.remove, record.id)
        await self.cancel(record.id)
        await self.stored(lambda store: store.remove(record.id))
        await asyncio.to_thread(self.folders.remove, record.id)

    async def wait(
        self, record: Record, request: Request, silence: float | None = None
    ) -> AsyncIterator[Record | None]:
        """A job each time it has changed, until it is over or the client leaves; None after so many seconds without."""
        before, told = None, time.monotonic()
        while not await request.is_disconnected():
            now = await self.stored(lambda store: store.get(record.id))
            if now is None:
                return
            if now != before or (silence is not None and time.monotonic() - told > silence):
                yield now if now != before else None
                before, told = now, time.monotonic()
            if now.over:
                return
            await asyncio.sleep(POLL)


KIND_OF = {
    "image": "image",
    "last_image": "image",
    "video": "video",
    "audio": "audio",
    "structure": "video",
    "mask": "image",
}
"""What files inputs are; a sound may come as a film."""


def _copy(upload: UploadFile, path: Path) -> None:
    with path.open("xb") as file:
        shutil.copyfileobj(upload.file, file)


def poll_after() -> dict[str, str]:
    return {"openai-poll-after-ms": "500"}


def shown(record: Record) -> dict[str, Any]:
    """A job as OpenAI's video object, and what is ours beside it."""
    about = record.shown
    error = None if record.code is None else {"code": record.code, "message": record.message}
    return {
        "id": record.id,
        "object": "video",
        "model": about["model"],
        "status": record.status,
        "progress": 100 if record.status == "completed" else int(100 * record.progress),
        "created_at": int(record.created),
        "completed_at": int(record.completed) if record.completed and record.status == "completed" else None,
        "expires_at": None if record.expires is None else int(record.expires),
        "prompt": about.get("prompt"),
        "seconds": about["seconds"],
        "size": about["size"],
        "remixed_from_video_id": about.get("remixed_from_video_id"),
        "error": error,
        "task": about["task"],
        "seed": about["seed"],
        "frames_ready": record.frames,
        "kind": about.get("kind"),
    }
