"""A sharded flat head learns as a whole one: its loss writes gradients of weights that ZeRO-3 takes away and brings."""

import pytest
import torch
from torch import Tensor, nn

from videolm.model.config import LMConfig, PrefixLMConfig
from videolm.model.prefix_lm import PrefixLM
from videolm.train.engine import Engine, EngineConfig, OptimizerConfig


class Objective(nn.Module):
    """The loss of a batch of ids: six special ones, then eight visual ones."""

    def __init__(self, lm: PrefixLM):
        super().__init__()
        self.lm = lm

    def forward(self, ids: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        positions = torch.arange(14)[:, None].expand(14, 3)
        out = self.lm(ids, positions, 6, [("visual", 6, 14)])
        return out.loss, {f"accuracy/{kind}": value for kind, value in out.accuracy.items()}


def losses(stage: int, precision: str, checkpointed: bool) -> list[float]:
    torch.manual_seed(0)
    lm = LMConfig(hidden_size=32, num_layers=2, num_heads=2, head="flat")
    model = PrefixLM(PrefixLMConfig(lm, 32, 64, audio_levels=0, text_size=8))
    if checkpointed:
        model.gradient_checkpointing_enable()
    ids = torch.cat([torch.randint(32, (2, 6)), 32 + torch.randint(64, (2, 8))], 1)
    config = EngineConfig(zero_stage=stage, precision=precision)  # type: ignore[arg-type]
    engine = Engine(Objective(model), OptimizerConfig(lr=1e-2, warmup=0), config)
    return [engine.step([ids], 1.0)["loss"] for _ in range(4)]


@pytest.mark.filterwarnings("ignore:.*deprecated and will be removed in v6:FutureWarning")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_losses_are_those_of_an_unsharded_model(precision: str) -> None:
    whole = losses(1, precision, checkpointed=False)
    assert whole[-1] < whole[0] - 0.5
    assert losses(3, precision, checkpointed=True) == pytest.approx(whole, rel=1e-4 if precision == "float32" else 1e-2)
