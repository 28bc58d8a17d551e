"""Random numbers by place: what is drawn at a place of a row follows from the row's seed and the place alone."""

from __future__ import annotations

import numpy as np


def gumbel(seed: int, place: int, count: int) -> np.ndarray:
    """(count,) float32 of Gumbel noise for a place: an argmax of logits plus this is a draw from their softmax.

    Places may be drawn in any order, several at once, or again: the generator is a counter (Philox, "Parallel random
    numbers: as easy as 1, 2, 3", SC 2011) that starts at the place.

    >>> first, again = gumbel(3, 70, 5), gumbel(3, 70, 5)
    >>> bool((first == again).all()), bool((first == gumbel(3, 71, 5)).any()), first.dtype
    (True, False, dtype('float32'))
    """
    uniform = np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, place, 0])).random(count, np.float32)
    with np.errstate(divide="ignore"):  # -inf where uniform is 0: that one is not drawn
        return -np.log(-np.log(uniform))
