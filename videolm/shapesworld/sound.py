"""What a scene sounds like: a tone whose pitch is the shape's and whose course is the motion's.

One object, mono, 16 kHz; several are summed and shared out. Clips of one length have one number of samples, so that
frame f begins at sample 2000 f.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from videolm.shapesworld.world import FPS, FRAMES, Object, Scene

RATE = 16000
"""Samples a second."""

PITCHES = {"circle": 262.0, "square": 330.0, "triangle": 392.0, "diamond": 523.0, "star": 659.0, "cross": 784.0}
"""Fundamental of each shape, in Hz."""
HARMONIC = 0.3
"""Amplitude of the octave above, over the fundamental's."""
AMPLITUDES = {"small": 0.25, "large": 0.5}
RAMPS = {"grows": (0.2, 0.8), "shrinks": (0.8, 0.2)}
"""Amplitude at t = 0 and 1, in place of the size's."""
GLIDES = {"moves up": 4.0, "moves down": -4.0}
"""Semitones that the pitch has risen by at t = 1."""
TREMOLOS = {"moves left": 4.0, "moves right": 8.0}
"""Hz; the amplitude falls to half."""
CONTACTS = (0.25, 0.75)
"""When something that bounces is at its lowest."""
DECAY = 0.08
"""Seconds in which a burst falls to 1/e."""


def sound(scene: Scene, frames: int = FRAMES) -> NDArray[np.float32]:
    """The sound of a scene's clip: (samples,) in [-1, 1], 2,000 samples a frame at 16 kHz.

    Raises:
        ValueError: for a number of frames that is not 1 + 4k.
    """
    if frames < 1 or frames % 4 != 1:
        raise ValueError(f"frames is {frames}; a clip has 1 + 4k of them: 1, 5, 9, 13, 17, ...")
    voices = [_voice(thing, frames * RATE // FPS) for thing in scene.objects]
    return (np.sum(voices, axis=0) / len(voices)).astype(np.float32)


def _voice(thing: Object, samples: int) -> NDArray[np.float64]:
    t, seconds = np.linspace(0, 1, samples), np.arange(samples) / RATE
    pitch = PITCHES[thing.shape] * 2 ** (GLIDES.get(thing.motion, 0.0) * t / 12)
    phase = 2 * np.pi * np.concatenate([[0.0], np.cumsum(pitch[:-1])]) / RATE
    tone = (np.sin(phase) + HARMONIC * np.sin(2 * phase)) / (1 + HARMONIC)
    first, last = RAMPS.get(thing.motion, (AMPLITUDES[thing.size],) * 2)
    amplitude = first + (last - first) * t
    if thing.motion in TREMOLOS:
        amplitude = amplitude * (1 - 0.5 * (0.5 + 0.5 * np.sin(2 * np.pi * TREMOLOS[thing.motion] * seconds)))
    if thing.motion == "bounces":
        since = np.full(samples, np.inf)
        for contact in CONTACTS:
            at = seconds - contact * seconds[-1]
            since = np.where(at >= 0, at, since)
        amplitude = amplitude * np.exp(-since / DECAY)
    return amplitude * tone
