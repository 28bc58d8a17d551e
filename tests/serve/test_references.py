"""References to media: nothing is read from where it is not allowed."""

import base64
import io
import socket
from typing import Any

import pytest

from videolm.serve import references
from videolm.serve.errors import ApiError
from videolm.serve.references import fetch


def read(address: str, hosts: tuple[str, ...] = (), most: int = 1000) -> bytes:
    to = io.BytesIO()
    fetch(address, to, hosts=hosts, most=most, seconds=5, param="input_reference")
    return to.getvalue()


def refused(address: str, **more: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        read(address, **more)
    assert caught.value.param == "input_reference"
    return caught.value


def test_data_addresses() -> None:
    assert read("data:image/png;base64," + base64.b64encode(b"abc").decode()) == b"abc"
    assert read("data:,a%20b") == b"a b"
    assert refused("data:image/png;base64,@@").status == 400
    assert refused("data:image/png").status == 400
    assert refused("data:," + "x" * 1001).status == 413


@pytest.mark.parametrize(
    "address",
    [
        "file:///etc/passwd",
        "ftp://example.com/a",
        "/etc/passwd",
        "",
        "http://",
        "http://[::1",
        "gopher://x",
        "javascript:1",
    ],
)
def test_other_schemes_are_refused(address: str) -> None:
    assert refused(address, hosts=("example.com", "")).status == 400


@pytest.mark.parametrize(
    "address",
    ["http://example.com/a.png", "https://user@good.org/a", "https://good.org:8080/a", "https://good.org.evil.com/a"],
)
def test_hosts_that_were_not_named_are_refused(address: str) -> None:
    assert refused(address, hosts=("good.org",)).status == 403


PRIVATE = ["127.0.0.1", "10.0.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "::1", "fd00::1", "100.64.0.1"]


@pytest.mark.parametrize("ip", PRIVATE)
def test_a_name_that_leads_to_a_private_address_is_refused(ip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where it has a public one beside it."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, 443)) for each in ("93.184.216.34", ip)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("connected"))
    assert refused("https://good.org/a", hosts=("good.org",)).code == "host_not_allowed"


class Answering:
    """A host that answers each request with the next of some answers."""

    def __init__(self, *answers: bytes):
        self.answers, self.connected = list(answers), list[Any]()

    def connect(self, address: Any, **_: Any) -> socket.socket:
        self.connected.append(address)
        ours, theirs = socket.socketpair()
        theirs.sendall(self.answers.pop(0))
        theirs.shutdown(socket.SHUT_WR)
        self.kept = theirs
        return ours


def answering(monkeypatch: pytest.MonkeyPatch, *answers: bytes) -> Answering:
    host = Answering(*answers)
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", 80))]
    monkeypatch.setattr(references.socket, "getaddrinfo", lambda *_, **__: found)
    monkeypatch.setattr(references.socket, "create_connection", host.connect)
    return host


def test_an_allowed_host_is_read_at_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    host = answering(monkeypatch, b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc")
    assert read("http://good.org/a", hosts=("good.org",)) == b"abc"
    assert host.connected == [("93.184.216.34", 80)]


def test_redirects_are_checked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    moved = b"HTTP/1.1 302 Found\r\nlocation: %b\r\ncontent-length: 0\r\n\r\n"
    answering(monkeypatch, moved % b"http://169.254.169.254/latest")
    assert refused("http://good.org/a", hosts=("good.org",)).status == 403
    host = answering(monkeypatch, moved % b"/b", b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nb")
    assert read("http://good.org/a", hosts=("good.org",)) == b"b" and len(host.connected) == 2
    answering(monkeypatch, *[moved % b"/again"] * 9)
    assert "too often" in refused("http://good.org/a", hosts=("good.org",)).message


def test_what_never_ends_or_is_no_http_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 5000)
    assert refused("http://good.org/a", hosts=("good.org",)).status == 413
    answering(monkeypatch, b"SSH-2.0\r\n")
    assert refused("http://good.org/a", hosts=("good.org",)).status == 400
    answering(monkeypatch, b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
    assert "404" in refused("http://good.org/a", hosts=("good.org",)).message
