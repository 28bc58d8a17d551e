"""A trunk begun from a Llama computes what the Llama does."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralModel,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from videolm.errors import UserError
from videolm.model.config import LMConfig, PrefixLMConfig
from videolm.model.llama import llama_settings, load_llama
from videolm.model.prefix_lm import PrefixLM

SIZES: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
}

MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, num_key_value_heads=6)),
    "llama, shared keys": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, num_key_value_heads=2)),
    "mistral, no head": lambda: MistralModel(MistralConfig(**SIZES, num_key_value_heads=3)),
    "qwen3": lambda: Qwen3ForCausalLM(
        Qwen3Config(**SIZES, num_key_value_heads=1, rope_parameters={"rope_type": "default", "rope_theta": 1e6})
    ),
}


def drawn(kind: str) -> PreTrainedModel:
    """A model whose every weight matters, norms too."""
    torch.manual_seed(0)
    model = MODELS[kind]().eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, mean=0.0 if weight.ndim > 1 else 1.0, std=0.3)
    return model


def ours(**settings: Any) -> PrefixLM:
    return PrefixLM(PrefixLMConfig(LMConfig(**settings), 32, 64, audio_levels=0, text_size=8)).eval()


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("shards", [1, 5])
def test_hidden_states_are_those_of_the_model_it_began_from(kind: str, shards: int, tmp_path: Path) -> None:
    theirs = drawn(kind)
    theirs.save_pretrained(tmp_path, max_shard_size="5GB" if shards == 1 else "60KB")
    assert (len([*tmp_path.glob("*.safetensors")]) > 1) == (shards > 1)
    lm = ours(**llama_settings(tmp_path))
    fresh = {name: weight.clone() for name, weight in lm.state_dict().items() if not name.startswith("transformer.")}
    load_llama(lm, tmp_path)
    assert fresh and all(torch.equal(lm.state_dict()[name], weight) for name, weight in fresh.items())
    x = torch.randn(2, 20, 48, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = theirs.base_model(inputs_embeds=x).last_hidden_state
        for prefix in (0, 1):
            torch.testing.assert_close(lm.transformer(x, torch.arange(20)[:, None], prefix), expected)
        assert not torch.allclose(lm.transformer(x, torch.arange(20)[:, None], 5), expected, atol=1e-2)


def test_weights_keep_the_precision_of_the_trunk(tmp_path: Path) -> None:
    drawn("llama").bfloat16().save_pretrained(tmp_path)
    lm = ours(**llama_settings(tmp_path))
    load_llama(lm, tmp_path)
    assert {weight.dtype for weight in lm.parameters()} == {torch.float32}


def test_settings_that_do_not_fit_are_named_with_their_values(tmp_path: Path) -> None:
    drawn("llama").save_pretrained(tmp_path)
    settings = llama_settings(tmp_path)
    with pytest.raises(UserError) as caught:
        load_llama(ours(**settings | {"num_layers": 2, "qk_norm": True, "positions": "axial"}), tmp_path)
    assert str(caught.value).endswith("; set lm.num_layers: 3, lm.positions: 1d, lm.qk_norm: False")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "gemma"}, "type 'gemma'; the trunk can begin from: llama, mistral, qwen3"),
        ({"attention_bias": True}, "has attention_bias True"),
        ({"hidden_act": "gelu"}, "hidden_act gelu, where the trunk has silu"),
        ({"head_dim": 16}, "head_dim 16, where the trunk has 8"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, "rope_type 'linear'"),
    ],
)
def test_models_of_another_make_are_refused(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    drawn("llama").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(UserError, match=said) as caught:
        llama_settings(tmp_path)
    assert "\n" not in str(caught.value)


def test_incomplete_and_broken_folders_say_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="config.json is missing"):
        llama_settings(tmp_path)
    model = drawn("llama")
    model.save_pretrained(tmp_path)
    lm, path = ours(**llama_settings(tmp_path)), tmp_path / "model.safetensors"
    weights = {name: weight.contiguous() for name, weight in model.state_dict().items()}
    name = "model.layers.1.mlp.up_proj.weight"
    save_file({key: weight for key, weight in weights.items() if key != name}, path)
    with pytest.raises(UserError, match=f"{name} is missing"):
        load_llama(lm, tmp_path)
    save_file(weights | {name: weights[name][:-1].contiguous()}, path)
    with pytest.raises(UserError, match=r"is \[79, 48\], not \[80, 48\]"):
        load_llama(lm, tmp_path)
    path.write_bytes(b"nothing")
    with pytest.raises(UserError, match="cannot read"):
        load_llama(lm, tmp_path)
    path.rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="pickled weights"):
        load_llama(lm, tmp_path)
