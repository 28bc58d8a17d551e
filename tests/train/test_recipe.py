"""Recipes: those that ship are valid, and mistakes are said in one line before any work."""

import shutil
from pathlib import Path

import pytest
import torch

from videolm.config import dump_yaml, parse, read_yaml
from videolm.data.mixture import Mixture, Rows
from videolm.errors import UserError
from videolm.train.recipe import Recipe, Run, load_recipe, recipe_names

NEEDS = {"own_clips": {"data.path": "clips"}}


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_that_ship_are_valid_and_survive_printing(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name, NEEDS.get(name))
    printed = tmp_path / "recipe.yaml"
    printed.write_text(dump_yaml(recipe))
    assert parse(Recipe, read_yaml(printed)) == recipe


def test_a_file_may_start_from_another_recipe(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("base: shapesworld/tiny\nlm_training: {steps: 7}\nlm: small\n")
    recipe, base = load_recipe(str(path)), load_recipe("shapesworld/tiny")
    assert recipe.lm_training.steps == 7
    assert recipe.lm_training.tokens == base.lm_training.tokens
    assert recipe.lm == load_recipe("shapesworld/small").lm


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("shapesworld/smal", {}, "unknown recipe 'shapesworld/smal'; did you mean 'shapesworld/small'"),
        ("missing.yaml", {}, "cannot read the config missing.yaml"),
        ("shapesworld/tiny", {"lm.num_layer": "4"}, "unknown key 'lm.num_layer'; did you mean 'num_layers'"),
        ("shapesworld/tiny", {"data.clip": "4"}, "unknown key 'data.clip'; did you mean 'clips'"),
        ("shapesworld/tiny", {"lm.num_heads": "7"}, "hidden_size 64 must be a multiple"),
        ("shapesworld/tiny", {"lm.num_layers": "many"}, r"lm.num_layers: .* \(got 'many'\)"),
        ("shapesworld/tiny", {"tasks.text_to_vido": "1"}, "unknown task 'text_to_vido'; did you mean 'text_to_video'"),
        ("shapesworld/tiny", {"seed.x": "1"}, r"seed: .*valid integer \(got {'x': 1}\)"),
        ("own_clips", {}, "data.path: must be given"),
        ("own_clips", {**NEEDS["own_clips"], "lm_training.first_stage.images": "0.5"}, "tasks that make pictures"),
    ],
)
def test_mistakes_are_named(name: str, overrides: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        load_recipe(name, overrides)
    assert "\n" not in str(error.value)


def tiny(out: Path, **changes: str) -> Recipe:
    return load_recipe("shapesworld/tiny", {"out": str(out), **changes})


def test_a_run_folder_is_not_entered_by_accident(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(UserError, match="there is no run in .* to resume"):
        Run(tiny(out), resume=True)
    Run(tiny(out))
    with pytest.raises(UserError, match="holds a run already: go on with --resume"):
        Run(tiny(out))
    with pytest.raises(UserError, match="differs from this recipe in 'seed'"):
        Run(tiny(out, seed="1"), resume=True)
    Run(tiny(out), resume=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").touch()
    with pytest.raises(UserError, match="is not empty"):
        Run(tiny(tmp_path / "other"))


def test_a_format_that_does_not_fit_the_tokenizer_is_said_before_training(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="16 frames do not fit the tokenizer.*use 13 or 17"):
        Run(tiny(tmp_path / "run", formats="[[16, 32, 32]]")).train()


def test_decoder_training_leaves_the_codes_and_is_gone_on_with(tmp_path: Path) -> None:
    recipe = tiny(tmp_path / "run", **{"tokenizer_training.steps": "2", "decoder_training.steps": "2"})
    run = Run(recipe)
    trained = run.tokenizer()
    start = type(trained).from_pretrained(run.folder / "video_tokenizer_start")
    clips = torch.stack([run.source("video", "train")[index].video.to_tensor() for index in range(4)])
    codes = trained.encode(clips)
    assert torch.equal(codes, start.encode(clips))
    assert not torch.allclose(trained.decode(codes), start.decode(codes))

    shutil.rmtree(run.folder / "video_tokenizer")
    shutil.rmtree(run.folder / "tokenizer_training")
    again = Run(recipe, resume=True).tokenizer()
    assert not (run.folder / "tokenizer_training").exists()  # the first stage was not run again
    assert torch.equal(again.decode(codes), trained.decode(codes))


def test_a_first_stage_comes_first_when_a_recipe_asks_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    at = Mixture.at

    def seen(mixture: Mixture, *args: int) -> Rows:
        rows = at(mixture, *args)
        drawn.append(rows.layout.variant.task.output.stream)
        return rows

    monkeypatch.setattr(Mixture, "at", seen)
    steps = {"tokenizer_training.steps": "1", "lm_training.steps": "8", "tasks.text_to_image": "0.001"}
    stage = {"lm_training.first_stage.steps": "0.5", "lm_training.first_stage.images": "1"}
    run = Run(tiny(tmp_path / "run", **steps, **stage))
    run.language_model(run.tokenizer())
    assert drawn == ["image"] * 4 + ["video"] * 4
