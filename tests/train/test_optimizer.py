"""Which optimiser trains which weights, and the rate over the steps. Nothing here needs DeepSpeed."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import T5Config, T5EncoderModel

from videolm.model.config import LMConfig, PrefixLMConfig
from videolm.model.prefix_lm import PrefixLM
from videolm.tokenizers.quantize.lfq import LFQConfig
from videolm.tokenizers.video.magvit_v2 import MagvitV2, MagvitV2Config
from videolm.train.optimizer import OptimizerConfig, hidden_matrices, parameter_groups


def language_model() -> nn.Module:
    lm = LMConfig(hidden_size=64, num_layers=2, num_heads=2)
    return PrefixLM(PrefixLMConfig(lm, 32, 64, audio_levels=2, audio_size=16, text_size=48))


def text_encoder() -> nn.Module:
    sizes = {"vocab_size": 40, "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2}
    return T5EncoderModel(T5Config(**sizes, feed_forward_proj="gated-gelu"))


def both() -> nn.Module:
    """As they are trained together; the encoder's norms are frozen here."""
    module = nn.ModuleDict({"lm": language_model(), "text": text_encoder()})
    for name, weight in module["text"].named_parameters():
        weight.requires_grad_("layer_norm" not in name)
    return module


def tokenizer() -> nn.Module:
    quantizer = LFQConfig(bits=8)
    shape = {"base_channels": 32, "multipliers": (1, 2), "temporal_down": (True,), "norm_groups": 4}
    return MagvitV2(MagvitV2Config(**shape, quantizer=quantizer))


MODULES = {"language model": language_model, "text encoder": text_encoder, "both": both, "tokenizer": tokenizer}


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)
def test_every_trained_weight_is_in_one_group(make: Callable[[], nn.Module], optimizer: str) -> None:
    module = make()
    groups = parameter_groups(module, OptimizerConfig(name=optimizer))
    grouped = [id(weight) for group in groups for weight in group["params"]]
    assert len(set(grouped)) == len(grouped)
    assert set(grouped) == {id(weight) for weight in module.parameters() if weight.requires_grad}
    assert all(group["params"] for group in groups)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)
def test_vectors_do_not_decay_and_matrices_do(make: Callable[[], nn.Module], optimizer: str) -> None:
    for group in parameter_groups(make(), OptimizerConfig(name=optimizer, weight_decay=0.3)):
        for weight in group["params"]:
            assert group["weight_decay"] == (0.0 if weight.ndim == 1 else 0.3)


@pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)
def test_muon_has_its_own_rate_and_marks_its_weights(make: Callable[[], nn.Module]) -> None:
    config = OptimizerConfig(name="muon", lr=1e-3, muon_lr=2e-2, betas=(0.8, 0.9))
    groups = parameter_groups(make(), config)
    assert [group["use_muon"] for group in groups] == [True, False, False]
    for group in groups:
        assert group["lr"] == (2e-2 if group["use_muon"] else 1e-3)
        assert ("betas" in group) != group["use_muon"]
        assert all(weight.use_muon == group["use_muon"] for weight in group["params"])


@pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)
def test_adamw_alone_knows_nothing_of_muon(make: Callable[[], nn.Module]) -> None:
    module = make()
    groups = parameter_groups(module, OptimizerConfig(name="adamw", lr=2e-3))
    assert all(group["lr"] == 2e-3 and "use_muon" not in group for group in groups)
    assert not any(weight.use_muon for weight in module.parameters())


def chosen(module: nn.Module) -> set[str]:
    names = {id(weight): name for name, weight in module.named_parameters()}
    return {names[id(weight)] for weight in hidden_matrices(module)}


def test_muon_trains_the_language_models_blocks_and_neither_embeddings_nor_head() -> None:
    model = language_model()
    blocks = {f"transformer.{n}" for n, w in model.transformer.named_parameters() if w.ndim == 2}
    assert len(blocks) == 14
    assert chosen(model) == blocks | {"text_proj.weight"}


def test_muon_leaves_a_text_encoders_tables_alone() -> None:
    names = chosen(text_encoder())
    assert len(names) == 7 and not any("shared" in n or "embed" in n or "bias" in n or "norm" in n for n in names)


def test_muon_trains_a_tokenizers_convolutions_but_not_its_narrow_ends() -> None:
    names = chosen(tokenizer())
    assert "encoder.levels.0.0.conv1.weight" in names and "decoder.ups.0.weight" in names
    narrow = {"encoder.project.weight", "decoder.project.weight"}  # to 8 bits, to 3 colours
    assert not names & narrow and not any("modulate" in n or "norm" in n for n in names)


def test_frozen_weights_are_not_trained() -> None:
    model = language_model()
    model.transformer.requires_grad_(False)
    assert chosen(model) == {"text_proj.weight"}


@pytest.mark.parametrize(
    ("step", "scale"),
    [(0, 0.25), (1, 0.5), (3, 1.0), (4, 1.0), (12, 0.55), (20, 0.1), (99, 0.1)],
)
def test_the_rate_rises_then_falls_along_a_cosine(step: int, scale: float) -> None:
    assert OptimizerConfig(warmup=4, final=0.1).scale(step, 20) == pytest.approx(scale)


@pytest.mark.parametrize("schedule", ["cosine", "wsd"])
@given(warmup=st.integers(0, 50), steps=st.integers(1, 200), final=st.floats(0, 1))
def test_rates_stay_between_nothing_and_the_peak(schedule: str, warmup: int, steps: int, final: float) -> None:
    config = OptimizerConfig(warmup=warmup, final=final, schedule=schedule)
    rates = torch.tensor([config.scale(s, steps) for s in range(steps)])
    assert (rates >= 0).all() and (rates <= 1 + 1e-6).all()
    assert (rates[:warmup].diff() > 0).all() and (rates[warmup:].diff() <= 1e-6).all()
    assert (rates[warmup:] >= final - 1e-6).all()
    if warmup < steps:
        assert rates[warmup] == 1


def test_a_constant_rate_and_one_that_falls_at_last() -> None:
    constant, late = (OptimizerConfig(warmup=4, schedule=name, decay=0.5, final=0.1) for name in ("constant", "wsd"))
    assert [constant.scale(step, 20) for step in (0, 3, 4, 19)] == [0.25, 1, 1, 1]
    assert [late.scale(step, 20) for step in (0, 3, 4, 10)] == [0.25, 1, 1, 1]
    falling = [late.scale(step, 20) for step in range(10, 21)]
    assert falling == pytest.approx([0.1 + 0.9 * (1 - (step / 10) ** 0.5) for step in range(11)])
