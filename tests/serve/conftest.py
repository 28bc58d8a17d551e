"""Servers of a small model, each a process of its own as a user's is."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from videolm.cli.main import main

PROMPT = "a small red circle moves right on a white background"


class Server:
    """`videolm serve` at work.

    Attributes:
        url: where it listens.
        log: lines of JSON that it has written.
    """

    def __init__(self, *arguments: str, data: Path, log: Path, environment: dict[str, str] | None = None):
        self.data, self._log = data, log
        command = [sys.executable, "-m", "videolm", "serve", "--port", "0", "--data", str(data), *arguments]
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                command, stdout=file, stderr=file, start_new_session=True, env={**os.environ, **(environment or {})}
            )
        self.url = self._wait_for_address()
        self.client = httpx.Client(base_url=self.url, timeout=60)
        self.wait_until(lambda: self.client.get("/health").status_code == 200)

    def _wait_for_address(self) -> str:
        begun = time.monotonic()
        while time.monotonic() - begun < 60:
            text = self._log.read_text()
            if " at http://" in text:
                return "http://" + text.rsplit(" at http://", 1)[1].split("/")[0]
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise AssertionError(self._log.read_text())

    @property
    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.read_text().splitlines() if line.startswith("{")]

    def wait_until(self, true: Callable[[], Any], seconds: float = 60) -> Any:
        begun = time.monotonic()
        while time.monotonic() - begun < seconds:
            if found := true():
                return found
            time.sleep(0.05)
        raise AssertionError("it did not happen:\n" + self._log.read_text()[-3000:])

    def create(self, **fields: Any) -> dict[str, Any]:
        """A video, queued."""
        response = self.client.post("/v1/videos", json={"prompt": PROMPT, **fields})
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    def get(self, id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get(f"/v1/videos/{id}").json()
        return found

    def over(self, id: str, seconds: float = 60) -> dict[str, Any]:
        """A video once it is completed or failed."""
        self.wait_until(lambda: self.get(id)["status"] in ("completed", "failed"), seconds)
        return self.get(id)

    @property
    def workers(self) -> list[psutil.Process]:
        """Processes that make videos."""
        return [child for child in self._children if "spawn_main" in " ".join(child.cmdline())]

    @property
    def memory(self) -> int:
        """Bytes that the server and its processes have."""
        return sum(process.memory_info().rss for process in (psutil.Process(self.process.pid), *self._children))

    @property
    def _children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def kill(self, sign: int = signal.SIGKILL) -> None:
        self.process.send_signal(sign)
        self.process.wait(60)

    def close(self) -> None:
        self.client.close()
        self.process.terminate()
        self.process.wait(60)


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Begin a server: start(model, *arguments, data=folder); it is ended with the tests."""
    begun = list[Server]()

    def new(model: Path, *arguments: str, data: Path | None = None, **more: Any) -> Server:
        folder = tmp_path_factory.mktemp("serve")
        server = Server("--model", str(model), *arguments, data=data or folder / "data", log=folder / "log", **more)
        begun.append(server)
        return server

    yield new
    for server in begun:
        server.process.terminate()  # all at once: each takes seconds
    for server in begun:
        server.close()


@pytest.fixture(scope="session")
def server(start: Callable[..., Server], upscaling_model: Path) -> Server:
    """One for tests that leave it as they found it."""
    return start(upscaling_model)


@pytest.fixture(scope="session")
def editing_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, untaught, that makes parts of clips anew."""
    out = tmp_path_factory.mktemp("runs") / "editing"
    tasks = "{text_to_video: 1, inpainting_central: 1}"
    assert main(["train", "shapesworld/tiny", "--out", str(out), "--tasks", tasks]) == 0
    return out / "model"
