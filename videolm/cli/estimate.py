"""What training a recipe's language model or super-resolution takes, before any of it is done.

Nothing of the data is read and no weight is made. On this device a few real steps through one and two layers are timed;
of a device that is named, the peak and an assumed share of it (--mfu) tell. Communication between devices, validation
and reading of data are left out.

examples:
  videolm estimate shapesworld/small
  videolm estimate videopoet/8b --data.path clips/ --devices 256 --device h100 --zero 3
  videolm estimate videopoet/300m --data.path clips/ --device a100 --mfu 0.5 --json
  videolm estimate videopoet/upscale_1 --data.path clips/ --tokenizer magvit_v2 --devices 64 --device h100
"""

from __future__ import annotations

import argparse
import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

from videolm.cli.output import emit, table
from videolm.cli.train import overrides
from videolm.errors import UserError

if TYPE_CHECKING:
    from videolm.train.estimate import Memory, Plan, Speed

OPEN = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from videolm.train.recipe import recipe_names

    parser.add_argument("recipe", metavar="RECIPE", help=f"a YAML file, or one of: {', '.join(recipe_names())}")
    parser.add_argument("--from", metavar="MODEL", dest="start", help="the model to go on from, as in `videolm train`")
    parser.add_argument("--devices", metavar="N", type=int, default=1, help="how many train together (default: 1)")
    parser.add_argument("--device", metavar="NAME", default="this", help="this (default), h100, a100, ...")
    parser.add_argument("--zero", metavar="STAGE", type=int, choices=range(4), help="one ZeRO stage alone, 0 to 3")
    parser.add_argument(
        "--mfu", metavar="SHARE", type=float, help="of the device's peak that is used (default: 0.4, recomputing 0.3)"
    )
    parser.add_argument("--json", action="store_true", help="the result as a JSON object on stdout")


def run(args: argparse.Namespace, rest: list[str]) -> None:
    from videolm.train.plans import plan_of
    from videolm.train.recipe import load_recipe

    if args.devices < 1:
        raise UserError(f"--devices is {args.devices}: give 1 or more")
    if args.mfu is not None and not 0 < args.mfu <= 1:
        raise UserError(f"--mfu is {args.mfu}: give a share above 0, at most 1")
    start = {} if args.start is None else {"start": args.start}
    plan = plan_of(load_recipe(args.recipe, {**overrides(rest), **start}), args.device)
    with redirect_stdout(sys.stderr):  # DeepSpeed prints
        speed = plan.speed(args.device, args.mfu)
    stages = range(4) if args.zero is None else [args.zero]
    memory = {
        recompute: [plan.memory(stage, args.devices, held) for stage in stages]
        for recompute in (False, True)
        for held in [plan.activations(recompute)]
    }
    if args.json:
        emit(_record(args, plan, speed, memory))
    else:
        print("\n\n".join(_sections(args, plan, speed, memory)))


def _record(args: argparse.Namespace, plan: Plan, speed: Speed, memory: dict[bool, list[Memory]]) -> dict[str, Any]:
    steps = plan.training.steps
    return {
        "parameters": plan.parameters,
        "trained": plan.trained,
        "variants": [
            {
                "variant": v.name,
                "tokens": v.length,
                "prefix": v.prefix,
                "share": v.share,
                "rows": v.rows,
                "flops": plan.batch_flops(v),
            }
            for v in plan.variants
        ],
        "devices": args.devices,
        "device": args.device,
        "dtype": str(plan.dtype).removeprefix("torch."),
        "steps": steps,
        "tokens_per_step": args.devices * plan.tokens,
        "tokens": args.devices * plan.tokens * steps,
        "flops_per_step": args.devices * plan.flops,
        "six_n_d": args.devices * plan.six_n_d,
        "memory": [
            {"recompute": recompute, **each._asdict(), "total": each.total}
            for recompute, found in memory.items()
            for each in found
        ],
        "seconds_per_step": speed.seconds,
        "mfu": speed.mfu,
        "peak_flops": speed.peak,
        "measured": speed.measured,
        "hours": speed.seconds * steps / 3600,
        "device_hours": args.devices * speed.seconds * steps / 3600,
        "storage": plan.storage,
    }


def _sections(args: argparse.Namespace, plan: Plan, speed: Speed, memory: dict[bool, list[Memory]]) -> list[str]:
    steps, all_tokens = plan.training.steps, args.devices * plan.tokens
    weights = [["weights", "millions"]]
    weights += [[part, f"{count / 1e6:.1f}"] for part, count in plan.parameters.items()]
    weights += [["trained here", f"{plan.trained / 1e6:.1f}"]]
    rows = [["row", "tokens", "prefix", "share", "rows a batch", "TFLOP a batch"]]
    rows += [
        [
            v.name,
            str(v.length),
            str(v.prefix),
            f"{v.share:.1%}",
            str(v.rows),
            f"{plan.batch_flops(v) / 1e12:.3g}",
        ]
        for v in plan.variants
    ]
    step = (
        f"a step: {_number(all_tokens)} tokens on {args.devices} x {plan.recipe.engine.accumulate} batches, "
        f"{args.devices * plan.flops / 1e12:.4g} TFLOP (6ND, without attention: "
        f"{args.devices * plan.six_n_d / 1e12:.4g})\n"
        f"all {steps:,} steps: {_number(all_tokens * steps)} tokens, {args.devices * plan.flops * steps:.3g} FLOP"
    )
    parts = ["weights", "gradients", "optimizer", "average", "buffers", "activations", "working", "total", "host"]
    cells = [["ZeRO", "activations", *(f"{name}, GB" for name in parts)]]
    cells += [
        [
            str(each.stage),
            "recomputed" if recompute else "kept",
            *(f"{getattr(each, part) / 1e9:.2f}" for part in parts),
        ]
        for recompute, found in memory.items()
        for each in found
    ]
    if not any(each.host for found in memory.values() for each in found):
        cells = [row[:-1] for row in cells]
    largest = plan.largest
    held = (
        f"memory of a device, {str(plan.dtype).removeprefix('torch.')}, at most: a batch of "
        f"{largest.rows} x {largest.name}\n{table(cells)}"
    )
    how = "measured" if speed.measured else "assumed"
    hours = speed.seconds * steps / 3600
    spent = (
        f"time: {speed.seconds:.3g} s a step, {_duration(hours)} in all, {args.devices * hours:,.3g} device-hours\n"
        f"({speed.peak / 1e12:.4g} TFLOP/s at best, of which {speed.mfu:.0%} are used: {how})"
    )
    stored = [["token shards of a million examples", "GB"]]
    stored += [[source, f"{size / 1e3:.1f}"] for source, size in plan.storage.items()]
    return [table(weights), table(rows), step, held, spent, table(stored)]


def _number(value: float) -> str:
    """
    >>> _number(3200), _number(1.39e6), _number(2.1e12)
    ('3,200', '1.39 million', '2.1 trillion')
    """
    for size, name in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if value >= size:
            return f"{value / size:.3g} {name}"
    return f"{value:,.0f}"


def _duration(hours: float) -> str:
    """
    >>> _duration(0.5), _duration(30), _duration(300)
    ('30 minutes', '30 hours', '12.5 days')
    """
    if hours < 1:
        return f"{60 * hours:.3g} minutes"
    return f"{hours:.3g} hours" if hours < 100 else f"{hours / 24:.3g} days"
