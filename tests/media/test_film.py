"""Films: what is shown when, which way up, in what colours, and what damage does."""

import gc
import re
import warnings
from fractions import Fraction

import av
import numpy as np
import pytest

from videolm.errors import UserError
from videolm.media import probe, read_video, video_windows, write_video
from videolm.media import read as reading
from videolm.media.clip import Video
from videolm.media.film import Film

COLOURS = [(230, 40, 40), (245, 215, 50), (40, 205, 220), (60, 90, 220), (255, 255, 255), (0, 0, 0)]


@pytest.fixture(params=["mp4", "mkv", "avi", "ts", "webm"])
def container(request):
    return request.param


# ---- times


def test_frame_k_is_what_is_shown_at_k_over_fps(film, greys, which_frames, container):
    codec = {"codec": "libvpx-vp9", "options": {"crf": "4", "b:v": "0", "cpu-used": "8"}} if container == "webm" else {}
    path = film(greys(50), f"film.{container}", rate=25, **codec)
    clip = read_video(path, fps=8)
    assert clip.fps == 8
    assert which_frames(clip.frames) == [int(25 * k / 8) for k in range(16)]
    assert which_frames(read_video(path, fps=25).frames) == list(range(50))
    assert which_frames(read_video(path, fps=50).frames) == [k // 2 for k in range(100)]


@pytest.mark.parametrize("rate", [24, 30])
def test_times_that_a_container_rounds_skip_and_repeat_nothing(film, greys, which_frames, rate):
    path = film(greys(60), "film.mkv", rate=rate)
    assert which_frames(read_video(path, fps=rate).frames) == list(range(60))
    assert which_frames(read_video(path, fps=rate / 2).frames) == list(range(0, 60, 2))


def test_without_fps_every_frame_is_kept(film, greys, which_frames):
    clip = read_video(film(greys(50), rate=25), fps=None)
    assert (clip.fps, which_frames(clip.frames)) == (25, list(range(50)))


def test_uneven_times(film, greys, which_frames):
    times = [0, 0.04, 0.08, 0.5, 0.54, 1.0, 1.6, 1.64]
    path = film(greys(8), times=times)
    shown = [max(i for i, time in enumerate(times) if time <= k / 10) for k in range(17)]
    assert which_frames(read_video(path, fps=10).frames)[:17] == shown
    assert which_frames(read_video(path, fps=None).frames) == list(range(8))


def test_a_film_that_does_not_start_at_zero(film, greys, which_frames):
    path = film(greys(10), "film.mkv", rate=10, times=[5 + i / 10 for i in range(10)])
    assert which_frames(read_video(path, fps=10).frames) == list(range(10))
    assert which_frames(read_video(path, fps=10, start=0.5).frames) == list(range(5, 10))


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv", "film.ts", "film.avi", "film.h264"])
@pytest.mark.parametrize("start", [0.04, 0.5, 1.98, 1.27])
def test_start(film, greys, which_frames, name, start):
    path = film(greys(50), name, rate=25, options={"crf": "1", "g": "10"})
    first = int(start * 25 + 1e-6)
    assert (
        which_frames(read_video(path, fps=25, start=start, max_frames=3).frames) == list(range(50))[first : first + 3]
    )
    assert which_frames(read_video(path, fps=None, start=start).frames) == list(range(first, 50))


def test_start_beyond_the_end(film, greys):
    with pytest.raises(UserError, match="ends before 2 s"):
        read_video(film(greys(50), rate=25), start=2)


def test_a_shorter_film_gives_fewer_frames(film, greys):
    path = film(greys(50), rate=25)
    assert len(read_video(path, fps=8, max_frames=5)) == 5
    assert len(read_video(path, fps=8, max_frames=500)) == 16


def test_decoding_stops_at_the_last_frame_wanted(real_clips, monkeypatch):
    decoded = []
    frames = Film.frames
    monkeypatch.setattr(Film, "frames", lambda *args: (decoded.append(f) or f for f in frames(*args)))
    read_video(real_clips / "bikes.mp4", fps=8, size=(32, 32), max_frames=4)
    assert len(decoded) == 11  # the last, at 0.4 s, tells that the one before it is still shown at 3 / 8 s


def test_frames_are_let_go_of_as_they_are_read(film, greys):
    path = film(greys(50), rate=25)
    gc.collect()
    gc.disable()
    try:
        read_video(path, fps=None)
        assert sum(issubclass(type(thing), av.VideoFrame) for thing in gc.get_objects()) <= 2
    finally:
        gc.enable()


# ---- geometry


@pytest.mark.parametrize(
    ("matrix", "rotation", "seen"),
    [
        ((1, 0, 0, 1), 0, "RG/BW"),
        ((0, -1, 1, 0), 90, "GW/RB"),
        ((-1, 0, 0, -1), 180, "WB/GR"),
        ((0, 1, -1, 0), 270, "BR/WG"),
        ((-1, 0, 0, 1), None, "GR/WB"),  # mirrored, as by a front camera
        ((0, 1, 1, 0), None, "RB/GW"),
    ],
)
def test_films_are_turned_upright(film, quarters, layout, matrix, rotation, seen):
    a, b, c, d = (65536 * value for value in matrix)
    path = film(quarters[None].repeat(3, 0), matrix=(a, b, 0, c, d, 0, 0, 0, 1 << 30))
    frames = read_video(path).frames
    size = (64, 48) if matrix[0] == 0 else (48, 64)
    assert frames.shape[1:3] == size and layout(frames[0]) == seen
    info = probe(path)
    assert (info.height, info.width) == size
    if rotation is not None:
        assert info.rotation == rotation
        with av.open(str(path)) as container:
            frame = next(container.decode(video=0))
            turned = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
        assert layout(turned) == seen


def test_a_turned_film_is_cropped_after_turning(film, quarters, layout):
    path = film(quarters[None], matrix=(0, -65536, 0, 65536, 0, 0, 0, 0, 1 << 30))
    assert layout(read_video(path, size=(64, 48)).frames[0]) == "GW/RB"


def test_pixels_are_squared(film, quarters, layout):
    def anamorphic(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(3, 2)

    path = film(quarters[None], before=anamorphic)
    assert (probe(path).height, probe(path).width) == (48, 96)
    assert read_video(path).frames.shape == (1, 48, 96, 3)
    boxed = read_video(path, size=(96, 96), fit="letterbox").frames[0]
    assert not boxed[:23].any() and not boxed[73:].any() and layout(boxed[24:72]) == "RG/BW"


def test_size_and_fit(film, quarters, layout):
    path = film(quarters[None])
    assert layout(read_video(path, size=(24, 32)).frames[0]) == "RG/BW"
    cropped = read_video(path, size=(32, 32)).frames[0]
    boxed = read_video(path, size=(32, 32), fit="letterbox").frames[0]
    assert layout(cropped) == "RG/BW" and cropped.any(axis=-1).all()
    assert not boxed[:3].any() and not boxed[29:].any() and layout(boxed[4:28]) == "RG/BW"


# ---- colours


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize(
    "tags",
    [
        {},  # nothing said: BT.601 is assumed for a small frame
        {"colorspace": 1, "dst_colorspace": "ITU709"},
        {"colorspace": 6, "dst_colorspace": "ITU601"},
        {"color_range": 2, "dst_color_range": "JPEG", "pix_fmt": "yuvj420p", "codec": "mjpeg", "name": "film.avi"},
        {"pix_fmt": "yuv444p10le", "colorspace": 9, "dst_colorspace": "BT2020"},
        {"pix_fmt": "rgb24", "codec": "png", "name": "film.mov"},
    ],
    ids=["untagged", "bt709", "bt601", "full-range", "10-bit-bt2020", "rgb"],
)
def test_colours_follow_the_tags(film, colour, tags):
    tags = dict(tags)
    set_on_stream = {key: tags.pop(key) for key in ("colorspace", "color_range") if key in tags}

    def tag(stream):
        for key, value in set_on_stream.items():
            setattr(stream.codec_context, key, value)

    frames = np.full((2, 64, 64, 3), colour, np.uint8)
    options = {"qmin": "1", "qmax": "1"} if tags.get("codec") == "mjpeg" else None
    reformat = {} if tags.get("pix_fmt") == "rgb24" else {"src_color_range": "JPEG"}
    if "dst_color_range" not in tags and reformat:
        reformat["dst_color_range"] = "MPEG"
    path = film(frames, options=options, before=tag, **reformat, **tags)
    assert np.abs(read_video(path).frames.astype(int) - frames[0]).max() <= 3


def test_untagged_large_films_are_bt709(film):
    frames = np.full((1, 720, 1280, 3), COLOURS[0], np.uint8)
    path = film(frames, dst_colorspace="ITU709", src_color_range="JPEG", dst_color_range="MPEG")
    assert np.abs(read_video(path).frames.astype(int) - frames[0]).max() <= 3


# ---- windows


@pytest.mark.parametrize(
    ("frames", "stride", "starts"), [(4, None, [0, 4, 8]), (4, 2, range(0, 12, 2)), (4, 6, [0, 6, 12])]
)
def test_windows(film, greys, which_frames, frames, stride, starts):
    path = film(greys(50), rate=25)  # 16 frames at 8 a second
    whole = which_frames(read_video(path, fps=8).frames)
    windows = list(video_windows(path, frames=frames, fps=8, stride=stride))
    expected = [whole[start : start + frames] for start in starts]
    if stride is None:
        expected.append(whole[12:16])
    if stride == 2:
        expected.append(whole[12:16])
    assert [which_frames(window.frames) for window in windows] == expected
    assert {window.fps for window in windows} == {8}


def test_a_film_too_short_has_no_windows(film, greys):
    assert list(video_windows(film(greys(10), rate=25), frames=5, fps=8)) == []


@pytest.mark.parametrize(("name", "seconds"), [("bikes.mp4", 10), ("nasa_13013.mp4", 13)])
def test_windows_of_real_clips(real_clips, name, seconds):
    def count(**kwargs):
        windows = list(video_windows(real_clips / name, fps=8, size=(32, 48), **kwargs))
        assert all(window.frames.shape == (kwargs["frames"], 32, 48, 3) for window in windows)
        return len(windows)

    total = seconds * 8
    assert count(frames=17) == total // 17
    assert count(frames=17, stride=8) == (total - 17) // 8 + 1
    assert count(frames=total, stride=1) == 1


def test_windows_check_their_arguments_at_the_call(tmp_path):
    for wrong in ({"frames": 0}, {"frames": 4, "stride": 0}, {"frames": 4, "fps": -1}):
        with pytest.raises(UserError):
            video_windows(tmp_path / "absent.mp4", **wrong)


# ---- what a file says of itself


@pytest.mark.parametrize(
    ("name", "size", "duration"), [("bikes.mp4", (272, 640), 10), ("nasa_13013.mp4", (180, 320), 13)]
)
def test_probe(real_clips, name, size, duration):
    info = probe(real_clips / name)
    assert (info.kind, info.height, info.width, info.rotation) == ("video", *size, 0)
    assert (info.fps, info.duration, info.frames) == (25, duration, 25 * duration)


# ---- damage and limits


def one_line(error) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture(params=["mp4", "mkv"])
def cut_short(request, film, greys):
    """A film of 2 s of which the last third is missing; its index, in front, knows of all."""
    movflags = {"movflags": "+faststart"}
    noise = np.random.default_rng(0).integers(-3, 4, (50, 32, 48, 3))
    whole = film(
        (greys(50) + noise).clip(0, 255).astype(np.uint8), f"whole.{request.param}", options={"crf": "1", "bf": "0"}
    )
    if request.param == "mp4":
        with av.open(str(whole)) as source, av.open(str(whole.with_name("front.mp4")), "w", options=movflags) as target:
            stream = target.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    target.mux(packet)
        whole = whole.with_name("front.mp4")
    path = whole.with_name(f"cut.{request.param}")
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    return path


def test_a_film_cut_short_gives_what_it_has_or_an_error(cut_short, which_frames):
    with pytest.raises(UserError) as error:
        read_video(cut_short, fps=8)
    message = one_line(error)
    assert str(cut_short) in message and "cut short" in message
    readable = int(re.search(r"max_frames=(\d+) can be read", message)[1])
    assert 8 <= readable <= 12
    clip = read_video(cut_short, fps=8, max_frames=readable)
    assert which_frames(clip.frames) == [int(25 * k / 8) for k in range(readable)]
    with pytest.raises(UserError, match="cut short"):
        read_video(cut_short, fps=8, max_frames=readable + 1)
    windows = video_windows(cut_short, frames=readable // 2, fps=8)
    assert len(next(windows)) == len(next(windows)) == readable // 2
    with pytest.raises(UserError, match="cut short"):
        next(windows)


def test_a_garbled_frame_is_an_error(real_clips, tmp_path):
    data = bytearray((real_clips / "bikes.mp4").read_bytes())
    data[200_000:200_400] = bytes(400)
    path = tmp_path / "garbled.mp4"
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"max_frames=\d\d can be read"):
        read_video(path, size=(32, 32))
    assert len(read_video(path, size=(32, 32), max_frames=10)) == 10


@pytest.mark.parametrize("times", [[0, 0.1, 700], [0, 700, 700.1]])
def test_a_wrong_time_does_not_repeat_a_frame_without_end(film, greys, times):
    path = film(greys(3), "film.mkv", rate=10, times=times)
    for read in (read_video, lambda path: list(video_windows(path, frames=4))):
        with pytest.raises(UserError, match="at 700.* s is wrong"):
            read(path)


def test_files_that_are_not_films(tmp_path, film, greys):
    text, empty, folder = tmp_path / "text.mp4", tmp_path / "empty.mp4", tmp_path / "folder.mp4"
    text.write_text("this is no film\n" * 100)
    empty.touch()
    folder.mkdir()
    headless = tmp_path / "headless.mp4"  # its index, at the end, is gone
    whole = film(greys(20)).read_bytes()
    headless.write_bytes(whole[: len(whole) // 2])
    sound = tmp_path / "sound.m4a"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 16000
        container.mux([*stream.encode(silence), *stream.encode()])
    wrong = {
        tmp_path / "absent.mp4": "does not exist",
        folder: "is a folder",
        empty: "is empty",
        text: "no format known",
        headless: "cut short",
        sound: "no moving pictures, only audio",
    }
    for read in (read_video, probe):
        for path, said in wrong.items():
            with pytest.raises(UserError) as error:
                read(path)
            assert str(path) in one_line(error) and said in one_line(error)


def test_a_playlist_is_not_followed(film, greys, tmp_path):
    path = film(greys(5), "film.ts")
    for name, text in {
        "list.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{path}\n#EXT-X-ENDLIST\n",
        "list.ffconcat": f"ffconcat version 1.0\nfile {path.name}\n",
    }.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match="no format known"):
            read_video(tmp_path / name)


def test_a_name_that_looks_like_an_address(film, greys, monkeypatch):
    path = film(greys(5))
    monkeypatch.chdir(path.parent)
    path.rename("http:%03d.mp4")
    assert len(read_video("http:%03d.mp4", fps=None)) == 5
    write_video(Video(greys(3), 8), "https:new.mp4")
    assert len(read_video("https:new.mp4", fps=None)) == 3


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"fps": 0}, "fps is 0"),
        ({"max_frames": 0}, "max_frames is 0"),
        ({"max_frames": 2.5}, "max_frames is 2.5"),
        ({"start": -1}, "start is -1"),
        ({"start": float("nan")}, "start is nan"),
        ({"size": (64, 0)}, "size is"),
        ({"fit": "stretch"}, "fit is 'stretch'"),
    ],
)
def test_arguments_are_checked(film, greys, wrong, said):
    with pytest.raises(UserError, match=re.escape(said)):
        read_video(film(greys(5)), **wrong)


def test_limits(film, greys, monkeypatch):
    path = film(greys(50), rate=25)
    with monkeypatch.context() as patch:
        patch.setattr(reading, "MAX_FRAMES", 10)
        with pytest.raises(UserError, match="10 frames of one clip"):
            read_video(path)
        assert len(read_video(path, max_frames=10)) == 10
    with monkeypatch.context() as patch:
        patch.setattr(reading, "MAX_SECONDS", 1.0)
        with pytest.raises(UserError, match="longer than the 1 s"):
            read_video(path)
        with pytest.raises(UserError, match="longer than the 1 s"):
            read_video(path, fps=0.1, max_frames=5)
        assert len(read_video(path, max_frames=8)) == len(read_video(path, start=1.0)) == 8
        assert len(list(video_windows(path, frames=4))) == 4
    with monkeypatch.context() as patch:
        patch.setattr(reading, "MAX_BYTES", 8 * 32 * 48 * 3)
        for read in (read_video, lambda path: list(video_windows(path, frames=16))):
            with pytest.raises(UserError, match="GiB of one clip"):
                read(path)
        assert len(read_video(path, size=(16, 24))) == 16
    with monkeypatch.context() as patch:
        patch.setattr("videolm.media.film.MAX_PIXELS", 32 * 48 - 1)
        for read in (read_video, probe):
            with pytest.raises(UserError, match="48x32 pixels"):
                read(path)


def test_nothing_is_left_open(film, greys, which_frames):
    path = film(greys(20))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        windows = video_windows(path, frames=2)
        next(windows)
        windows.close()
        assert which_frames(read_video(path, max_frames=1).frames) == [0]
