"""Parts of a file: what can be read by path reads the same where it lies in a larger file."""

import warnings
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from videolm.errors import UserError
from videolm.media import Part, declared_frames, probe, read_image, read_video, video_windows


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
