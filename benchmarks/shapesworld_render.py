"""How many ShapesWorld clips of 17 frames one core makes, and judges, in a second.

Claim: at least 500 drawn and rendered at 32x32. Run: python benchmarks/shapesworld_render.py
"""

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

from time import perf_counter

from videolm.shapesworld import draw_scene, judge, render

CLIPS = 2000


def main() -> None:
    """Print one line a size."""
    for side in (32, 64):
        start = perf_counter()
        for index in range(CLIPS):
            render(draw_scene(0, index), size=(side, side))
        made = perf_counter()
        clips = [render(draw_scene(0, index), size=(side, side)) for index in range(CLIPS // 10)]
        ready = perf_counter()
        for clip in clips:
            judge(clip)
        judged = len(clips) / (perf_counter() - ready)
        print(f"{side}x{side}: {CLIPS / (made - start):.0f} clips/s made, {judged:.0f} judged")


if __name__ == "__main__":
    main()
