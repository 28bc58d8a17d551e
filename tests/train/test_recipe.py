"""Recipes: those that ship are valid, and mistakes are said in one line before any work."""

import json
import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from videolm.config import dump_yaml, parse, read_yaml
from videolm.data.mixture import Mixture, Rows
from videolm.data.shards import Shard
from videolm.errors import UserError
from videolm.media import Video, write_video
from videolm.pipeline import VideoLM
from videolm.pipeline.folder import SHIPPED, find_tokenizer
from videolm.shapes import Format
from videolm.tokenizers.video.magvit import Magvit, MagvitConfig
from videolm.train.recipe import Recipe, load_recipe, recipe_names
from videolm.train.run import Run, layouts_of, vocabulary_of

NEEDS = {name: {"data.path": "clips"} for name in ("own_clips", "own_tokenizer", "overfit_one_clip", "soundstream")}
NEEDS |= {name: {"data.path": "clips", "start": "shipped"} for name in ("finetune", "own_upscale")}
PAPERS = ("magvit_v2", "c_vivit", "magvit")
NEEDS |= {name: {"data.path": "films"} for name in recipe_names() if name.startswith("videopoet/") or name in PAPERS}


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_that_ship_are_valid_and_survive_printing(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name, NEEDS.get(name))
    printed = tmp_path / "recipe.yaml"
    printed.write_text(dump_yaml(recipe))
    assert parse(Recipe, read_yaml(printed)) == recipe


SMALL = {
    "magvit_v2": {"base_channels": 8, "norm_groups": 4, "encoder_blocks": 1, "decoder_blocks": 1},
    "c_vivit": {"hidden_size": 32, "num_heads": 2, "mlp_size": 32, "spatial_layers": 1, "temporal_layers": 1},
    "magvit": {"base_channels": 8, "norm_groups": 4, "blocks": 1},
}


@pytest.mark.parametrize("name", PAPERS)
def test_tokenizers_of_the_papers_train_with_all_their_losses(
    name: str, random_vgg: None, random_i3d: None, tmp_path: Path
) -> None:
    """Every stage and term of the recipe, on narrow networks."""
    told: dict[str, Any] = {"out": str(tmp_path / "run"), "data": {"kind": "shapesworld", "clips": 4}}
    recipe = load_recipe(name, {"data.path": "films"})
    told["formats"] = [[recipe.formats[0].frames, 32, 32]]
    told |= {f"tokenizer.{key}": value for key, value in SMALL[name].items()}
    stages = ["tokenizer_training", *(["image_training"] if recipe.image_training else [])]
    for stage in stages:
        told |= {f"{stage}.{key}": value for key, value in {"steps": 2, "batch": 2, "validation_clips": 2}.items()}
        told[f"{stage}.discriminator.channels"] = 4
    Run(load_recipe(name, told)).tokenizer()
    for stage in stages:
        config = getattr(recipe, stage)
        log = tmp_path / "run" / f"{config.trains}_training" / "metrics.jsonl"
        first, weights = json.loads(log.read_text().splitlines()[0]), config.weights(0)
        assert {"l2", "lpips", "adversarial", "discriminator"} <= {key for key, value in weights.items() if value}
        assert {key for key, value in weights.items() if value} - {"entropy", "commitment", "codebook"} <= set(first)


def test_a_file_may_start_from_another_recipe(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("base: shapesworld/tiny\nlm_training: {steps: 7}\nlm: small\n")
    recipe, base = load_recipe(str(path)), load_recipe("shapesworld/tiny")
    assert recipe.lm_training.steps == 7
    assert recipe.lm_training.tokens == base.lm_training.tokens
    assert recipe.lm == load_recipe("shapesworld/small").lm


def test_a_section_may_start_from_a_preset(tmp_path: Path) -> None:
    whole, path = tmp_path / "whole.yaml", tmp_path / "mine.yaml"
    whole.write_text("base: shapesworld/tiny\ntokenizer: magvit_v2_small\n")
    path.write_text("base: shapesworld/tiny\ntokenizer: {base: magvit_v2_small, quantizer: {bits: 18}}\n")
    small = load_recipe(str(whole)).tokenizer
    assert small is not None
    quantizer = small.quantizer.model_copy(update={"bits": 18})
    assert load_recipe(str(path)).tokenizer == small.model_copy(update={"quantizer": quantizer})


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
        ("shapesworld/tiny", {"tokenizer.name": "magvit_v3"}, "unknown video tokenizer 'magvit_v3'; did you mean"),
        ("shapesworld/tiny", {"tokenizer.patchs": "4"}, "tokenizer: unknown key 'patchs'; did you mean 'patch'"),
        ("shapesworld/tiny", {"tokenizer": "magvit_v3"}, "unknown tokenizer 'magvit_v3'; did you mean"),
        ("shapesworld/tiny", {"tokenizer": "{patch: 4}"}, "name must be given: one of magvit_v2"),
        ("shapesworld/tiny", {"lm": "null"}, "give both lm and tasks"),
        ("shapesworld/tokenizer_tiny", {"lm": "tiny"}, "give both lm and tasks"),
        ("shapesworld/tokenizer_tiny", {"evaluation_samples": "8"}, "evaluation_samples needs a language model"),
        ("shapesworld/tiny", {"lm_training.schedule": "[{steps: 0.7}, {steps: 0.4}]"}, "shares add up to over 1"),
        ("shapesworld/tiny", {"lm_training.schedule": "[{steps: 0.7, tasks: {text_to_vido: 1}}]"}, "unknown task"),
        ("shapesworld/tiny", {"lm_training.schedule": "[{steps: 0.7, only: [text_to_vido]}]"}, "unknown task"),
        ("shapesworld/tiny", {"lm_training.schedule": "[{steps: 0.7, only: [stylization]}]"}, "leaves no task"),
        (
            "shapesworld/tiny",
            {"lm_training.schedule": "[{steps: 0.7, tasks: {stylization: 1}, only: [stylization]}]"},
            "leaves no task",
        ),
        ("shapesworld/tiny", {"data.tasks": "[text_to_video]"}, "no data set serves image_to_video"),
        ("shapesworld/tiny", {"replay_data": "{kind: shapesworld}"}, "name it with --from"),
        ("shapesworld/tiny", {"start": "nowhere"}, "the model folder nowhere does not exist"),
        ("shapesworld/tiny", {"start": "shipped", "lm.num_layers": "4"}, "lm.num_layers comes with the model"),
    ],
)
def test_mistakes_are_named(name: str, overrides: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        load_recipe(name, overrides)
    assert "\n" not in str(error.value)


@pytest.mark.skipif(not SHIPPED.is_dir(), reason="no model ships with this checkout")
@pytest.mark.parametrize(
    ("changes", "left"),
    [
        ({"data.path": "clips"}, {"audio", "structure"}),
        ({"data.path": "clips", "data.sound": "true"}, {"structure"}),
        ({"data.path": "clips", "tasks": "{video_to_audio: 1}"}, {"structure"}),
        ({"data.path": "clips", "data.sound": "true", "data.depth_model": "depth"}, set()),
        ({"data.path": "clips", "tasks": "{text_to_video: 1}", "replay_data": "{kind: shapesworld}"}, set()),
        ({"data": "{kind: shapesworld}"}, set()),
        ({"data.path": "clips", "tasks": "{text_to_video: 1}", "replay": "0"}, {"all"}),
    ],
)
def test_what_a_model_knew_goes_on_where_the_data_have_it(changes: dict[str, str], left: set[str]) -> None:
    """Clips of one's own need neither sound nor depth for a model that knows tasks of both."""
    recipe = load_recipe("finetune", {"start": "shipped", **changes})
    assert recipe.base is not None
    old = {task.name: set(task.sources) for task in recipe.base.tasks if task.name not in recipe.tasks}
    out = {name for name, streams in old.items() if streams & left or "all" in left}
    assert set(recipe.weights) == (set(old) - out) | set(recipe.tasks)
    assert recipe.left_out == ([] if "all" in left else [name for name in old if name in out])


@pytest.mark.skipif(not SHIPPED.is_dir(), reason="no model ships with this checkout")
def test_what_a_recipe_samples_with_stands_before_what_its_model_does(tmp_path: Path) -> None:
    path = tmp_path / "on.yaml"
    path.write_text("base: finetune\ndata: {kind: shapesworld}\nstart: shipped\nsampling: {top_k: 7}\n")
    usual = VideoLM.from_pretrained().sampling
    assert load_recipe(str(path)).sampling == usual.model_copy(update={"top_k": 7})
    assert load_recipe(str(path), {"sampling.top_k": "8"}).sampling.top_k == 8


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


def test_a_language_model_needs_first_frames_coded_alone(tmp_path: Path) -> None:
    changes = {"tokenizer": "magvit_tiny", "formats": "[[16, 32, 32]]"}
    with pytest.raises(UserError, match="magvit does not code a first frame alone"):
        Run(tiny(tmp_path / "run", **changes)).train()
    preset = read_yaml(str(files("videolm.configs") / "tokenizer" / "magvit_tiny.yaml"))
    Magvit(parse(MagvitConfig, preset)).save_pretrained(tmp_path / "given")
    changes["tokenizer"] = f"{{pretrained: {tmp_path / 'given'}}}"
    with pytest.raises(UserError, match="magvit does not code a first frame alone"):
        Run(tiny(tmp_path / "other", **changes)).train()


@pytest.mark.parametrize("tokenizer", ["magvit_v2_tiny", "c_vivit_tiny", "magvit_tiny"])
def test_a_tokenizer_alone_goes_through_its_stages(tmp_path: Path, tokenizer: str) -> None:
    changes = {"out": str(tmp_path / "run"), "tokenizer": tokenizer, "formats": "[[16, 32, 32]]"}
    if tokenizer != "magvit_tiny":
        changes["formats"] = "[[17, 32, 32]]"
    recipe = load_recipe("shapesworld/tokenizer_tiny", changes)
    made = Run(recipe).train()
    assert made == tmp_path / "run" / "video_tokenizer"
    folders = {path.name for path in (tmp_path / "run").iterdir() if path.is_dir() and "training" not in path.name}
    assert folders == {"image_tokenizer", "video_tokenizer_start", "video_tokenizer"}
    start, end = (find_tokenizer(tmp_path / "run" / name) for name in ("video_tokenizer_start", "video_tokenizer"))
    clip = Run(recipe, resume=True).source("video", "train")[0].media.to_tensor()[None]
    assert torch.equal(start.encode(clip), end.encode(clip))  # the last stage left the codes
    image = find_tokenizer(tmp_path / "run" / "image_tokenizer")
    assert image.config == end.config.image()
    logs = [path.parent.name for path in (tmp_path / "run").glob("*/metrics.jsonl")]
    assert sorted(logs) == ["decoder_training", "image_tokenizer_training", "tokenizer_training"]


def test_one_line_of_a_recipe_swaps_the_tokenizer_under_a_language_model(tmp_path: Path) -> None:
    model = VideoLM.from_pretrained(Run(tiny(tmp_path / "run", tokenizer="c_vivit_tiny")).train())
    out = model("a small red circle moves right on a white background", task="text_to_video")
    assert out.frames.shape == (1, 17, 32, 32, 3) and out.tokens == 9 * 4 * 4
    image = out.videos[0].frames[0]
    assert np.array_equal(model("a red circle", image=image).videos[0].frames[0], image)


def test_a_model_learns_clips_of_several_sizes_and_lengths(tmp_path: Path) -> None:
    """VideoPoet 4.1: each format has token shards of its own, and every batch is of one."""
    changes = {"formats": "[[17, 32, 32], [9, 48, 32]]", "lm_training.steps": "4", "tokenizer_training.steps": "1"}
    tasks = {f"tasks.{task}": "0" for task in ("image_to_video", "frame_prediction", "unconditional_video")}
    run = Run(tiny(tmp_path / "run", **changes, **tasks))
    model = VideoLM.from_pretrained(run.train())
    tokens = tmp_path / "run" / "tokens"
    assert sorted(path.name for path in tokens.iterdir()) == ["data", "data-9x48x32"]
    assert Shard(tokens / "data-9x48x32" / "train" / "video").grid == (3, 6, 4)
    assert Shard(tokens / "data-9x48x32" / "train" / "image").grid == (1, 6, 4)
    assert {str(layout.variant) for layout, _ in run_mixture(run).choices} == {
        "text_to_video 17x32x32",
        "text_to_video 9x48x32",
        "text_to_image 1x32x32",
        "text_to_image 1x48x32",
    }
    out = model("a small red circle moves right on a white background", task="text_to_video", num_frames=9)
    assert out.frames.shape == (1, 9, 48, 32, 3)


def run_mixture(run: Run) -> Mixture:
    """What a run's language model is trained on, every batch of it tried."""
    recipe, tokenizer = run.recipe, run.tokenizer()
    layouts = layouts_of(recipe, vocabulary_of(recipe, tokenizer), tokenizer)
    data = run.shards(tokenizer, None, run.text_encoder(), "train")
    mixture = recipe.lm_training.mixture(layouts, recipe.weights, data, 1, recipe.seed)
    for layout, shards in mixture.choices:
        rows = mixture.draw(layout, shards, np.random.default_rng(0), 2)
        assert rows.ids.shape == (2, layout.length)
    return mixture


def test_decoder_training_leaves_the_codes_and_is_gone_on_with(tmp_path: Path) -> None:
    recipe = tiny(tmp_path / "run", **{"tokenizer_training.steps": "2", "decoder_training.steps": "2"})
    run = Run(recipe)
    trained = run.tokenizer()
    start = type(trained).from_pretrained(run.folder / "video_tokenizer_start")
    clips = torch.stack([run.source("video", "train")[index].media.to_tensor() for index in range(4)])
    codes = trained.encode(clips)
    assert torch.equal(codes, start.encode(clips))
    assert not torch.allclose(trained.decode(codes), start.decode(codes))

    shutil.rmtree(run.folder / "video_tokenizer")
    shutil.rmtree(run.folder / "tokenizer_training")
    again = Run(recipe, resume=True).tokenizer()
    assert not (run.folder / "tokenizer_training").exists()  # the first stage was not run again
    assert torch.equal(again.decode(codes), trained.decode(codes))


def test_only_the_decoders_own_stage_has_its_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, list[int]] = {}

    def watch(tokenizer: Any, data: Any, validation: Any, config: Any, *args: Any, **rest: Any) -> None:
        seen[config.trains] = [source[0].media.height for source in data]

    monkeypatch.setattr("videolm.train.run.train_tokenizer", watch)
    sizes = {"decoder_formats": "[[17, 32, 32], [17, 64, 64]]", "decoder_training.steps": "2"}
    Run(tiny(tmp_path / "run", **sizes)).tokenizer()
    assert seen == {"tokenizer": [32], "decoder": [32, 64]}


@pytest.mark.parametrize("sizes", ["tokenizer_formats", "decoder_formats"])
def test_the_decoder_of_a_trained_tokenizer_learns_on_clips_of_two_sizes(
    sizes: str, tiny_model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        f"summary: a decoder\nout: {tmp_path}/run\ntokenizer: {{pretrained: {tiny_model}}}\nformats: [[17, 32, 32]]\n"
        f"data: {{kind: shapesworld, clips: 8, validation_clips: 4}}\n{sizes}: [[17, 32, 32], [17, 64, 64]]\n"
        "decoder_training: {steps: 2, batch: 4, validate_every: 2, validation_clips: 2}\n"
    )
    run = Run(load_recipe(str(path)))
    before, after = find_tokenizer(tiny_model), find_tokenizer(run.train())
    for side in (32, 64):
        clip = run.source("video", "train", shape=Format(17, side, side))[0].media.to_tensor()[None]
        codes = before.encode(clip)
        assert torch.equal(after.encode(clip), codes) and not torch.allclose(after.decode(codes), before.decode(codes))


def test_what_is_wrong_with_a_tasks_data_is_said_before_anything_is_trained(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    write_video(Video(np.zeros((20, 32, 32, 3), np.uint8), 8.0), tmp_path / "clips" / "silent.mp4")
    settings = {"data.path": str(tmp_path / "clips"), "out": str(tmp_path / "run")}
    with pytest.raises(UserError, match="needs a depth estimator: set data.depth_model"):
        Run(load_recipe("own_clips", {**settings, "tasks.stylization": "1"}))
    with pytest.raises(
        UserError, match="no training clips in .*: of its 1 files 0 are films with sound .* none has 17 frames"
    ):
        sounding = {"tasks.video_to_audio": "1", "audio_tokenizer": "soundstream_tiny"}
        Run(load_recipe("own_clips", {**settings, **sounding, "audio_data": {"kind": "shapesworld"}}))
    assert not (tmp_path / "run").exists()


def test_a_first_stage_comes_first_when_a_recipe_asks_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[bool] = []
    at = Mixture.at

    def seen(mixture: Mixture, *args: int) -> Rows:
        rows = at(mixture, *args)
        drawn.append(rows.layout.variant.task.makes_pictures)
        return rows

    monkeypatch.setattr(Mixture, "at", seen)
    steps = {"tokenizer_training.steps": "1", "lm_training.steps": "8", "tasks.text_to_image": "0.001"}
    stage = {"lm_training.schedule": "[{steps: 0.5, images: 1}, {steps: 0.5, images: 0}]"}
    run = Run(tiny(tmp_path / "run", **steps, **stage))
    run.language_model(run.tokenizer())
    assert drawn == [True] * 4 + [False] * 4


def test_other_weights_for_the_last_steps() -> None:
    training = load_recipe("shapesworld/magvit_v2").tokenizer_training
    early, late = ({name: training.weights(step)[name] for name in ("l1", "l2", "l4")} for step in (2759, 2760))
    assert early == {"l1": 1, "l2": 5, "l4": 0}
    assert late == {"l1": 0, "l2": 10, "l4": 300}
