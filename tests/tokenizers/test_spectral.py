"""The distance between sounds: what it hears and what it does not."""

import math

import pytest
import torch
from torch import Tensor

from videolm.tokenizers.losses.spectral import magnitudes, spectral_distance

WINDOWS = (2048, 512, 128)


def tone(pitch: float, phase: float = 0.0, amplitude: float = 0.5) -> Tensor:
    seconds = torch.arange(16000) / 16000
    return amplitude * torch.sin(2 * math.pi * pitch * seconds + phase)[None]


@pytest.mark.parametrize("window", WINDOWS)
def test_magnitudes_of_a_tone(window: int) -> None:
    spectrum = magnitudes(tone(1000), window)
    middle = spectrum[0, :, spectrum.shape[-1] // 2]
    assert spectrum.shape[1] == window // 2 + 1
    assert float(middle.max()) == pytest.approx(0.5, rel=0.02)
    assert int(middle.argmax()) == round(1000 * window / 16000)


def test_phase_is_not_heard_and_pitch_is() -> None:
    semitone = spectral_distance(tone(466), tone(440), WINDOWS)
    assert spectral_distance(tone(440), tone(440), WINDOWS) == 0
    assert spectral_distance(tone(440, 1.0), tone(440), WINDOWS) < semitone / 3


def test_gradient_brings_sounds_together() -> None:
    sound = (0.1 * torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))).requires_grad_()
    target = tone(440)[:, :4000]
    before = spectral_distance(sound, target, (512, 128))
    (gradient,) = torch.autograd.grad(before, sound)
    assert torch.isfinite(gradient).all()
    assert spectral_distance(sound - 10 * gradient, target, (512, 128)) < before
    silent = torch.zeros(1, 4000, requires_grad=True)
    (gradient,) = torch.autograd.grad(spectral_distance(silent, target, (512,)), silent)
    assert torch.isfinite(gradient).all()


def test_precisions() -> None:
    assert spectral_distance(tone(440).bfloat16(), tone(440).bfloat16(), WINDOWS).dtype == torch.float32
    assert spectral_distance(tone(440).double(), tone(450).double(), WINDOWS).dtype == torch.float64
