"""One optimisation step, sharded or not: everything of DeepSpeed that this project touches.

A laptop is one process with gloo; hundreds of GPUs are the same code under `torchrun` or the `deepspeed` launcher.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
import socket
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import nn

from videolm.config import Config
from videolm.errors import UserError

PATIENCE = 6
"""Hours that processes wait for one another: the first one alone writes token shards."""

Precision = Literal["auto", "float32", "bfloat16"]


class OptimizerConfig(Config):
    """AdamW, or Muon for the matrices of a model's blocks and AdamW for the rest."""

    name: Literal["adamw", "muon"] = "adamw"
    lr: Annotated[float, Field(gt=0)] = 1e-3
    """Peak rate of AdamW."""
    muon_lr: Annotated[float, Field(gt=0)] = 3e-3
    """Peak rate of Muon's matrices."""
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    warmup: Annotated[int, Field(ge=0)] = 100
    """Steps over which the rate rises from 0."""
    final: Annotated[float, Field(ge=0, le=1)] = 0.02
    """Share of the peak rate left at the last step; between, the rate falls along a cosine."""
    clip: Annotated[float, Field(ge=0)] = 1.0
    """Largest gradient norm; 0: no limit."""

    def scale(self, step: int, steps: int) -> float:
        """The rate at `step` of `steps` over its peak."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, steps - self.warmup)
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


class EngineConfig(Config):
    """How a step is computed."""

    zero_stage: Literal[0, 1, 2, 3] = 0
    """What ZeRO shards over the ranks: optimiser state, gradients too, weights too."""
    precision: Precision = "auto"
    """"auto": bfloat16 where the device multiplies it fast, float32 elsewhere."""
    accumulate: Annotated[int, Field(ge=1)] = 1
    """Batches whose gradients make one step."""


def fast_bfloat16(device: str) -> bool:
    """Whether bfloat16 products are fast on this device: GPUs, and CPUs with the instructions for it."""
    return device != "cpu" or bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


class Engine:
    """A module under DeepSpeed. `module(batch)` must return (loss, {name: value to log}).

    Attributes:
        rank, world: this process and how many there are.
    """

    def __init__(self, module: nn.Module, optimizer: OptimizerConfig, config: EngineConfig, *, micro_batch: int = 1):
        deepspeed = _import_deepspeed()
        self.optimizer_config = optimizer
        device_name = device()
        bfloat16 = config.precision == "bfloat16" or (config.precision == "auto" and fast_bfloat16(device_name))
        self.dtype = torch.bfloat16 if bfloat16 else torch.float32
        settings: dict[str, Any] = {
            "train_micro_batch_size_per_gpu": micro_batch,
            "gradient_accumulation_steps": config.accumulate,
            "gradient_clipping": optimizer.clip,
            "zero_optimization": {"stage": config.zero_stage},
            "zero_force_ds_cpu_optimizer": False,
            "zero_allow_untested_optimizer": True,
            "bf16": {"enabled": bfloat16},
            "steps_per_print": 10**9,
        }
        groups = parameter_groups(module, optimizer)
        client: torch.optim.Optimizer
        if optimizer.name == "muon":
            from deepspeed.runtime.zero.muon.muon_optimizer import MuonWithAuxAdam

            client = MuonWithAuxAdam(groups, adam_optimizer=torch.optim.AdamW)
        else:
            client = torch.optim.AdamW(groups)
        self._engine, self._optimizer, _, _ = deepspeed.initialize(model=module, optimizer=client, config=settings)
        self._peaks = [group["lr"] for group in self._optimizer.param_groups]
        self.rank, self.world = deepspeed.comm.get_rank(), deepspeed.comm.get_world_size()

    @property
    def module(self) -> nn.Module:
        return self._engine.module

    @property
    def device(self) -> torch.device:
        return self._engine.device

    def step(self, batches: Iterable[Any], scale: float) -> dict[str, float]:
        """One optimisation step over the batches (as many as `accumulate`) at `scale` times the peak rates.

        Returns the logged values, averaged over the batches. Raises `FloatingPointError` naming the term when a value
        is not finite; the weights are then those of the step before.
        """
        for group, peak in zip(self._optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * scale
        logs: dict[str, list[float]] = {}
        for batch in batches:
            loss, values = self._engine(batch)
            for name, value in {**values, "loss": loss}.items():
                number = float(value.detach())
                if not math.isfinite(number):
                    raise FloatingPointError(f"the term '{name}' became {number}")
                logs.setdefault(name, []).append(number)
            self._engine.backward(loss)
            self._engine.step()
        norm = self._engine.get_global_grad_norm()
        means = {name: sum(values) / len(values) for name, values in logs.items()}
        return means if norm is None else {**means, "grad_norm": float(norm)}

    def agree(self, wish: bool) -> bool:
        """What rank 0 wishes, on every rank: clocks differ, and what all do together all must begin."""
        if self.world == 1:
            return wish
        told = torch.tensor([int(wish)], device=self.device)
        torch.distributed.broadcast(told, 0)
        return bool(told.item())

    def save(self, folder: Path, name: str, state: dict[str, Any]) -> None:
        """Write a checkpoint `folder/name`, whole or not at all. All ranks call it."""
        temporary = folder / f".{name}.tmp"
        if self.rank == 0:
            shutil.rmtree(temporary, ignore_errors=True)
        wait_for_all()
        self._engine.save_checkpoint(str(temporary), tag=name, client_state=state, save_latest=False)
        wait_for_all()
        if self.rank == 0:
            shutil.rmtree(folder / name, ignore_errors=True)
            (temporary / name).rename(folder / name)
            shutil.rmtree(temporary)

    def load(self, folder: Path, name: str) -> dict[str, Any]:
        """Go on from a checkpoint that `save` wrote; returns its state."""
        path, state = self._engine.load_checkpoint(str(folder), tag=name)
        if path is None:
            raise UserError(f"the checkpoint {folder / name} cannot be loaded; remove it to go on from an earlier one")
        return state


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


def rank() -> int:
    """This process's number, as the launcher says; 0 where there is none."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many processes there are, as the launcher says."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def wait_for_all() -> None:
    """Go on when every process has come here."""
    if world_size() > 1:
        _import_deepspeed().comm.barrier()


def _import_deepspeed() -> Any:
    """DeepSpeed, set up for one process where no launcher has set up more."""
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # DeepSpeed's Muon compiles itself, slowly on a CPU
    if "RANK" not in os.environ:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    try:
        import deepspeed
    except ImportError as error:
        raise UserError("training needs DeepSpeed: pip install 'videolm[train]'") from error
    from deepspeed.utils import logger

    logger.setLevel(logging.ERROR)
    if not deepspeed.comm.is_initialized():
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        deepspeed.init_distributed(backend, verbose=False, timeout=timedelta(hours=PATIENCE))
    return deepspeed
