"""A task of a user's own: the guide is run as it stands, and what is wrong with a file is said."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from videolm import VideoLM
from videolm.cli.main import main
from videolm.data.shards import Shard
from videolm.media import read_video
from videolm.tasks.views import VIEWS

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "new-task.md").read_text()


@pytest.fixture
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a file registers is gone after the test."""
    monkeypatch.setattr(VIEWS, "_entries", dict(VIEWS._entries))


def test_the_guide_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], forget: None
) -> None:
    monkeypatch.chdir(tmp_path)
    files = re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", GUIDE, re.DOTALL)
    assert [name for name, _ in files] == ["my_tasks.py", "my_recipe.yaml"]
    for name, text in files:
        (tmp_path / name).write_text(text)
    commands = re.findall(r"^    videolm (.+)$", GUIDE, re.MULTILINE)
    assert len(commands) == 5
    for command in commands:
        assert main(shlex.split(command)) == 0, command
    printed = capsys.readouterr().out
    (shown,) = re.findall(r"```\n(reverse_clip .*?)```", GUIDE, re.DOTALL)
    assert shown in printed
    assert "The given clip, backwards." in printed
    assert len(read_video(tmp_path / "backwards.mp4")) == 17

    tokens = Path("runs/reverse/tokens/data/train")
    clips, backwards = (Shard(tokens / name).read(np.arange(32)).codes for name in ("video", "video.backwards"))
    assert clips.shape == backwards.shape and not clips.equal(backwards)
    model = VideoLM.from_pretrained("runs/reverse/model")
    assert "<task:reverse_clip>" in model.vocabulary.specials


TASK = """
from videolm.tasks import Audio, Task, Text, Visual
mine = Task(name="{name}", summary="Mine.", prompt="{prompt}", inputs=({inputs}), outputs=({outputs}))
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1", "declares no task"),
        ("import nothing_like_it", "cannot be run: ModuleNotFoundError: No module named 'nothing_like_it'"),
        (
            TASK.format(name="text_to_video", prompt="mine", inputs="", outputs="Visual(),"),
            "the model knows another task",
        ),
        (
            TASK.format(name="mine", prompt="video", inputs="Text(),", outputs="Visual(),"),
            "text_to_video and mine look alike",
        ),
        (TASK.format(name="mine", prompt="mine", inputs="Visual(),", outputs="Visual(),"), "goes in already"),
        (TASK.format(name="Mine", prompt="mine", inputs="", outputs="Visual(),"), "should match pattern"),
        (TASK.format(name="mine", prompt="mine", inputs="Audio(),", outputs="Visual(),"), "mine needs a sound"),
        (
            TASK.format(name="mine", prompt="mine", inputs="", outputs="Audio(),"),
            "mine has sound, and there is no audio tokenizer",
        ),
    ],
)
def test_what_is_wrong_with_a_file_of_tasks_is_said(
    text: str, said: str, tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tasks.py").write_text(text)
    words = ["generate", "mine", "--tasks", str(tmp_path / "tasks.py"), "--model", str(tiny_model)]
    assert main([*words, "--out", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr().err
    assert said in printed and printed.count("\n") == 1
    assert main([*words[:3], str(tmp_path / "none.py"), *words[4:]]) == 2
    assert "there is no file of tasks" in capsys.readouterr().err


def test_a_model_is_given_a_task_that_it_was_not_trained_with(tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "tasks.py").write_text(
        "from videolm.tasks import Task, Text, Visual\n"
        'three = Task(name="go_on_from_13", summary="Goes on.", prompt="video", prefixes=(13,),\n'
        '             inputs=(Text(optional=True), Visual(frames="prefix")), outputs=(Visual(frames="rest"),))\n'
        'half = Task(name="fill", summary="Fills.", prompt="fill", inputs=(Visual(view="inpainting_central"),),\n'
        "            outputs=(Visual(),))\n"
    )
    model = ["--model", str(tiny_model), "--tasks", str(tmp_path / "tasks.py")]
    clip = tmp_path / "clip.mp4"
    assert main(["generate", "text_to_video", "--prompt", "a star", "--out", str(clip), *model]) == 0
    for name in ("go_on_from_13", "fill"):
        assert main(["generate", name, "--video", str(clip), "--out", str(tmp_path / f"{name}.mp4"), *model]) == 0
        assert len(read_video(tmp_path / f"{name}.mp4")) == 17


def test_a_recipe_says_what_is_wrong_with_its_tasks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tasks.py").write_text(TASK.format(name="mine", prompt="video", inputs="Text(),", outputs="Visual(),"))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"base: shapesworld/tiny\ntask_file: {tmp_path / 'tasks.py'}\ntasks: {{mine: 1}}\n")
    assert main(["train", str(recipe), "--out", str(tmp_path / "run")]) == 2
    assert "text_to_video and mine look alike" in capsys.readouterr().err
    recipe.write_text("base: shapesworld/tiny\ntask_file: none.py\n")
    assert main(["train", str(recipe), "--out", str(tmp_path / "run")]) == 2
    assert "there is no file of tasks none.py" in capsys.readouterr().err
