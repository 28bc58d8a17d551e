"""Random numbers by place: what is drawn at a place of a row follows from the row's seed and the place alone."""

from __future__ import annotations

import numpy as np

GOLDEN = 0x9E3779B97F4A7C15
WORD = 2**64


def gumbel(seed: int, place: int, count: int) -> np.ndarray:
    """(count,) float32 of Gumbel noise for a place: an argmax of logits plus this is a draw from their softmax.

    Places may be drawn in any order, several at once, or again: numbers come from counters, through the mixing function
    of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014). `native` makes
    the same ones, of the choices that need them.

    >>> first, again = gumbel(3, 70, 5), gumbel(3, 70, 5)
    >>> bool((first == again).all()), bool((first == gumbel(3, 71, 5)).any()), first.dtype
    (True, False, dtype('float32'))
    """
    start = _mixed(np.array([(seed + GOLDEN * (place + 1)) % WORD], np.uint64))
    counters = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(GOLDEN)
    uniform = ((_mixed(start + counters) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return (-np.log(-np.log(uniform))).astype(np.float32)


def _mixed(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
