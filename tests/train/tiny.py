"""A training small enough for many of them in a test, by one process or, run as a program, by several.

The module has what training can go wrong with: dropout, a weight that some batches leave out, frozen and tied weights,
a buffer, matrices that Muon sorts, one that ZeRO stage 3 really shards (over 100,000 numbers).
"""

import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from videolm.errors import UserError
from videolm.train import checkpoint
from videolm.train.checkpoint import Checkpoints, Stored
from videolm.train.engine import Engine, EngineConfig, Piece
from videolm.train.log import Log, Work
from videolm.train.loop import TrainingConfig, train
from videolm.train.optimizer import OptimizerConfig

STEPS = 6
KINDS = {"adamw": ("weight", "exp_avg", "exp_avg_sq", "average"), "muon": ("weight", "average")}


class Stop(Exception):
    """What breaks a run off."""


class Net(nn.Module):
    def __init__(self, dropout: float = 0.1):
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(16, 64)
        self.narrow = nn.Linear(64, 32)
        self.wide = nn.Linear(32, 64, bias=False)
        self.sometimes = nn.Linear(64, 64)
        self.norm, self.dropout = nn.LayerNorm(64), nn.Dropout(dropout)
        self.up, self.down = nn.Linear(64, 1600, bias=False), nn.Linear(1600, 64, bias=False)
        self.frozen = nn.Linear(64, 64).requires_grad_(False)
        self.register_buffer("passes", torch.zeros((), dtype=torch.int64))
        self.tied = self.table

    def forward(self, ids: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        if self.training:
            self.passes += 1
        x = self.frozen(self.table(ids))
        x = x + self.wide(self.narrow(x))
        if int(ids[0, 0]) % 2:
            x = x + self.sometimes(x)
        x = x + self.down(self.up(self.dropout(self.norm(x))).relu())
        logits = nn.functional.linear(x, self.tied.weight).float()
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), ids.flatten())
        return loss, {"odd" if int(ids[0, 0]) % 2 else "even": loss.detach()}


def run(
    folder: Path,
    stage: int = 0,
    optimizer: str = "adamw",
    precision: str = "float32",
    *,
    stop: int | None = None,
    before: Callable[[int], None] = lambda step: None,
    dropout: float = 0.1,
    accumulate: int = 1,
    offload: str = "none",
    keep: int = 2,
    work: Callable[[Any], Work] | None = None,
) -> dict[str, Tensor]:
    """Train for six steps with a checkpoint after each; `stop` breaks off before a step, `before` is called at each.

    A step's batches are the same however many ranks share them.
    """
    net = Net(dropout)

    def batches(step: int, engine: Engine) -> list[Tensor]:
        before(step)
        if step == stop:
            raise Stop
        rows = torch.randint(16, (accumulate, 4, 8), generator=torch.Generator().manual_seed(step))
        rows[:, :, 0] = torch.arange(step, step + accumulate)[:, None]  # of all ranks the same kind
        return list(rows[:, engine.rank :: engine.world])

    @torch.inference_mode()
    def validate(module: nn.Module, log: Log, step: int) -> dict[str, float]:
        return {"loss": float(module(torch.arange(32).view(4, 8) % 16)[0])}

    scores = train(
        net,
        name="test",
        folder=folder,
        config=TrainingConfig(
            steps=STEPS,
            optimizer=OptimizerConfig(name=optimizer, muon_lr=0.02, warmup=2, weight_decay=0.1, clip=0),  # type: ignore[arg-type]
            ema=0.9,
            validate_every=3,
            checkpoint_minutes=0,
            keep=keep,
        ),
        engine_config=EngineConfig(zero_stage=stage, precision=precision, accumulate=accumulate, offload=offload),  # type: ignore[arg-type]
        batches=batches,
        validate=validate,
        work=work,
        seed=3,
    )
    return {key: value.clone() for key, value in net.state_dict().items()} | {"score": torch.tensor(scores["loss"])}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())


def convert(source: Path, target: Path, stage: int, optimizer: str) -> None:
    """Load the newest checkpoint of a run as this stage and number of ranks keep it, and write it out of that."""
    engine = Engine(Net(), OptimizerConfig(name=optimizer, clip=0), EngineConfig(zero_stage=stage, precision="float32"))  # type: ignore[arg-type]
    more = [piece._replace(kind="average", values=piece.values.clone()) for piece in engine.weights()]
    state = Checkpoints(source / "checkpoints", engine, 2).load(more)
    assert state is not None
    Checkpoints(target / "checkpoints", engine, 2).save(state["step"], {"results": {}}, more)


def contents(run: Path, optimizer: str) -> dict[str, Tensor]:
    """What the newest checkpoint holds of every trained weight, whole."""
    stored = Stored(max((run / "checkpoints").glob("step-*")))
    held = {}
    for name, weight in Net().named_parameters():
        if weight.requires_grad:
            kinds = KINDS[optimizer]
            if ("momentum_buffer", name) in stored:
                kinds = (*kinds, "momentum_buffer")
            elif optimizer == "muon":
                kinds = KINDS["adamw"]
            for kind in kinds:
                held[f"{kind} {name}"] = torch.empty(weight.numel())
                stored.read(Piece(kind, name, 0, held[f"{kind} {name}"]))
    return held


EXACT = [(0, "adamw", "bfloat16"), (1, "muon", "bfloat16"), (2, "muon", "float32"), (3, "adamw", "bfloat16")]
"""Stages, optimisers and precisions that two ranks are tried with."""


def main(folder: Path) -> None:
    """Every check that needs two ranks; what each found goes to `found-RANK.json`. At first, rank 1 kills itself."""
    rank = int(os.environ["RANK"])
    found: dict[str, Any] = {}

    first = not (folder / "killed").exists()

    def die(step: int) -> None:
        if step == 4 and rank == 1 and first:
            os.kill(os.getpid(), signal.SIGKILL)

    killed = run(folder / "killed", 2, before=die)

    for stage, optimizer, precision in EXACT:
        name = f"{stage}-{optimizer}-{precision}"
        whole = run(folder / f"{name}-whole", stage, optimizer, precision)
        try:
            run(folder / name, stage, optimizer, precision, stop=4)
        except Stop:
            found[name] = equal(whole, run(folder / name, stage, optimizer, precision))

    whole = run(folder / "whole", 2)
    found["killed"] = not first and equal(whole, killed)

    def interrupt(step: int) -> None:
        if step == 2 and rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    try:
        run(folder / "signal", 2, before=interrupt)
    except KeyboardInterrupt as stopped:
        found["stopped"] = str(stopped)
    found["signal"] = equal(whole, run(folder / "signal", 2))

    def fill(step: int) -> None:
        if step == 3 and rank == 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))

    try:
        run(folder / "full", 2, before=fill)
    except UserError as error:
        found["full"] = str(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    found["full again"] = equal(whole, run(folder / "full", 2))

    for optimizer in ("adamw", "muon"):
        for stage in range(4):
            convert(folder / f"one-{optimizer}", folder / f"two-{optimizer}-{stage}", stage, optimizer)
        try:
            run(folder / f"three-{optimizer}", 3, optimizer, dropout=0, stop=4)
        except Stop:
            torch.save(run(folder / f"one-{optimizer}", 1, optimizer, dropout=0), folder / f"{rank}-{optimizer}.pt")
    (folder / f"found-{rank}.json").write_text(json.dumps(found))


def die_writing(folder: Path) -> None:
    """Train until SIGKILL half-way through writing the checkpoint of step 4."""
    write = checkpoint._write

    def half(target: Path, rank: int, pieces: Iterable[Piece]) -> None:
        write(target, rank, pieces)
        if "00000004" in target.name:
            path = next(target.iterdir())
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoint._write = half
    run(folder, 1)


if __name__ == "__main__":
    (main if "RANK" in os.environ else die_writing)(Path(sys.argv[1]))
