"""Media that a request refers to in place of uploading it: `data:` addresses, and files of hosts that are allowed.

A host is looked up once and that address is connected to, after it was seen to be public, so that no name can lead to
the server's own network; each redirect is checked again.
"""

from __future__ import annotations

import base64
import binascii
import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Collection
from pathlib import Path
from typing import IO
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

from videolm.serve.errors import ApiError, too_large

REDIRECTS = 3
CONNECT_SECONDS = 5.0


def fetch(address: str, to: IO[bytes], *, hosts: Collection[str], most: int, seconds: float, param: str) -> None:
    """Write what an address refers to into a file.

    Args:
        hosts: names that http(s) addresses may have; none by default.
        most: bytes.
        seconds: in which all of it has to be there.
        param: the field that has the address.

    Raises `ApiError` for an address that is not allowed, not to be had or too large.
    """
    if address.startswith("data:"):
        return _data(address, to, most, param)
    ends = time.monotonic() + seconds
    for _ in range(REDIRECTS + 1):
        moved = _get(address, to, hosts, most, ends, param)
        if moved is None:
            return
        address = urljoin(address, moved)
    raise ApiError(400, "the address redirects too often", param=param)


def _data(address: str, to: IO[bytes], most: int, param: str) -> None:
    head, comma, body = address[5:].partition(",")
    if not comma:
        raise ApiError(400, "a data address is data:TYPE;base64,...", param=param)
    try:
        content = base64.b64decode(body, validate=True) if head.endswith(";base64") else unquote_to_bytes(body)
    except (binascii.Error, ValueError) as error:
        raise ApiError(400, "the data address is no base64", param=param) from error
    if len(content) > most:
        raise too_large(f"a file has at most {most} bytes here", param)
    to.write(content)


def _get(address: str, to: IO[bytes], hosts: Collection[str], most: int, ends: float, param: str) -> str | None:
    """Read an address, or say where it has moved to."""
    try:
        parts = urlsplit(address)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError as error:
        raise ApiError(400, "this is no address", param=param) from error
    if parts.scheme not in ("http", "https") or not host:
        raise ApiError(400, "give a file, or a data: or https: address", param=param)
    if host not in hosts or parts.username is not None or port not in (None, 80, 443):
        said = f"this server reads no files from {host}" + ("" if hosts else ": upload the file")
        raise ApiError(403, said, param=param, code="host_not_allowed")
    try:
        connection = _connect(parts.scheme, host, port, param)
        try:
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("GET", path, headers={"host": host, "accept-encoding": "identity"})
            response = connection.getresponse()
            if response.status in (301, 302, 303, 307, 308):
                return response.headers.get("location", "")
            if response.status != 200:
                raise ApiError(400, f"{host} answers {response.status}", param=param)
            got = 0
            while chunk := response.read(2**16):
                got += len(chunk)
                if got > most:
                    raise too_large(f"a file has at most {most} bytes here", param)
                if time.monotonic() > ends:
                    raise ApiError(408, f"{host} is too slow", param=param, code="timeout")
                to.write(chunk)
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ApiError(400, f"{host} cannot be read: {type(error).__name__}", param=param) from error
    return None


def _connect(scheme: str, host: str, port: int | None, param: str) -> http.client.HTTPConnection:
    """A connection to the very address that was seen to be public."""
    port = port or (443 if scheme == "https" else 80)
    found = {str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    if not found or not all(ipaddress.ip_address(address.partition("%")[0]).is_global for address in found):
        raise ApiError(403, f"{host} is not a public address", param=param, code="host_not_allowed")
    raw = socket.create_connection((sorted(found)[0], port), timeout=CONNECT_SECONDS)
    connection = http.client.HTTPConnection(host, port, timeout=CONNECT_SECONDS)
    connection.sock = ssl.create_default_context().wrap_socket(raw, server_hostname=host) if scheme == "https" else raw
    return connection


def save(address: str, path: Path, *, hosts: Collection[str], most: int, seconds: float, param: str) -> None:
    """As `fetch`, into a new file; it is removed again where something is wrong."""
    try:
        with path.open("xb") as file:
            fetch(address, file, hosts=hosts, most=most, seconds=seconds, param=param)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
