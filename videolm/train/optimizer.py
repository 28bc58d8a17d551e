"""What optimises which weights, and its rate over the steps."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import nn

from videolm.config import Config


class OptimizerConfig(Config):
    """AdamW, or Muon for the matrices of a model's blocks and AdamW for the rest."""

    name: Literal["adamw", "muon"] = "adamw"
    lr: Annotated[float, Field(gt=0)] = 1e-3
    """Peak rate of AdamW."""
    muon_lr: Annotated[float, Field(gt=0)] = 3e-3
    """Peak rate of Muon's matrices."""
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    schedule: Literal["cosine", "wsd", "constant"] = "cosine"
    """How the rate goes on after `warmup`. "wsd" stays at the peak and falls in the last steps (arXiv 2404.06395), so
    that a checkpoint from before them can be trained for longer."""
    warmup: Annotated[int, Field(ge=0)] = 100
    """Steps over which the rate rises from 0."""
    decay: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Share of the steps in which the rate of "wsd" falls, as 1 - sqrt (arXiv 2405.18392)."""
    final: Annotated[float, Field(ge=0, le=1)] = 0.02
    """Share of the peak rate that "cosine" and "wsd" leave at the last step."""
    clip: Annotated[float, Field(ge=0)] = 1.0
    """Largest gradient norm; 0: no limit."""

    def scale(self, step: int, steps: int) -> float:
        """The rate at `step` of `steps` over its peak."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        if self.schedule == "constant":
            return 1.0
        if self.schedule == "cosine":
            done = (step - self.warmup) / max(1, steps - self.warmup)
            left = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        else:
            first = max(self.warmup, (1 - self.decay) * steps)
            left = 1 - math.sqrt(min(1.0, max(0.0, (step - first) / max(1, steps - first))))
        return self.final + (1 - self.final) * left


def parameter_groups(module: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """The trained parameters in groups, each with its settings.

    Vectors (norms, biases) have no weight decay. Under Muon the weight matrices of hidden layers are orthogonalised
    (arXiv 2502.16982); embeddings, heads and vectors, which it does not suit, are left to AdamW.
    """
    adam = {"lr": config.lr, "betas": config.betas, "eps": 1e-8}
    muon = {"lr": config.muon_lr, "momentum": 0.95, "use_muon": True}
    chosen = set(hidden_matrices(module)) if config.name == "muon" else set()
    matrices: list[nn.Parameter] = []
    tables: list[nn.Parameter] = []
    vectors: list[nn.Parameter] = []
    for parameter in module.parameters():
        if parameter.requires_grad:
            kind = matrices if parameter in chosen else tables if parameter.ndim > 1 else vectors
            kind.append(parameter)
        parameter.use_muon = parameter in chosen  # type: ignore[attr-defined]  # read by DeepSpeed
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": config.weight_decay, **muon},
        {"params": tables, "weight_decay": config.weight_decay, **adam},
        {"params": vectors, "weight_decay": 0.0, **adam},
    ]
    if chosen:
        groups[1]["use_muon"] = groups[2]["use_muon"] = False
    return [group for group in groups if group["params"]]


def hidden_matrices(module: nn.Module) -> list[nn.Parameter]:
    """Weight matrices between hidden layers: all but embeddings, and linear maps from or to few (< 32) features."""
    tables = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
    excluded = {id(p) for name, m in module.named_modules() if name.split(".")[-1] == "head" for p in m.parameters()}
    return [
        p
        for p in module.parameters()
        if p.requires_grad and p.ndim == 2 and min(p.shape) >= 32 and id(p) not in tables | excluded
    ]
