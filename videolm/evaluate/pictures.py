"""What a report shows of a sample beside clips: sounds, and clips with a mask over them."""

from __future__ import annotations

import numpy as np

from videolm.media import Audio, Video

INK, GREY, WHITE = (40, 80, 160), 128, 255
SIZE = (64, 600)
"""Height and width of a waveform, in pixels."""


def waveform(sound: Audio) -> Video:
    """The course of a sound's first channel, -1 to 1 from bottom to top, as a clip of one frame."""
    height, width = SIZE
    samples = sound.samples[0]
    begins = np.linspace(0, len(samples), width, endpoint=False).astype(int)
    low, high = np.minimum.reduceat(samples, begins), np.maximum.reduceat(samples, begins)
    rows, half = np.linspace(1, -1, height)[:, None], 1 / (height - 1)
    inside = (rows >= low - half) & (rows <= high + half)  # (H, W)
    return Video(np.where(inside[..., None], np.array(INK, np.uint8), np.uint8(WHITE))[None], 1.0)


def masked(clip: Video, hidden: np.ndarray) -> Video:
    """A clip with its hidden pixels (f, H, W) grey, as a task that fills them is given it."""
    return Video(np.where(hidden[..., None], np.uint8(GREY), clip.frames), clip.fps)
