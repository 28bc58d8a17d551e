"""The model that ships: whole, small, and doing what a caption says."""

from pathlib import Path

import pytest

from videolm import VideoLM, shapesworld
from videolm.cli.main import main
from videolm.evaluate.shapes import evaluate_reconstruction, evaluate_task
from videolm.pipeline.folder import SHIPPED
from videolm.train.recipe import load_recipe

pytestmark = pytest.mark.skipif(not SHIPPED.is_dir(), reason="no model ships with this checkout")


@pytest.fixture(scope="module")
def model() -> VideoLM:
    return VideoLM.from_pretrained()


def test_it_is_small_and_holds_no_pickles() -> None:
    files = [path for path in SHIPPED.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 25_000_000
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".model", ".md"}


def test_its_card_states_the_scores_that_were_measured() -> None:
    import json

    scores = json.loads((SHIPPED / "scores.json").read_text())
    card = (SHIPPED / "README.md").read_text()
    assert f"{scores['text_to_video']['all_right']:.1%}" in card
    assert scores["text_to_video"]["samples"] >= 256


def test_the_recipe_on_its_card_is_the_one_it_has(model: VideoLM) -> None:
    recipe = load_recipe("shapesworld/small")
    assert model.tokenizer.config == recipe.tokenizer
    assert model.lm.config.lm == recipe.lm
    assert model.tasks == recipe.task_set
    assert model.sampling == recipe.sampling


def test_clips_do_what_their_captions_say(model: VideoLM) -> None:
    scores = evaluate_task(model, "text_to_video", 24, seed=77)
    assert scores["background"] >= 0.95
    assert scores["colour"] >= 0.9
    assert scores["shape"] >= 0.65  # these bounds leave room for 24 clips where the card has 256
    assert scores["motion"] >= 0.8
    assert scores["all_right"] >= 0.6


def test_reconstructions_are_read_right(model: VideoLM) -> None:
    scores = evaluate_reconstruction(model, 48)
    assert scores["psnr"] > 27
    assert scores["colour"] >= 0.95
    assert scores["shape"] >= 0.8


def test_the_demo_shows_prompt_and_clip_side_by_side(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out)]) == 0
    page = (out / "index.html").read_text()
    clips = sorted(path.name for path in out.glob("*.mp4"))
    assert len(clips) >= 8
    assert all(f'src="{name}"' in page for name in clips)
    assert "text to video" in page
    assert "frame prediction" in page
    assert (out / "contact_sheet.png").stat().st_size > 10_000
    assert main(["demo", "--out", str(out)]) == 2
    assert main(["demo", "--out", str(out), "--force"]) == 0


def test_held_out_combinations_were_held_out() -> None:
    from videolm.data.sources import ShapesWorldData
    from videolm.shapes import Format

    source = ShapesWorldData().open("video", Format(17, 32, 32), 8.0, "train")
    shown = [shapesworld.parse_caption(source[index].captions[0])[0] for index in range(200)]
    assert not any(shapesworld.is_held_out(a.colour, a.shape, a.motion or "") for a in shown)
