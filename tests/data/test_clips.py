"""Clips: what is kept and what is decoded on demand are alike; streams of a data set stay together."""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from videolm.data import clips
from videolm.data.clips import ClipSource, read_headers, room
from videolm.data.layouts.folder import FolderData
from videolm.errors import UserError
from videolm.media import Audio, Image, Video, write_image, write_video
from videolm.shapes import Format

SHAPE = Format(5, 32, 32)


@pytest.fixture
def folder(tmp_path: Path, numbered: Callable[[int], Video]) -> Path:
    """A film that grows louder, a silent one, a short one, an animation and a picture."""
    tone = np.linspace(0.1, 0.9, 60_000) * np.sin(np.arange(60_000) / 5)
    write_video(numbered(30), tmp_path / "a.mp4", audio=Audio.from_array(tone, 16_000))
    write_video(numbered(12), tmp_path / "silent.mp4")
    write_video(numbered(3), tmp_path / "short.mp4")
    write_video(numbered(9), tmp_path / "b.gif")
    write_image(Image(np.full((40, 60, 3), 9, np.uint8)), tmp_path / "still.png")
    return tmp_path


def opened(folder: Path, stream: str = "video", split: Any = "train", **settings: Any) -> ClipSource:
    return FolderData(path=str(folder), **settings).open(stream, SHAPE, 8.0, split)


@pytest.mark.parametrize(
    ("stream", "settings"),
    [("video", {}), ("video", {"views": 3}), ("video", {"fit": "letterbox"}), ("image", {}), ("audio", {})],
)
def test_what_is_kept_is_what_is_decoded_on_demand(
    folder: Path, monkeypatch: pytest.MonkeyPatch, stream: str, settings: dict[str, Any]
) -> None:
    kept = opened(folder, stream, **settings)
    examples = {(index // (len(kept) // kept.views), kept.name(index)): kept[index] for index in range(len(kept))}
    assert kept._kept is not None
    del kept
    gc.collect()
    monkeypatch.setattr(clips, "KEPT_BYTES", 0)
    anew = opened(folder, stream, **settings)
    assert anew._kept is None and len(anew) == len(examples) > 10
    for index in range(0, len(anew), 3):
        one, other = anew[index].media, examples[index // (len(anew) // anew.views), anew.name(index)].media
        if isinstance(one, Audio):
            assert np.allclose(one.samples, other.samples, atol=0.01)
        else:
            assert np.array_equal(one.frames, other.frames)


def test_decoded_clips_are_kept_for_as_long_as_they_are_used_and_within_bounds(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    read = clips.read_video

    def counted(media: Any, **settings: Any) -> Video:
        calls.append(media)
        return read(media, **settings)

    monkeypatch.setattr(clips, "read_video", counted)
    train, held, image = opened(folder), opened(folder, split="validation"), opened(folder, "image")
    for source in (train, held, image):
        assert all(len(source[index].media) for index in range(len(source)))
    assert len(calls) == 4  # each film once
    assert sum(kept.size for kept in clips._kept.values()) == (30 + 12 + 3 + 9 + 1) * 32 * 32 * 3
    whole = sum(kept.size for kept in clips._kept.values())
    assert room("more", clips.KEPT_BYTES - whole + 1) is None
    more = room("more", clips.KEPT_BYTES - whole)
    assert more is room("more", 0) and opened(folder, stream="audio")._kept is None
    del train, held, image, source, more
    gc.collect()
    assert not clips._kept


def test_a_clip_is_decoded_once_be_it_that_several_threads_ask(folder: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor
    from threading import Event

    calls, go = [], Event()

    def read(which: int) -> int:
        calls.append(which)
        go.wait(0.05)
        return which

    kept = clips.Kept(1)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda which: kept.get(which, read), [1, 2] * 4)) == [1, 2] * 4
    assert sorted(calls) == [1, 2]


def test_one_opening_serves_every_stream_and_setting(folder: Path) -> None:
    read_headers.cache_clear()
    for stream, settings in (("video", {}), ("audio", {}), ("image", {"stride": 3}), ("video", {"sound": True})):
        opened(folder, stream, **settings)
    assert read_headers.cache_info().misses == 1


def test_a_films_picture_and_sound_are_at_one_index(folder: Path) -> None:
    seen, heard = (opened(folder, stream, sound=True) for stream in ("video", "audio"))
    assert [seen.name(index) for index in range(len(seen))] == [heard.name(index) for index in range(len(heard))]
    assert seen.name(3) == f"{folder}/a.mp4 from 0.375 s"
    pictures = opened(folder, "image")
    assert pictures.name(len(pictures) - 1) == f"{folder}/still.png"


@pytest.mark.parametrize("bounded", [False, True])
def test_of_a_damaged_film_the_windows_before_the_damage_are_good(
    tmp_path: Path, numbered: Callable[[int], Video], monkeypatch: pytest.MonkeyPatch, bounded: bool
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (600, 32, 32, 3), dtype=np.uint8)
    path = write_video(Video(noise, 8.0), tmp_path / "a.mp4")
    data = bytearray(path.read_bytes())
    begin = data.index(b"mdat") + (len(data) - data.index(b"mdat")) * 3 // 4
    data[begin:] = bytes(len(data) - begin)
    path.write_bytes(data)
    if bounded:
        monkeypatch.setattr(clips, "KEPT_BYTES", 0)
    source = opened(tmp_path, validation_share=0, stride=50)
    assert len(source) == 12 and source[0].media.frames.any()
    with pytest.raises(UserError, match=r"a.mp4 is damaged or cut short: .*; leave this clip out of the data"):
        source[11]
    with pytest.raises(IndexError):
        source[12]
