"""What tests of sources share: clips that say which frame is which."""

from collections.abc import Callable

import numpy as np
import pytest

from videolm.media import Video


@pytest.fixture(scope="session")
def numbered() -> Callable[[int], Video]:
    """A clip of so many frames at 8 a second, 32x32, whose frame k is grey of level 4 k; `number` reads it."""

    def clip(frames: int) -> Video:
        levels = (4 * np.arange(frames)).astype(np.uint8)
        return Video(np.broadcast_to(levels[:, None, None, None], (frames, 32, 32, 3)).copy(), 8.0)

    return clip


@pytest.fixture(scope="session")
def number() -> Callable[[np.ndarray], int]:
    return lambda frame: int(frame.mean() / 4 + 0.5)
