"""How much memory `videolm tokenize` and `detokenize` take for a film of one minute and of ten.

Claim: as much. Run: python benchmarks/stream_memory.py CLIP [MODEL]
The film is the clip, looped, at 8 frames a second.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from time import perf_counter

import numpy as np

from videolm.media import read_video, write_frames

FPS, SIDE = 8.0, 128


def main(clip: str, *model: str) -> None:
    """Print a row a film."""
    frames = read_video(clip, fps=FPS, size=(SIDE, SIDE)).frames
    with tempfile.TemporaryDirectory() as folder:
        for minutes in (1, 10):
            film = Path(folder) / f"{minutes}.mp4"
            count = int(minutes * 60 * FPS)
            write_frames(looped(frames, count), FPS, film)
            tokens = film.with_suffix(".safetensors")
            for command, source in (("tokenize", film), ("detokenize", tokens)):
                began = perf_counter()
                peak = run(command, str(source), "--out", folder, "--force", *(["--model", *model] if model else []))
                seconds = perf_counter() - began
                print(
                    f"{minutes} min, {count} frames of {SIDE}x{SIDE}: {command} {peak} MB, {seconds:.0f} s", flush=True
                )


def looped(frames: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """So many frames, over and over."""
    return islice(cycle(frames), count)


def run(*words: str) -> int:
    """The most memory, in MB, that a command took: measured in a process that has no other child."""
    code = (
        "import resource, subprocess, sys\n"
        "subprocess.run([sys.executable, '-m', 'videolm', *sys.argv[1:]], check=True)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], check=True, capture_output=True, text=True)
    return int(done.stdout.split()[-1])


if __name__ == "__main__":
    main(*sys.argv[1:])
