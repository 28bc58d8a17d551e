"""Distances between sounds by their spectra at several resolutions (SoundStream III.D; arXiv 1910.11480).

Samples of two sounds that are heard as the same may differ in every place, their spectra hardly. Long windows tell
pitches apart, short ones moments.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

FLOOR = 1e-3
"""Magnitudes below this count as silence."""
LOG_WEIGHT = 0.1
"""Of the logarithms' distance; theirs is of the order of 1 where the magnitudes' is of 0.01."""


def spectral_distance(audio: Tensor, target: Tensor, windows: Sequence[int]) -> Tensor:
    """Mean distance of the magnitudes of two sounds, and of their logarithms, over short-time Fourier transforms.

    Args:
        audio, target: (b, n) in [-1, 1], of one length.
        windows: samples of each transform's window, powers of two up to n; they overlap by three quarters.

    Returns:
        A scalar: the mean over the windows of |S - S'| + 0.1 |log S - log S'|, S scaled so that a loud tone has 1.
    """
    distances = []
    for window in windows:
        ours, theirs = magnitudes(audio, window), magnitudes(target, window)
        logs = ours.clamp_min(FLOOR).log() - theirs.clamp_min(FLOOR).log()
        distances.append((ours - theirs).abs().mean() + LOG_WEIGHT * logs.abs().mean())
    return torch.stack(distances).mean()


def magnitudes(audio: Tensor, window: int) -> Tensor:
    """(b, n) -> (b, window / 2 + 1, frames), in float32 at least; a sine of amplitude 1 peaks at about 1."""
    wide = audio if audio.dtype == torch.float64 else audio.float()
    shape = torch.hann_window(window, device=audio.device, dtype=wide.dtype)
    spectrum = torch.stft(wide, window, window // 4, window=shape, pad_mode="constant", return_complex=True)
    return spectrum.abs() * (4 / window)  # half of a hann window's sum, for one of the two sides
