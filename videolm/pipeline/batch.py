"""Many calls from a file, each with files of its own for what it makes: by one process or by many.

A call's seed is its own, and its ids are the same in any company, so that the clips do not depend on how the work is
shared. What is done is known from the records that were written: the work may be stopped, and goes on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from videolm.errors import UserError
from videolm.files import atomic_path
from videolm.generate.engine import AS_IS, Decoding
from videolm.generate.sampling import generators
from videolm.pipeline.folder import model_folder, model_hash
from videolm.pipeline.inputs import MEDIA
from videolm.pipeline.job import Job, check_names
from videolm.pipeline.output import SUFFIXES, VideoLMOutput
from videolm.pipeline.video_lm import VideoLM
from videolm.progress import progress

TOGETHER = 32
"""Calls whose rows are decoded together."""
RECORD = ".json"


def read_requests(path: Path, seed: int) -> list[dict[str, Any]]:
    """The calls of a file, a line each: a prompt, or a JSON object with "prompt", "task", "seed" and other options of a
    call. Media are files, named from where the file lies.

    Args:
        seed: of the first line, one more each; lines may have their own.

    Raises `UserError` for a line that is no call.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    found = []
    for number, line in enumerate(filter(str.strip, lines)):
        try:
            request = json.loads(line) if line.lstrip().startswith("{") else {"prompt": line.strip()}
            request = {"seed": seed + number, **request}
            check_names({name: value for name, value in request.items() if name != "seed"})  # type: ignore[arg-type]
            if not isinstance(request["seed"], int) or not isinstance(request.get("prompt", ""), str):
                raise UserError("a call has one prompt, and a whole number as its seed")
        except (UserError, ValueError) as error:
            raise UserError(f"{path}, call {number + 1}: {error}") from error
        for name in MEDIA:
            if isinstance(request.get(name), str):
                request[name] = str(path.parent.resolve() / request[name])
        found.append(request)
    if not found:
        raise UserError(f"{path} has no calls: write a prompt or a JSON object a line")
    return found


@dataclass(frozen=True)
class Batch:
    """Calls, and the folder for what they make: `00000.mp4` and its record `00000.json`, and so on.

    Args:
        model: see `model_folder`.
    """

    requests: Sequence[dict[str, Any]]
    out: Path
    model: str | None = None
    decoding: Decoding = AS_IS

    def __call__(self, rank: int, world: int, quiet: bool = True) -> None:
        """Make what is this process's share and not done. A call that fails has a record that says why.

        By one thread, since with their number PyTorch's rounding changes: several processes are what is faster.
        """
        mine = [index for index in self.left() if index % world == rank]
        if not mine:
            return
        folder = model_folder(self.model)
        model = VideoLM.from_pretrained(folder, decoding=self.decoding)
        with progress(len(mine), "batch", "call", enabled=not quiet) as bar, _one_thread():
            for start in range(0, len(mine), TOGETHER):
                part = mine[start : start + TOGETHER]
                for index, out in self._made(model, part):
                    self._write(index, out)
                    bar.update(1)

    def left(self) -> list[int]:
        """Numbers of the calls that have no record. Raises `UserError` for a folder with those of other calls."""
        found = []
        for index, request in enumerate(self.requests):
            path = self.path(index, RECORD)
            record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
            same = record is not None and (record["request"], record["model"]) == (request, self.name)
            if record is None or ("error" in record and not same):
                found.append(index)
            elif not same:
                raise UserError(f"{path} is of another call or model: choose another folder, or remove this one")
        return found

    def done(self) -> int:
        """How many calls have a record."""
        return sum(self.path(index, RECORD).exists() for index in range(len(self.requests)))

    def records(self) -> Iterator[dict[str, Any]]:
        """What became of each call that is done."""
        for index in range(len(self.requests)):
            path = self.path(index, RECORD)
            if path.exists():
                yield json.loads(path.read_text(encoding="utf-8"))

    def path(self, index: int, suffix: str) -> Path:
        return self.out / f"{index:05}{suffix}"

    @cached_property
    def name(self) -> str:
        """The model's, for the records; it goes with the batch to other processes, and its weights are read once."""
        folder = model_folder(self.model)
        return f"{folder.name}@{model_hash(folder)}"

    def _made(self, model: VideoLM, indices: Sequence[int]) -> Iterator[tuple[int, VideoLMOutput | UserError]]:
        jobs: dict[int, Job] = {}
        for index in indices:
            asked = {**self.requests[index]}
            seed = asked.pop("seed")
            try:
                count = asked.get("num_videos_per_prompt", 1)
                jobs[index] = model.job(**asked, generator=generators(seed, count))
            except UserError as error:
                yield index, error
        model.decode(list(jobs.values()))
        for index, job in jobs.items():
            yield index, job.output("np")

    def _write(self, index: int, out: VideoLMOutput | UserError) -> None:
        record: dict[str, Any] = {"request": self.requests[index], "model": self.name}
        if isinstance(out, UserError):
            record["error"] = str(out)
        else:
            shape = out.variant.format
            paths = out.save(self.path(index, SUFFIXES[out.kind][0]), overwrite=True)
            record |= {"task": out.variant.task.name, "paths": [path.name for path in paths], "tokens": out.tokens}
            record |= {"frames": shape.frames, "fps": out.fps, "width": shape.width, "height": shape.height}
        with atomic_path(self.path(index, RECORD)) as temporary:
            temporary.write_text(json.dumps(record, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
