"""Windowed attention against attention of all codes to all, at the size of the paper's second super-resolution stage.

Claim: on (5, 112, 64) codes windows are at least 40 times as fast, forward and backward; time and memory of a whole
model are linear in the pixels.
Run: python benchmarks/windows.py [--heads 4] [--dim 64] [--rounds 3] [--stage] [--json]

The windows are those of VideoPoet's appendix A.3; "all" is torch's kernel over the same queries, keys and values as one
sequence of 35,840. Times are medians of rounds that go through all in turn. --stage: forward passes of the paper's
first stage (1B) over a quarter, half, all and twice of its (5, 56, 32) codes, each in a process of its own for its peak
of memory, in bfloat16 where the processor multiplies it fast.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from statistics import median
from typing import Any

import torch

from videolm.model.windows import Window, attend, fold
from videolm.shapes import TokenGrid
from videolm.superres.model import MaskedModel, MaskedModelConfig
from videolm.train.engine import fast_bfloat16
from videolm.train.recipe import load_recipe

GRID = (5, 112, 64)
WINDOWS = {"vertical": Window(1, 112, 2), "horizontal": Window(1, 4, 64), "temporal": Window(5, 8, 8)}
STAGES = ((5, 56, 8), (5, 56, 16), (5, 56, 32), (5, 112, 32))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--dim", type=int, default=64, help="of a head")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stage", action="store_true", help="a forward pass of the paper's first stage, too")
    parser.add_argument("--one", metavar="T,H,W", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.one:
        print(json.dumps(forward(tuple(map(int, args.one.split(","))))))
        return
    report = attention(args.heads, args.dim, args.rounds)
    for row in report:
        print(
            json.dumps(row)
            if args.json
            else "| {windows} | {forward:.3f} | {both:.3f} | {x_forward:.0f} | {x_both:.0f} |".format(**row)
        )
    for grid in STAGES if args.stage else ():
        command = [sys.executable, __file__, "--one", ",".join(map(str, grid))]
        row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(
            json.dumps(row)
            if args.json
            else "| {grid} | {codes} | {seconds:.1f} | {per_code:.2f} | {peak_gb:.2f} |".format(**row)
        )


def attention(heads: int, dim: int, rounds: int) -> list[dict[str, Any]]:
    """Seconds of attention forward, and forward and backward, by windows and over all."""
    torch.manual_seed(0)
    whole = Window(*GRID)
    x = torch.randn(1, *GRID, 3 * heads * dim)
    ways = {**WINDOWS, "all": whole}
    times: dict[tuple[str, bool], list[float]] = {(name, back): [] for name in ways for back in (False, True)}
    for _ in range(rounds):
        for (name, back), found in times.items():
            q, k, v = (
                part.clone().requires_grad_(back)
                for part in fold(x, ways[name]).unflatten(-1, (3, heads, dim)).unbind(3)
            )
            began = time.perf_counter()
            y = attend(q, k, v)
            if back:
                y.sum().backward()
            found.append(time.perf_counter() - began)
    middle = {key: median(found) for key, found in times.items()}
    return [
        {
            "windows": f"{name} {tuple(ways[name])}",
            "forward": middle[name, False],
            "both": middle[name, True],
            "x_forward": middle["all", False] / middle[name, False],
            "x_both": middle["all", True] / middle[name, True],
        }
        for name in ways
    ]


def forward(grid: tuple[int, ...]) -> dict[str, Any]:
    """A pass of the paper's first stage over clips of this many codes."""
    recipe = load_recipe("videopoet/upscale_1", {"data.path": "films"})
    assert recipe.super_resolution is not None
    config = MaskedModelConfig(
        **recipe.super_resolution.model_dump(), codebook_size=2**18, text_size=2048, grid=TokenGrid(5, 56, 32)
    )
    torch.set_default_dtype(torch.bfloat16 if fast_bfloat16("cpu") else torch.float32)
    torch.manual_seed(0)
    model = MaskedModel(config).eval()
    t, h, w = grid
    codes, hidden = torch.randint(2**18, (1, t, h, w)), torch.rand(1, t, h, w) < 0.5
    low, text = torch.randint(2**18, (1, t, h // 2, w // 2)), torch.randn(1, 64, 2048)
    began = time.perf_counter()
    with torch.inference_mode():
        model(codes, hidden, low, text=text)
    seconds, count = time.perf_counter() - began, t * h * w
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "grid": str(grid),
        "codes": count,
        "seconds": seconds,
        "per_code": 1000 * seconds / count,
        "peak_gb": peak / 2**20,
    }


if __name__ == "__main__":
    main()
