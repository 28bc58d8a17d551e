"""Two ranks against one, one thread each, by the tokens a second that a training logs.

    python benchmarks/two_ranks.py RECIPE [--steps 30 --rounds 2 --zero 0 --key value ...]

Runs `videolm train` in turn with one process and with two under `torchrun`, on token shards that are made once.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from videolm.cli.train import overrides


def tokens_per_second(command: list[str], out: Path, ranks: int) -> float:
    """What the log of a training says, its first line (with what is only done once) left out."""
    launch = [] if ranks == 1 else ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"]
    run = [sys.executable, *launch, "-m", "videolm", "train", *command, "--out", str(out)]
    subprocess.run(run, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
    rows = [json.loads(line) for line in (out / "lm_training" / "metrics.jsonl").read_text().splitlines()]
    return statistics.median([row["tokens_per_second"] for row in rows if "tokens_per_second" in row][1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--zero", type=int, default=0, choices=range(4))
    args, rest = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        changes = {"tokens": f"{folder}/tokens", **overrides(rest), "lm_training.steps": str(args.steps)}
        changes |= {"lm_training.samples": "0", "lm_training.validation_rows": "1", "evaluation_samples": "0"}
        changes |= {"engine.zero_stage": str(args.zero)}
        command = [args.recipe, *(word for key, value in changes.items() for word in (f"--{key}", value))]
        prepare = [sys.executable, "-m", "videolm", "prepare", *command, "--out", f"{folder}/prepared"]
        subprocess.run(prepare, check=True, stderr=subprocess.DEVNULL)
        found: dict[int, list[float]] = {1: [], 2: []}
        for number in range(args.rounds):
            for ranks, each in found.items():
                each.append(tokens_per_second(command, Path(folder) / f"{ranks}-{number}", ranks))
        one, two = (statistics.median(each) for each in found.values())
        print(f"one rank {one:.0f} tokens/s, two {two:.0f}: {two / one:.2f} times ({found})")


if __name__ == "__main__":
    main()
