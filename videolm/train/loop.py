"""The one training loop: steps, progress, metrics, checkpoints and resume, whatever is trained.

Everything a step needs follows from its number, so a run that was killed and resumed takes the same steps as one that
was not: a checkpoint holds weights, optimiser state and averages; the number of the next step is the data position,
and the seed of what is random in it.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from tqdm import tqdm

from videolm.config import Config
from videolm.progress import progress
from videolm.train.average import Average
from videolm.train.checkpoint import Checkpoints, needing_room
from videolm.train.engine import Engine, EngineConfig
from videolm.train.log import Log, Meter, Work
from videolm.train.optimizer import OptimizerConfig

LOG_EVERY = 10  # steps


class TrainingConfig(Config):
    """What every training has; each job's own config adds to it."""

    steps: Annotated[int, Field(ge=1)] = 3000
    optimizer: OptimizerConfig = OptimizerConfig()
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of the average of the weights that is validated and kept; 0: none."""
    validate_every: Annotated[int, Field(ge=1)] = 500
    """Steps."""
    checkpoint_minutes: Annotated[float, Field(ge=0)] = 3.0
    keep: Annotated[int, Field(ge=1)] = 2
    """Checkpoints, the last ones."""


def train(
    module: nn.Module,
    *,
    name: str,
    folder: Path,
    config: TrainingConfig,
    engine_config: EngineConfig,
    batches: Callable[[int, Engine], Iterable[Any]],
    validate: Callable[[nn.Module, Log, int], dict[str, float]],
    work: Callable[[Any], Work] | None = None,
    gather: bool = False,
    seed: int = 0,
) -> dict[str, float]:
    """Train `module` for `config.steps` steps; afterwards it holds the final (averaged, if `ema`) weights in float32.

    SIGTERM and Ctrl-C to any rank end the step and write a checkpoint; then `KeyboardInterrupt` says how to go on.

    Args:
        module: called with a batch, returns (loss, {name: value}).
        name: shown on the progress bar.
        folder: of checkpoints and metrics; the newest checkpoint there is gone on from.
        batches: the `accumulate` batches of a step.
        validate: called by all ranks with the module, its averaged weights in place; returns values to log.
        work: what a batch costs, so that the log tells tokens a second and the share of the device's peak (`mfu`).
        gather: whether `validate` calls more of the module than its `forward`, so that under ZeRO stage 3 the weights
            have to be whole on every rank meanwhile.
        seed: of what the module draws itself (dropout): torch's generators start each step from (seed, step, rank).

    Returns:
        The last validation's values.
    """
    engine = Engine(module, config.optimizer, engine_config)
    steps = config.steps
    average = Average(engine.weights(), config.ema) if config.ema else None
    averages = average.pieces if average else []
    checkpoints = Checkpoints(folder / "checkpoints", engine, config.keep)
    state = checkpoints.load(averages) or {"step": 0, "results": {}}
    start: int = state["step"]
    results: dict[str, float] = state["results"]
    meter = Meter(engine)
    saved = time.monotonic()

    def counted(made: Iterable[Any]) -> Iterator[Any]:
        for batch in made:
            if work is not None:
                meter.work(work(batch))
            yield batch

    def evaluate(done: int) -> dict[str, float]:
        module.eval()
        with averaged(engine, average), engine.whole() if gather else nullcontext():
            values = validate(module, log, done)
        module.train()
        log.scalars(done, {f"validation/{key}": value for key, value in values.items()})
        return values

    module.train()
    with (
        needing_room(folder),
        Log(folder, engine.rank, start) as log,
        Signals(once=engine.world == 1) as signals,
        progress(steps, name, "step", done=start, enabled=engine.rank == 0) as bar,
    ):
        for step in range(start, steps):
            began = time.perf_counter()
            torch.manual_seed(int(np.random.SeedSequence([seed, step, engine.rank]).generate_state(1)[0]))
            scale = config.optimizer.scale(step, steps)
            logs = engine.step(counted(batches(step, engine)), scale)
            if average:
                average.update(step)
            meter.step({**logs, "learning_rate": scale * config.optimizer.lr}, time.perf_counter() - began)
            bar.update()
            done = step + 1
            if done % LOG_EVERY == 0 or done == steps:
                line = meter.line()
                log.scalars(done, line)
                bar.set_postfix(_shown(line, results), refresh=False)
            if done % config.validate_every == 0 or done == steps:
                results = evaluate(done)
                if engine.rank == 0:
                    told = ", ".join(f"{key} {value:.4g}" for key, value in results.items())
                    tqdm.write(f"{name} {done}/{steps}: {told}", file=sys.stderr)
            due = engine.rank == 0 and time.monotonic() - saved > 60 * config.checkpoint_minutes  # clocks differ
            stop, due = engine.any(signals.came, due)
            if stop or due or done == steps:
                checkpoints.save(done, {"results": results}, averages)
                saved = time.monotonic()
            if stop:
                raise KeyboardInterrupt(f"stopped at step {done} of {steps}; go on with --resume")
    if average:
        average.swap()
    engine.finish()
    module.eval()
    return results


def _shown(line: dict[str, float], results: dict[str, float]) -> dict[str, str]:
    """What the progress bar tells."""
    shown = {"loss": f"{line['loss']:.3f}"}
    if "tokens_per_second" in line:
        shown["tokens/s"] = f"{line['tokens_per_second']:.0f}"
    return shown | {key: f"{value:.3g}" for key, value in results.items()}


@contextmanager
def averaged(engine: Engine, average: Average | None) -> Iterator[None]:
    """The averages in the place of the weights, if there are any."""
    if average is None:
        yield
        return
    average.swap()
    engine.spread()
    yield
    average.swap()
    engine.spread()


class Signals:
    """Notes SIGTERM and Ctrl-C instead of ending at once, in the main thread.

    A second one ends the process if `once`: launchers pass on what they get, so that each of several processes may see
    a signal twice.

    Attributes:
        came: whether one did.
    """

    def __init__(self, once: bool):
        self.came, self.once = False, once
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def _note(self, *_: object) -> None:
        self.came = True
        if self.once:
            self._restore()

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _restore(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())


def to_device(value: Tensor, like: nn.Module) -> Tensor:
    """`value` on the device of a module's weights."""
    return value.to(next(like.parameters()).device, non_blocking=True)
