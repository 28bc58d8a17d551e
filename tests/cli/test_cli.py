"""The command line as a user types it: what is printed, what is written, and how mistakes end."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from videolm.cli.evaluate import KINDS
from videolm.cli.main import COMMANDS, main
from videolm.media import Image, Video, read_image, read_video, write_image, write_video

PROMPT = "a small red circle moves right on a white background"


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    frames = np.random.default_rng(0).integers(0, 256, (17, 32, 32, 3), dtype=np.uint8)
    write_video(Video(frames, 8.0), tmp_path / "clip.mp4")
    return tmp_path / "clip.mp4"


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    write_image(Image(np.full((32, 32, 3), 200, np.uint8)), tmp_path / "first.png")
    return tmp_path / "first.png"


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"videolm {command}" in out
    assert "example" in out


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_evaluation_explains_itself_too(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", kind, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"videolm evaluate {kind}" in out
    assert "example" in out


def test_help_and_version_stand_without_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == main(["--help"]) == main(["--version"]) == 0
    assert "generate" in capsys.readouterr().out


def test_python_m_videolm_is_the_same_command() -> None:
    done = subprocess.run([sys.executable, "-m", "videolm", "nonsense"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("videolm: error: unknown command 'nonsense'")
    assert "Traceback" not in done.stderr


def test_tasks_are_listed(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks", "--model", str(tiny_model)]) == 0
    table = capsys.readouterr().out
    assert "frame_prediction" in table
    assert "video (5/9 frames)" in table
    assert main(["tasks", "--model", str(tiny_model), "--json"]) == 0
    assert {row["name"] for row in lines(capsys.readouterr().out)} >= {"text_to_video", "text_to_image"}


def test_show_prints_the_row_with_token_counts(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks", "--model", str(tiny_model), "--show", "text_to_video"]) == 0
    shown = capsys.readouterr().out
    assert "text_to_video 17x32x32: 152 tokens" in shown
    assert "<bos> <task:video> <bot_i> text×64 <eot_i> <frames:17> | <bov_o> visual×80 <eov_o> <eos>" in shown
    assert main(["tasks", "--model", str(tiny_model), "--show", "frame_prediction", "--json"]) == 0
    assert [row["tokens"] for row in lines(capsys.readouterr().out)] == [154, 154]


def test_generate_writes_clips_and_tells_programs_about_them(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["generate", "text_to_video", "--prompt", PROMPT, "--num-videos", "2", "--seed", "5", "--json"]
    assert main([*words, "--model", str(tiny_model), "--out", str(out)]) == 0
    records = lines(capsys.readouterr().out)
    assert [record["seed"] for record in records] == [5, 6]
    keys = "task prompt seed path audio_path frames fps width height tokens seconds tokens_per_second model"
    assert list(records[0]) == keys.split()
    for record in records:
        video = read_video(str(record["path"]), fps=None)
        assert (len(video), video.width, video.height, video.fps) == (17, 32, 32, 8.0)


def test_a_seed_makes_the_same_file_again(tiny_model: Path, tmp_path: Path) -> None:
    words = ["generate", "text_to_video", "--prompt", PROMPT, "--model", str(tiny_model), "--seed"]
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert main([*words, seed, "--out", str(tmp_path / f"{name}.mp4")]) == 0
    a, b, c = ((tmp_path / f"{name}.mp4").read_bytes() for name in "abc")
    assert a == b != c


def test_frame_prediction_is_measured_against_the_clip_it_continues(
    tiny_model: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["generate", "--video", str(clip), "--model", str(tiny_model), "--out", str(tmp_path / "next.gif")]
    assert main([*words, "--json"]) == 0
    (record,) = lines(capsys.readouterr().out)
    assert record["task"] == "frame_prediction"
    truth, made = read_video(clip), read_video(tmp_path / "next.gif")
    repeated = np.mean((truth.frames[9:].astype(float) - truth.frames[8]) ** 2)
    assert record["psnr_repeat_last"] == pytest.approx(10 * np.log10(255**2 / repeated), abs=0.02)
    assert isinstance(record["psnr"], float)
    assert len(made) == 17


def test_pictures_go_in_and_come_out(tiny_model: Path, picture: Path, tmp_path: Path) -> None:
    model = ["--model", str(tiny_model)]
    assert main(["generate", "image_to_video", "--image", str(picture), "--out", str(tmp_path / "a.mp4"), *model]) == 0
    assert main(["generate", "text_to_image", "--prompt", PROMPT, "--out", str(tmp_path / "b.png"), *model]) == 0
    assert (tmp_path / "a.mp4").is_file()
    assert (tmp_path / "b.png").is_file()


def test_what_is_there_is_not_overwritten_without_force(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "clip.mp4"
    target.write_text("precious")
    words = ["generate", "text_to_video", "--prompt", PROMPT, "--model", str(tiny_model), "--out", str(target)]
    assert main(words) == 2
    assert "exists already" in capsys.readouterr().err
    assert target.read_text() == "precious"
    assert main([*words, "--force"]) == 0
    assert len(read_video(target)) == 17


def test_a_tokenizer_is_measured_on_shapesworld_and_on_a_folder_of_clips(
    tiny_model: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, picture = tmp_path / "scores" / "tokenizer.json", tmp_path / "pairs.png"
    words = ["evaluate", "tokenizer", "--model", str(tiny_model), "--samples", "3", "--seed", "4"]
    assert main([*words, "--out", str(out), "--picture", str(picture), "--json"]) == 0
    (record,) = lines(capsys.readouterr().out)
    assert record == json.loads(out.read_text())
    about = "model tokenizer weights codebook_size data held_out format fps seed batch device threads"
    measured = "psnr ssim sharpness codes_used perplexity background colour shape size motion all_right found samples"
    assert list(record) == f"{about} {measured} encode_fps decode_fps".split()
    known = {"tokenizer": "magvit_v2", "data": "shapesworld", "format": "17x32x32", "fps": 8.0, "seed": 4, "samples": 3}
    assert known.items() <= record.items()
    assert read_image(picture).width > 1000
    assert main([*words, "--out", str(out)]) == main([*words, "--picture", str(picture)]) == 2
    assert capsys.readouterr().err.count("exists already") == 2
    alone = [*words[:2], "--model", str(tiny_model / "video_tokenizer"), "--data", str(clip.parent), "--force"]
    assert main([*alone, "--format", "5x32x32", "--samples", "99", "--batch", "4", "--out", str(out)]) == 0
    assert "perplexity" in capsys.readouterr().out
    again = json.loads(out.read_text())
    assert (again["samples"], again["weights"]) == (13, record["weights"])  # each window of 17 frames, once
    assert "motion" not in again


def test_several_tokenizers_are_measured_side_by_side_on_the_same_clips(
    tiny_model: Path,
    random_vgg: None,
    random_i3d: None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    models = ["--model", str(tiny_model), "--model", str(tiny_model / "video_tokenizer")]
    words = ["evaluate", "tokenizer", *models, "--samples", "3", "--format", "12x32x32", "--lpips", "--fvd"]
    picture = tmp_path / "three.png"
    assert main([*words, "--picture", str(picture), "--json"]) == 0
    records = lines(capsys.readouterr().out)
    assert [record.pop("model") for record in records] == models[1::2]
    for record in records:
        assert record.pop("encode_fps") > 0 and record.pop("decode_fps") > 0
    assert records[0] == records[1]  # the same tokenizer
    assert records[0].keys() >= {"lpips", "rfvd", "sharpness"}
    assert records[0]["rfvd_protocol"].startswith("3 clips of 12 frames at 8 a second, short side to 224")
    assert main(words) == 0
    header, *rest = capsys.readouterr().out.splitlines()
    assert header.split() == ["model", *models[1::2]] and len(rest) > 15
    assert read_image(picture).width > 1000
    monkeypatch.setenv("VIDEOLM_CACHE", str(tmp_path / "empty"))
    assert main(words) == 2
    assert "LPIPS needs vgg16-397923af.pth (sha256" in capsys.readouterr().err


BAD = [
    (["genrate"], "unknown command 'genrate'; did you mean 'generate'?"),
    (["generate", "text_to_vidoe", "--prompt", "x"], "unknown task 'text_to_vidoe'; did you mean 'text_to_video'?"),
    (["generate", "text_to_video"], "text_to_video needs a prompt"),
    (["generate", "frame_prediction", "--video", "{dir}/none.mp4"], "none.mp4 does not exist"),
    (["generate", "frame_prediction", "--video", "{dir}/broken.mp4"], "broken.mp4"),
    (["generate", "frame_prediction", "--video", "{dir}/first.png"], "first.png is a still picture: wanted a video"),
    (["generate", "frame_prediction", "--image", "{dir}/first.png"], "frame_prediction needs a video"),
    (["generate", "image_to_video", "--image", "{dir}/clip.mp4"], "clip.mp4"),
    (["generate", "text_to_video", "--prompt", "very " * 70 + "long"], "tokens and the model takes 64"),
    (["generate", "text_to_video", "--prompt", "x", "--size", "48x48"], "has size 32x32, not 48x48"),
    (["generate", "text_to_video", "--prompt", "x", "--size", "big"], "a size is WIDTHxHEIGHT"),
    (["generate", "text_to_video", "--prompt", "x", "--num-frames", "18"], "has frames 17, not 18"),
    (["generate", "text_to_video", "--prompt", "x", "--num-videos", "0"], "must be at least 1"),
    (["generate", "text_to_video", "--prompt", "x", "--temperature", "-1"], "temperature"),
    (["generate", "text_to_video", "--prompt", "x", "--top", "5"], "unrecognized arguments: --top 5"),
    (["generate", "text_to_video", "--prompt", "x", "--out", "{dir}/a.txt"], "text_to_video writes .mp4 or .gif"),
    (["tasks", "--show", "text_to_vdeo"], "unknown task 'text_to_vdeo'"),
    (["evaluate", "speed"], "invalid choice: 'speed'"),
    (["evaluate", "tokenizer", "--samples", "0"], "--samples is 0, and must be at least 1"),
    (["evaluate", "tokenizer", "--samples", "many"], "invalid int value: 'many'"),
    (["evaluate", "tokenizer", "--batch", "0"], "--batch is 0"),
    (["evaluate", "tokenizer", "--seed", "-1"], "--seed is -1, and must be at least 0"),
    (["evaluate", "tokenizer", "--fps", "0"], "fps is 0.0"),
    (["evaluate", "tokenizer", "--format", "64x64"], "a format is FRAMESxHEIGHTxWIDTH"),
    (["evaluate", "tokenizer", "--format", "17x20x32"], "32x20 pixels do not fit"),
    (["evaluate", "tokenizer", "--format", "17x8x8"], "SSIM needs frames of 11x11 pixels or more"),
    (["evaluate", "tokenizer", "--format", "17x24x24"], "ShapesWorld has no clips of 17x24x24"),
    (["evaluate", "tokenizer", "--data", "{dir}/none"], "none does not exist"),
    (["evaluate", "tokenizer", "--held-out", "0.5"], "goes with files of your own"),
    (["generate", "unconditional_video", "--seed", str(2**64)], "has more than 63 bits"),
    (["evaluate", "tokenizer", "--data", "{dir}/broken.mp4"], "not one can be read; {dir}/broken.mp4"),
    (["evaluate", "tokenizer", "--picture", "{dir}/a.gif"], "a picture is written as .png or .jpg"),
    (["evaluate", "tokenizer", "--out", "{dir}"], "is a folder"),
    (["evaluate", "tokenizer", "--tasks", "text_to_video"], "unrecognized arguments: --tasks text_to_video"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=[" ".join(words)[:50] for words, _ in BAD])
def test_mistakes_end_with_two_and_one_line_and_nothing_written(
    words: list[str],
    message: str,
    tiny_model: Path,
    clip: Path,
    picture: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.mp4").write_bytes(clip.read_bytes()[:300])
    before = sorted(tmp_path.rglob("*"))
    words = [word.format(dir=tmp_path) for word in words]
    model = ["--model", str(tiny_model)] if words[0] in ("generate", "tasks", "evaluate") else []
    assert main([*words, *model]) == 2
    said = capsys.readouterr()
    assert message.format(dir=tmp_path) in said.err
    assert said.err.startswith("videolm: error: ")
    assert said.err.count("\n") == 1
    assert said.out == ""
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "shapesworld/smal"], "did you mean 'shapesworld/small'?"),
        (
            ["train", "shapesworld/tiny", "--lm.num_layer", "4"],
            "unknown key 'lm.num_layer'; did you mean 'num_layers'?",
        ),
        (["train", "shapesworld/tiny", "--seed"], "--seed needs a value"),
        (["train", "shapesworld/tiny", "seed=3"], "unexpected argument 'seed=3'"),
        (["train", "shapesworld/tiny", "--out", "{dir}/run", "--resume"], "there is no run in"),
        (["train", "own_clips", "--data.path", "{dir}/none", "--out", "{dir}/run"], "none does not exist"),
        (["generate", "text_to_video", "--prompt", "x", "--model", "{dir}/none"], "the model folder"),
        (["evaluate", "tokenizer", "--model", "{dir}/none"], "the model folder"),
        (["evaluate", "tokenizer", "--model", "{dir}"], "holds neither a model"),
    ],
)
def test_mistakes_in_training_and_models(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word.format(dir=tmp_path) for word in words]) == 2
    assert message in capsys.readouterr().err


def test_a_failure_of_ours_ends_with_one_and_debug_shows_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("videolm.cli.tasks.load_tasks", lambda folder: 1 / 0)
    monkeypatch.setattr("videolm.cli.tasks.model_folder", lambda name: Path("."))
    assert main(["tasks"]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert main(["tasks", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_an_interruption_ends_with_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(name: str) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr("videolm.cli.tasks.model_folder", interrupted)
    assert main(["tasks"]) == 130


def test_print_config_shows_what_would_run_and_runs_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "shapesworld/tiny", "--lm.num_layers=3", "--print_config"]) == 0
    assert "num_layers: 3" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_films_and_pictures_become_tokens_and_come_back(
    tiny_model: Path, clip: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, model = tmp_path / "tokens", ["--model", str(tiny_model)]
    assert main(["tokenize", str(clip), str(picture), "--out", str(out), "--json", *model]) == 0
    film, still = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert film["frames"] == 17 and film["grid"] == [5, 4, 4] and film["tokens"] == 80 and film["fps"] == 8.0
    assert still["frames"] == 1 and still["grid"] == [1, 4, 4] and (out / "first.safetensors").is_file()
    tokens = [film["path"], still["path"]]
    assert main(["detokenize", *tokens, "--out", str(tmp_path / "back"), *model]) == 0
    assert len(read_video(tmp_path / "back" / "clip.mp4", fps=None)) == 17
    assert read_image(tmp_path / "back" / "first.png").pixels.shape == (32, 32, 3)
    assert main(["tokenize", str(clip), "--out", str(out), *model]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["tokenize", str(clip), "--out", str(out), "--fps", "4", "--size", "24x16", "--force", *model]) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tokenize", "none.mp4", "--out", "t"], "none.mp4 does not exist"),
        (["tokenize", "CLIP", "--out", "t", "--fps", "-1"], "fps is -1.0"),
        (["tokenize", "CLIP", "--out", "t", "--size", "64"], "a size is WIDTHxHEIGHT"),
        (["tokenize", "CLIP", "CLIP", "--out", "t"], "would both become"),
        (["tokenize", "CLIP"], "required: --out"),
        (["detokenize", "none.safetensors", "--out", "t"], "there is no token file none.safetensors"),
        (["detokenize", "CLIP", "--out", "t"], "make it again with `videolm tokenize`"),
    ],
)
def test_mistakes_with_tokens(
    clip: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, tiny_model: Path
) -> None:
    place = {"CLIP": str(clip), "t": str(tmp_path / "t")}
    assert main([*(place.get(word, word) for word in words), "--model", str(tiny_model)]) == 2
    printed = capsys.readouterr()
    assert said in printed.err and printed.err.count("\n") == 1 and not (tmp_path / "t").exists()
