"""Clips by the model that ships: guesses against one id a step, time to the first frame, memory of long films.

Claim: the ids are the same and come twice as fast; a streamed clip shows its first frame after at most 35% of its time;
a film of 1,700 frames takes the memory of one of 17.
Run: python benchmarks/generation.py [--model DIR] [--clips 8] [--rounds 3]

One clip at a time, prompts of ShapesWorld. "steps" are of the decoder, "first" is the share of a streamed clip's time
after which its first frame is there, prompt and all. Memory is the peak of `videolm generate --seconds`.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, median

import torch

from videolm import VideoLM
from videolm.evaluate.shapes import scenes
from videolm.generate.engine import Decoder, Decoding
from videolm.shapesworld import caption

WAYS = {
    "torch, one by one": Decoding(engine="torch", window=1, rows=1),
    "torch, window 8": Decoding(engine="torch", window=8, rows=1),
    "C++, one by one": Decoding(window=1),
    "C++, window 4": Decoding(window=4),
    "C++, window 8": Decoding(),
    "C++, window 16": Decoding(window=16),
}
FRAMES = (17, 170, 1700)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a model folder (default: the one that ships)")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    model = VideoLM.from_pretrained(args.model)
    prompts = [caption(scene) for scene in scenes(args.clips, "train")]
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    firsts: dict[str, list[float]] = {way: [] for way in WAYS}
    for turn in range(args.rounds + 1):
        for way, decoding in WAYS.items():
            model.decoding = decoding
            for seed, prompt in enumerate(prompts):
                took, first = streamed(model, prompt, seed)
                if turn:  # the first one warms up
                    times[way].append(took)
                    firsts[way].append(first / took)
    print("| | steps a clip | seconds a clip | × one by one | first frame | same ids |\n" + "| --- " * 6 + "|")
    plain: list[list[int]] = []
    for way, decoding in WAYS.items():
        model.decoding = decoding
        runs = [decoded(model, prompt, seed) for seed, prompt in enumerate(prompts)]
        ids = [row for row, _ in runs]
        plain = plain or ids
        base = median(times[f"{way.partition(',')[0]}, one by one"])
        took = median(times[way])
        print(
            f"| {way} | {mean(steps for _, steps in runs):.0f} | {took:.2f} | {base / took:.2f} | "
            f"{median(firsts[way]):.0%} | {'yes' if ids == plain else 'no'} |"
        )
    print("\n| frames | seconds | peak MB |\n| --- | --- | --- |")
    for frames in FRAMES:
        print(f"| {frames} | " + " | ".join(long(frames / model.tasks.fps, args.model)) + " |", flush=True)


def streamed(model: VideoLM, prompt: str, seed: int) -> tuple[float, float]:
    """Seconds until a clip is whole, and until its first frame is there."""
    began = time.perf_counter()
    stream = model(prompt, task="text_to_video", generator=torch.Generator().manual_seed(seed), stream=True)
    next(stream)
    first = time.perf_counter() - began
    _ = stream.output
    return time.perf_counter() - began, first


def decoded(model: VideoLM, prompt: str, seed: int) -> tuple[list[int], int]:
    """A clip's ids, and the steps that they took."""
    generator = torch.Generator().manual_seed(seed)
    (row,) = model.job(prompt=prompt, task="text_to_video", generator=generator, best_of=1).rows
    decoder = Decoder(model.lm, len(row.ids), model.decoding)
    decoder.add([row])
    steps = 0
    while decoder.busy:
        decoder.step()
        steps += 1
    return row.ids, steps


def long(seconds: float, model: str | None) -> tuple[str, str]:
    """Seconds and peak memory in MB of a film."""
    code = (
        "import resource, subprocess, sys, time\n"
        "began = time.time()\n"
        "subprocess.run([sys.executable, '-m', 'videolm', *sys.argv[1:]], check=True)\n"
        "print(f'{time.time() - began:.0f}', resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)"
    )
    with tempfile.TemporaryDirectory() as folder:
        words = ["generate", "--prompt", "a small red circle stays still on a white background"]
        words += ["--seconds", str(seconds), "--best-of", "1"]
        words += ["--out", str(Path(folder) / "film.mp4"), *(["--model", model] if model else [])]
        done = subprocess.run([sys.executable, "-c", code, *words], check=True, capture_output=True, text=True)
    took, peak = done.stdout.split()[-2:]
    return took, peak


if __name__ == "__main__":
    main()
