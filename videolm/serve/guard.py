"""What stands between the network and the application: who may ask, how much at a time, and what answers carry.

Plain ASGI, so that a body is bounded while it arrives and not when it is there.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, MutableMapping
from pathlib import Path
from typing import Any

from videolm.errors import UserError
from videolm.serve.errors import ApiError, too_large
from videolm.serve.limits import Limits
from videolm.serve.metrics import Metrics

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN = ("/", "/health", "/openapi.json", "/docs")
"""What needs no key, beside the page's own files."""
log = logging.getLogger("videolm.serve")


class Keys:
    """API keys, of which only hashes are kept.

    Args:
        hashes: SHA-256 in hexadecimal; without any, everybody may ask.
    """

    def __init__(self, hashes: Iterable[str] = ()):
        self._hashes = [bytes.fromhex(each) for each in hashes]

    @classmethod
    def read(cls, path: Path) -> Keys:
        """A file with a hash a line, and a name behind it if one likes. Raises `UserError` for a line that is none."""
        found = []
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            word = line.split()[0]
            if len(word) != 64 or not all(letter in "0123456789abcdef" for letter in word):
                raise UserError(f"{path}, line {number}: not a key's hash; `videolm serve --new-key NAME` makes them")
            found.append(word)
        if not found:
            raise UserError(f"{path} has no keys: with it nobody could ask for anything")
        return cls(found)

    @staticmethod
    def hash(key: str) -> str:
        return hashlib.sha256(key.encode()).hexdigest()

    @staticmethod
    def new() -> str:
        return f"vlm-{secrets.token_urlsafe(32)}"

    def owner(self, header: str | None) -> str | None:
        """Whose an `Authorization` header is, in a time that does not depend on it; None: nobody's."""
        if not self._hashes:
            return ""
        kind, _, key = (header or "").partition(" ")
        digest = hashlib.sha256(key.strip().encode()).digest()
        same = [hmac.compare_digest(digest, each) for each in self._hashes]
        return digest.hex()[:16] if kind.lower() == "bearer" and any(same) else None


class Guard:
    """Middleware. `request.state.owner` says whose request it is, `request.state.id` how the log names it."""

    def __init__(self, app: App, *, keys: Keys, limits: Limits, metrics: Metrics, origins: Collection[str] = ()):
        self.app, self.keys, self.limits, self.metrics, self.origins = app, keys, limits, metrics, origins
        self._open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        began, id = time.perf_counter(), f"req_{secrets.token_hex(12)}"
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        scope.setdefault("state", {}).update(id=id, owner="")
        answer = Answer(send, id, scope["path"], self._cors(headers))
        self._open += 1
        try:
            owner = self.keys.owner(headers.get("authorization"))
            if self._open > self.limits.connections:
                raise ApiError(
                    503, "too many requests at a time; try again soon", code="busy", headers={"retry-after": "1"}
                )
            if owner is None and not _is_open(scope["path"]):
                raise ApiError(401, "give a valid API key: Authorization: Bearer KEY", code="invalid_api_key")
            scope["state"]["owner"] = owner or ""
            length = headers.get("content-length", "0")
            if not length.isdigit() or int(length) > self.limits.upload_bytes:
                raise self._too_large()
            await self.app(scope, self._bounded(receive), answer.send)
        except ApiError as error:
            await answer.error(error)
        except Exception:
            log.exception("unexpected", extra={"request": id})
            await answer.error(ApiError(500, f"the server failed; its log says why, under {id}", code="internal"))
        finally:
            self._open -= 1
            seconds = time.perf_counter() - began
            route = getattr(scope.get("route"), "path", "other")  # not the path: there is no end of those
            self.metrics.request(scope["method"], route, answer.status, seconds)
            about = {"request": id, "method": scope["method"], "path": scope["path"], "status": answer.status}
            log.info("request", extra={**about, "seconds": round(seconds, 4), "owner": scope["state"]["owner"]})

    def _bounded(self, receive: Receive) -> Receive:
        """A body that ends with an error when it is too large or too slow."""
        got, ends, whole = 0, time.monotonic() + self.limits.body_seconds, False

        async def bounded() -> Message:
            nonlocal got, whole
            if whole:
                return await receive()  # until the client leaves
            try:
                message = await asyncio.wait_for(receive(), max(0.0, ends - time.monotonic()))
            except TimeoutError as error:
                said = f"the request's body did not arrive within {self.limits.body_seconds:g} s"
                raise ApiError(408, said, code="timeout") from error
            got += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if got > self.limits.upload_bytes:
                raise self._too_large()
            return message

        return bounded

    def _too_large(self) -> ApiError:
        return too_large(f"a request has at most {self.limits.upload_bytes} bytes here")

    def _cors(self, headers: dict[str, str]) -> dict[str, str]:
        origin = headers.get("origin", "")
        return {"access-control-allow-origin": origin, "vary": "origin"} if origin in self.origins else {}


class Answer:
    """What is sent: with headers that keep browsers from guessing and framing."""

    def __init__(self, send: Send, id: str, path: str, more: dict[str, str]):
        self._send, self.status, self._begun = send, 0, False
        self._headers = {
            "x-request-id": id,
            "x-content-type-options": "nosniff",
            "x-frame-options": "DENY",
            "referrer-policy": "no-referrer",
            "cross-origin-resource-policy": "same-origin",
            "content-security-policy": POLICY,
            **more,
        }
        if path.startswith("/v1/"):
            self._headers["cache-control"] = "no-store"

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self._begun = message["status"], True
            own = {name.decode("latin-1").lower() for name, _ in message["headers"]}
            added = [(name.encode(), value.encode()) for name, value in self._headers.items() if name not in own]
            message = {**message, "headers": [*message["headers"], *added]}
        await self._send(message)

    async def error(self, error: ApiError) -> None:
        """Answer with an error; where the answer has begun already it just ends."""
        if self._begun:
            return
        body = json.dumps(error.body).encode()
        headers = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
        headers |= error.headers
        sent = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": error.status, "headers": sent})
        await self._send({"type": "http.response.body", "body": body})


POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


def _is_open(path: str) -> bool:
    return path in OPEN or path.startswith("/page/")
