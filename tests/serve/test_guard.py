"""What stands before the application: keys, bounds while a body arrives, headers."""

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from videolm.errors import UserError
from videolm.serve.errors import ApiError
from videolm.serve.guard import Guard, Keys, Message, Receive, Scope, Send
from videolm.serve.limits import Limits
from videolm.serve.metrics import Metrics

SMALL = Limits(upload_bytes=1000, body_seconds=0.2, connections=2)


class Echo:
    """An application that reads the body and says how much there was."""

    def __init__(self) -> None:
        self.read, self.owner = 0, ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.owner = scope["state"]["owner"]
        more = True
        while more:
            message = await receive()
            self.read += len(message["body"])
            more = message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": str(self.read).encode()})


def ask(
    guard: Guard, body: Iterable[bytes | float] = (b"",), path: str = "/v1/videos", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Answer to a request whose body comes in these pieces; numbers are seconds between them."""
    sent = list[Message]()
    pieces = list(body)

    async def receive() -> Message:
        while pieces and isinstance(pieces[0], float):
            await asyncio.sleep(pieces.pop(0))  # type: ignore[arg-type]
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def send(message: Message) -> None:
        sent.append(message)

    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": path, "headers": named}
    asyncio.run(guard(scope, receive, send))
    told = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], told, b"".join(message.get("body", b"") for message in sent[1:])


def guarded(limits: Limits = SMALL, keys: Keys | None = None, app: Any = None, **more: Any) -> Guard:
    return Guard(app or Echo(), keys=keys or Keys(), limits=limits, metrics=Metrics(), **more)


def test_a_body_is_bounded_while_it_arrives() -> None:
    app = Echo()
    assert ask(guarded(app=app), [b"x" * 400, b"x" * 500])[::2] == (200, b"900")
    app = Echo()
    endless = [b"x" * 400] * 1000
    status, _, body = ask(guarded(app=app), endless)
    assert status == 413 and json.loads(body)["error"]["code"] == "too_large" and app.read == 800
    app = Echo()
    assert ask(guarded(app=app), [b""], content_length="1001")[0] == 413 and app.read == 0
    assert ask(guarded(), [b""], content_length="-5")[0] == 413


def test_a_slow_body_is_given_up() -> None:
    status, headers, body = ask(guarded(), [b"x", 0.1, b"x", 5.0, b"x"])
    assert status == 408 and headers["connection"] == "close"
    assert json.loads(body)["error"]["code"] == "timeout"


def test_keys() -> None:
    keys = Keys([Keys.hash("alice's"), Keys.hash("bob's")])
    for wrong in ({}, {"authorization": "Bearer x"}, {"authorization": "alice's"}, {"authorization": "Basic alice's"}):
        status, _, body = ask(guarded(keys=keys), **wrong)
        assert status == 401 and json.loads(body)["error"]["type"] == "authentication_error"
    owners = []
    for key in ("alice's", "bob's", "alice's"):
        app = Echo()
        assert ask(guarded(keys=keys, app=app), authorization=f"Bearer {key}")[0] == 200
        owners.append(app.owner)
    assert owners[0] == owners[2] != owners[1] and "alice" not in owners[0]
    for path, status in (("/", 200), ("/health", 200), ("/page/app.js", 200), ("/metrics", 401), ("/v1/models", 401)):
        assert ask(guarded(keys=keys), path=path)[0] == status


def test_a_file_of_keys_has_hashes_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys.txt"
    path.write_text(f"# who may\n{Keys.hash('k')} alice\n\n")
    assert Keys.read(path).owner("Bearer k") is not None and Keys.read(path).owner("Bearer j") is None
    for text, said in (("secret", "line 1"), ("", "no keys")):
        path.write_text(text)
        with pytest.raises(UserError, match=said):
            Keys.read(path)


def test_answers_keep_browsers_from_guessing_and_framing() -> None:
    for status, body in ((200, [b""]), (413, [b"x" * 2000])):
        found, headers, _ = ask(guarded(), body)
        assert found == status
        assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in headers["content-security-policy"] and headers["cache-control"] == "no-store"
        assert headers["x-request-id"].startswith("req_") and "access-control-allow-origin" not in headers


def test_other_pages_may_ask_where_they_are_named() -> None:
    guard = guarded(origins=["https://good.org"])
    assert ask(guard, origin="https://good.org")[1]["access-control-allow-origin"] == "https://good.org"
    assert "access-control-allow-origin" not in ask(guard, origin="https://evil.org")[1]


def test_more_at_a_time_than_allowed_are_told_to_wait() -> None:
    async def run() -> list[int]:
        ready, statuses = asyncio.Event(), list[int]()

        async def waits(scope: Scope, receive: Receive, send: Send) -> None:
            await ready.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        guard = guarded(app=waits)

        async def one() -> None:
            async def receive() -> Message:
                return {"type": "http.request", "body": b""}

            async def send(message: Message) -> None:
                if message["type"] == "http.response.start":
                    statuses.append(message["status"])

            await guard({"type": "http", "method": "GET", "path": "/", "headers": []}, receive, send)

        tasks = [asyncio.create_task(one()) for _ in range(5)]
        await asyncio.sleep(0.05)
        ready.set()
        await asyncio.gather(*tasks)
        await one()
        return statuses

    assert sorted(asyncio.run(run())) == [200, 200, 200, 503, 503, 503]


def test_faults_are_told_as_ours_and_tell_nothing_more() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("secret")

    async def refuses(scope: Scope, receive: Receive, send: Send) -> None:
        raise ApiError(429, "wait", code="queue_full", headers={"retry-after": "5"})

    status, _, body = ask(guarded(app=broken))
    assert status == 500 and b"secret" not in body and json.loads(body)["error"]["type"] == "server_error"
    status, headers, body = ask(guarded(app=refuses))
    assert (status, headers["retry-after"], json.loads(body)["error"]["type"]) == (429, "5", "rate_limit_error")
