"""Small language models in float64, so that what should be equal is."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from videolm.model.config import LMConfig, PrefixLMConfig
from videolm.model.prefix_lm import PrefixLM

Build = Callable[..., PrefixLM]


@pytest.fixture
def build() -> Build:
    """A model with random weights: 32 special ids, then visual ones, then two levels of audio."""

    def build(seed: int = 0, visual_size: int = 64, **architecture: object) -> PrefixLM:
        torch.manual_seed(seed)
        lm = LMConfig(**({"hidden_size": 32, "num_layers": 2, "num_heads": 2, "rope_theta": 100.0} | architecture))
        config = PrefixLMConfig(lm, 32, visual_size, audio_levels=2, audio_size=16, text_size=8)
        model = PrefixLM(config).eval()
        for weight in model.parameters():  # as drawn, weights are so small that a mistake would hardly show
            if weight.ndim > 1:
                torch.nn.init.normal_(weight, std=weight.shape[-1] ** -0.5)
        return model.double()

    return build


@pytest.fixture
def ids() -> Tensor:
    """Two rows of 14: 6 special ids, 6 visual ones, an audio id of each level."""
    generator = torch.Generator().manual_seed(1)
    runs = [(6, 0, 32), (6, 32, 64), (1, 96, 16), (1, 112, 16)]
    return torch.cat([start + torch.randint(size, (2, n), generator=generator) for n, start, size in runs], dim=1)


@pytest.fixture
def positions() -> Tensor:
    """(14, 3): six special positions, a 2x3 grid of one latent frame, two more."""
    plain = torch.arange(6)[:, None].expand(6, 3)
    grid = 20 + torch.cartesian_prod(torch.arange(1), torch.arange(2), torch.arange(3))
    return torch.cat([plain, grid, torch.tensor([[90, 90, 90], [91, 91, 91]])])
