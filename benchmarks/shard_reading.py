"""What reading token shards costs beside a training step, in one run.

    python benchmarks/shard_reading.py RECIPE [--steps 20 --key value ...]

Prepares the recipe's shards where they are missing, then draws the rows of some steps and trains on them, each timed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

from videolm.cli.train import overrides
from videolm.data.mixture import Mixture, Rows
from videolm.progress import quiet_libraries
from videolm.train.recipe import load_recipe
from videolm.train.run import Run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--steps", type=int, default=20)
    args, rest = parser.parse_known_args()
    quiet_libraries()
    changes = {**overrides(rest), "lm_training.steps": args.steps, "lm_training.samples": 0}
    run = Run(load_recipe(args.recipe, changes), resume=None)
    reads: list[float] = []
    at = Mixture.at

    def timed(mixture: Mixture, *place: int) -> Rows:
        began = time.perf_counter()
        rows = at(mixture, *place)
        reads.append(time.perf_counter() - began)
        return rows

    Mixture.at = timed  # type: ignore[method-assign]
    tokenizer, audio, _ = run.ready()
    run.prepare()
    run.language_model(tokenizer, audio)
    rows = [json.loads(line) for line in (run.folder / "lm_training" / "metrics.jsonl").read_text().splitlines()]
    steps = [row["seconds_per_step"] for row in rows if "seconds_per_step" in row]
    read, step = statistics.median(reads), statistics.median(steps)
    print(f"reading {1000 * read:.2f} ms a step, training {1000 * step:.0f} ms: {read / step:.2%} of a step")


if __name__ == "__main__":
    main()
