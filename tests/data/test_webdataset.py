"""WebDataset tars: examples by index, read where they lie; what is broken is left out or named."""

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import PIL.Image
import pytest

from videolm.data.clips import ClipSource, read_headers
from videolm.data.example import Split
from videolm.data.layouts.webdataset import WebDatasetData
from videolm.errors import UserError
from videolm.media import Audio, Video, write_audio, write_video
from videolm.shapes import Format
from videolm.train.recipe import load_recipe
from videolm.train.run import Run

CLIP, STILL = Format(5, 32, 32), Format(1, 32, 32)


def pack(path: Path, files: dict[str, bytes]) -> Path:
    """A plain tar of `files`, in their order."""
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def picture(level: int) -> bytes:
    file = io.BytesIO()
    PIL.Image.new("RGB", (32, 32), (level, level, level)).save(file, format="PNG")
    return file.getvalue()


def opened(path: Path, shape: Format = CLIP, split: Split = "train", **settings: float) -> ClipSource:
    stream = "image" if shape.frames == 1 else "video"
    return WebDatasetData(path=str(path), **{"validation_share": 0, **settings}).open(stream, shape, 8.0, split)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory, numbered: Callable[[int], Video]) -> Callable[[int], bytes]:
    """An mp4 of so many numbered frames."""
    folder = tmp_path_factory.mktemp("films")
    return lambda frames: write_video(numbered(frames), folder / f"{frames}.mp4", overwrite=True).read_bytes()


@pytest.fixture
def tar(tmp_path: Path, film: Callable[[int], bytes]) -> Path:
    """Three films and a picture, a file that is neither, and a sample whose download failed."""
    files = {
        "00001.mp4": film(40),
        "00001.txt": b"a long one\n",
        "00002.json": b'{"status": "failed_to_download", "caption": "gone"}',
        "00003.json": b'{"caption": "a short one"}',
        "00003.m4a": b"sound",
        "00003.mp4": film(5),
        "00004.mp4": film(3),
        "00005.png": picture(9),
        "00005.txt": b"a still",
    }
    return pack(tmp_path / "00000.tar", files)


def test_windows_hold_the_frames_they_say(tar: Path, number: Callable[[np.ndarray], int]) -> None:
    source = opened(tar, stride=7)
    seen = [[number(frame) for frame in source[index].media.frames] for index in range(len(source))]
    assert seen == [*([*range(first, first + 5)] for first in (0, 7, 14, 21, 28, 35)), [*range(5)]]
    assert [source[index].captions for index in (0, 5, 6)] == [("a long one",), ("a long one",), ("a short one",)]
    assert source.captions() == ["a long one", "a short one"]


def test_the_same_index_gives_the_same_example(tar: Path) -> None:
    before = [(example.media.frames, example.captions) for example in opened(tar, stride=3)]
    read_headers.cache_clear()  # as in a run that goes on
    source = opened(tar, stride=3)
    for index in reversed(range(len(source))):
        frames, captions = before[index]
        assert np.array_equal(source[index].media.frames, frames) and source[index].captions == captions
    assert len(before) == len(source) == 13


def test_pictures_come_from_stills_and_frames_and_are_no_clips(tar: Path, number: Callable[[np.ndarray], int]) -> None:
    source = opened(tar, STILL, stride=10)
    seen = [(number(example.media.frames[0]), example.captions) for example in source]
    long = [(first, ("a long one",)) for first in (0, 10, 20, 30)]
    assert seen == [*long, (0, ("a short one",)), (0, ()), (2, ("a still",))]
    assert all(example.media.frames.shape == (1, 32, 32, 3) for example in source)
    assert "a still" not in opened(tar).captions()


def test_splits_are_disjoint_together_everything_and_stay_when_tars_are_added(tmp_path: Path) -> None:
    def split(name: Split) -> set[str]:
        return {example.captions[0] for example in opened(tmp_path, STILL, name, validation_share=0.3)}

    def add(name: str) -> None:
        samples = [f"{name}/{index:05}" for index in range(40)]
        pack(
            tmp_path / name,
            {k.partition("/")[2] + end: d for k in samples for end, d in ((".png", picture(0)), (".txt", k.encode()))},
        )
        read_headers.cache_clear()

    add("b.tar")
    train, held = split("train"), split("validation")
    assert not train & held and len(train | held) == 40
    assert 4 <= len(held) <= 20
    add("a.tar")
    assert train < split("train") and held < split("validation")
    assert len(split("train")) + len(split("validation")) == 80


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, ()),
        ({"txt": b" red \n"}, ("red",)),
        ({"json": b'{"caption": "blue"}'}, ("blue",)),
        ({"json": b'{"text": " blue "}'}, ("blue",)),
        ({"json": b'{"caption": ["blue", "azure"]}'}, ("blue", "azure")),
        ({"json": b'{"caption": null, "url": "x"}'}, ()),
        ({"json": b'{"caption": "blue"}', "txt": b"red"}, ("red",)),
        ({"txt": b"\n", "json": '{"caption": "blåtand"}'.encode()}, ("blåtand",)),
        ({"TXT": b"red"}, ("red",)),
    ],
)
def test_captions(tmp_path: Path, files: dict[str, bytes], expected: tuple[str, ...]) -> None:
    sample = {f"a/b.{suffix}": data for suffix, data in {"png": picture(0), **files}.items()}
    other = {"b.txt": b"of another folder", "a/b2.txt": b"of another sample"}
    assert opened(pack(tmp_path / "x.tar", {**sample, **other}), STILL)[0].captions == expected


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("1.txt", b"\xff\xfe"),
        ("1.json", b"not json"),
        ("1.json", b"[1]"),
        ("1.json", b'{"caption": 3}'),
        ("1.json", b'{"caption": ["red", null]}'),
    ],
)
def test_a_broken_caption_is_named(tmp_path: Path, name: str, data: bytes) -> None:
    with pytest.raises(UserError, match=f"{name} in .*x.tar.*: mend it and pack the tar again") as error:
        opened(pack(tmp_path / "x.tar", {"1.png": picture(0), name: data}), STILL)
    assert "\n" not in str(error.value)


def test_a_path_is_a_tar_a_folder_or_a_pattern(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for index, name in enumerate(("0.tar", "1.tar", "deep/2.tar")):
        pack(tmp_path / name, {"x.png": picture(4 * index)})
    for path, expected in (("1.tar", 1), ("", 3), ("[01].tar", 2), ("*/*.tar", 1), ("**/*.tar", 3)):
        assert len(opened(tmp_path / path, STILL)) == expected, path


def test_what_cannot_be_opened_is_left_out_and_told(
    tmp_path: Path, film: Callable[[int], bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    files = {"1.mp4": film(5)[:-2000], "2.jpg": b"not a picture", "3.mp4": film(5), "4.mp4": b""}
    assert len(opened(pack(tmp_path / "x.tar", files))) == 1
    assert "left out 3 unreadable clips; the first: 1.mp4 in " in capsys.readouterr().err


def test_a_broken_tar_or_caption_stops_nothing(tmp_path: Path, film: Callable[[int], bytes]) -> None:
    pack(tmp_path / "a.tar", {"1.mp4": film(5), "1.txt": b"\xff", "2.mp4": film(5), "2.txt": b"two"})
    (tmp_path / "b.tar").write_bytes((tmp_path / "a.tar").read_bytes()[:3000])
    source = opened(tmp_path)
    assert [example.captions for example in source] == [("two",)]
    (one, said), (other, reason) = source.unreadable
    assert one == f"1.mp4 in {tmp_path}/a.tar" and "1.txt" in said and "not text in UTF-8" in said
    assert other == f"{tmp_path}/b.tar" and "is no plain tar, or a broken one" in reason


def test_sounds_in_tars(tmp_path: Path) -> None:
    write_audio(Audio.from_array(np.full(16000, 0.5), 16000), tmp_path / "1.flac")
    pack(tmp_path / "x.tar", {"1.flac": (tmp_path / "1.flac").read_bytes(), "1.txt": b"loud"})
    (example,) = WebDatasetData(path=str(tmp_path), validation_share=0).open("audio", CLIP, 8.0, "train")
    assert example.captions == ("loud",) and np.allclose(example.media.samples, 0.5, atol=0.01)


def test_opening_decodes_nothing_and_reading_names_what_is_damaged(
    tmp_path: Path, film: Callable[[int], bytes]
) -> None:
    data = bytearray(film(20))
    pictures = data.index(b"mdat") + 4
    data[pictures + 800 :] = bytes(len(data) - pictures - 800)  # the index stands in front
    source = opened(pack(tmp_path / "x.tar", {"a/1.mp4": bytes(data)}), stride=1)
    assert len(source) == 16
    with pytest.raises(UserError, match=r"a/1.mp4 in .*x.tar .*; leave this clip out of the data"):
        source[15]


def test_a_film_shorter_than_its_header_says(
    tmp_path: Path, film: Callable[[int], bytes], number: Callable[[np.ndarray], int]
) -> None:
    path = tmp_path / "film.mkv"
    with av.open(io.BytesIO(film(20))) as given, av.open(str(path), "w") as made:
        stream = made.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                made.mux(packet)
    data = path.read_bytes()
    assert b"00:00:02.5" in data
    longer = data.replace(b"00:00:02.5", b"00:00:02.9")  # 24 frames
    source = opened(pack(tmp_path / "x.tar", {"1.mkv": longer}), stride=18)
    assert len(source) == 2
    assert [number(frame) for frame in source[1].media.frames] == [*range(15, 20)]


def test_a_clip_without_a_declared_length_is_measured(
    tmp_path: Path, numbered: Callable[[int], Video], number: Callable[[np.ndarray], int]
) -> None:
    for frames in (20, 3):
        write_video(numbered(frames), tmp_path / f"{frames}.gif")
    files = {name: (tmp_path / name).read_bytes() for name in ("20.gif", "3.gif")}
    source = opened(pack(tmp_path / "x.tar", files), stride=1)
    assert len(source) == 16  # the other is shorter than a window
    assert [number(frame) for frame in source[15].media.frames] == [*range(15, 20)]


def test_names_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    names = ("../../out.png", str(tmp_path / "out.png"), "._3.png", "4.png")
    path = pack(tmp_path / "in" / "x.tar", {name: picture(4 * index) for index, name in enumerate(names)})
    with tarfile.open(path, "a") as tar:
        link = tarfile.TarInfo("5.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(link)
    assert [int(example.media.frames[0].mean()) for example in opened(path, STILL)] == [0, 4, 12]
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["in", "x.tar"]


def test_mistakes_are_said_in_one_line(tmp_path: Path, tar: Path) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "text.tar").write_text("no tar\n" * 200)
    (tmp_path / "empty.tar").touch()
    (tmp_path / "00000.tar.gz").write_bytes(gzip.compress(tar.read_bytes()))
    whole = tar.read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[:3000])
    with tarfile.open(tar) as members:
        second = members.getmembers()[1].offset
    (tmp_path / "garbled.tar").write_bytes(whole[:second] + b"x" * 512 + whole[second + 512 :])
    pack(tmp_path / "captions.tar", {"1.txt": b"no clip"})
    pack(tmp_path / "unreadable.tar", {"1.mp4": b"no clip"})
    pack(tmp_path / "short.tar", {"1.png": picture(0)})
    wrong = {
        "absent.tar": r"absent.tar does not exist: set --data.path to a plain .tar, a folder",
        "absent/*.tar": r"absent/\*.tar does not exist: set --data.path",
        "none": "none holds no .tar: set --data.path .* unpack .tar.gz first",
        "text.tar": r"text.tar is no plain tar, or a broken one \(.*\): unpack it if it is compressed",
        "empty.tar": r"empty.tar is no plain tar, or a broken one \(empty file\)",
        "00000.tar.gz": r"00000.tar.gz is no plain tar, .* unpack it if it is compressed \(gunzip\)",
        "cut.tar": r"cut.tar is no plain tar, or a broken one \(unexpected end of data\): .* get it again",
        "garbled.tar": rf"garbled.tar is no plain tar, or a broken one \(bad header at byte {second}\)",
        "captions.tar": "no clips in .*captions.tar: wanted 00001.mp4 with 00001.txt",
        "unreadable.tar": "no clips in .*unreadable.tar: not one can be read; 1.mp4 in .* no format known here",
        "short.tar": "no training clips in .*short.tar: of its 1 files 1 are films .* none has 5 frames at 8 a s",
    }
    for name, said in wrong.items():
        with pytest.raises(UserError, match=said) as error:
            opened(tmp_path / name)
        assert "\n" not in str(error.value)


def test_a_recipe_reads_tars(tmp_path: Path, film: Callable[[int], bytes]) -> None:
    path = pack(tmp_path / "clips.tar", {"1.mp4": film(40), "1.json": json.dumps({"caption": "grey"}).encode()})
    settings = {"data.kind": "webdataset", "data.path": str(path), "data.validation_share": "0"}
    recipe = load_recipe("own_clips", {**settings, "out": str(tmp_path / "run")})
    source = Run(recipe).source("video", "train")
    assert len(source) == 2
    assert source[1].media.frames.shape == (17, 64, 64, 3)
    with pytest.raises(UserError, match="unknown key 'data.strid'; did you mean 'stride'"):
        load_recipe("own_clips", {**settings, "data.strid": "4"})


def test_sounds_of_films(tmp_path: Path, numbered: Callable[[int], Video], film: Callable[[int], bytes]) -> None:
    level = np.repeat([0.2, 0.8], 16000) * np.sin(np.arange(32000) / 5)
    loud = write_video(numbered(16), tmp_path / "loud.mp4", audio=Audio.from_array(level, 16000)).read_bytes()
    path = pack(
        tmp_path / "sound.tar",
        {"1.mp4": film(16), "2.mp4": loud, "2.txt": b"louder", "2.cls": b"7", "3.png": picture(9)},
    )
    config = WebDatasetData(path=str(path), validation_share=0, stride=8)
    heard = config.open("audio", CLIP, 8.0, "train")
    assert len(heard) == 2
    assert len(heard[0].media) == 10000
    assert np.allclose([np.abs(heard[i].media.samples[0, 500:7500]).max() for i in (0, 1)], [0.2, 0.8], atol=0.1)
    assert heard[1].captions == ("louder",) and [example.label for example in heard] == ["7", "7"]
    seen = WebDatasetData(path=str(path), validation_share=0, stride=8, sound=True).open("video", CLIP, 8.0, "train")
    assert [example.captions for example in seen] == [("louder",)] * 2
