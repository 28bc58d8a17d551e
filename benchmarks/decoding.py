"""How fast ids are drawn, against transformers' `LlamaForCausalLM.generate`.

Claim: guided (two rows in one), the paper's 266,496 ids: a small model is at least 12 times as fast in float32, with
the ids of the plain loop, and 30 times with int8 weights; at 300M 6 and 20 times; with equal heads 2.5 and 7 times; 60%
of the memory's bandwidth.
Run: python benchmarks/decoding.py [--layers 8] [--width 512] [--context 600] [--ids 48] [--rounds 3] [--json]

The peer has a static cache and the flat head of its own, and samples two rows. Ours are of the same trunk (Llama's: no
norms of queries and keys) with the factorised head, one row led away from another; window 1 draws one id a step. "equal
heads" is the peer with 1,024 ids, as many as our two factors have together. A step's time is that of `ids` + 1 ids less
that of one, over `ids`, after `context` given ones: what comes before does not count. Rounds go through all in turn,
and medians are compared. Bandwidth: what a sum over half a gigabyte reads a second; a step's share of it is the weights
and the cache that it reads.
"""

import argparse
import json
import time
from collections.abc import Callable
from copy import deepcopy
from statistics import median
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from videolm.generate.engine import Decoder, Decoding, rows_of
from videolm.generate.row import Output, Plan
from videolm.generate.sampling import Sampling
from videolm.model.config import LMConfig, PrefixLMConfig
from videolm.model.prefix_lm import PrefixLM
from videolm.vocabulary import Vocabulary

WAYS: dict[str, Decoding] = {
    "torch, plain loop": Decoding(engine="torch", window=1, rows=1),
    "C++ float32": Decoding(engine="native", window=1, rows=1),
    "C++ bfloat16": Decoding(engine="native", window=1, rows=1, precision="bfloat16"),
    "C++ int8": Decoding(engine="native", window=1, rows=1, precision="int8"),
}
BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}
EQUAL = 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--width", type=int, default=512, help="a multiple of 64, the width of a head")
    parser.add_argument("--context", type=int, default=600, help="ids that are given")
    parser.add_argument("--ids", type=int, default=48, help="ids that are drawn and timed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.manual_seed(0)
    lm = LMConfig(
        hidden_size=args.width, num_layers=args.layers, num_heads=args.width // 64, positions="1d", qk_norm=False
    )
    model = PrefixLM(PrefixLMConfig(lm)).eval()
    drawn: dict[str, list[int]] = {}
    runs: dict[str, Callable[[], float]] = {
        "LlamaForCausalLM.generate": peer(lm, Vocabulary().size, args),
        "the same, 1,024 ids": peer(lm, EQUAL, args),
    }
    for way, decoding in WAYS.items():  # a model each: one keeps the weights of one precision
        runs[way] = ours(deepcopy(model), decoding, args, drawn.setdefault(way, []))
    times: dict[str, list[float]] = {name: [] for name in [*runs, "bandwidth"]}
    for turn in range(args.rounds + 1):
        for name, run in [*runs.items(), ("bandwidth", bandwidth)]:
            found = run()
            if turn:  # the first one warms up
                times[name].append(found)
    speed = max(times.pop("bandwidth"))
    first, equal = (median(times[name]) for name in list(runs)[:2])
    weights = sum(w.numel() for n, w in model.named_parameters() if "layers." in n or n.startswith("head."))
    report = []
    for name, each in times.items():
        took = median(each)
        row: dict[str, Any] = {"what": name, "ms_a_step": 1000 * took, "ids_per_second": 1 / took, "x": first / took}
        if name in WAYS:
            width = BYTES[WAYS[name].precision]
            places = 2 * 2 * args.layers * args.width * (args.context + args.ids / 2)
            read = (weights + places) * width
            row |= {"x_equal_heads": equal / took, "of_bandwidth": read / took / speed}
            row |= {"same_ids": drawn[name] == drawn["torch, plain loop"]}
        report.append(row)
    about = {"layers": args.layers, "width": args.width, "context": args.context, "gb_per_second": speed / 1e9}
    if args.json:
        for row in report:
            print(json.dumps({**row, **about}))
        return
    print(
        f"{args.layers} x {args.width}, context {args.context}, {torch.get_num_threads()} threads, "
        f"memory read at {speed / 1e9:.1f} GB/s"
    )
    print("| | ms a step | ids/s | × generate | × equal heads | of bandwidth | the plain loop's ids |")
    print("| --- " * 7 + "|")
    for row in report:
        more = "| | |"
        if "same_ids" in row:
            same = "yes" if row["same_ids"] else "no"
            more = f"| {row['x_equal_heads']:.2f} | {row['of_bandwidth']:.0%} | {same}"
        print(f"| {row['what']} | {row['ms_a_step']:.2f} | {row['ids_per_second']:.0f} | {row['x']:.1f} {more} |")


def peer(lm: LMConfig, ids: int, args: argparse.Namespace) -> Callable[[], float]:
    """Seconds a step of transformers' own generation, two rows at a time."""
    config = LlamaConfig(
        vocab_size=ids,
        hidden_size=lm.hidden_size,
        intermediate_size=lm.mlp_size,
        num_hidden_layers=lm.num_layers,
        num_attention_heads=lm.num_heads,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config).eval()
    given = torch.randint(ids, (2, args.context))
    mask = torch.ones_like(given)

    def seconds(count: int) -> float:
        began = time.perf_counter()
        made = model.generate(
            given,
            attention_mask=mask,
            do_sample=True,
            min_new_tokens=count,
            max_new_tokens=count,
            cache_implementation="static",
            pad_token_id=0,
        )
        assert made.shape[1] == args.context + count
        return time.perf_counter() - began

    return lambda: (seconds(args.ids + 1) - seconds(1)) / args.ids


def ours(model: PrefixLM, decoding: Decoding, args: argparse.Namespace, drawn: list[int]) -> Callable[[], float]:
    """Seconds a step of our decoder, one row led away from another; `drawn` gets the ids."""
    vocabulary, length = Vocabulary(), args.context + args.ids + 1
    visual = Output("visual", args.context + 1, length, vocabulary.visual)
    outputs = (Output("special", args.context, args.context + 1, range(8, 9)), visual)
    plan = Plan(torch.arange(length)[:, None], args.context, outputs, (-1,) * length)
    seeded = torch.Generator().manual_seed(1)
    given = torch.randint(vocabulary.visual.start, vocabulary.visual.stop, (2, 1, args.context), generator=seeded)
    sampling = Sampling(guidance_scale=3.0)

    def run() -> float:
        (row,) = rows_of(plan, given[0], sampling, [torch.Generator().manual_seed(0)], bare=given[1])
        decoder = Decoder(model, length, decoding)
        decoder.add([row])
        decoder.step()
        began, steps = time.perf_counter(), 0
        while decoder.busy:
            decoder.step()
            steps += 1
        took = time.perf_counter() - began
        drawn[:] = row.ids[args.context :]
        return took / steps

    return run


def bandwidth() -> float:
    """Bytes a second that are read from memory."""
    many = torch.ones(2**27)
    best = 0.0
    for _ in range(3):
        began = time.perf_counter()
        many.sum()
        best = max(best, 4 * len(many) / (time.perf_counter() - began))
    return best


if __name__ == "__main__":
    main()
