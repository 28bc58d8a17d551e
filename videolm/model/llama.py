"""The trunk begun from a language model of the Llama family: its layers and last norm, exact to rounding.

Their blocks are ours (RMS norms, rotary halves, SwiGLU, no biases), so that weights are copied name by name; embeddings
and heads, which are of other ids, stay as they were drawn. Heads that share keys and values (arXiv 2305.13245) get
a copy each.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import AutoConfig

from videolm.component import CONFIG_FILE, WEIGHTS_FILE, read_json, require_weights
from videolm.errors import UserError
from videolm.model.prefix_lm import PrefixLM

FAMILY = ("llama", "mistral", "qwen3")
"""Values of `model_type` whose blocks are ours."""

NAMES = {
    "attention_norm": "input_layernorm",
    "attention.q_proj": "self_attn.q_proj",
    "attention.k_proj": "self_attn.k_proj",
    "attention.v_proj": "self_attn.v_proj",
    "attention.o_proj": "self_attn.o_proj",
    "attention.q_norm": "self_attn.q_norm",
    "attention.k_norm": "self_attn.k_norm",
    "mlp_norm": "post_attention_layernorm",
    "mlp.gate_proj": "mlp.gate_proj",
    "mlp.up_proj": "mlp.up_proj",
    "mlp.down_proj": "mlp.down_proj",
}
"""A layer's modules, here and there."""


def llama_settings(folder: str | Path) -> dict[str, Any]:
    """The fields of `LMConfig` that a model saved in `folder` fits, to be laid over a recipe's `lm:`.

    Raises `UserError` where the folder is no model's or the model has parts that ours has not. A sliding window (the
    first Mistral-7B looks 4,096 positions back) is not copied: rows no longer than that are computed as there.
    """
    theirs = _config(Path(folder))
    return {
        "hidden_size": theirs.hidden_size,
        "num_layers": theirs.num_hidden_layers,
        "num_heads": theirs.num_attention_heads,
        "intermediate_size": theirs.intermediate_size,
        "positions": "1d",
        "rope_theta": float(theirs.rope_parameters["rope_theta"]),
        "rope_scale": 1.0,
        "qk_norm": theirs.model_type == "qwen3",
        "qk_gain": 1.0,
        "norm_eps": theirs.rms_norm_eps,
    }


def load_llama(lm: PrefixLM, folder: str | Path) -> None:
    """Fill the trunk of `lm` from `config.json` and the safetensors, in one file or many, of a model in `folder`.

    Raises `UserError` where a setting of `lm` does not fit (naming it and its value), or a weight is missing.
    """
    folder = Path(folder)
    ours = lm.config.lm
    wanted = llama_settings(folder)
    got = {name: getattr(ours, name) for name in wanted} | {"intermediate_size": ours.mlp_size}
    if wrong := [f"lm.{name}: {wanted[name]}" for name in wanted if got[name] != wanted[name]]:
        raise UserError(f"the language model does not fit {folder}; set {', '.join(wrong)}")
    heads = _config(folder).num_key_value_heads
    weights = _Weights(folder)
    with torch.no_grad():
        lm.transformer.norm.weight.copy_(weights.get("norm.weight"))
        for index, layer in enumerate(lm.transformer.layers):
            for name, weight in layer.named_parameters():
                there = f"layers.{index}.{NAMES[name.removesuffix('.weight')]}.weight"
                value = weights.get(there)
                if name in ("attention.k_proj.weight", "attention.v_proj.weight"):
                    value = _repeat(value, heads, ours.num_heads)
                if value.shape != weight.shape:
                    shapes = f"{[*value.shape]}, not {[*weight.shape]}"
                    raise UserError(f"{there} in {folder} is {shapes} as {CONFIG_FILE} says")
                weight.copy_(value)


def _repeat(weight: Tensor, heads: int, times: int) -> Tensor:
    """The rows of `heads` key or value heads as those of `times` heads, each one's copies side by side."""
    return weight.unflatten(0, (heads, -1)).repeat_interleave(times // heads, 0).flatten(0, 1)


def _config(folder: Path) -> Any:
    """A model's settings as `transformers` completes them, refused where our blocks could not compute the same."""
    kind = read_json(folder / CONFIG_FILE).get("model_type")
    if kind not in FAMILY:
        raise UserError(f"{folder} is a model of type '{kind}'; the trunk can begin from: {', '.join(FAMILY)}")
    config = AutoConfig.from_pretrained(folder)
    head_dim = config.hidden_size // config.num_attention_heads
    needed = {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False, "head_dim": head_dim}
    for name, value in needed.items():
        if getattr(config, name, None) not in (None, value):
            got = getattr(config, name)
            raise UserError(f"{folder} has {name} {got}, where the trunk has {value}; take another model")
    if (rope := config.rope_parameters.get("rope_type", "default")) != "default":
        raise UserError(f"{folder} has rope_type '{rope}', where the trunk has 'default'; take another model")
    return config


class _Weights:
    """The tensors of a folder of safetensors, read one by one as asked for."""

    def __init__(self, folder: Path):
        self.folder = folder
        index = folder / f"{WEIGHTS_FILE}.index.json"
        if index.is_file():
            self.files = {name: folder / file for name, file in read_json(index)["weight_map"].items()}
        else:
            path = require_weights(folder)
            self.files = dict.fromkeys(_read(path, lambda file: file.keys()), path)
        # As saved with a head for words, or without one.
        self.start = "model." if "model.norm.weight" in self.files else ""

    def get(self, name: str) -> Tensor:
        name = self.start + name
        if name not in self.files:
            raise UserError(f"{self.folder} is not a complete model folder: {name} is missing")
        return _read(self.files[name], lambda file: file.get_tensor(name))


def _read(path: Path, what: Callable[[Any], Any]) -> Any:
    """Something of a safetensors file, which is mapped and not read whole."""
    try:
        with safe_open(path, "pt") as file:
            return what(file)
    except (SafetensorError, OSError) as error:
        raise UserError(f"cannot read {path}: {error}; fetch the model again") from error
