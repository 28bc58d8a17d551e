"""Discriminators of sound: of complex spectra and of waves (SoundStream III.C and III.D, arXiv 2107.03312)."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from videolm.config import Config
from videolm.tokenizers.losses.adversarial import Adversary, Seen

STRIDES = ((1, 2), (2, 2), (1, 2), (2, 2), (1, 2), (2, 2))
"""Of the residual units in time and frequency."""
GROWTH = (2, 2, 1, 2, 1, 2)
"""By how much each widens the channels."""


class DiscriminatorConfig(Config):
    """Discriminators of spectra and of waves, and how many channels they begin with. The defaults are SoundStream's."""

    windows: tuple[Annotated[int, Field(ge=128, multiple_of=128)], ...] = (1024,)
    """Samples of the Fourier transforms' windows, a discriminator each; they overlap by three quarters."""
    channels: Annotated[int, Field(ge=1)] = 32
    waves: tuple[Annotated[int, Field(ge=1)], ...] = (1, 2, 4)
    """By how much the sound is thinned out for each discriminator of waves."""
    wave_channels: Annotated[int, Field(ge=4, multiple_of=4)] = 16

    @model_validator(mode="after")
    def _some(self) -> DiscriminatorConfig:
        if not self.windows and not self.waves:
            raise ValueError("a discriminator needs windows, waves or both")
        return self

    def make(self) -> Adversary:
        """The discriminators with their loss, the hinge as in SoundStream."""
        spectra = [STFTDiscriminator(window, self.channels) for window in self.windows]
        return Adversary([*spectra, *(WaveDiscriminator(by, self.wave_channels) for by in self.waves)], "hinge")


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

    def forward(self, audio: Tensor) -> Seen:
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
        return Seen(self.head(F.elu(x)).flatten(1), features)


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


class WaveDiscriminator(nn.Module):
    """Sound (b, n), averaged over 2 * `by` samples where `by` is above 1, to logits (b, t) and features on the way."""

    def __init__(self, by: int, channels: int):
        super().__init__()
        self.by = by
        layers: list[nn.Module] = [nn.Conv1d(1, channels, 15, padding=7)]
        for _ in range(4):
            wider = min(4 * channels, 64 * 16)
            layers.append(nn.Conv1d(channels, wider, 41, 4, padding=20, groups=channels // 4))
            channels = wider
        layers.append(nn.Conv1d(channels, channels, 5, padding=2))
        self.layers = nn.ModuleList(layers)
        self.head = nn.Conv1d(channels, 1, 3, padding=1)

    def forward(self, audio: Tensor) -> Seen:
        x = audio[:, None].to(self.head.weight.dtype)
        if self.by > 1:
            x = F.avg_pool1d(x, 2 * self.by, self.by, self.by // 2, count_include_pad=False)
        features = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            features.append(x)
        return Seen(self.head(x).flatten(1), features)
