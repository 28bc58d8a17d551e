"""A small language model in float64 with a real task's row, and decoding without a cache to hold against it."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from videolm.generate.row import Plan, TextInput
from videolm.model.config import LMConfig, PrefixLMConfig
from videolm.model.prefix_lm import PrefixLM
from videolm.sequence import Layout, lay_out
from videolm.shapes import Format, TokenGrid, latent_frames
from videolm.tasks import TASKS
from videolm.tasks.task_set import TaskSet
from videolm.vocabulary import Vocabulary

VISUAL = 50  # no power of two: some pairs of halves are no code


@pytest.fixture
def build() -> Callable[..., PrefixLM]:
    """A model whose weights are large enough that its distributions differ from row to row."""

    def build(**architecture: object) -> PrefixLM:
        torch.manual_seed(0)
        lm = LMConfig(**({"hidden_size": 32, "num_layers": 2, "num_heads": 2, "rope_theta": 100.0} | architecture))
        model = PrefixLM(PrefixLMConfig(lm, 32, VISUAL, audio_levels=0, text_size=8)).eval()
        for weight in model.parameters():
            if weight.ndim > 1:
                torch.nn.init.normal_(weight, std=2 * weight.shape[-1] ** -0.5)
        return model.double()

    return build


@pytest.fixture(scope="session")
def layout() -> Layout:
    """`image_to_video` at 9x16x16: text×3, one latent frame of 2x2 given, two to be drawn."""
    tasks = TaskSet(tasks=(TASKS.get("image_to_video"),), formats=(Format(9, 16, 16),), text_length=3)
    vocabulary = Vocabulary(special_size=32, visual_size=VISUAL, audio_levels=0).with_specials(tasks.specials)
    (variant,) = tasks.variants()
    return lay_out(variant, tasks, vocabulary, lambda f, h, w: TokenGrid(latent_frames(f, 4), h // 8, w // 8))


@pytest.fixture(scope="session")
def plan(layout: Layout) -> Plan:
    return Plan.of(layout)


@pytest.fixture(scope="session")
def rows(layout: Layout) -> Tensor:
    """Four rows with different first frames."""
    codes = torch.randint(VISUAL, (4, 1, 2, 2), generator=torch.Generator().manual_seed(1))
    return layout.build({"video": codes})


@pytest.fixture(scope="session")
def text(layout: Layout) -> TextInput:
    """Prompts of 3, 2, 1 and no tokens."""
    assert layout.text is not None
    embeddings = torch.randn(4, 3, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    mask = torch.arange(3) < torch.tensor([3, 2, 1, 0])[:, None]
    return TextInput(embeddings, mask, layout.text.start)
