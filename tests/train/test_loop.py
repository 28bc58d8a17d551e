"""The loop: a run that was stopped and resumed equals one that was not, and learning learns."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from videolm.tokenizers.video.magvit_v2 import MagvitV2
from videolm.train.engine import Engine, EngineConfig, OptimizerConfig
from videolm.train.loop import Average, Log, TrainingConfig, train
from videolm.train.recipe import load_recipe
from videolm.train.tokenizer import Objective, TokenizerTraining

STEPS = 6


class Stop(Exception):
    """What ends a run in the middle."""


def run(folder: Path, name: str, stage: int, stop_at: int | None = None) -> dict[str, Tensor]:
    """Train a tiny tokenizer for six steps in `folder`, checkpointing each; `stop_at` breaks off before that step."""
    torch.manual_seed(0)
    tokenizer = MagvitV2(load_recipe("shapesworld/tiny").tokenizer)
    objective, weights = Objective(tokenizer), TokenizerTraining(steps=STEPS).weights(0)

    def batches(step: int, engine: Engine) -> list[Any]:
        if step == stop_at:
            raise Stop
        rng = np.random.default_rng([0, step])
        return [(torch.from_numpy(rng.uniform(-1, 1, (2, 3, 5, 32, 32)).astype(np.float32)), weights)]

    def validate(module: nn.Module, log: Log, step: int) -> dict[str, float]:
        return {"first": float(next(tokenizer.parameters()).sum())}

    train(
        objective,
        name="test",
        folder=folder,
        config=TrainingConfig(
            steps=STEPS,
            optimizer=OptimizerConfig(name=name, muon_lr=0.02, warmup=2),  # type: ignore[arg-type]
            ema=0.9,
            validate_every=3,
            checkpoint_minutes=0,
        ),
        engine_config=EngineConfig(zero_stage=stage, precision="float32"),  # type: ignore[arg-type]
        batches=batches,
        validate=validate,
    )
    return {key: value.clone() for key, value in tokenizer.state_dict().items()}


@pytest.mark.parametrize(("name", "stage"), [("adamw", 0), ("adamw", 1), ("adamw", 2), ("muon", 0), ("muon", 1)])
def test_a_resumed_run_equals_one_that_never_stopped(tmp_path: Path, name: str, stage: int) -> None:
    whole = run(tmp_path / "whole", name, stage)
    with pytest.raises(Stop):
        run(tmp_path / "parts", name, stage, stop_at=4)
    resumed = run(tmp_path / "parts", name, stage)
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    steps = [json.loads(line)["step"] for line in (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()]
    assert steps == [3, 6, 6]  # validation at 3 and 6, the last step's terms


def test_a_half_written_checkpoint_is_never_picked_up(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", "adamw", 0)
    with pytest.raises(Stop):
        run(tmp_path / "parts", "adamw", 0, stop_at=4)
    checkpoints = tmp_path / "parts" / "checkpoints"
    assert sorted(path.name for path in checkpoints.iterdir()) == ["step-00000003", "step-00000004"]
    (checkpoints / ".step-00000005.tmp").mkdir()
    resumed = run(tmp_path / "parts", "adamw", 0)
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


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


def test_the_average_starts_near_the_weights_and_then_moves_slowly() -> None:
    module = nn.Linear(1, 1, bias=False)
    average = Average(module, decay=0.99)
    steps: list[Callable[[], None]] = [lambda step=step: average.update(module, step) for step in (0, 10_000)]
    with torch.no_grad():
        module.weight.fill_(1.0)
        average.weights["weight"].fill_(0.0)
        steps[0]()
        assert average.weights["weight"].item() == pytest.approx(0.9)
        average.weights["weight"].fill_(0.0)
        steps[1]()
        assert average.weights["weight"].item() == pytest.approx(0.01)


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
        MagvitV2(recipe.tokenizer), source, source, config, recipe.engine, folder=tmp_path, seed=0, fps=8.0
    )
    assert scores["psnr"] > 25
