"""What a sound tells of the object that made it, by measurement: pitch, glide, bursts, the course of its loudness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from videolm.shapesworld.sound import AMPLITUDES, HARMONIC, PITCHES, RATE, TREMOLOS

Samples = NDArray[np.floating[Any]]

WINDOW = 0.25
"""Seconds at the beginning and at the end whose pitch is taken."""
BURST = 0.15
"""Seconds from the first contact, where it bounces."""
HOP = 0.01
"""Seconds between two values of the envelope."""
SILENT = 0.002
"""Loudness (RMS) below which there is no sound."""
GLIDE = 2.0
"""Semitones between steady and up or down: half of what they glide by."""
RAMP = 1.6
"""How many times louder an end is than the other, at least, where it grows or shrinks."""
TREMOLO = 0.1
"""Depth of the loudness's swing, over its mean, above which it is one; a true one is a third."""


@dataclass(frozen=True)
class SoundJudgement:
    """What a sound tells; None for what cannot be told."""

    pitch: float | None
    """Fundamental at the beginning, Hz."""
    glide: float | None
    """Semitones from the beginning to the end; None where it bounces."""
    bursts: tuple[float, ...]
    """Seconds at which bursts begin; none where the sound goes on."""
    shape: str | None
    size: str | None
    """None for what grows, shrinks or bounces: its loudness is not its size's."""
    motion: str | None

    @property
    def found(self) -> bool:
        """Whether there is a sound at all."""
        return self.pitch is not None

    @property
    def words(self) -> str:
        """What is heard, for people.

        >>> SoundJudgement(392.2, None, (0.53, 1.59), "triangle", None, "bounces").words
        '392 Hz (triangle), bounces at 0.53 and 1.59 s'
        """
        if self.pitch is None:
            return "silence"
        when = f" at {' and '.join(f'{burst:.2f}' for burst in self.bursts)} s" if self.bursts else ""
        return f"{self.pitch:.0f} Hz ({self.shape}), {self.motion}{when}"


def judge_sound(samples: Samples, rate: int = RATE) -> SoundJudgement:
    """Measure a clip's sound.

    Args:
        samples: (n,), mono, in [-1, 1], at least half a second.
        rate: samples a second.

    Raises:
        ValueError: for another shape, or less than half a second.
    """
    if samples.ndim != 1 or len(samples) < 2 * WINDOW * rate:
        raise ValueError(f"samples are {samples.shape} at {rate} Hz; wanted (n,), mono, of {2 * WINDOW} s at least")
    samples = samples.astype(np.float64)
    hop = int(HOP * rate)
    loud = np.sqrt((samples[: len(samples) // hop * hop].reshape(-1, hop) ** 2).mean(1))
    if loud.max() < SILENT:
        return SoundJudgement(None, None, (), None, None, None)
    bursts = _bursts(loud)
    if bursts:
        begin = int(bursts[0] * rate)
        pitch = _pitch(samples[begin : begin + int(BURST * rate)], rate)
        return SoundJudgement(pitch, None, bursts, _shape(pitch), None, "bounces")
    window = int(WINDOW * rate)
    pitch = _pitch(samples[:window], rate)
    glide = float(12 * np.log2(_pitch(samples[-window:], rate) / pitch))
    motion = _motion(loud, glide)
    nominal = None if motion in ("grows", "shrinks") else _size(loud, motion)
    return SoundJudgement(pitch, glide, (), _shape(pitch), nominal, motion)


def _pitch(samples: Samples, rate: int) -> float:
    """The frequency, in Hz, of the spectrum's peak, between its bins by a parabola through the three highest."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 8 * len(samples)))
    peak = int(np.clip(spectrum.argmax(), 1, len(spectrum) - 2))
    before, at, after = np.log(spectrum[peak - 1 : peak + 2] + 1e-12)
    bent = before - 2 * at + after
    shift = 0.5 * (before - after) / bent if bent else 0.0
    return float((peak + shift) * rate / (8 * len(samples)))


def _shape(pitch: float) -> str:
    return min(PITCHES, key=lambda name: abs(np.log(pitch / PITCHES[name])))


def _bursts(loud: Samples) -> tuple[float, ...]:
    """When the envelope rises out of silence; nothing where the sound is there from the beginning."""
    quiet, full = 0.1 * loud.max(), 0.4 * loud.max()
    if loud[: int(0.1 / HOP)].max() > quiet:
        return ()
    found, armed = [], True
    for index, value in enumerate(loud):
        if armed and value > full:
            while index > 0 and loud[index - 1] > quiet:
                index -= 1
            found.append(index * HOP)
        armed = value < quiet or (armed and value <= full)
    return tuple(found)


def _motion(loud: Samples, glide: float) -> str:
    if abs(glide) > GLIDE:
        return "moves up" if glide > 0 else "moves down"
    quarter = len(loud) // 4
    ramp = loud[-quarter:].mean() / max(loud[:quarter].mean(), 1e-9)
    if ramp > RAMP or ramp < 1 / RAMP:
        return "grows" if ramp > 1 else "shrinks"
    swings = {motion: _swing(loud, frequency) for motion, frequency in TREMOLOS.items()}
    best = max(swings, key=swings.__getitem__)
    return best if swings[best] > TREMOLO else "stays still"


def _swing(loud: Samples, frequency: float) -> float:
    """Depth of the envelope's swing at a frequency, over its mean."""
    wave = np.exp(-2j * np.pi * frequency * HOP * (np.arange(len(loud)) + 0.5))
    return float(2 * np.abs(((loud - loud.mean()) * wave).mean()) / loud.mean())


def _size(loud: Samples, motion: str) -> str:
    """The size whose amplitude has the loudness nearest in ratio."""
    tone = np.sqrt((1 + HARMONIC**2) / 2) / (1 + HARMONIC)  # RMS of a tone of amplitude 1
    mean = 0.75 if motion in TREMOLOS else 1.0
    return min(AMPLITUDES, key=lambda name: abs(np.log(loud.mean() / (AMPLITUDES[name] * tone * mean))))
