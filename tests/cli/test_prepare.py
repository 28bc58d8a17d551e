"""`videolm prepare`: one process, several by hand, several by datatrove, all the same shards."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from videolm import shapesworld
from videolm.cli.main import main
from videolm.media import Video, write_video
from videolm.pipeline.folder import SHIPPED

FEW = ["--data.clips", "10", "--data.validation_clips", "3", "--part", "3", "--tokenizer_training.steps", "1"]


def hashes(run: Path) -> dict[str, list[str]]:
    manifests = sorted((run / "tokens").rglob("manifest.json"))
    return {
        path.parent.relative_to(run).as_posix(): [part["sha256"] for part in json.loads(path.read_text())["parts"]]
        for path in manifests
    }


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("prepare") / "run"
    assert main(["prepare", "shapesworld/tiny", "--out", str(run), *FEW]) == 0
    return run


def test_a_recipe_is_prepared_and_then_trained_without_its_media(
    alone: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["prepare", "shapesworld/tiny", "--out", str(alone), *FEW, "--verify", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "tokens": str(alone / "tokens"),
        "parts_left": 0,
        "rows": 26,
        "skipped": 0,
        "captions_cut": 0,
    }
    monkeypatch.setattr("videolm.data.sources.ShapesWorldSource.__getitem__", None)
    assert main(["train", "shapesworld/tiny", "--out", str(alone), *FEW, "--resume"]) == 0


@pytest.mark.skipif(not SHIPPED.is_dir(), reason="no model ships with this checkout")
def test_tasks_that_the_clips_cannot_teach_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before hours of work, not after them."""
    (tmp_path / "clips").mkdir()
    for index in range(2):
        clip = Video(shapesworld.render(shapesworld.draw_scene(5, index), 17, (64, 64)), 8.0)
        write_video(clip, tmp_path / "clips" / f"{index}.mp4")
    words = ["prepare", "finetune", "--from", "shipped", "--data.path", str(tmp_path / "clips")]
    assert main([*words, "--out", str(tmp_path / "run"), "--data.views", "2", "--data.validation_share", "0.5"]) == 0
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "not trained further" in line]
    assert "video_to_audio" in said and "stylization" in said and "text_to_video," not in said


def test_processes_by_hand_share_the_work(alone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = ["--tokenizer", f"{{pretrained: {alone / 'video_tokenizer'}}}"]
    command = [
        "prepare",
        "shapesworld/tiny",
        "--out",
        str(tmp_path / "run"),
        *FEW,
        *tokenizer,
        "--world",
        "2",
        "--json",
    ]
    for rank, left in ((0, 5), (1, 0)):
        assert main([*command, "--rank", str(rank)]) == 0
        assert json.loads(capsys.readouterr().out)["parts_left"] == left
    assert hashes(tmp_path / "run") == hashes(alone)
    assert main([*command, "--rank", "2"]) == 2
    assert "--rank is 2: give 0 to 1" in capsys.readouterr().err


@pytest.mark.slow
def test_workers_of_datatrove_share_the_work(alone: Path, tmp_path: Path) -> None:
    tokenizer = ["--tokenizer", f"{{pretrained: {alone / 'video_tokenizer'}}}"]
    command = ["prepare", "shapesworld/tiny", "--out", str(tmp_path / "run"), *FEW, *tokenizer]
    assert main([*command, "--workers", "2"]) == 0
    assert hashes(tmp_path / "run") == hashes(alone)


LITTLE_ROOM = """
import resource, sys
from videolm import shapesworld
from videolm.cli.main import main
from videolm.media import Video, write_video
from videolm.pipeline.folder import SHIPPED
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_full_disk_is_said_in_one_line_and_nothing_is_lost(alone: Path, tmp_path: Path) -> None:
    """No file may grow past 3,000 bytes, so a part of the shards cannot be written."""
    tokenizer = ["--tokenizer", f"{{pretrained: {alone / 'video_tokenizer'}}}", "--text.pretrained"]
    tokenizer.append(str(alone / "text_encoder_start"))
    command = ["prepare", "shapesworld/tiny", "--out", str(tmp_path / "run"), *FEW, *tokenizer]
    done = subprocess.run([sys.executable, "-c", LITTLE_ROOM, *command], capture_output=True, text=True, env=outside())
    assert done.returncode == 2 and "make room, then give the command again" in done.stderr.splitlines()[-1]
    assert not list((tmp_path / "run").rglob(".*"))  # nothing half written
    assert main(command) == 0
    assert hashes(tmp_path / "run") == hashes(alone)


def outside() -> dict[str, str]:
    """The environment without what a training in the tests' own process has said of itself."""
    launched = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    return {name: value for name, value in os.environ.items() if name not in launched}
