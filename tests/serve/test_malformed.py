"""A thousand requests that are wrong: each gets an answer below 500, and nothing else happens."""

import io
import json
import random
import socket
import string
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

Server = Any
"""See `conftest.py`."""
COUNT = 1000
FIELDS = (
    "prompt",
    "seconds",
    "size",
    "width",
    "height",
    "num_frames",
    "fps",
    "seed",
    "task",
    "scenes",
    "mask",
    "top_p",
)
NAMES = (
    *("../../x", "/etc/passwd", "..\\..\\x", "x\0y", "a" * 5000, "", "$(id)", "<script>", "\u202egpj.exe", "%2e%2e%2f"),
    *("jobs.sqlite", ".", "..", "made.mp4", "CON", "\r\nx-injected: 1"),
)
VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        -1,
        0,
        2**70,
        -(2**70),
        1e308,
        "nan",
        "inf",
        "1e999",
        "",
        " ",
        "\0",
        "x" * 3000,
        "\ud7ff",
        "../..",
        "'; --",
    ),
    *([], {}, [[]], {"id": "../../etc/passwd"}, {"id": 5}, {"image_url": "file:///etc/passwd"}, {"a": {"b": {}}}),
    *("{", "[" * 2000, "64x64x64", "0x0", "99999x99999", "1,2,3,4", "0.5", "a+b", "+", "text_to_video+" * 50),
)


def png(side: int) -> bytes:
    """A picture that says it is this wide and high, and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 10**6, 9)) + chunk(b"IEND", b"")


def requests(rng: random.Random) -> Iterator[dict[str, Any]]:
    """Keyword arguments of `httpx.Client.request`, without end."""
    reference = ("input_reference", "image_reference", "video_reference", "mask_reference", "audio_reference", "video")
    contents: list[Callable[[], bytes]] = [
        lambda: b"",
        lambda: rng.randbytes(rng.randrange(1, 3000)),
        lambda: png(100_000),
        lambda: png(9000),
        lambda: b"RIFF\xff\xff\xff\xffWAVEfmt " + rng.randbytes(60),
        lambda: b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + struct.pack(">I", 2**31) + b"mdat" + rng.randbytes(500),
        lambda: b"GIF89a" + rng.randbytes(200),
        lambda: b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><svg>&b;</svg>",
        lambda: b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        lambda: b"ffconcat version 1.0\nfile /etc/passwd\n",
    ]
    paths = ("/v1/videos", "/v1/videos/sync", "/v1/videos/edits", "/v1/videos/extensions", "/v1/videos/video_0/remix")
    while True:
        kind, path = rng.randrange(5), rng.choice(paths)
        given = {rng.choice(FIELDS): rng.choice(VALUES) for _ in range(rng.randrange(1, 5))}
        if rng.random() < 0.3:
            given[rng.choice([*reference, *NAMES[:4]])] = rng.choice(VALUES)
        if kind == 0:
            body = json.dumps(given).encode()
            yield {"method": "POST", "url": path, "content": body, "headers": {"content-type": "application/json"}}
        elif kind == 1:
            name, content = rng.choice(NAMES), rng.choice(contents)()
            fields = {key: str(value).encode("utf-8", "replace") for key, value in given.items()}
            files = {rng.choice(reference): (name, content, rng.choice(["image/png", "text/html", "x"]))}
            yield {"method": "POST", "url": path, "data": fields, "files": files}
        elif kind == 2:
            cut = json.dumps(given).encode()
            cut = cut[: rng.randrange(len(cut))] + rng.randbytes(rng.randrange(20))
            types = ("application/json", "multipart/form-data", "multipart/form-data; boundary=x", "text/plain", "")
            yield {"method": "POST", "url": path, "content": cut, "headers": {"content-type": rng.choice(types)}}
        elif kind == 3:
            name = quote("".join(rng.choices(string.printable, k=rng.randrange(1, 60))), safe=rng.choice(["/.;=&", ""]))
            tail = rng.choice(["", "/content", "/events", "/frames/-1", "/frames/99999999999", "/content?variant=x"])
            yield {
                "method": rng.choice(["GET", "DELETE", "PUT"]),
                "url": f"/v1/videos/{name}{tail}",
            }
        else:
            query = {rng.choice(["limit", "after", "order", "variant"]): str(rng.choice(VALUES))[:500]}
            yield {
                "method": "GET",
                "url": rng.choice(["/v1/videos", "/v1/models/x", "/docs", "/page/../../x"]),
                "params": query,
            }


def test_a_thousand_malformed_requests(server: Server, tmp_path: Path) -> None:
    rng, statuses = random.Random(0), list[int]()
    server.over(server.create()["id"])
    before, outside = 0, files_beside(server)
    for number, request in zip(range(COUNT), requests(rng), strict=False):
        try:
            answer = server.client.request(**request)
        except (httpx.InvalidURL, httpx.LocalProtocolError, UnicodeError, ValueError):
            continue  # what the client itself does not send
        assert answer.status_code < 500, (number, request, answer.text)
        assert "x-injected" not in answer.headers
        if answer.status_code >= 400:
            error = answer.json()["error"]
            assert set(error) == {"message", "type", "param", "code"} and "/etc/passwd" not in answer.headers
            assert str(server.data) not in answer.text, (number, request)
        statuses.append(answer.status_code)
        if number == COUNT // 10:  # every process that there will be has begun
            before = server.memory
    assert len(statuses) > 0.9 * COUNT and sum(status >= 400 for status in statuses) > 0.7 * len(statuses)
    for video in server.client.get("/v1/videos", params={"limit": 100}).json()["data"]:
        server.client.delete(f"/v1/videos/{video['id']}")
    assert server.over(server.create()["id"])["status"] == "completed"
    assert server.memory < before + 200 * 2**20
    assert files_beside(server) == outside and not any("passwd" in str(path) for path in server.data.rglob("*"))


def files_beside(server: Server) -> set[str]:
    """What lies beside the data folder."""
    return {path.name for path in server.data.parent.iterdir()}


def talk(server: Server, *pieces: bytes, pause: float = 0.0) -> bytes:
    """What a server answers to bytes sent piece by piece; it may close while they come."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause)
        except OSError:
            pass
        found = io.BytesIO()
        try:
            while chunk := connection.recv(2**16):
                found.write(chunk)
        except OSError:
            pass
        return found.getvalue()


HEAD = b"POST /v1/videos HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: multipart/form-data; boundary=b\r\n"
PART = b'--b\r\ncontent-disposition: form-data; name="input_reference"; filename="a.mp4"\r\n\r\n'


@pytest.fixture(scope="module")
def strict(start: Any, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server that has little patience."""
    limits = tmp_path_factory.mktemp("limits") / "limits.yaml"
    limits.write_text("upload_bytes: 2000000\nbody_seconds: 1.5\nconnections: 8\n")
    return start(tiny_model, "--limits", str(limits))


def test_a_film_that_never_ends_is_cut_off(strict: Server) -> None:
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    first = HEAD + b"transfer-encoding: chunked\r\n\r\n" + f"{len(PART):x}\r\n".encode() + PART + b"\r\n"
    began = time.monotonic()
    answer = talk(strict, first, *[chunk] * 2000)
    assert b" 413 " in answer.splitlines()[0] and time.monotonic() - began < 10
    assert b" 413 " in talk(strict, HEAD + b"content-length: 99999999999\r\n\r\n").splitlines()[0]
    assert list((strict.data / "jobs").iterdir()) == []


def test_slow_uploads_are_given_up_and_hold_nobody_else(strict: Server) -> None:
    began = time.monotonic()
    answer = talk(strict, HEAD + b"content-length: 1000\r\n\r\n" + PART, *[b"x"] * 40, pause=0.1)
    assert b" 408 " in answer.splitlines()[0] and time.monotonic() - began < 8
    assert strict.over(strict.create()["id"])["status"] == "completed"


def test_what_is_no_http_is_answered_or_closed(strict: Server) -> None:
    for nonsense in (b"\0" * 100, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\nx: " + b"y" * 10**6):
        answer = talk(strict, nonsense + b"\r\n\r\n")
        assert not answer or answer.startswith((b"HTTP/1.1 2", b"HTTP/1.1 4"))
    assert strict.client.get("/health").status_code == 200
