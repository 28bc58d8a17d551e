"""Still pictures and animations, which Pillow decodes."""

import struct
import zlib

import numpy as np
import PIL.Image
import pytest

from videolm.errors import UserError
from videolm.media import probe, read_image, read_video, video_windows


def save(path, pixels, **options):
    picture = pixels if isinstance(pixels, PIL.Image.Image) else PIL.Image.fromarray(pixels)
    picture.save(path, **options)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tiff", "a.ppm", "a.gif"])
def test_exact_formats(tmp_path, quarters, name):
    np.testing.assert_array_equal(read_image(save(tmp_path / name, quarters)).pixels, quarters)


@pytest.mark.parametrize("name", ["a.jpg", "a.webp", "a.avif"])
def test_lossy_formats(tmp_path, quarters, layout, name):
    assert layout(read_image(save(tmp_path / name, quarters)).pixels) == "RG/BW"


def test_the_name_says_nothing(tmp_path, quarters):
    path = save(tmp_path / "picture.mp4", quarters, format="PNG")
    np.testing.assert_array_equal(read_image(path).pixels, quarters)


@pytest.mark.parametrize(
    ("orientation", "rotation", "seen"),
    [
        (1, 0, "RG/BW"),
        (2, 0, "GR/WB"),
        (3, 180, "WB/GR"),
        (4, 180, "BW/RG"),
        (5, 270, "RB/GW"),
        (6, 270, "BR/WG"),
        (7, 90, "WG/BR"),
        (8, 90, "GW/RB"),
    ],
)
def test_exif_orientation(tmp_path, quarters, layout, orientation, rotation, seen):
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.jpg", quarters, exif=exif)
    pixels = read_image(path).pixels
    assert layout(pixels) == seen
    info = probe(path)
    assert (info.height, info.width, info.rotation) == (*pixels.shape[:2], rotation)
    assert (info.kind, info.fps, info.duration, info.frames) == ("image", None, None, 1)


def test_transparency_is_laid_on_white(tmp_path):
    half = np.full((4, 4, 4), (200, 0, 0, 128), np.uint8)
    np.testing.assert_allclose(read_image(save(tmp_path / "a.png", half)).pixels[0, 0], (227, 127, 127), atol=1)
    grey = PIL.Image.new("LA", (4, 4), (0, 0))
    assert (read_image(save(tmp_path / "b.png", grey)).pixels == 255).all()
    palette = PIL.Image.new("P", (4, 4), 0)
    palette.putpalette([9, 9, 9, 70, 80, 90])
    palette.putpixel((0, 0), 1)
    pixels = read_image(save(tmp_path / "c.png", palette, transparency=0)).pixels
    assert pixels[0, 0].tolist() == [70, 80, 90] and pixels[1, 1].tolist() == [255, 255, 255]


def test_grey_of_many_depths(tmp_path):
    steps = np.linspace(0, 65535, 16).astype(np.uint16).reshape(4, 4)
    for name in ("a.png", "a.tiff", "a.ppm"):
        pixels = read_image(save(tmp_path / name, steps)).pixels
        np.testing.assert_array_equal(pixels, (steps // 257).astype(np.uint8)[..., None].repeat(3, -1))
    bits = PIL.Image.new("1", (4, 4), 1)
    assert (read_image(save(tmp_path / "bits.png", bits)).pixels == 255).all()


def test_levels_of_no_known_range(tmp_path):
    floats = save(tmp_path / "f.tiff", np.full((4, 4), 0.5, np.float32))
    wide = save(tmp_path / "i.tiff", np.full((4, 4), 70_000, np.int32))
    for path, said in ((floats, "floating-point"), (wide, "70000")):
        with pytest.raises(UserError, match=said):
            read_image(path)


def test_cmyk(tmp_path):
    path = save(tmp_path / "a.jpg", PIL.Image.new("CMYK", (8, 8), (0, 255, 255, 0)))
    red, green, blue = read_image(path).pixels[4, 4]
    assert red > 200 > 60 > max(green, blue)


def test_size_and_fit(tmp_path, quarters, layout):
    path = save(tmp_path / "a.png", quarters)
    assert layout(read_image(path, size=(32, 32)).pixels) == "RG/BW"
    boxed = read_image(path, size=(64, 64), fit="letterbox").pixels
    assert not boxed[:8].any() and not boxed[56:].any()
    np.testing.assert_array_equal(boxed[8:56], quarters)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_animations(tmp_path, greys, which_frames, suffix):
    frames = [PIL.Image.fromarray(frame) for frame in greys(10)]
    durations = [100, 40, 40, 320, 100, 100, 100, 100, 50, 50]
    path = tmp_path / f"a.{suffix}"
    lossless = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=durations, loop=0, **lossless)
    info = probe(path)
    assert (info.kind, info.height, info.width, info.frames) == ("video", 32, 48, 10)
    assert (info.duration, info.fps) == (pytest.approx(1), pytest.approx(10))
    assert which_frames(read_video(path, fps=10).frames) == [0, 1, 3, 3, 3, 4, 5, 6, 7, 8]
    every = read_video(path, fps=None)
    assert which_frames(every.frames) == list(range(10)) and every.fps == pytest.approx(10)
    assert which_frames(read_video(path, fps=10, start=0.45, max_frames=3).frames) == [3, 4, 5]
    assert len(list(video_windows(path, frames=3, fps=10))) == 3
    with pytest.raises(UserError, match="is a video"):
        read_image(path)


def test_a_gif_that_names_no_duration_runs_at_ten_a_second(tmp_path, greys):
    frames = [PIL.Image.fromarray(frame) for frame in greys(5)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=0)
    assert probe(tmp_path / "a.gif").duration == pytest.approx(0.5)


def test_transparent_animation_is_laid_on_white(tmp_path):
    frames = [PIL.Image.new("RGBA", (8, 8), (0, 0, 0, 0)) for _ in range(2)]
    for index, frame in enumerate(frames):
        frame.putpixel((index, 0), (255, 0, 0, 255))
    path = tmp_path / "a.webp"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100, lossless=True)
    first, second = read_video(path, fps=10).frames
    assert first[0, 0].tolist() == second[0, 1].tolist() == [255, 0, 0]
    assert first[0, 1].tolist() == second[4, 4].tolist() == [255, 255, 255]


def test_a_picture_is_not_a_video_nor_a_video_a_picture(tmp_path, quarters, film, greys):
    picture = save(tmp_path / "a.png", quarters)
    lone = save(tmp_path / "b.gif", quarters)
    for path in (picture, lone):
        for read in (read_video, lambda path: list(video_windows(path, frames=1))):
            with pytest.raises(UserError, match="is a still picture"):
                read(path)
    with pytest.raises(UserError, match="is a video"):
        read_image(film(greys(3)))


def test_damaged_pictures(tmp_path, quarters):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for name in ("a.png", "a.jpg", "a.gif", "a.webp"):
        path = save(tmp_path / name, noise)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(UserError) as error:
            read_image(path)
        assert str(path) in str(error.value) and "cut short" in str(error.value) and "\n" not in str(error.value)
    text = tmp_path / "text.png"
    text.write_text("no picture\n" * 50)
    with pytest.raises(UserError, match="no format known"):
        read_image(text)
    with pytest.raises(UserError, match="does not exist"):
        read_image(tmp_path / "absent.png")


def test_an_animation_cut_short(tmp_path, greys, which_frames):
    noise = np.random.default_rng(0).integers(0, 3, (10, 32, 48, 3), dtype=np.uint8)
    frames = [PIL.Image.fromarray(frame) for frame in greys(10) + noise]
    path = tmp_path / "a.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(UserError, match=r"cut short.*max_frames=6 can be read"):
        read_video(path, fps=10)
    assert which_frames(read_video(path, fps=10, max_frames=6).frames) == list(range(6))


def test_large_pictures_are_refused_unread(tmp_path, quarters):
    data = save(tmp_path / "small.png", quarters).read_bytes()
    for side, said in ((9000, "9000x9000 pixels: wanted no more than 67,108,864"), (20_000, "too large")):
        header = b"IHDR" + struct.pack(">II", side, side) + data[24:29]
        path = tmp_path / f"{side}.png"
        path.write_bytes(data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:])
        for read in (read_image, probe):
            with pytest.raises(UserError, match=said):
                read(path)
