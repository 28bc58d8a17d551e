"""How fast a recipe's video tokenizer encodes, decodes and trains on this device, and how near to what it could do.

Claim: none yet at paper size, for want of a GPU; with --preset magvit_v2_small it runs on a CPU.
Run: python benchmarks/tokenizer_speed.py [--preset magvit_v2] [--format 17x128x128] [--batch 4] [--compile]

"of the peak": operations of convolutions and matrix products, by torch's formulas, over the time and
the device's speed at best (`videolm.train.hardware`) in the precision. The step is one of the recipe `magvit_v2`:
squared error, the quantiser's losses, the discriminator, LeCam and R1, forward and backward with AdamW; LPIPS too with
--lpips, which needs its public weights.
"""

import argparse
import resource
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from videolm.cli.evaluate_tokenizer import _format as read_format
from videolm.cli.evaluate_tokenizer import device_name
from videolm.tokenizers.protocol import VIDEO_TOKENIZERS
from videolm.train.engine import device as best_device
from videolm.train.hardware import peak_flops
from videolm.train.recipe import load_recipe
from videolm.train.tokenizer import Objective

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="magvit_v2")
    parser.add_argument("--format", type=read_format, default=read_format("17x128x128"))
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--channels", type=int, default=128, help="of the discriminator's first level")
    parser.add_argument("--precision", choices=PRECISIONS, default="bfloat16")
    parser.add_argument("--compile", action="store_true", help="torch.compile both ways")
    parser.add_argument("--lpips", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    device, dtype = torch.device(best_device()), PRECISIONS[args.precision]
    told = {"data.path": "films", "tokenizer": args.preset, "tokenizer_training.lpips": 0.1 * args.lpips}
    told["tokenizer_training.discriminator.channels"] = args.channels
    recipe = load_recipe("magvit_v2", told)
    assert recipe.tokenizer is not None and recipe.tokenizer_training is not None
    torch.manual_seed(0)
    kind = VIDEO_TOKENIZERS.get(recipe.tokenizer.name)  # type: ignore[attr-defined]  # each has one
    tokenizer = kind(recipe.tokenizer).to(device, dtype).eval()
    clips = (torch.rand(args.batch, 3, *args.format, device=device) * 2 - 1).to(dtype)
    peak = peak_flops(device, dtype)
    millions = sum(weight.numel() for weight in tokenizer.parameters()) / 1e6
    print(f"{device_name()}, {args.precision}, {args.preset} ({millions:.1f}M), {args.batch} clips of {args.format}\n")
    print("| | seconds | frames/s | of the peak | memory, GB |\n| --- | --- | --- | --- | --- |")
    encode, decode = tokenizer.encode, tokenizer.decode
    with torch.no_grad():
        codes = encode(clips)
        ways = {"encode": (encode, clips), "decode": (decode, codes)}
        for name, (call, given) in ways.items():
            flops = count(call, given)
            row(name, args, measure(torch.compile(call) if args.compile else call, given, args.rounds), flops, peak)
    training = recipe.tokenizer_training
    objective = Objective(tokenizer, training).to(device, dtype).train()
    rule = torch.optim.AdamW(objective.parameters(), lr=1e-4, betas=(0.0, 0.99))

    def step(batch: Tensor) -> None:
        objective((batch, training.weights(0)))[0].backward()
        rule.step()
        rule.zero_grad()

    flops = count(step, clips)
    row("adversarial step", args, measure(step, clips, args.rounds), flops, peak)


class Counter(TorchDispatchMode):
    """Operations by torch's formulas; its own `FlopCounterMode` does not follow R1's gradient of a gradient."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if func._overloadpacket in flop_registry:
            self.total += flop_registry[func._overloadpacket](*args, **(kwargs or {}), out_val=made)
        return made


def count(call: Callable[[Tensor], object], given: Tensor) -> int:
    """Operations of one call."""
    with Counter() as counter:
        call(given)
    return counter.total


def measure(call: Callable[[Tensor], object], given: Tensor, rounds: int) -> float:
    """Median seconds of a call, after two that are not counted."""
    times = []
    for _ in range(rounds + 2):
        began = time.perf_counter()
        call(given)
        if given.device.type != "cpu":
            torch.accelerator.synchronize()
        times.append(time.perf_counter() - began)
    return median(times[2:])


def row(name: str, args: argparse.Namespace, seconds: float, flops: int, peak: float) -> None:
    """One line of the table; memory is the most that there has been so far."""
    used = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else rss()
    rate = args.batch * args.format.frames / seconds
    print(f"| {name} | {seconds:.3f} | {rate:.1f} | {flops / seconds / peak:.1%} | {used / 2**30:.2f} |", flush=True)


def rss() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
