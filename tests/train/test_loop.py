"""The loop: a run that was stopped and resumed equals one that was not, whatever ZeRO shards, and learning learns."""

import errno
import json
import os
import runpy
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from videolm.errors import UserError
from videolm.tokenizers.video.magvit_v2 import MagvitV2
from videolm.train.average import Average
from videolm.train.engine import Engine, EngineConfig, Piece
from videolm.train.hardware import PEAKS, measured_flops, peak_flops
from videolm.train.log import Log, Meter, Work
from videolm.train.optimizer import OptimizerConfig
from videolm.train.recipe import load_recipe

TINY = runpy.run_path(str(Path(__file__).with_name("tiny.py")))
run, equal, Stop = TINY["run"], TINY["equal"], TINY["Stop"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Tensor]]:
    """How runs of ZeRO stage 0 end that were never stopped, by optimiser and precision."""
    folder = tmp_path_factory.mktemp("whole")
    kinds = [(name, precision) for name in ("adamw", "muon") for precision in ("float32", "bfloat16")]
    return {f"{n} {p}": run(folder / f"{n} {p}", 0, n, p) for n, p in kinds}


def metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_resumed_run_equals_one_that_never_stopped(
    whole: dict[str, Any], tmp_path: Path, stage: int, optimizer: str, precision: str
) -> None:
    end = whole[f"{optimizer} {precision}"]
    if precision == "bfloat16" and (stage == 3 or (optimizer == "muon" and stage)):
        # stage 3 has a linear map of its own; ZeRO keeps Muon's momentum in bfloat16, stage 0 in float32
        end, before = run(tmp_path / "whole", stage, optimizer, precision), end
        assert all(torch.allclose(end[key].float(), before[key].float(), atol=0.05) for key in end)
    with pytest.raises(Stop):
        run(tmp_path / "parts", stage, optimizer, precision, stop=4)
    assert equal(end, run(tmp_path / "parts", stage, optimizer, precision))
    lines = metrics(tmp_path / "parts")
    assert [line["step"] for line in lines] == [3, 6, 6]  # validation at 3 and 6, the last steps' terms


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize(("first", "then"), [(0, 1), (0, 2), (0, 3), (3, 0)])
def test_a_run_goes_on_under_another_zero_stage(
    whole: dict[str, Any], tmp_path: Path, first: int, then: int, optimizer: str
) -> None:
    with pytest.raises(Stop):
        run(tmp_path, first, optimizer, stop=4)
    assert equal(whole[f"{optimizer} float32"], run(tmp_path, then, optimizer))


@pytest.mark.parametrize(
    ("stage", "offload"), [(0, "none"), (1, "optimizer"), (2, "optimizer"), (3, "none"), (3, "all")]
)
def test_weights_that_some_batches_leave_out_are_trained_alike(tmp_path: Path, stage: int, offload: str) -> None:
    """One of a step's two batches leaves a layer out, and in some steps both would use what DeepSpeed kept of it."""
    plain = run(tmp_path / "plain", 1, accumulate=2)
    assert equal(plain, run(tmp_path / "other", stage, accumulate=2, offload=offload))


def test_frozen_weights_end_as_they_began(whole: dict[str, Any]) -> None:
    frozen = TINY["Net"]().frozen.weight
    assert all(torch.equal(end["frozen.weight"], frozen) for end in whole.values())
    assert all(end["passes"] == 6 for end in whole.values())


def test_a_half_written_checkpoint_is_never_picked_up_and_a_damaged_one_is_passed_over(
    whole: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Stop):
        run(tmp_path, keep=3, stop=5)
    checkpoints = tmp_path / "checkpoints"
    assert sorted(path.name[-1] for path in checkpoints.iterdir()) == ["3", "4", "5"]
    (checkpoints / ".step-00000006.tmp").mkdir()
    cut = checkpoints / "step-00000005" / "rank-00000-000.safetensors"
    cut.write_bytes(cut.read_bytes()[:-1])
    (checkpoints / "step-00000004" / "state.json").unlink()
    assert equal(whole["adamw float32"], run(tmp_path))
    said = capsys.readouterr().err
    assert f"{checkpoints / 'step-00000005'} is damaged (rank-00000-000.safetensors does not have its" in said
    assert not list(checkpoints.glob(".*"))

    for folder in checkpoints.iterdir():
        shutil.rmtree(folder)
        folder.mkdir()
    with pytest.raises(UserError, match="no checkpoint in .* is whole: remove the folder"):
        run(tmp_path)


def test_a_checkpoint_of_another_optimiser_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Stop):
        run(tmp_path, 0, "muon", stop=1)
    with pytest.raises(UserError, match="has no step of 'narrow.weight'.*resume with the settings"):
        run(tmp_path, 0, "adamw")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_step_and_writes_a_checkpoint(
    whole: dict[str, Any], tmp_path: Path, number: signal.Signals
) -> None:
    found = signal.signal(number, signal.default_int_handler)  # Ctrl-C is ignored where tests run in the background
    with pytest.raises(KeyboardInterrupt, match="stopped at step 3 of 6; go on with --resume"):
        run(tmp_path, before=lambda step: os.kill(os.getpid(), number) if step == 2 else None)
    assert signal.getsignal(number) is signal.default_int_handler
    signal.signal(number, found)
    assert equal(whole["adamw float32"], run(tmp_path))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB, where this user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if os.geteuid() or shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize(("full_at", "message"), [(3, "a checkpoint to .*checkpoints"), (2, "to .*run")])
def test_a_full_disk_leaves_the_checkpoints_before_and_is_said(
    whole: dict[str, Any], small_disk: Path, full_at: int, message: str
) -> None:
    """That of step 4, or the metrics of step 3 before its own."""
    filler = small_disk / "filler"

    def fill(step: int) -> None:
        if step == full_at:
            with pytest.raises(OSError) as full, filler.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(2**16))
            assert full.value.errno == errno.ENOSPC

    with pytest.raises(UserError, match=rf"cannot write {message} \(No space left on device\): make room"):
        run(small_disk / "run", before=fill, keep=1)
    assert [path.name for path in (small_disk / "run" / "checkpoints").iterdir()] == [f"step-0000000{full_at}"]
    filler.unlink()
    assert equal(whole["adamw float32"], run(small_disk / "run", keep=1))


def test_a_line_of_the_log_averages_over_its_steps_and_tells_rates(tmp_path: Path) -> None:
    end = run(tmp_path, work=lambda rows: Work(rows.numel(), 1e6))
    line = metrics(tmp_path)[-1] | metrics(tmp_path)[-2]
    assert line["loss"] == pytest.approx((line["even"] + line["odd"]) / 2)  # three steps each
    assert line["tokens_per_second"] == pytest.approx(32 / line["seconds_per_step"], rel=1e-4)
    rate = 1e6 / line["seconds_per_step"] / peak_flops(torch.device("cpu"), torch.float32)
    assert line["mfu"] == pytest.approx(rate, rel=1e-4)
    assert line["validation/loss"] == pytest.approx(float(end["score"]), rel=1e-4)
    assert 0 < line["learning_rate"] < 1e-3


def test_a_value_that_some_steps_have_is_averaged_over_those(tmp_path: Path) -> None:
    meter = Meter(Engine(nn.Linear(2, 2), OptimizerConfig(), EngineConfig(precision="float32")))
    for values in ({"loss": 1.0, "a": 5.0}, {"loss": 2.0}, {"loss": 6.0, "a": 7.0}):
        meter.step(values, 0.5)
    assert meter.line() == {"loss": 3.0, "a": 6.0, "seconds_per_step": 0.5}
    meter.step({"loss": 4.0}, 0.25)
    assert meter.line() == {"loss": 4.0, "seconds_per_step": 0.25}


def test_a_resumed_log_holds_no_step_twice(tmp_path: Path) -> None:
    with Log(tmp_path, 0) as log:
        for step in (10, 20, 30):
            log.scalars(step, {"loss": float(step)})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "lo')
    with Log(tmp_path, 0, 20) as log:
        log.scalars(30, {"loss": 0.125})
    assert [(line["step"], line["loss"]) for line in metrics(tmp_path)] == [(10, 10), (20, 20), (30, 0.125)]

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    assert [(event.step, event.value) for event in board.Scalars("loss")] == [(10, 10), (20, 20), (30, 0.125)]


def test_peaks_are_of_this_device() -> None:
    cpu = torch.device("cpu")
    assert 1e8 < measured_flops(cpu, torch.float32, size=64) < 1e14
    assert peak_flops(cpu, torch.float32) == peak_flops(cpu, torch.float32)  # measured once
    assert all(half > single for half, single in PEAKS.values())


class Broken(nn.Module):
    """A loss that is not finite from the third call on."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 2))
        self.calls = 0

    def forward(self, batch: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        self.calls += 1
        term = self.weight.sum() * (float("nan") if self.calls > 2 else 1)
        return term, {"entropy": term.detach()}


def test_a_nan_stops_the_run_and_names_the_term(tmp_path: Path) -> None:
    engine = Engine(Broken(), OptimizerConfig(), EngineConfig(precision="float32"))
    for _ in range(2):
        engine.step([torch.zeros(1)], 1.0)
    before = engine.module.weight.detach().clone()
    with pytest.raises(FloatingPointError, match="the term 'entropy' became nan"):
        engine.step([torch.zeros(1)], 1.0)
    assert torch.equal(engine.module.weight, before)


def test_accumulated_batches_make_the_step_of_their_union(tmp_path: Path) -> None:
    def weights(batches: list[Tensor], accumulate: int) -> Tensor:
        torch.manual_seed(0)
        module = Line()
        engine = Engine(
            module, OptimizerConfig(lr=0.1, clip=0), EngineConfig(precision="float32", accumulate=accumulate)
        )
        engine.step(batches, 1.0)
        return module.weight.detach().clone()

    data = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(weights([data], 1), weights([data[:2], data[2:]], 2))


class Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 3))

    def forward(self, batch: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return (batch @ self.weight).square().mean(), {}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"offload": "optimizer"}, "set zero_stage to 1 or more"),
        ({"offload": "all", "zero_stage": 2}, "set zero_stage to 3"),
        ({"compile": True, "zero_stage": 3}, "leave one of them out"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        EngineConfig(**settings)


def test_muon_is_refused_where_its_steps_would_be_clipped() -> None:
    with pytest.raises(UserError, match="set optimizer.clip to 0, or engine.zero_stage to 0"):
        Engine(Line(), OptimizerConfig(name="muon"), EngineConfig(zero_stage=1))


@pytest.mark.slow
def test_a_compiled_module_learns_the_same() -> None:
    ends = []
    for compiled in (False, True):
        torch.manual_seed(0)
        config = EngineConfig(precision="float32", compile=compiled)
        engine = Engine(Line(), OptimizerConfig(lr=0.1), config)
        assert engine.module._compiled_call_impl is None or compiled
        torch._dynamo.utils.counters.clear()
        losses = [engine.step([torch.ones(4, 3)], 1.0)["loss"] for _ in range(3)]
        assert bool(torch._dynamo.utils.counters["stats"]["unique_graphs"]) == compiled
        engine.finish()
        assert engine.module._compiled_call_impl is None
        ends.append(losses)
    assert ends[0] == pytest.approx(ends[1], rel=1e-6) and ends[0][2] < ends[0][0]


def test_the_average_starts_near_the_weights_and_then_moves_slowly() -> None:
    weight = Piece("weight", "weight", 0, torch.ones(1))
    average = Average([weight], decay=0.99)
    for step, moved in ((0, 0.9), (10_000, 0.01)):
        average.pieces[0].values.fill_(0.0)
        average.update(step)
        assert average.pieces[0].values.item() == pytest.approx(moved)
    average.swap()
    assert weight.values.item() == pytest.approx(0.01) and average.pieces[0].values.item() == 1.0


@pytest.mark.slow
def test_a_tokenizer_learns_one_clip(tmp_path: Path) -> None:
    from videolm.data.sources import ShapesWorldData
    from videolm.shapes import Format
    from videolm.train.tokenizer import train_tokenizer

    recipe = load_recipe("shapesworld/tiny")
    source = ShapesWorldData(clips=1, validation_clips=1).open("video", Format(5, 32, 32), 8.0, "train")
    torch.manual_seed(0)
    config = recipe.tokenizer_training.model_copy(
        update={"steps": 150, "batch": 1, "validation_clips": 1, "validate_every": 150, "ema": 0.9}
    )
    scores = train_tokenizer(
        MagvitV2(recipe.tokenizer), [source], [source], config, recipe.engine, folder=tmp_path, seed=0, fps=8.0
    )
    assert scores["psnr"] > 25
