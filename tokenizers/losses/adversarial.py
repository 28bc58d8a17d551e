"""Adversarial losses for sound: a discriminator of complex spectra (SoundStream III.C and III.D, arXiv 2107.03312).

A discriminator learns to tell true sounds from decoded ones by what it sees in their spectra; the decoder learns to be
taken for true, and to give rise to the same features on the way. All of it is one loss for one optimiser: each term's
gradient reaches either the codec or the discriminators, never both.
"""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call

from videolm.config import Config

STRIDES = ((1, 2), (2, 2), (1, 2), (2, 2), (1, 2), (2, 2))
"""Of the residual units in time and frequency."""
GROWTH = (2, 2, 1, 2, 1, 2)
"""By how much each widens the channels."""


class DiscriminatorConfig(Config):
    """The defaults are SoundStream's."""

    windows: Annotated[tuple[Annotated[int, Field(ge=128, multiple_of=128)], ...], Field(min_length=1)] = (1024,)
    """Samples of the Fourier transforms' windows, a discriminator each; they overlap by three quarters."""
    channels: Annotated[int, Field(ge=1)] = 32


class STFTDiscriminator(nn.Module):
    """Sound (b, n) to logits (b, t), above 0 for true ones, and the features of each layer on the way."""

    def __init__(self, window: int, channels: int):
        super().__init__()
        self.window = window
        self.first = nn.Conv2d(2, channels, 7, padding=3)
        units: list[nn.Module] = []
        for stride, growth in zip(STRIDES, GROWTH, strict=True):
            units.append(_Unit(channels, channels * growth, stride))
            channels *= growth
        self.units = nn.ModuleList(units)
        self.head = nn.Conv2d(channels, 1, (1, window // 2 // 2 ** len(STRIDES)))

    def forward(self, audio: Tensor) -> tuple[Tensor, list[Tensor]]:
        shape = torch.hann_window(self.window, device=audio.device)
        spectrum = torch.stft(
            audio.float(), self.window, self.window // 4, window=shape, pad_mode="constant", return_complex=True
        )
        planes = torch.view_as_real(spectrum[:, :-1] * (4 / self.window))  # (b, frequencies, t, 2)
        planes = planes.permute(0, 3, 2, 1).contiguous().to(self.first.weight.dtype)
        x = self.first(planes)  # (b, c, t, frequencies)
        features = [x]
        for unit in self.units:
            x = unit(x)
            features.append(x)
        return self.head(F.elu(x)).flatten(1), features


class _Unit(nn.Module):
    """A residual unit that halves the frequencies, and where `stride` says so the time."""

    def __init__(self, channels: int, out_channels: int, stride: tuple[int, int]):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.down = nn.Conv2d(channels, out_channels, (stride[0] + 2, 4), stride, padding=1)
        self.skip = nn.Conv2d(channels, out_channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        down, skip = self.down(F.elu(self.conv(F.elu(x)))), self.skip(x)
        return down + skip[:, :, : down.shape[2], : down.shape[3]]


class Adversary(nn.Module):
    """The discriminators and their three loss terms."""

    def __init__(self, config: DiscriminatorConfig):
        super().__init__()
        self.discriminators = nn.ModuleList(STFTDiscriminator(window, config.channels) for window in config.windows)

    def forward(self, audio: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Terms for decoded and true sounds (b, n).

        "adversarial" (hinge) and "features" (mean distance, over the mean size of the true ones) have gradients for
        `audio` alone, "discriminator" (hinge) for the discriminators' weights alone.
        """
        found: dict[str, list[Tensor]] = {"adversarial": [], "features": [], "discriminator": []}
        for judge in self.discriminators:
            true, wanted = judge(target)
            made, _ = judge(audio.detach())
            found["discriminator"].append(F.relu(1 - true).mean() + F.relu(1 + made).mean())
            frozen = {name: value.detach() for name, value in judge.named_parameters()}
            taken, features = functional_call(judge, frozen, (audio,))
            found["adversarial"].append(F.relu(1 - taken).mean())
            pairs = zip(features, (value.detach() for value in wanted), strict=True)
            distances = [(one - other).abs().mean() / other.abs().mean().clamp_min(1e-6) for one, other in pairs]
            found["features"].append(torch.stack(distances).mean())
        return {name: torch.stack(terms).mean() for name, terms in found.items()}
