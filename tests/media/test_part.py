"""What is no file of its own reads as a file does: parts of a larger file, and bytes. What headers declare."""

import io
import warnings
from pathlib import Path

import av
import numpy as np
import PIL.Image
import pytest

from videolm.errors import UserError
from videolm.media import (
    Audio,
    Blob,
    Header,
    Part,
    declared_frames,
    probe,
    read_audio,
    read_header,
    read_image,
    read_video,
    video_windows,
    write_audio,
)


@pytest.fixture
def bury(tmp_path):
    """Lay a file into a larger one, between bytes that are not its own."""

    def lay(path: Path) -> Part:
        data, around = path.read_bytes(), path.read_bytes()[:1000]
        large = tmp_path / "a, large:file,,:.tar"
        large.write_bytes(around + data + around)
        return Part(large, len(around), len(data), path.name)

    return lay


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv", "film.ts", "film.avi", "film.h264"])
def test_films(film, greys, which_frames, bury, name):
    path = film(greys(50), name, rate=25, options={"crf": "1", "g": "10"})
    part = bury(path)
    assert probe(part) == probe(path)
    assert which_frames(read_video(part, fps=25).frames) == list(range(50))
    assert which_frames(read_video(part, fps=25, start=1.6, max_frames=3).frames) == [40, 41, 42]
    assert len(list(video_windows(part, fps=25, frames=10))) == 5


def test_animations(tmp_path, greys, which_frames, bury):
    frames = [PIL.Image.fromarray(frame) for frame in greys(10)]
    path = tmp_path / "a.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100, loop=0)
    assert which_frames(read_video(bury(path), fps=10).frames) == list(range(10))
    assert declared_frames(bury(path), 10) is None


@pytest.mark.parametrize("options", [{"format": "PNG"}, {"format": "TIFF", "compression": "tiff_lzw"}])
def test_pictures(tmp_path, quarters, bury, options):
    path = tmp_path / "picture"
    PIL.Image.fromarray(quarters).save(path, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(read_image(bury(path)).pixels, quarters)
        assert declared_frames(bury(path)) == 1


def test_what_is_wrong_is_said_of_the_part(tmp_path, film, greys, bury):
    part = bury(film(greys(20)))
    text = tmp_path / "text"
    text.write_text("this is no film\n" * 100)
    for wrong, said in (
        (Part(part.file, part.start, 0, part.name), "is empty"),
        (Part(part.file, part.start, part.size // 2, part.name), "cut short"),
        (bury(text), "no format known"),
    ):
        with pytest.raises(UserError, match=said) as error:
            read_video(wrong)
        assert str(error.value).startswith(f"{wrong.name} in {wrong.file} ")
    with pytest.raises(UserError, match=r"film.mp4 in .*absent.tar does not exist"):
        read_video(Part(tmp_path / "absent.tar", 0, 100, "film.mp4"))


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv", "film.avi", "film.ts"])
@pytest.mark.parametrize("fps", [8, 25, 30])
def test_declared_frames_are_those_that_are_read(film, greys, name, fps):
    path = film(greys(50), name, rate=25)
    assert declared_frames(path, fps) == len(read_video(path, fps=fps))


def test_a_header_that_declares_days_is_damaged(film, greys):
    path = film(greys(50), "film.mkv", rate=25)
    path.write_bytes(path.read_bytes().replace(b"00:00:02", b"99:00:02"))
    with pytest.raises(UserError, match="its header declares 356402 s"):
        declared_frames(path)


def test_bytes_are_read_as_files_are(tmp_path, film, greys, which_frames, quarters):
    path = film(greys(50), "film.mkv", rate=25, options={"crf": "1", "g": "10"})
    opened = []

    def blob(path: Path) -> Blob:
        def opener():
            opened.append(path)
            return io.BytesIO(path.read_bytes())

        return Blob(opener, f"cell of {path.name}")

    assert probe(blob(path)) == probe(path) and read_header(blob(path)) == read_header(path)
    assert which_frames(read_video(blob(path), fps=25, start=1.6, max_frames=3).frames) == [40, 41, 42]
    PIL.Image.fromarray(quarters).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(blob(tmp_path / "a.png")).pixels, quarters)
    write_audio(Audio.from_array(np.full(16000, 0.5), 16000), tmp_path / "a.flac")
    assert read_audio(blob(tmp_path / "a.flac"), seconds=0.5).samples.mean() == pytest.approx(0.5, abs=1e-4)
    assert len(opened) >= 5  # anew each time
    (tmp_path / "empty").touch()
    with pytest.raises(UserError, match="^cell of empty is in no format known here"):
        read_video(blob(tmp_path / "empty"))


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv", "film.avi", "film.ts", "film.h264"])
@pytest.mark.parametrize("fps", [8, 25])
def test_headers_tell_how_many_frames_there_are(film, greys, name, fps):
    path = film(greys(50), name, rate=25)
    header = read_header(path)
    assert (header.kind, header.width, header.height, header.channels) == ("video", 48, 32, 0)
    assert header.frames(fps) == len(read_video(path, fps=fps))
    assert header.frames(fps, start=0.4) == len(read_video(path, fps=fps, start=0.4))
    assert header.frames(fps, 0.4, 1.2) == {8: 7, 25: 20}[fps]
    assert header.frames(fps, 3.0) == 0


def test_a_film_that_declares_no_length_is_measured_by_its_packets(film, greys, tmp_path):
    """As a browser records them."""
    path = film(greys(50), "film.webm", rate=25, codec="libvpx-vp9")
    live = tmp_path / "live.webm"
    with av.open(str(path)) as given, av.open(str(live), "w", options={"live": "1"}) as made:
        stream = made.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                made.mux(packet)
    assert declared_frames(live, 25) is None
    assert read_header(live).frames(25) == 50


def test_headers_of_sounds_pictures_and_animations(tmp_path, greys, quarters):
    for name in ("a.wav", "a.flac"):
        write_audio(Audio.from_array(np.zeros((2, 24_000)), 16_000), tmp_path / name)
        assert read_header(tmp_path / name, sound=True) == Header("audio", 0, 0, 1.5, 2)
        assert read_header(tmp_path / name, sound=True).frames(8) == 12
        with pytest.raises(UserError, match="no format known|no moving pictures"):
            read_header(tmp_path / name)
    PIL.Image.fromarray(quarters).save(tmp_path / "a.png")
    header = read_header(tmp_path / "a.png")
    assert header == Header("image", 64, 48, 0.0, 0) and header.frames(8) == 1
    frames = [PIL.Image.fromarray(frame) for frame in greys(10)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=100, loop=0)
    assert read_header(tmp_path / "a.gif") == Header("video", 48, 32, pytest.approx(1.0), 0)
