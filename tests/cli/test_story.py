"""`videolm story`, and long, chained and streamed clips of `videolm generate`."""

import io
import json
from pathlib import Path

import numpy as np
import pytest

from videolm.cli.main import main
from videolm.media import Video, read_audio, read_video, stream_frames, write_video
from videolm.media.audio import Audio

SCENES = "2.5\ta star moves up\n\n1\ta star moves down\n"


@pytest.fixture
def scenes(tmp_path: Path) -> str:
    (tmp_path / "scenes.txt").write_text(SCENES)
    return str(tmp_path / "scenes.txt")


def test_a_story_is_told_from_a_file(
    tiny_model: Path, scenes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["story", "--prompts", scenes, "--model", str(tiny_model), "--seed", "3"]
    assert main([*command, "--out", str(tmp_path / "a.mp4"), "--json", "--judge"]) == 0
    *chunks, film = map(json.loads, capsys.readouterr().out.splitlines())
    assert [(c["scene"], c["start"], c["frames"], c["given"]) for c in chunks] == [
        (0, 0, 17, 0),
        (0, 17, 3, 5),
        (1, 20, 8, 5),
    ]
    assert chunks[2]["prompt"] == "a star moves down" and "motion" in chunks[2]["attributes"]
    assert chunks[0]["colour_distance"] == 0 and chunks[0]["sharpness"] == 1
    assert (film["frames"], film["given"], len(read_video(film["path"]))) == (28, 0, 28)
    assert main([*command, "--out", str(tmp_path / "b.mp4")]) == 0
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    assert main([*command, "--out", str(tmp_path / "b.mp4")]) == 2
    assert "b.mp4 exists already" in capsys.readouterr().err


def test_a_story_goes_on_from_a_film_of_any_length(tiny_model: Path, scenes: str, tmp_path: Path) -> None:
    clip = Video(np.random.default_rng(0).integers(0, 256, (41, 32, 32, 3), dtype=np.uint8), 8.0)
    write_video(clip, tmp_path / "film.mp4")
    command = ["story", "--prompts", scenes, "--model", str(tiny_model), "--video", str(tmp_path / "film.mp4")]
    assert main([*command, "--overlap", "9", "--out", str(tmp_path / "more.mp4")]) == 0
    given, more = read_video(tmp_path / "film.mp4"), read_video(tmp_path / "more.mp4")
    assert len(more) == 41 + 28
    assert np.abs(more.frames[:41].astype(int) - given.frames).mean() < 12  # written once more


def test_generate_makes_long_clips_and_chains(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--prompt", "a star", "--model", str(tiny_model)]
    assert main(["generate", *common, "--seconds", "4", "--num-videos", "2", "--out", str(tmp_path / "long.mp4")]) == 0
    assert [len(read_video(tmp_path / f"long-{index}.mp4")) for index in (0, 1)] == [32, 32]
    chain = ["generate", "text_to_image+image_to_video", *common, "--out", str(tmp_path / "chain.mp4"), "--json"]
    assert main(chain) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["task"] == "text_to_image+image_to_video" and len(read_video(record["path"])) == 17


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seconds", "4", "--mask", "0,0,1,1"], "it takes no --mask"),
        (["--seconds", "4", "--out", "a.gif"], "long writes .mp4"),
        (["--seconds", "0"], "each of more than 0 seconds"),
        (["text_to_image+image_to_video", "--seconds", "4"], "one task"),
        (["text_to_image+frame_prediction"], "needs a video, and nothing gives it one"),
        (["--overlap", "5"], "--overlap goes with --seconds"),
        (["--stream", "--json"], "leave out --num-videos and --json"),
        (["--seconds", "4", "--audio", "a.wav"], "give both"),
    ],
)
def test_what_does_not_go_together_is_said(
    tiny_model: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", *words, "--prompt", "a star", "--model", str(tiny_model)]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"), [("", "has no scenes"), ("two\ta star", "line 1: before the tab stand seconds, not 'two'")]
)
def test_a_file_of_no_scenes_is_said(
    tiny_model: Path, tmp_path: Path, text: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scenes.txt").write_text(text)
    assert main(["story", "--prompts", str(tmp_path / "scenes.txt"), "--model", str(tiny_model)]) == 2
    assert said in capsys.readouterr().err


def test_a_clip_goes_to_stdout_as_it_is_made(
    tiny_model: Path, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert main(["generate", "--prompt", "a star", "--stream", "--model", str(tiny_model)]) == 0
    (tmp_path / "clip.mkv").write_bytes(capsysbinary.readouterr().out)
    assert len(read_video(tmp_path / "clip.mkv")) == 17


class Pipe(io.RawIOBase):
    """What can be written to alone, as a pipe."""

    def __init__(self) -> None:
        self.sent = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        self.sent += bytes(data)  # type: ignore[call-overload]
        return len(bytes(data))  # type: ignore[call-overload]


def test_frames_are_sent_when_they_come(tmp_path: Path) -> None:
    pipe, sizes = Pipe(), list[int]()
    noise = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)

    def frames() -> object:
        for frame in noise:
            sizes.append(len(pipe.sent))
            yield frame

    tone = Audio.from_array(np.sin(np.arange(32_000) * 0.1) * 0.3, 16_000)
    stream_frames(frames(), 8.0, pipe, audio=tone)  # type: ignore[arg-type]
    assert sizes[-1] > 0.7 * len(pipe.sent) and sizes[8] > 0.3 * len(pipe.sent)
    (tmp_path / "a.mkv").write_bytes(pipe.sent)
    assert len(read_video(tmp_path / "a.mkv")) == 16 and abs(read_audio(tmp_path / "a.mkv").duration - 2) < 0.1
