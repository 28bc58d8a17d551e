"""Files that strangers send: looked at in a process of its own, which they may break."""

import asyncio
import io
import os
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from videolm.media import Audio, Video, write_audio, write_video
from videolm.serve import uploads
from videolm.serve.errors import ApiError
from videolm.serve.limits import Limits
from videolm.serve.uploads import Checker, look

LIMITS = Limits(pixels=10_000, film_seconds=3)


def bomb(side: int) -> bytes:
    """A small PNG that says it is `side` pixels wide and high."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def film(path: Path, frames: int = 8, side: int = 32) -> Path:
    return write_video(Video(np.zeros((frames, side, side, 3), np.uint8), 8.0), path)


def test_what_files_are(tmp_path: Path) -> None:
    picture = io.BytesIO()
    PIL.Image.new("RGB", (20, 20)).save(picture, "jpeg")
    (tmp_path / "given").write_bytes(picture.getvalue())
    assert look(tmp_path / "given", LIMITS) == ("image", "", False)
    film(tmp_path / "a.mp4").rename(tmp_path / "video")  # by what is in it, not by its name
    assert look(tmp_path / "video", LIMITS) == ("video", "", False)
    sound = write_audio(Audio(np.zeros((1, 8000), np.float32), 8000), tmp_path / "a.wav")
    assert look(sound, LIMITS) == ("audio", "", False)


def test_what_is_too_large_by_its_header_is_not_decoded(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(bomb(4000))
    for path in (tmp_path / "bomb.png", film(tmp_path / "large.mp4", side=128), film(tmp_path / "long.mp4", frames=40)):
        kind, said, large = look(path, LIMITS)
        assert kind == "" and large and "at most" in said, path
    (tmp_path / "bomb.png").write_bytes(bomb(60_000))
    kind, said, large = look(tmp_path / "bomb.png", Limits())
    assert kind == "" and "pixels" in said


@pytest.mark.parametrize("content", [b"", b"x", b"PK\x03\x04" + b"\0" * 100, b"<svg/>", b"GIF89a", os.urandom(5000)])
def test_what_is_no_media_is_said_without_the_name_of_a_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "upload-0"
    path.write_bytes(content)
    kind, said, large = look(path, LIMITS)
    assert kind == "" and said and not large and str(tmp_path) not in said


@pytest.fixture
def checker() -> Iterator[Checker]:
    made = Checker(LIMITS)
    yield made
    made.close()


def look_or_break(path: Path, limits: Limits) -> tuple[str, str, bool]:
    """In a checker's process: what a file's name says befalls the decoder."""
    if path.name == "crash":
        os._exit(11)
    if path.name == "hang":
        time.sleep(600)
    return look(path, limits)


@pytest.fixture
def breaking(monkeypatch: pytest.MonkeyPatch) -> Iterator[Checker]:
    monkeypatch.setattr(uploads, "look", look_or_break)
    made = Checker(LIMITS)
    yield made
    made.close()


@pytest.mark.parametrize("name", ["crash", "hang"])
def test_a_file_that_breaks_its_decoder_breaks_nothing_else(
    breaking: Checker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(uploads, "SECONDS", 3.0)
    good = film(tmp_path / "a.mp4")

    async def run() -> None:
        assert await breaking.kind(good, "video") == "video"
        bad, beside = await asyncio.gather(
            breaking.kind(tmp_path / name, "input_reference"), breaking.kind(good, "video"), return_exceptions=True
        )
        assert isinstance(bad, ApiError) and (bad.status, bad.param) == (422, "input_reference")
        assert beside == "video"
        assert await breaking.kind(good, "video") == "video"

    asyncio.run(run())


def test_a_checker_that_was_killed_is_begun_again(checker: Checker, tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4")

    async def run() -> None:
        assert await checker.kind(path, "video") == "video"
        for process in checker._pool._processes.values():
            process.kill()
        await asyncio.sleep(0.3)
        assert await checker.kind(path, "video") == "video"

    asyncio.run(run())
