"""Estimates against what really is: weights, operations and activations exactly; recipes at paper size."""

import json
import re
from pathlib import Path

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from videolm.cli.main import main
from videolm.errors import UserError
from videolm.pipeline.folder import load_model
from videolm.train.dry_run import activations
from videolm.train.estimate import size_of
from videolm.train.flops import row_flops
from videolm.train.hardware import named_peak
from videolm.train.plans import LanguagePlan, SuperResolutionPlan
from videolm.train.recipe import load_recipe, recipe_names

PAPER = {"data.path": "films"}


def tiny(**changes: str) -> LanguagePlan:
    """In float32 whatever this processor multiplies fast."""
    return LanguagePlan(load_recipe("shapesworld/tiny", {"engine.precision": "float32", **changes}))


def test_weights_are_those_of_the_trained_model(tiny_model: Path) -> None:
    parts, plan = load_model(tiny_model), tiny()
    found = dict(plan.parameters)
    lm = parts.lm
    assert found["embedding"] == size_of(lm.embedding) + size_of(lm.text_proj)
    assert found["trunk"] == size_of(lm.transformer) and found["heads"] == size_of(lm.head)
    assert found["video tokenizer"] == size_of(parts.tokenizer)
    pieces = parts.text.pieces.get_piece_size()  # fewer than the most there may be, where captions need no more
    missing = (load_recipe("shapesworld/tiny").text.pieces - pieces) * parts.text.width
    assert found["text encoder"] == size_of(parts.text) + missing
    assert plan.trained == size_of(lm) + found["text encoder"]


@pytest.mark.parametrize("changes", [{}, {"lm.head": "flat", "text.frozen": "true"}], ids=["factorized", "flat"])
def test_operations_are_those_that_torch_counts(changes: dict[str, str]) -> None:
    plan = tiny(**changes)
    module = plan.objective(2)
    for variant in plan.variants:
        with FlopCounterMode(display=False, custom_mapping=UNKNOWN_TO_TORCH) as counter:
            module(plan.batch(variant, 3))[0].backward()
        row = row_flops(module.lm, module.text, variant.of, plan.recipe.text_length)
        assert counter.get_total_flops() == 3 * row == pytest.approx(3 * plan.row_flops[variant.shape])


UNKNOWN_TO_TORCH = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        lambda grad, q, k, v, *_, **__: 2 * sdpa_flop_count(q, k, v)
    ),
    torch.ops.aten.addmm_: lambda into, a, b, **__: 2 * a[0] * a[1] * b[1],
}


def test_operations_are_six_a_weight_and_position_and_attention() -> None:
    """PaLM's formula (arXiv 2204.02311, appendix B), at the size where all but trunk and heads is little."""
    plan = LanguagePlan(load_recipe("videopoet/8b", PAPER), "h100")
    variant = plan.variants[4]
    assert str(variant.of.variant) == "text_to_video 17x128x128"
    length, lm = variant.length, plan.lm
    attention = 12 * lm.num_layers * lm.hidden_size * length**2
    assert plan.row_flops[variant.shape] == pytest.approx(6 * plan.parameters["trunk"] * length + attention, rel=0.015)


@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("head", ["factorized", "flat"])
def test_activations_are_those_of_a_real_pass(head: str, recompute: bool) -> None:
    """Of four layers, from what one and two would hold."""
    plan = tiny(**{"lm.head": head, "lm.num_layers": "4", "text.frozen": "true"})
    module = plan.objective(4)
    if recompute:
        module.lm.gradient_checkpointing_enable()
    rows = plan.batch(plan.largest, plan.largest.rows)
    assert plan.activations(recompute) == activations(module, rows)


def test_what_is_held_is_what_torch_saves() -> None:
    """And what the pass returns; no n x n scores."""
    plan = tiny(**{"text.frozen": "true"})
    module, rows = plan.objective(plan.lm.num_layers), plan.batch(plan.largest, plan.largest.rows)
    given = {t.untyped_storage().data_ptr() for t in (*module.parameters(), rows.ids, *(rows.text or ()))}
    saved: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        loss, logs = module(rows)
    told = sum(value.untyped_storage().nbytes() for value in (loss, *logs.values()))
    size = sum(t.untyped_storage().nbytes() for at, t in saved.items() if at not in given)
    assert size <= plan.activations(recompute=False).held <= 1.02 * (size + told)
    assert all(tensor.shape[-2:] != (rows.layout.length,) * 2 for tensor in saved.values())


def test_memory_by_zero_stage() -> None:
    """In bfloat16 with AdamW 16 bytes a weight and 4 of its average; from stage 1 on the last 16 are shared."""
    plan = LanguagePlan(load_recipe("videopoet/8b", PAPER), "h100")
    held, n = plan.activations(recompute=True), plan.trained
    none, one, two, three = (plan.memory(stage, 8, held) for stage in range(4))
    assert (none.weights, none.gradients, none.optimizer, none.average) == (2 * n, 2 * n, 12 * n, 4 * n)
    assert (one.weights, one.optimizer, one.average) == (2 * n, 12 * n / 8, 4 * n / 8)
    assert two == one._replace(stage=2)
    assert (three.weights, three.gradients, three.optimizer) == (2 * n / 8, 2 * n / 8, 12 * n / 8)
    assert none.total > two.total > three.total


def test_optimisers_and_offload_change_memory() -> None:
    adam, muon = (tiny(**{"lm_training.optimizer": f"{{name: {name}}}"}) for name in ("adamw", "muon"))
    held = adam.activations(recompute=False)
    saved = adam.memory(0, 1, held).optimizer - muon.memory(0, 1, held).optimizer
    matrices = [p for p in muon.objective(muon.lm.num_layers).lm.transformer.parameters() if p.ndim == 2]
    assert saved >= 4 * sum(p.numel() for p in matrices) > 0
    offloaded = tiny(**{"engine.zero_stage": "2", "engine.offload": "optimizer"}).memory(2, 4, held)
    assert offloaded.optimizer == 0 and offloaded.host > 0


def test_time_of_a_device_that_is_named() -> None:
    plan = LanguagePlan(load_recipe("videopoet/table2/t2v", PAPER), "h100")
    speed = plan.speed("h100", 0.5)
    assert speed.seconds == pytest.approx(plan.flops / (0.5 * 989e12)) and not speed.measured
    assert plan.speed("a100").seconds == pytest.approx(plan.flops / (0.4 * 312e12))
    with pytest.raises(UserError, match="unknown device 'h101'; did you mean 'h100'"):
        named_peak("h101", torch.bfloat16)


def test_time_here_is_measured() -> None:
    others = ("image_to_video", "frame_prediction", "text_to_image", "unconditional_video")
    speed = tiny(**{f"tasks.{task}": "0" for task in others}).speed()
    assert speed.measured and 0.001 < speed.seconds < 10 and 0 < speed.mfu < 1


WEIGHTS = {
    "300m": (303_616_000, 9_176_064, 7_602_176),
    "1b": (1_011_964_928, 24_643_584, 15_204_352),
    "8b": (8_063_891_456, 74_452_992, 30_408_704),
}
"""Of trunk, heads and embedding."""
ROWS = {"300m": (36, 16, 66), "1b": (36, 16, 66), "8b": (36, 16, 66)}
ROWS |= {"all": (8, 16, 66), "no_t2i": (7, 16, 0), "ssl": (6, 16, 0), "t2v": (1, 16, 0), "t2v_t2i": (2, 16, 66)}
"""Variants, and rows of clips and of pictures a batch."""


@pytest.mark.parametrize("name", [name for name in recipe_names() if re.match("videopoet/(?!upscale)", name)])
def test_recipes_at_paper_size(name: str) -> None:
    """A step of every variant, with no data and no weight."""
    plan, short = LanguagePlan(load_recipe(name, PAPER), "h100"), name.rpartition("/")[2]
    clips = [v.rows for v in plan.variants if v.of.variant.format == (17, 128, 128)]
    pictures = [v.rows for v in plan.variants if v.of.variant.format == (1, 128, 128)]
    assert (len(plan.variants), max(clips), min(pictures, default=0)) == ROWS[short]
    assert tuple(plan.parameters[part] for part in ("trunk", "heads", "embedding")) == WEIGHTS.get(
        short, WEIGHTS["300m"]
    )
    assert plan.parameters["text encoder"] == 1_223_527_424  # T5 v1.1 XL
    assert sum(v.share for v in plan.variants) == pytest.approx(1)
    assert all(plan.batch_flops(v) > 0 for v in plan.variants)
    if short in WEIGHTS:
        assert plan.activations(recompute=True).peak < plan.activations(recompute=False).peak / 5


def test_table_2_samples_its_tasks_uniformly() -> None:
    """VideoPoet 5.2, in- and outpainting as one task."""
    shares: dict[str, float] = {}
    for v in LanguagePlan(load_recipe("videopoet/table2/all", PAPER), "h100").variants:
        task = v.of.variant.task.name.removeprefix("in").removeprefix("out")
        shares[task] = shares.get(task, 0) + v.share
    assert list(shares.values()) == pytest.approx([1 / 6] * 6)


def test_storage_is_that_of_real_shards(tiny_model: Path) -> None:
    """At most: captions are shorter than they may be, and a file has a head."""
    plan = tiny()
    for source, size in plan.storage.items():
        part = tiny_model.parent / "tokens" / "data" / "train" / source / "part-00000.arrow"
        rows = load_recipe("shapesworld/tiny").data.clips  # type: ignore[union-attr]
        codes = size - 8 - 4 * plan.recipe.text_length
        assert codes < part.stat().st_size / rows < size + 4 * plan.recipe.text_length * 3 + 200


def test_the_command_prints_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["estimate", "shapesworld/tiny", "--devices", "4", "--device", "a100", "--mfu", "0.3"]
    assert main([*words, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert len(record["variants"]) == 6 and len(record["memory"]) == 8
    assert record["device_hours"] == pytest.approx(4 * record["hours"])
    assert main([*words, "--zero", "2"]) == 0
    out = capsys.readouterr().out
    assert "30% are used: assumed" in out and "token shards of a million examples" in out
    for wrong, said in ((["--devices", "0"], "give 1 or more"), (["--mfu", "2"], "give a share above 0")):
        assert main(["estimate", "shapesworld/tiny", *wrong]) == 2
        assert said in capsys.readouterr().err
    assert main(["estimate", "shapesworld/tokenizer_tiny"]) == 2
    assert "neither lm nor super_resolution" in capsys.readouterr().err


def upscaling(name: str = "shapesworld/upscale_tiny", **changes: str) -> SuperResolutionPlan:
    return SuperResolutionPlan(load_recipe(name, {"engine.precision": "float32", **changes}))


def test_super_resolution_too() -> None:
    """Weights, operations and activations against a real module of all its layers."""
    plan = upscaling(**{"super_resolution.num_layers": "6", "super_resolution_training.shown": "0.5"})
    module = plan.objective(plan.units)
    assert plan.trained == size_of(module) and sum(plan.parts(module).values()) == size_of(module)
    for variant in plan.variants:
        batch = plan.batch(variant, 2)
        with FlopCounterMode(display=False, custom_mapping=UNKNOWN_TO_TORCH) as counter:
            module(batch)[0].backward()
        assert counter.get_total_flops() == pytest.approx(2 * plan.row_flops[variant.shape])
    for recompute in (False, True):
        plan.recompute(module, recompute)
        found, real = plan.activations(recompute), activations(module, plan.batch(plan.largest, plan.largest.rows))
        assert found.held == pytest.approx(real.held, rel=0.01) and found.peak == pytest.approx(real.peak, rel=0.01)
    assert [v.share for v in plan.variants] == pytest.approx([0.9, 0.1])


def test_super_resolution_at_paper_size() -> None:
    changes = {**PAPER, "tokenizer": "magvit_v2", "engine.precision": "bfloat16"}
    one, two = (upscaling(f"videopoet/upscale_{stage}", **changes) for stage in (1, 2))
    assert [round(plan.trained / 1e8) for plan in (one, two)] == [10, 5]
    assert [plan.largest.length for plan in (one, two)] == [8960, 35840]
    held = two.activations(recompute=True)
    assert two.memory(1, 64, held).total < 80e9  # of an H100, clip by clip
    assert two.storage == {"video": 8 + 4 * 35840 + 64 * 4100, "video.half": 8 + 35840 + 64 * 4100}


def test_the_command_estimates_super_resolution(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", "shapesworld/upscale_tiny", "--device", "h100", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert [each["variant"] for each in record["variants"]] == ["17x128x128", "17x128x128, first frame"]
    assert main(["estimate", "shapesworld/upscale_tiny"]) == 0
    assert "measured" in capsys.readouterr().out
