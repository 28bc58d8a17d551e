"""What `videolm estimate` says of a recipe's step, beside real steps on this machine: seconds and peak memory.

Claim: both within 15%.
Run: python benchmarks/estimate_check.py RECIPE [--steps 4] [--rounds 3] [--json] [--key value ...]

The real steps are the recipe's own: the whole model under its engine and optimiser, with its average, rows of every
variant of its mixture in their batches (their ids are templates; no data is read), in processes of their own. Seconds
are means over the variants by their shares, of each the median. Memory is the most that a process had, less what it had
with all libraries loaded and no model, where malloc gives back at once what is freed (it may keep a fifth more); on a
GPU, the most that was allocated. The estimate of seconds, from steps through one and two layers, is made in turn with
real steps for some rounds, since a machine's speed is not the same all the time; medians of the rounds are compared.
"""

import argparse
import json
import multiprocessing
import os
import re
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

from videolm.cli.main import quiet_libraries
from videolm.cli.output import table
from videolm.cli.train import overrides
from videolm.train.average import Average
from videolm.train.engine import Engine, device
from videolm.train.estimate import Plan, Variant
from videolm.train.plans import plan_of
from videolm.train.recipe import load_recipe

KEEP_NOTHING = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""Settings of glibc's malloc."""


def main() -> None:
    """Print the estimate and what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--steps", type=int, default=4, help="of every variant, the first of which is not counted")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args, rest = parser.parse_known_args()
    changes = overrides(rest)
    plan = plan_of(load_recipe(args.recipe, changes))
    told, took = [], []
    for _ in range(args.rounds):
        told.append(in_process(estimated, args.recipe, changes))
        took.append(in_process(seconds_a_step, args.recipe, changes, args.steps))
    os.environ.update(KEEP_NOTHING)
    engine = plan.recipe.engine
    memory = plan.memory(engine.zero_stage, 1, plan.activations(engine.checkpoint_activations))
    estimate = {"seconds": statistics.median(told), "gigabytes": memory.total / 1e9}
    measured = {
        "seconds": statistics.median(took),
        "gigabytes": in_process(gigabytes, args.recipe, changes, 2),
    }
    found = {
        what: {"estimate": estimate[what], "measured": measured[what], "ratio": estimate[what] / measured[what]}
        for what in estimate
    }
    if args.json:
        print(json.dumps({"recipe": args.recipe, "units": plan.units, "weights": plan.trained, **found}))
        return
    rows = [["", "estimate", "measured", "estimate / measured"]]
    rows += [[what, *(f"{value:.3f}" for value in each.values())] for what, each in found.items()]
    size = f"{plan.trained / 1e6:.1f}M weights, {plan.units} units of layers"
    print(f"{args.recipe}: {size}, {plan.dtype}, {torch.get_num_threads()} threads")
    print(table(rows))


def in_process(measure: Callable[..., float], *args: Any) -> float:
    """What a function returns in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, *args).result()


def estimated(recipe: str, changes: dict[str, str]) -> float:
    """Seconds of a step, as they are told."""
    return plan_of(load_recipe(recipe, changes)).speed().seconds


def seconds_a_step(recipe: str, changes: dict[str, str], steps: int) -> float:
    """Of each variant the median but for its first step; over the variants, the mean by their shares."""
    plan = plan_of(load_recipe(recipe, changes))
    step, total = Step(plan), 0.0
    for variant in plan.variants:
        times = [step(variant) for _ in range(steps)]
        total += variant.share * statistics.median(times[1:])
    return total


def gigabytes(recipe: str, changes: dict[str, str], steps: int) -> float:
    """The most that all variants took."""
    plan = plan_of(load_recipe(recipe, changes))
    _warm_up(plan)
    before, step = resident("VmRSS"), Step(plan)
    for variant in plan.variants:
        for _ in range(steps):
            step(variant)
    return torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else resident("VmHWM") - before


class Step:
    """Real steps of a recipe: called with a variant, returns the seconds."""

    def __init__(self, plan: Plan):
        quiet_libraries()
        module = plan.objective(plan.units).to(device())
        plan.recompute(module, plan.recipe.engine.checkpoint_activations)
        self.plan, self.engine = plan, Engine(module, plan.training.optimizer, plan.recipe.engine)
        self.average = Average(self.engine.weights(), plan.training.ema) if plan.training.ema else None

    def __call__(self, variant: Variant) -> float:
        batch = self.plan.batch(variant, variant.rows)
        began = time.perf_counter()
        self.engine.step([batch] * self.plan.recipe.engine.accumulate, 1e-3)
        if self.average is not None:
            self.average.update(0)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter() - began


def _warm_up(plan: Plan) -> None:
    """Load all libraries and let them take what they keep: a step of a model of one small layer."""
    section = "super_resolution" if plan.recipe.lm is None else "lm"
    config = getattr(plan.recipe, section)
    small = config.model_copy(update={"hidden_size": 2 * config.num_heads, "intermediate_size": 64})
    tiny = plan_of(plan.recipe.model_copy(update={section: small}))
    engine = Engine(tiny.objective(1).to(device()), plan.training.optimizer, plan.recipe.engine)
    engine.step([tiny.batch(tiny.variants[0], 1)] * plan.recipe.engine.accumulate, 1e-3)
    engine.finish()


def resident(what: str) -> float:
    """Gigabytes of this process, by its name in /proc."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{what}:\s+(\d+) kB", status).group(1)) * 1024 / 1e9  # type: ignore[union-attr]


if __name__ == "__main__":
    main()
