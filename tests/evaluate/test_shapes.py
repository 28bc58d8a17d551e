"""Evaluation: the scores are the judge's on the captions asked for, and the card states them."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from videolm import VideoLM, shapesworld
from videolm.cli.main import main
from videolm.errors import UserError
from videolm.evaluate import shapes
from videolm.evaluate.card import card, score_table
from videolm.media import Video
from videolm.train.recipe import load_recipe


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> VideoLM:
    return VideoLM.from_pretrained(tiny_model)


@pytest.mark.parametrize("task", ["text_to_video", "image_to_video", "text_to_image"])
@pytest.mark.parametrize("split", ["train", "held_out"])
def test_true_clips_score_full_marks(
    model: VideoLM, task: str, split: shapes.Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    truths = shapes.scenes(20, split)

    def true(model: VideoLM, prompt: list[str], **rest: object) -> SimpleNamespace:
        told = shapesworld.image_caption if task == "text_to_image" else shapesworld.caption
        named = [next(scene for scene in truths if told(scene) == text) for text in prompt]
        if task == "text_to_image":
            clips = [Video(shapesworld.render_image(scene, (64, 64))[None], 8.0) for scene in named]
        else:
            clips = [Video(shapesworld.render(scene, 17, (64, 64)), 8.0) for scene in named]
        return SimpleNamespace(videos=clips, sounds=[])

    monkeypatch.setattr(VideoLM, "__call__", true)
    scores = shapes.evaluate_task(model, task, 20, split=split, batch=7)
    assert scores["all_right"] == 1.0
    assert scores["samples"] == 20
    assert ("motion" in scores) == (task != "text_to_image")


def test_evaluation_scenes_are_not_training_scenes_and_keep_their_split() -> None:
    held = shapes.scenes(50, "held_out")
    assert all(shapesworld.is_held_out(o.colour, o.shape, o.motion) for s in held for o in s.objects)
    training = {shapesworld.draw_scene(seed, index) for seed in (1, 2) for index in range(500)}
    assert not training & set(shapes.scenes(50, "train"))


def test_a_task_is_judged_without_its_text(model: VideoLM) -> None:
    scores = [shapes.evaluate_task(model, "image_to_video", 3, batch=2, prompted=told) for told in (True, False)]
    assert [each["samples"] for each in scores] == [3, 3]


def test_a_task_without_inputs_cannot_be_judged(model: VideoLM) -> None:
    with pytest.raises(UserError, match="takes nothing"):
        shapes.evaluate_task(model, "unconditional_video", 2)


def test_the_command_prints_rows_and_writes_a_file(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scores.json"
    words = ["evaluate", "shapes", "--model", str(tiny_model), "--samples", "4", "--tasks", "text_to_video"]
    assert main([*words, "--temperature", "0.5", "--out", str(out), "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["row"] for row in rows] == ["reconstruction", "text_to_video", "text_to_video, held out"]
    assert rows[0]["sampling"]["temperature"] == 0.5
    written = json.loads(out.read_text())
    assert written["scores"]["text_to_video"]["samples"] == 4
    assert main([*words, "--out", str(out)]) == 2
    assert main([*words, "--temperature", "cold"]) == 2


def test_the_card_states_scores_samples_and_the_command(model: VideoLM, tiny_model: Path) -> None:
    row = {"background": 0.5, "all_right": 0.25, "samples": 256}
    scores = {"reconstruction": {**row, "psnr": 31.5, "codes_used": 77.0, "perplexity": 20.0}, "text_to_video": row}
    text = card(model, tiny_model, load_recipe("shapesworld/tiny"), "shapesworld/tiny", scores)
    for stated in ("videolm train shapesworld/tiny", "31.50 dB", "77 codes", "--samples 256", "| 25.0% | 256 |"):
        assert stated in text
    assert score_table({"x": {"samples": 3}}).splitlines()[-1] == "| x | – | – | – | – | – | – | 3 |"
