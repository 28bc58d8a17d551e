import os

import av
import numpy as np
import PIL.Image
import pytest
from av.video.reformatter import VideoReformatter

from videolm import shapesworld
from videolm.errors import UserError
from videolm.media import Image, Video, probe, read_image, read_video, write_image, write_video
from videolm.media import write as writing

COLOURS = [(230, 40, 40), (245, 215, 50), (40, 205, 220), (60, 90, 220), (50, 180, 80), (255, 255, 255), (0, 0, 0)]


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(np.square(a.astype(float) - b).mean(), 1e-9)))


@pytest.mark.parametrize("fps", [8, 25, 29.97, 30000 / 1001, 12.5, 1])
def test_count_and_rate_come_back(tmp_path, greys, which_frames, fps):
    path = write_video(Video(greys(17), fps), tmp_path / "a.mp4")
    assert probe(path).fps == pytest.approx(fps) and probe(path).frames == 17
    assert probe(path).duration == pytest.approx(17 / fps, abs=1e-3)
    for asked in (fps, None):
        assert which_frames(read_video(path, fps=asked).frames) == list(range(17))


def test_one_frame(tmp_path, greys):
    path = write_video(Video(greys(1), 8), tmp_path / "a.mp4")
    assert len(read_video(path, fps=8)) == 1


def test_a_clip_is_the_same_file_whatever_memory_held_before(tmp_path):
    """Encoders' vector code has read past what it filled, for small pictures."""
    draw = np.random.default_rng(0)
    frames = shapesworld.render(shapesworld.draw_scene(1000, 1), 17, (64, 64)).astype(int)
    noise = np.random.default_rng(1).integers(-20, 20, frames.shape)
    clip = Video((frames + noise).clip(0, 255).astype(np.uint8), 8)
    seen = set()
    for index in range(30):
        dirt = [draw.integers(0, 256, size, dtype=np.uint8) for size in draw.integers(200, 200_000, 300)]
        del dirt
        seen.add(write_video(clip, tmp_path / f"{index}.mp4").read_bytes())
    assert len(seen) == 1


def test_real_pictures_come_back(tmp_path, real_clips):
    clip = read_video(real_clips / "bikes.mp4", size=(128, 128), max_frames=17)
    back = read_video(write_video(clip, tmp_path / "a.mp4"))
    assert back.frames.shape == clip.frames.shape and psnr(back.frames, clip.frames) > 38
    rough = read_video(write_video(clip, tmp_path / "b.mp4", crf=35))
    assert psnr(rough.frames, clip.frames) < 34


@pytest.mark.parametrize("colour", COLOURS)
def test_colours_come_back(tmp_path, colour):
    clip = Video(np.full((4, 64, 64, 3), colour, np.uint8), 8)
    back = read_video(write_video(clip, tmp_path / "a.mp4"))
    assert np.abs(back.frames.astype(int) - clip.frames).max() <= 2


def test_what_a_browser_needs(tmp_path, greys):
    path = write_video(Video(greys(9), 8), tmp_path / "a.mp4")
    data = path.read_bytes()
    assert data.find(b"moov") < data.find(b"mdat")
    with av.open(str(path)) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.name, codec.pix_fmt, codec.profile) == ("h264", "yuv420p", "High")
        assert (codec.colorspace, codec.color_primaries, codec.color_trc, codec.color_range) == (1, 1, 1, 1)


@pytest.mark.parametrize("size", [(33, 47), (32, 47), (33, 48), (1, 1)])
def test_odd_sizes_are_padded_by_their_edge(tmp_path, size):
    grey = np.random.default_rng(0).integers(0, 256, (3, *size, 1), dtype=np.uint8).repeat(3, -1)
    back = read_video(write_video(Video(grey, 8), tmp_path / "a.mp4", crf=1)).frames
    bottom, right = size[0] % 2, size[1] % 2
    padded = np.pad(grey, ((0, 0), (0, bottom), (0, right), (0, 0)), mode="edge")
    assert back.shape == padded.shape and psnr(back, padded) > 45


@pytest.mark.parametrize("fps", [8, 10, 12.5, 15, 24, 30, 50])
def test_gif(tmp_path, greys, which_frames, fps):
    path = write_video(Video(greys(40), fps), tmp_path / "a.gif")
    assert which_frames(read_video(path, fps=fps).frames) == list(range(40))
    assert probe(path).duration == pytest.approx(40 / fps, abs=0.011)
    with PIL.Image.open(path) as picture:
        assert picture.info["loop"] == 0


def test_gif_colours_and_still_moments(tmp_path):
    frames = np.array(COLOURS, np.uint8)[[0, 0, 0, 1, 2, 2]][:, None, None].repeat(16, 1).repeat(16, 2)
    back = read_video(write_video(Video(frames, 8), tmp_path / "a.gif"))
    np.testing.assert_array_equal(back.frames, frames)


def test_gif_of_one_frame_is_a_picture(tmp_path, greys):
    path = write_video(Video(greys(1), 8), tmp_path / "a.gif")
    np.testing.assert_array_equal(read_image(path).pixels, greys(1)[0])


def test_pictures(tmp_path, quarters):
    np.testing.assert_array_equal(read_image(write_image(Image(quarters), tmp_path / "a.png")).pixels, quarters)
    for name in ("a.jpg", "A.JPEG"):
        assert psnr(read_image(write_image(Image(quarters), tmp_path / name)).pixels, quarters) > 35


@pytest.mark.parametrize("name", ["a.mp4", "a.gif"])
def test_an_existing_clip_is_kept(tmp_path, greys, name):
    path = tmp_path / name
    path.write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        write_video(Video(greys(2), 8), path)
    assert path.read_text() == "mine"
    write_video(Video(greys(2), 8), path, overwrite=True)
    assert len(read_video(path, fps=8)) == 2


def test_an_existing_picture_is_kept(tmp_path, quarters):
    path = tmp_path / "a.png"
    path.write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        write_image(Image(quarters), path)
    assert path.read_text() == "mine"
    write_image(Image(quarters), path, overwrite=True)
    assert read_image(path).width == 64


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("failure", [OSError("no space left"), KeyboardInterrupt()])
def test_nothing_is_left_when_a_film_fails_midway(tmp_path, greys, monkeypatch, existing, failure):
    path = tmp_path / "a.mp4"
    if existing:
        path.write_text("mine")

    class Failing:
        def __init__(self):
            self.inner, self.calls = VideoReformatter(), 0

        def reformat(self, *args, **kwargs):
            self.calls += 1
            if self.calls > 58:
                assert (
                    len(os.listdir(tmp_path)) == 1 + existing
                )  # it had begun (the encoder looks some forty frames ahead)
                raise failure
            return self.inner.reformat(*args, **kwargs)

    monkeypatch.setattr(writing, "VideoReformatter", Failing)
    with pytest.raises(type(failure)):
        write_video(Video(greys(60), 8), path, overwrite=existing)
    assert os.listdir(tmp_path) == ["a.mp4"] * existing
    assert not existing or path.read_text() == "mine"


@pytest.mark.parametrize("name", ["a.png", "a.gif"])
def test_nothing_is_left_when_pillow_fails(tmp_path, greys, monkeypatch, name):
    def save(self, path, **_):
        path.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(PIL.Image.Image, "save", save)
    with pytest.raises(OSError, match="no space"):
        if name == "a.gif":
            write_video(Video(greys(3), 8), tmp_path / name)
        else:
            write_image(Image(greys(1)[0]), tmp_path / name)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "fps", "options", "said"),
    [
        ("a.mov", 8, {}, ".mp4 or .gif"),
        ("a", 8, {}, ".mp4 or .gif"),
        ("a.mp4", 8, {"crf": 0}, "crf is 0"),
        ("a.mp4", 8, {"crf": 52}, "crf is 52"),
        ("a.mp4", 1e-6, {}, "frames per second"),
        ("a.mp4", 1e6, {}, "frames per second"),
        ("a.gif", 60, {}, "50 at most"),
    ],
)
def test_what_cannot_be_written(tmp_path, greys, name, fps, options, said):
    with pytest.raises(UserError, match=said):
        write_video(Video(greys(2), fps), tmp_path / name, **options)
    assert os.listdir(tmp_path) == []


def test_unknown_picture_suffix(tmp_path, quarters):
    with pytest.raises(UserError, match=r"\.png or \.jpg"):
        write_image(Image(quarters), tmp_path / "a.webm")
