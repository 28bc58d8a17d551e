"""The one training loop: steps, progress, metrics, checkpoints and resume, whatever is trained.

Everything a step needs follows from its number, so a run that was killed and resumed takes the same steps as one that
was not: a checkpoint holds weights, optimiser state and averages, and the number of the next step is the data position.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from torch import Tensor, nn
from tqdm import tqdm

from videolm.config import Config
from videolm.errors import UserError
from videolm.progress import progress
from videolm.train.engine import Engine, EngineConfig, OptimizerConfig

KEEP = 2  # checkpoints


class TrainingConfig(Config):
    """What every training has; each job's own config adds to it."""

    steps: Annotated[int, Field(ge=1)] = 3000
    optimizer: OptimizerConfig = OptimizerConfig()
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of the average of the weights that is validated and kept; 0: none."""
    validate_every: Annotated[int, Field(ge=1)] = 500
    """Steps."""
    checkpoint_minutes: Annotated[float, Field(ge=0)] = 3.0


class Average:
    """An exponential moving average of a module's weights (arXiv 1806.04498), the same on every rank."""

    def __init__(self, module: nn.Module, decay: float):
        self.decay = decay
        self.weights = {name: value.detach().float().clone() for name, value in module.named_parameters()}

    def update(self, module: nn.Module, step: int) -> None:
        """Move towards the weights after `step`; early on faster, so that the start is forgotten."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in module.named_parameters():
            self.weights[name].lerp_(value.detach().float(), 1 - decay)

    def copy_to(self, module: nn.Module) -> None:
        for name, value in module.named_parameters():
            value.data.copy_(self.weights[name])


class Log:
    """Metrics as JSON lines and for TensorBoard, in `folder`; only rank 0 writes."""

    def __init__(self, folder: Path, rank: int):
        self.rank = rank
        if rank == 0:
            from torch.utils.tensorboard import SummaryWriter

            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / "metrics.jsonl").open("a")
            self._board = SummaryWriter(str(folder / "tensorboard"))

    def scalars(self, step: int, values: dict[str, float]) -> None:
        if self.rank == 0:
            self._file.write(json.dumps({"step": step, **{k: round(v, 6) for k, v in values.items()}}) + "\n")
            self._file.flush()
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def picture(self, step: int, name: str, pixels: Any) -> None:
        """A picture (H, W, 3) uint8."""
        if self.rank == 0:
            self._board.add_image(name, pixels, step, dataformats="HWC")

    def sound(self, step: int, name: str, samples: Tensor, rate: int) -> None:
        """A sound (n,) in [-1, 1]."""
        if self.rank == 0:
            self._board.add_audio(name, samples, step, rate)

    def close(self) -> None:
        if self.rank == 0:
            self._file.close()
            self._board.close()


def train(
    module: nn.Module,
    *,
    name: str,
    folder: Path,
    config: TrainingConfig,
    engine_config: EngineConfig,
    batches: Callable[[int, Engine], Iterable[Any]],
    validate: Callable[[nn.Module, Log, int], dict[str, float]],
) -> dict[str, float]:
    """Train `module` for `config.steps` steps; afterwards it holds the final (averaged, if `ema`) weights in float32.

    Args:
        module: called with a batch, returns (loss, {name: value}).
        name: shown on the progress bar.
        folder: of checkpoints and metrics; the newest checkpoint there is gone on from.
        batches: the `accumulate` batches of a step.
        validate: called with the module, its averaged weights in place; returns values to log.

    Returns:
        The last validation's values.
    """
    engine = Engine(module, config.optimizer, engine_config)
    steps = config.steps
    if config.ema and engine_config.zero_stage == 3:
        raise UserError("an average of the weights needs them whole: set ema 0 or engine.zero_stage below 3")
    average = Average(module, config.ema) if config.ema else None
    checkpoints = folder / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    start = _resume(engine, average, checkpoints)
    log = Log(folder, engine.rank)
    results: dict[str, float] = {}
    saved = time.monotonic()

    def evaluate(done: int) -> dict[str, float]:
        raw = {key: value.detach().clone() for key, value in module.named_parameters()} if average else {}
        if average:
            average.copy_to(module)
        module.eval()
        values = validate(module, log, done)
        module.train()
        for key, value in module.named_parameters():
            if average:
                value.data.copy_(raw[key])
        log.scalars(done, {f"validation/{key}": value for key, value in values.items()})
        return values

    module.train()
    with progress(steps, name, "step", done=start, enabled=engine.rank == 0) as bar:
        for step in range(start, steps):
            logs = engine.step(batches(step, engine), config.optimizer.scale(step, steps))
            if average:
                average.update(module, step)
            bar.update()
            done = step + 1
            if done % 10 == 0 or done == steps:
                log.scalars(done, logs)
                shown = {"loss": f"{logs['loss']:.3f}"} | {k: f"{v:.3g}" for k, v in results.items()}
                bar.set_postfix(shown, refresh=False)
            if done % config.validate_every == 0 or done == steps:
                results = evaluate(done)
                if engine.rank == 0:
                    told = ", ".join(f"{key} {value:.4g}" for key, value in results.items())
                    tqdm.write(f"{name} {done}/{steps}: {told}", file=sys.stderr)
            if engine.agree(time.monotonic() - saved > 60 * config.checkpoint_minutes) or done == steps:
                _save(engine, average, checkpoints, done, results)
                saved = time.monotonic()
    log.close()
    if average:
        average.copy_to(module)
    module.float().eval()
    return results


def _save(engine: Engine, average: Average | None, folder: Path, step: int, results: dict[str, float]) -> None:
    state = {"step": step, "results": results, "average": average.weights if average else None}
    engine.save(folder, _checkpoint(step), state)
    if engine.rank == 0:
        for old in sorted(folder.glob("step-*"))[:-KEEP]:
            shutil.rmtree(old)


def _resume(engine: Engine, average: Average | None, folder: Path) -> int:
    """Load the newest checkpoint, if any; returns the step to go on with."""
    found = sorted(folder.glob("step-*"))
    if not found:
        return 0
    state = engine.load(folder, found[-1].name)
    if average and state["average"]:
        average.weights = {key: value.to(engine.device) for key, value in state["average"].items()}
    return int(state["step"])


def _checkpoint(step: int) -> str:
    return f"step-{step:08d}"


def to_device(value: Tensor, like: nn.Module) -> Tensor:
    """`value` on the device of a module's weights."""
    return value.to(next(like.parameters()).device, non_blocking=True)
