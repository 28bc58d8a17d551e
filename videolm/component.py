"""Parts of a model that are saved on their own: a folder with `config.json` and `model.safetensors`.

A model directory is a folder of these with a `model_index.json` (as diffusers saves a pipeline). Nothing executable
is ever loaded: JSON and safetensors only, and a pickled file is refused by name. (One tokenizer that others publish as
a program is the exception, `tokenizers/video/cosmos.py`.)
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from videolm.config import Config, parse
from videolm.errors import UserError

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


class Component(nn.Module):
    """A module made from one config, with diffusers' `save_pretrained` and `from_pretrained`."""

    Settings: type[Config]  # the config class, set by each subclass

    def __init__(self, config: Any):
        super().__init__()
        self.config = config

    @classmethod
    def without_weights(cls, config: Config) -> Self:
        """A module on the meta device: shapes and arithmetic, no memory."""
        with torch.device("meta"):
            return cls(config)

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write config and weights into `folder` (made if missing), floats as `dtype` when given."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG_FILE).write_text(self.config.model_dump_json(indent=2) + "\n")
        save_weights(self.state_dict(), folder, dtype)

    def fingerprint(self) -> str:
        """A short hash of the weights, to know them again."""
        digest = hashlib.sha256()
        for name, value in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]

    @classmethod
    def from_pretrained(cls, folder: str | Path, dtype: torch.dtype = torch.float32) -> Self:
        """Read what `save_pretrained` wrote. Raises `UserError` for a missing, broken or pickled file."""
        module = cls(parse(cls.Settings, read_json(Path(folder) / CONFIG_FILE), source=str(folder)))
        load_weights(module, folder)
        return module.to(dtype).eval()


def read_json(path: Path) -> Any:
    """A JSON file of a model folder. Raises `UserError` when it is missing or broken."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f"{path.parent} is not a complete model folder: {path.name} is missing") from error
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from error


def save_weights(state: dict[str, torch.Tensor], folder: Path, dtype: torch.dtype | None = None) -> None:
    """`state` as `model.safetensors` in `folder`, floats cast to `dtype` when given."""

    def cast(value: torch.Tensor) -> torch.Tensor:
        return (value.to(dtype) if dtype and value.is_floating_point() else value).contiguous().cpu()

    save_file({name: cast(value) for name, value in state.items()}, folder / WEIGHTS_FILE, {"format": "pt"})
    (folder / WEIGHTS_FILE).chmod(0o644)  # safetensors' own files are readable by their owner alone


def load_weights(module: nn.Module, folder: str | Path) -> None:
    """Fill `module` from `model.safetensors` in `folder`.

    Raises `UserError` when the file is missing (saying so when there is a pickled one), broken or of another shape.
    """
    path = require_weights(folder)
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"cannot read {path}: {error}; fetch or save the model again") from error
    own = module.state_dict()
    wrong = [name for name in own if name not in state or state[name].shape != own[name].shape]
    wrong += [name for name in state if name not in own]
    if wrong:
        raise UserError(f"{path} does not fit its {CONFIG_FILE}: {wrong[0]} (and {len(wrong) - 1} more) differ")
    module.load_state_dict(state)


def require_weights(folder: str | Path) -> Path:
    """The path of `model.safetensors` in `folder`, or a `UserError` that says what lies there instead."""
    path = Path(folder) / WEIGHTS_FILE
    if path.is_file():
        return path
    pickled = [found.name for pattern in PICKLES for found in Path(folder).glob(pattern)]
    if pickled:
        raise UserError(
            f"{folder} holds pickled weights ({pickled[0]}), which are never loaded; save as {WEIGHTS_FILE}"
        )
    raise UserError(f"{folder} is not a complete model folder: {WEIGHTS_FILE} is missing")
