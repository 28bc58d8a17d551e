"""A small masked model, and what it may be given."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from videolm.shapes import TokenGrid
from videolm.superres.model import MaskedModel, MaskedModelConfig

GRID = TokenGrid(3, 4, 6)


def build(**changes: Any) -> MaskedModel:
    sizes: dict[str, Any] = {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "windows": ((1, 4, 2), (3, 2, 2))}
    sizes |= {"codebook_size": 60, "text_size": 8, "grid": GRID}
    torch.manual_seed(0)
    return MaskedModel(MaskedModelConfig(**{**sizes, **changes})).eval()


def inputs(rows: int = 2, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "codes": torch.randint(60, (rows, *GRID), generator=generator),
        "hidden": torch.rand(rows, *GRID, generator=generator) < 0.5,
        "low": torch.randint(60, (rows, 3, 2, 3), generator=generator),
        "rate": torch.rand(rows, generator=generator),
        "text": torch.randn(rows, 5, 8, generator=generator),
        "text_mask": torch.rand(rows, 5, generator=generator) < 0.7,
    }


@pytest.fixture(scope="session")
def make() -> Callable[..., MaskedModel]:
    """Models of one grid (3, 4, 6) and 60 codes, with any changes to their configuration."""
    return build


@pytest.fixture
def given_to() -> Callable[..., dict[str, Tensor]]:
    """What such a model is called with: (rows, seed)."""
    return inputs
