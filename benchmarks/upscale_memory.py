"""How much memory `videolm upscale` takes for longer and larger films, and how its time grows.

Claim: memory does not grow with the length of a film, and with its size by the frames of one chunk alone; time is
linear in both.
Run: python benchmarks/upscale_memory.py CLIP [--model DIR] [--steps 1]

Films are the clip, looped and resized. The first row tells what loading the model takes.
"""

import argparse
import tempfile
from pathlib import Path
from time import perf_counter

from stream_memory import looped, run

from videolm.media import read_video, write_frames

FPS = 8.0
FILMS = ((1, 64), (17, 64), (170, 64), (1700, 64), (17, 128), (17, 256), (17, 512))
"""(frames, side)"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip")
    parser.add_argument("--model", help="a model folder with super-resolution (default: the one that ships)")
    parser.add_argument("--steps", type=int, default=1)
    args = parser.parse_args()
    model = ["--model", args.model] if args.model else []
    print("| frames | from | seconds | peak MB | ms a frame |\n" + "| --- " * 5 + "|")
    with tempfile.TemporaryDirectory() as folder:
        for frames, side in FILMS:
            film, out = Path(folder) / "film.mp4", Path(folder) / "large.mp4"
            pixels = read_video(args.clip, fps=FPS, size=(side, side)).frames
            write_frames(looped(pixels, frames), FPS, film, overwrite=True)
            began = perf_counter()
            peak = run("upscale", str(film), "--steps", str(args.steps), "--out", str(out), "--force", *model)
            seconds = perf_counter() - began
            print(f"| {frames} | {side}x{side} | {seconds:.1f} | {peak} | {1000 * seconds / frames:.0f} |", flush=True)


if __name__ == "__main__":
    main()
