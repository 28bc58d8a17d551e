"""Sound in and out: values, files, and clicks that stay where they were."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
import torch

from videolm.errors import UserError
from videolm.media import Audio, Part, Video, probe, read_audio, read_video, write_audio, write_frames, write_video
from videolm.media import audio as media_audio

RATE = 16000


def tone(seconds: float = 1.0, channels: int = 1, rate: int = RATE, pitch: float = 440.0) -> Audio:
    """Channel k sounds k + 1 times the pitch."""
    t = np.arange(round(seconds * rate)) / rate
    return Audio.from_array(np.stack([0.3 * np.sin(2 * np.pi * pitch * (k + 1) * t) for k in range(channels)]), rate)


def still(frames: int, fps: float = 8.0) -> Video:
    return Video(np.full((frames, 32, 32, 3), 128, np.uint8), fps)


def peak(audio: Audio) -> float:
    """The pitch of its first channel, in Hz."""
    return float(np.abs(np.fft.rfft(audio.samples[0])).argmax() * audio.rate / len(audio))


def test_values() -> None:
    audio = tone(0.5, 2)
    assert (len(audio), audio.channels, audio.duration) == (8000, 2, 0.5)
    assert torch.equal(Audio.from_tensor(audio.to_tensor(), RATE).to_tensor(), audio.to_tensor())
    assert Audio.from_array(np.array([-32768, 0, 16384], np.int16), RATE).samples.tolist() == [[-1, 0, 0.5]]
    assert Audio.from_tensor(torch.tensor([1.5, -2.0]), RATE).samples.tolist() == [[1, -1]]
    assert audio.fitted(9000).samples[:, 8000:].any() == 0
    assert audio.fitted(100).samples.shape == (2, 100)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Audio.from_array(np.zeros(0), RATE), "neither of them 0"),
        (lambda: Audio.from_array(np.zeros((1, 2, 3)), RATE), r"wanted \(c, n\)"),
        (lambda: Audio.from_array(np.array([3.0]), RATE), r"beyond \[-1, 1\]"),
        (lambda: Audio.from_array(np.array([np.nan]), RATE), "NaN"),
        (lambda: Audio.from_array(np.array([1, 2]), RATE), "dtype int64"),
        (lambda: Audio.from_array(np.zeros(5), 0), "rate is 0"),
        (lambda: Audio(np.zeros((1, 5)), RATE), "wanted a float32 array"),
        (lambda: Audio.from_tensor(torch.tensor([torch.nan]), RATE), "NaN"),
    ],
)
def test_values_that_cannot_be(make: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.parametrize("rate", [8000, 22050, 48000])
def test_converted(rate: int) -> None:
    audio = tone(1.0).converted(rate)
    assert (audio.rate, len(audio)) == (rate, rate)
    assert peak(audio) == pytest.approx(440, abs=2)
    assert audio.samples.std() == pytest.approx(0.3 / np.sqrt(2), rel=0.02)
    assert tone(0.5, 2).converted(RATE, 1).channels == 1


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_sound_files(tmp_path: Path, channels: int, suffix: str) -> None:
    path, audio = tmp_path / f"tone{suffix}", tone(1.3, channels, rate=44100)
    assert write_audio(audio, path) == path
    again = read_audio(path, rate=44100, channels=None)
    assert np.abs(again.samples - audio.samples).max() < 1e-4
    mono = read_audio(path)
    assert mono.samples.shape == (1, round(1.3 * RATE))
    assert peak(mono) == pytest.approx(440, abs=2) or channels == 6  # centre and rear weigh otherwise
    assert mono.samples.any()
    with pytest.raises(UserError, match="exists"):
        write_audio(audio, path)
    with pytest.raises(UserError, match=r"written as .wav or .flac"):
        write_audio(audio, tmp_path / "tone.mp3")


def test_part_of_a_file(tmp_path: Path) -> None:
    write_audio(tone(), tmp_path / "tone.wav")
    data = (tmp_path / "tone.wav").read_bytes()
    (tmp_path / "all").write_bytes(b"x" * 100 + data + b"y" * 50)
    part = Part(tmp_path / "all", 100, len(data), "tone.wav")
    assert np.array_equal(read_audio(part).samples, read_audio(tmp_path / "tone.wav").samples)


@pytest.mark.parametrize("frames", [17, 1700])
def test_clicks_stay_at_their_frames(tmp_path: Path, frames: int) -> None:
    """A click at frame n is at frame n after a write and a read, as is a flash; at the end of a long film too."""
    marked = [3, frames // 2, frames - 2]
    pixels, samples = np.zeros((frames, 32, 32, 3), np.uint8), np.zeros(frames * 2000, np.float32)
    for index in marked:
        pixels[index] = 255
        samples[2000 * index : 2000 * index + 20] = 0.8
    path = write_video(Video(pixels, 8.0), tmp_path / "clip.mp4", audio=Audio.from_array(samples, RATE))
    heard = read_audio(path, seconds=frames / 8)
    assert len(heard) == frames * 2000
    loud = np.abs(heard.samples[0]).reshape(frames, 2000).max(1) > 0.2
    seen = read_video(path).frames.mean((1, 2, 3)) > 128
    assert np.flatnonzero(loud).tolist() == np.flatnonzero(seen).tolist() == marked


@pytest.mark.parametrize(("rate", "fps"), [(16000, 8.0), (44100, 30000 / 1001), (48000, 25.0), (96000, 12.0)])
def test_sound_through_a_film(tmp_path: Path, rate: int, fps: float) -> None:
    path = write_video(still(round(2 * fps), fps), tmp_path / "clip.mp4", audio=tone(2, rate=rate))
    assert probe(path).channels == 1
    again = read_audio(path, seconds=1.9)
    wanted = tone(2).samples[:, : len(again)]
    assert ((wanted - again.samples)[:, 200:] ** 2).mean() < (wanted**2).mean() / 100  # 20 dB


def test_sound_of_another_length_than_its_clip(tmp_path: Path) -> None:
    short = write_video(still(16), tmp_path / "short.mp4", audio=tone(0.5))
    heard = read_audio(short, seconds=2).samples[0]
    assert np.abs(heard[: RATE // 2]).max() > 0.2
    assert np.abs(heard[RATE // 2 + 2000 :]).max() < 1e-3
    long = write_video(still(8), tmp_path / "long.mp4", audio=tone(5))
    assert probe(long).duration == pytest.approx(1)
    assert read_audio(long).duration == pytest.approx(1, abs=0.1)


def test_channels_of_films(tmp_path: Path) -> None:
    silent = write_video(still(8), tmp_path / "silent.mp4")
    assert probe(silent).channels == 0
    with pytest.raises(UserError, match=r"silent.mp4 holds no sound"):
        read_audio(silent)
    for channels, written in ((1, 1), (2, 2), (6, 2)):
        path = write_video(still(8), tmp_path / f"{channels}.mp4", audio=tone(1, channels))
        assert probe(path).channels == written
        assert read_audio(path, channels=None).channels == written
        assert read_audio(path).channels == 1


def test_sound_begins_with_the_picture(tmp_path: Path) -> None:
    """A film whose first picture comes half a second after its sound: time runs from the picture."""
    path = tmp_path / "late.mkv"
    with av.open(str(path), "w") as container:
        pictures = container.add_stream("libx264", rate=8)
        pictures.height = pictures.width = 32
        sound = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        samples = np.zeros((1, 2 * RATE), np.int16)
        samples[0, RATE : RATE + 20] = 20000
        for index in range(8):
            picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            picture.pts = index + 4
            container.mux(pictures.encode(picture))
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate, frame.pts = RATE, 0
        container.mux([*pictures.encode(), *sound.encode(frame), *sound.encode()])
    heard = read_audio(path).samples[0]
    assert abs(int(np.abs(heard).argmax()) - RATE // 2) < 40


def test_gap_is_silent(tmp_path: Path) -> None:
    path = tmp_path / "gap.mkv"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for start in (0, 3 * RATE):
            frame = av.AudioFrame.from_ndarray(np.full((1, RATE), 9000, np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts = RATE, start
            container.mux(sound.encode(frame))
        container.mux(sound.encode())
    heard = read_audio(path)
    assert heard.duration == pytest.approx(4, abs=0.01)
    loud = [bool(np.abs(second).max() > 0.1) for second in np.split(heard.samples[0][: 4 * RATE - 8], [RATE, 3 * RATE])]
    assert loud == [True, False, True]
    assert read_audio(path, start=2.5, seconds=1).samples[0, RATE // 4 * 3] != 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rate": 10}, "rate is 10"),
        ({"channels": 3}, "channels is 3"),
        ({"start": -1.0}, "start is -1"),
        ({"seconds": 0.0}, "seconds is 0"),
        ({"start": 5.0}, "has no sound from 5 s on"),
        ({"seconds": 10000.0}, "3600 s at most"),
    ],
)
def test_arguments_that_cannot_be(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    path = write_audio(tone(), tmp_path / "tone.wav")
    with pytest.raises(UserError, match=message):
        read_audio(path, **arguments)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_audio(tmp_path / "none.wav")
    (tmp_path / "empty.wav").touch()
    with pytest.raises(UserError, match="empty"):
        read_audio(tmp_path / "empty.wav")
    (tmp_path / "text.wav").write_text("not a sound" * 100)
    with pytest.raises(UserError, match=r"text.wav"):
        read_audio(tmp_path / "text.wav")
    write_audio(tone(), tmp_path / "tone.flac")
    (tmp_path / "cut.flac").write_bytes((tmp_path / "tone.flac").read_bytes()[:9000])
    with pytest.raises(UserError, match="damaged or cut short"):
        read_audio(tmp_path / "cut.flac")


def test_gif_is_silent_and_frames_may_sound(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a gif has no sound"):
        write_video(still(4), tmp_path / "clip.gif", audio=tone())
    path = write_frames(iter(still(8).frames), 8, tmp_path / "clip.mp4", audio=tone())
    assert read_audio(path, seconds=0.9).samples.any()


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.mp4", "a.mkv", "a.m4a", "a.ts"])
def test_reading_from_the_middle_is_a_part_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """And what lies long before it is not decoded."""
    rng = np.random.default_rng(0)
    swing = np.interp(np.arange(12 * 44_100), np.arange(0, 12 * 44_100, 441), rng.uniform(-0.7, 0.7, 1200))
    sound = Audio.from_array(swing, 44_100)
    path = tmp_path / name
    if path.suffix in (".wav", ".flac"):
        write_audio(sound, path)
    elif path.suffix in (".ogg", ".mp3"):
        soundfile.write(path, sound.samples.T, sound.rate)
    else:
        film = write_video(still(96), tmp_path / "film.mp4", audio=sound)
        with av.open(str(film)) as given, av.open(str(path.with_stem("made")), "w") as made:
            streams = {
                s.index: made.add_stream_from_template(s)
                for s in given.streams
                if s.type == "audio" or (s.type == "video" and name != "a.m4a")
            }
            for packet in given.demux():
                if packet.dts is not None and packet.stream.index in streams:
                    packet.stream = streams[packet.stream.index]
                    made.mux(packet)
        path = path.with_stem("made")
    whole = read_audio(path, rate=RATE)
    decoded = 0
    converted = media_audio._resampled

    def counted(frames: Any, *args: Any) -> Any:
        nonlocal decoded
        frames = list(frames)
        decoded += sum(frame.samples / frame.sample_rate for frame in frames)
        return converted(frames, *args)

    monkeypatch.setattr(media_audio, "_resampled", counted)
    part = read_audio(path, rate=RATE, start=9.125, seconds=1.5)
    expected = whole.samples[0, 146_000 : 146_000 + 24_000]
    assert np.abs(part.samples[0] - expected).max() < 0.02 and np.abs(expected).max() > 0.5
    assert decoded < 5


def test_an_mp3_is_whole(tmp_path: Path) -> None:
    """Against libsndfile, which reads it well in one piece."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 100_000).astype(np.float32)
    soundfile.write(tmp_path / "a.mp3", noise, 44_100)
    expected, _ = soundfile.read(tmp_path / "a.mp3", dtype="float32")
    assert np.allclose(read_audio(tmp_path / "a.mp3", rate=44_100).samples[0], expected.clip(-1, 1), atol=1e-4)


@pytest.mark.parametrize("rate", [16_000, 20_000])
def test_sound_that_comes_in_parts_is_written_as_one(tmp_path: Path, rate: int) -> None:
    """Without a seam, and never more of it asked for than the frames need."""
    whole = tone(2.0, rate=rate)
    asked: list[int] = []

    def parts() -> Iterator[Audio]:
        for part in np.array_split(whole.samples, 7, axis=1):
            asked.append(len(asked))
            yield Audio(part, rate)

    def frames() -> Iterator[Any]:
        for index, frame in enumerate(still(16).frames):
            assert len(asked) <= 2 + index * 7 / 16
            yield frame

    write_frames(frames(), 8.0, tmp_path / "parts.mp4", audio=parts())
    write_frames(still(16).frames, 8.0, tmp_path / "whole.mp4", audio=whole)
    assert (tmp_path / "parts.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()
