"""How fast the language model trains, and in how much memory, against transformers' `LlamaForCausalLM`.

Claim: at least 1.8 times the tokens a second in at most a third of the memory, with the paper's 266,496 ids.
Run: python benchmarks/training_speed.py [--layers 4] [--width 512] [--rows 1] [--rounds 2] [--json]

A ladder from the one to the other: each rung changes one thing of the rung before, so that a table's column says what
each is worth. The peer has a dense additive mask for the prefix and the logits of all ids at all positions. Both trunks
are the same: Llama's, without norms on queries and keys. A step is forward, backward and AdamW (fused) on rows of one
task at the paper's size. Every rung is a process of its own, and the rounds go through all of them in turn.

tokens/s: positions of the rows, prefix and output. peak: of the whole process (VmHWM), or of the GPU's memory.
MFU: products of the trunk and of the rung's own head (6 a weight and position, 6 a layer, width and pair of positions
for causal attention) over the speed of a large matrix product, measured in the same process and precision, or given as
--peak-tflops.
"""

import argparse
import json
import multiprocessing
import re
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from videolm.model import attention, loss
from videolm.model.config import LMConfig, PrefixLMConfig
from videolm.model.prefix_lm import PrefixLM
from videolm.sequence import Layout, lay_out
from videolm.shapes import Format
from videolm.tasks import TASKS
from videolm.tasks.task_set import TaskSet
from videolm.tokenizers.audio.protocol import AUDIO_TOKENIZERS
from videolm.tokenizers.protocol import VIDEO_TOKENIZERS
from videolm.train.hardware import measured_flops
from videolm.vocabulary import Vocabulary

RUNGS = {
    "llama": "LlamaForCausalLM, dense mask, all logits",
    "trunk": "our model: a visual id is two embeddings",
    "no mask": "attention in two calls without a mask",
    "chunks": "the flat head's loss in chunks",
    "factorized": "the factorised head",
    "precision": "the other precision",
}
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def main() -> None:
    """Run the ladder and print a row a rung."""
    args = arguments()
    context = multiprocessing.get_context("spawn")
    workers = {}
    for rung in args.rungs:
        ours, theirs = context.Pipe()
        worker = context.Process(target=work, args=(theirs, rung, args), daemon=True)
        worker.start()
        theirs.close()
        workers[rung] = ours, worker
        ours.recv()  # made, and one step done, before the next one starts
    seconds: dict[str, list[float]] = {rung: [] for rung in workers}
    for _ in range(args.rounds):
        for rung, (pipe, _) in workers.items():
            pipe.send("step")
            seconds[rung].append(pipe.recv())
    report = []
    for rung, (pipe, worker) in workers.items():
        pipe.send("end")
        found = pipe.recv()
        worker.join()  # to free gigabytes takes time, which the next one's product would share
        took = median(seconds[rung])
        first, before = (report[0], report[-1]) if report else (None, None)
        row = {
            "rung": rung,
            "what": RUNGS[rung],
            "precision": precision(rung, args),
            "seconds": took,
            "tokens_per_second": found["tokens"] / took,
            "speed_over_before": before["seconds"] / took if before else 1.0,
            "speed_over_first": first["seconds"] / took if first else 1.0,
            "peak_gb": found["peak"] / 1e9,
            "peak_over_first": found["peak"] / 1e9 / first["peak_gb"] if first else 1.0,
            "mfu": found["flops"] / took / found["flops_per_second"],
        }
        report.append(row)
    if args.json:
        for row in report:
            print(json.dumps({**row, "layers": args.layers, "width": args.width, "rows": args.rows, "task": args.task}))
        return
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    length = layout_of(args.task).length
    print(f"{args.layers} x {args.width}, rows of {args.task}: {args.rows} x {length} positions; {where}")
    print("| rung | | precision | s a step | tokens/s | × before | × first | peak GB | of first | MFU |")
    print("| --- " * 10 + "|")
    for row in report:
        print(
            f"| {row['rung']} | {row['what']} | {row['precision']} | {row['seconds']:.2f} | "
            f"{row['tokens_per_second']:.0f} | {row['speed_over_before']:.2f} | {row['speed_over_first']:.2f} | "
            f"{row['peak_gb']:.2f} | {row['peak_over_first']:.2f} | {row['mfu']:.0%} |"
        )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=512, help="a multiple of 64, the width of a head")
    parser.add_argument("--rows", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2, help="timed steps of each rung; the median counts")
    parser.add_argument("--task", default="text_to_video", help="whose rows; also text_to_video_with_audio")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="bfloat16: by autocast")
    parser.add_argument("--rungs", nargs="+", choices=RUNGS, default=[*RUNGS], help="some of the ladder alone")
    parser.add_argument("--peak-tflops", type=float, help="of the device, for the MFU (default: measured)")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def precision(rung: str, args: argparse.Namespace) -> str:
    """What a rung computes in."""
    return next(name for name in PRECISIONS if (name == args.precision) != (rung == "precision"))


def work(pipe: Connection, rung: str, args: argparse.Namespace) -> None:
    """One rung's process: a step at every word from the pipe, what it took at the end."""
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = PRECISIONS[precision(rung, args)]
    layout = layout_of(args.task)
    model, forward, head = (llama if rung == "llama" else ours)(rung, layout, args, device)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)

    def step() -> float:
        began = perf_counter()
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            value = forward()
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()
        return perf_counter() - began

    step()
    pipe.send("ready")
    while pipe.recv() == "step":
        pipe.send(step())
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else high_water()
    tokens = args.rows * layout.length
    # The trunk's own products; a layer's attention is two products forward, twice that backward, over half the pairs.
    weights = sum(weight.numel() for name, weight in model.named_parameters() if "layers." in name and weight.ndim > 1)
    flops = tokens * (6 * weights + 6 * args.layers * args.width * layout.length) + 6 * head
    speed = args.peak_tflops * 1e12 if args.peak_tflops else measured_flops(torch.device(device), dtype)
    pipe.send({"tokens": tokens, "peak": peak, "flops": flops, "flops_per_second": speed})


Made = tuple[torch.nn.Module, Callable[[], Tensor], int]
"""A model, a forward pass to its loss, and the head's weights times the positions it has to be asked for."""


def llama(rung: str, layout: Layout, args: argparse.Namespace, device: str) -> Made:
    """The peer."""
    lm = settings(args, "flat")
    config = LlamaConfig(
        vocab_size=Vocabulary().size,
        hidden_size=args.width,
        intermediate_size=lm.mlp_size,
        num_hidden_layers=args.layers,
        num_attention_heads=lm.num_heads,
        max_position_embeddings=layout.length,
        tie_word_embeddings=False,
        use_cache=False,
    )
    with torch.device(device):
        model = LlamaForCausalLM(config).train()
    ids = rows(layout, args.rows).to(device)
    labels = ids.clone()
    labels[:, : layout.prefix] = -100
    mask = dense_mask(layout).to(device).expand(args.rows, -1, -1, -1)
    asked = args.rows * (layout.length - layout.prefix)
    return model, lambda: model(ids, attention_mask=mask, labels=labels).loss, model.lm_head.weight.numel() * asked


def ours(rung: str, layout: Layout, args: argparse.Namespace, device: str) -> Made:
    """Our model, with the peer's ways where a rung has not yet left them."""
    head = "factorized" if rung in ("factorized", "precision") else "flat"
    if rung == "trunk":
        mask = dense_mask(layout).to(device)
        attention.prefix_attention = lambda q, k, v, prefix: F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask.to(q.dtype)
        )
    if rung in ("trunk", "no mask"):
        loss.linear_cross_entropy = all_logits
    with torch.device(device):
        model = PrefixLM(PrefixLMConfig(settings(args, head))).train()
    ids, positions = rows(layout, args.rows).to(device), layout.positions.to(device)
    segments = [(span.kind, span.start, span.stop) for span in layout.outputs]

    def weights(kind: str) -> int:
        """Of the head, those that positions of a kind are multiplied with."""
        names = ("whole.weight",) if head == "flat" else ("visual_a", "mix.", "visual_b")
        names = names if head == "flat" or kind == "visual" else (f"whole.{kind}.",)
        return sum(weight.numel() for name, weight in model.head.named_parameters() if name.startswith(names))

    asked = args.rows * sum((stop - start) * weights(kind) for kind, start, stop in segments)
    return model, lambda: model(ids, positions, layout.prefix, segments).loss, asked


def settings(args: argparse.Namespace, head: Any) -> LMConfig:
    """Llama's trunk."""
    return LMConfig(
        hidden_size=args.width,
        num_layers=args.layers,
        num_heads=args.width // 64,
        positions="1d",
        qk_norm=False,
        head=head,
    )


def all_logits(hidden: Tensor, weight: Tensor, ids: Tensor) -> loss.Scores:
    """The loss as it is usually written."""
    value = F.cross_entropy(F.linear(hidden, weight).float(), ids)
    return loss.Scores(value, value.detach().expand(len(ids)), ids == ids)


def dense_mask(layout: Layout) -> Tensor:
    """(1, 1, n, n) to be added to scores: the prefix sees itself whole, later rows what is before them."""
    seen = torch.ones(layout.length, layout.length, dtype=torch.bool).tril()
    seen[: layout.prefix, : layout.prefix] = True
    return torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)[None, None]


def layout_of(task: str) -> Layout:
    """A task's first row at the paper's size."""
    tasks = TaskSet(tasks=tuple(TASKS.get(name) for name in TASKS), formats=(Format(17, 128, 128),))
    video, codec = VIDEO_TOKENIZERS.get("magvit_v2"), AUDIO_TOKENIZERS.get("soundstream")
    grid, sound = video.without_weights(video.Settings()).grid, codec.without_weights(codec.Settings()).grid
    variant = tasks.get(task).variants(tasks.formats)[0]
    return lay_out(variant, tasks, Vocabulary().with_specials(tasks.specials), grid, sound)


def rows(layout: Layout, count: int) -> Tensor:
    """Rows (count, n) of drawn ids."""
    generator = torch.Generator().manual_seed(0)
    ids = layout.template.expand(count, -1).clone()
    for span in layout.spans:
        if span.source:
            ids[:, span.start : span.stop] += torch.randint(len(span.ids), (count, span.length), generator=generator)
    return ids


def high_water() -> int:
    """The most memory, in bytes, that this process has held."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found, "peak memory is read from /proc, which Linux has"
    return int(found[1]) * 1024


if __name__ == "__main__":
    main()
