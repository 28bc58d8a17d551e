"""Servers and workers that die at the worst time lose nothing and serve nothing half made."""

import contextlib
import io
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import psutil
import pytest

from videolm.media import probe

Server = Any
"""See `conftest.py`."""
Start = Callable[..., Server]


def complete(server: Server, id: str) -> None:
    """Check that what a finished video serves is whole."""
    path = server.data / "jobs" / id / "made.mp4"
    assert probe(path).frames > 0
    assert server.client.get(f"/v1/videos/{id}/content").content == path.read_bytes()


def test_a_killed_server_goes_on_where_it_was(start: Start, tiny_model: Path, tmp_path: Path) -> None:
    first = start(tiny_model, data=tmp_path / "data")
    done = first.over(first.create()["id"])
    before = first.client.get(f"/v1/videos/{done['id']}/content").content
    first.client.post("/v1/videos", files={"input_reference": b"no picture"})  # a process looks at it
    jobs = [first.create(seconds="20", seed=n) for n in range(12)]
    first.wait_until(lambda: first.get(jobs[0]["id"])["frames_ready"] > 0)
    begun = first.workers
    first.kill(signal.SIGKILL)
    assert len(begun) == 2 and psutil.wait_procs(begun, 10)[1] == []  # they end with it
    again = start(tiny_model, data=tmp_path / "data")
    assert again.client.get(f"/v1/videos/{done['id']}/content").content == before
    listed = again.client.get("/v1/videos", params={"limit": 100}).json()["data"]
    assert [video["id"] for video in listed] == [job["id"] for job in jobs[::-1]] + [done["id"]]
    for job in jobs:
        assert again.over(job["id"], 120)["status"] == "completed"
        complete(again, job["id"])
    assert {folder.name for folder in (tmp_path / "data" / "jobs").iterdir()} == {video["id"] for video in listed}


def test_a_killed_worker_takes_no_job_with_it(start: Start, tiny_model: Path) -> None:
    server = start(tiny_model)
    jobs = [server.create(seconds="20", seed=n) for n in range(12)]
    server.wait_until(lambda: server.get(jobs[0]["id"])["frames_ready"] > 0)
    (worker,) = server.workers
    worker.kill()
    for job in jobs:
        assert server.over(job["id"], 120)["status"] == "completed"
        complete(server, job["id"])
    assert [line["message"] for line in server.log].count("worker ended") == 1
    assert "videolm_worker_deaths_total 1.0" in server.client.get("/metrics").text


def test_a_job_that_breaks_its_worker_fails_and_no_other(start: Start, tiny_model: Path, tmp_path: Path) -> None:
    """By a model of which one prompt ends the process that makes it."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'videolm.serve.worker':\n"
        "            sys.meta_path.remove(self)\n"
        "            import videolm.serve.making as making\n"
        "            make = making.make\n"
        "            def broken(model, record, *rest):\n"
        "                if record.request['prompt'] == 'crash':\n"
        "                    os._exit(9)\n"
        "                return make(model, record, *rest)\n"
        "            making.make = broken\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    server = start(tiny_model, environment={"PYTHONPATH": path})
    good = [server.create(seed=n) for n in range(3)]
    bad = server.create(prompt="crash")
    more = [server.create(seed=n) for n in range(3)]
    assert server.over(bad["id"], 90)["error"]["code"] == "worker_crashed"
    assert [server.over(job["id"], 90)["status"] for job in (*good, *more)] == ["completed"] * 6


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 3 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("only the superuser can mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_is_said_and_outlived(start: Start, tiny_model: Path, small_disk: Path) -> None:
    server = start(tiny_model, data=small_disk / "data")
    first = server.over(server.create()["id"])
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    picture = io.BytesIO()
    PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (99, 99, 3), dtype=np.uint8)).save(picture, "png")
    answer = server.client.post("/v1/videos", data={"prompt": "x"}, files={"input_reference": picture.getvalue()})
    assert answer.status_code == 507 and answer.json()["error"]["code"] == "storage_full"
    queued = []
    for _ in range(20):
        answer = server.client.post("/v1/videos", json={"prompt": "x"})
        assert answer.status_code in (200, 507), answer.text
        queued += [answer.json()["id"]] if answer.status_code == 200 else []
    assert server.client.get("/health").status_code == 200
    complete(server, first["id"])
    assert server.client.delete(f"/v1/videos/{first['id']}").status_code == 200  # which makes room
    filler.unlink()
    for id in queued:
        over = server.over(id)
        assert over["status"] == "completed" or over["error"]["code"] == "storage_full", over
    last = server.over(server.create()["id"])
    assert last["status"] == "completed"
    complete(server, last["id"])
    assert not list((server.data / "jobs").glob("new-*"))
    assert "worker ended" not in [line["message"] for line in server.log]


def test_a_server_that_is_told_to_stop_finishes_what_it_has_begun(
    start: Start, tiny_model: Path, tmp_path: Path
) -> None:
    server = start(tiny_model, data=tmp_path / "data")
    jobs = [server.create(seed=n) for n in range(3)]
    server.wait_until(lambda: server.get(jobs[0]["id"])["status"] != "queued")
    server.kill(signal.SIGTERM)
    assert server.process.returncode == 0
    again = start(tiny_model, data=tmp_path / "data")
    assert [again.over(job["id"])["status"] for job in jobs] == ["completed"] * 3


def test_one_server_has_a_folder(start: Start, tiny_model: Path, tmp_path: Path) -> None:
    start(tiny_model, data=tmp_path / "data")
    with pytest.raises(AssertionError, match="another server has"):
        start(tiny_model, data=tmp_path / "data")


def test_a_job_that_takes_too_long_is_given_up(start: Start, tiny_model: Path, tmp_path: Path) -> None:
    limits = tmp_path / "limits.yaml"
    limits.write_text("job_seconds: 0.5\nkept_seconds: 3\nqueue: 2\n")
    server = start(tiny_model, "--limits", str(limits))
    long = server.create(seconds="60")
    assert server.over(long["id"])["error"]["code"] == "timeout"
    server.wait_until(lambda: server.client.get(f"/v1/videos/{long['id']}").status_code == 404)  # expired
    assert not (server.data / "jobs" / long["id"]).exists()
    for _ in range(2):
        server.create(seconds="60")
    full = server.client.post("/v1/videos", json={"prompt": "x"})
    assert full.status_code == 429 and full.headers["retry-after"] == "5"


def test_keys_keep_owners_apart(start: Start, tiny_model: Path, tmp_path: Path) -> None:
    from videolm.serve.guard import Keys

    keys = tmp_path / "keys.txt"
    keys.write_text(f"{Keys.hash('a')} alice\n{Keys.hash('b')} bob\n")
    server = start(tiny_model, "--api-keys", str(keys))
    alice, bob = ({"authorization": f"Bearer {key}"} for key in "ab")
    assert server.client.post("/v1/videos", json={"prompt": "x"}).status_code == 401
    made = server.client.post("/v1/videos", json={"prompt": "x"}, headers=alice).json()
    assert server.client.get(f"/v1/videos/{made['id']}", headers=alice).status_code == 200
    for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", ""), ("GET", "/events"), ("POST", "/remix")):
        answer = server.client.request(method, f"/v1/videos/{made['id']}{path}", headers=bob, json={"prompt": "x"})
        assert answer.status_code == 404, path
    assert server.client.get("/v1/videos", headers=bob).json()["data"] == []
    other = {"prompt": "x", "video_reference": {"id": made["id"]}}
    assert server.client.post("/v1/videos", json=other, headers=bob).status_code == 404
    assert "alice" not in server._log.read_text() and '"a"' not in server._log.read_text()
