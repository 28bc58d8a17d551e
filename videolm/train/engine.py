"""One optimisation step, sharded or not: everything of DeepSpeed that this project touches.

A laptop is one process with gloo; hundreds of GPUs are the same code under `torchrun` or the `deepspeed` launcher.

What training changes is kept by the ranks in pieces: of each weight in float32, and of the optimiser's state, a rank
holds one stretch (ZeRO) or all. `Engine.pieces` shows them, so averages and checkpoints need to know no ZeRO stage.
"""

from __future__ import annotations

import logging
import math
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from videolm.config import Config
from videolm.errors import UserError
from videolm.train.optimizer import OptimizerConfig, parameter_groups

PATIENCE = 6
"""Hours that processes wait for one another: the first one alone writes token shards."""

LINEAR = torch.nn.functional.linear
"""ZeRO stage 3 puts one in its place that rounds otherwise, and leaves it there."""

Precision = Literal["auto", "float32", "bfloat16"]


class EngineConfig(Config):
    """How a step is computed. A run may be gone on with under other settings than it began with."""

    zero_stage: Literal[0, 1, 2, 3] = 0
    """What ZeRO shards over the ranks: optimiser state, gradients too, weights too."""
    offload: Literal["none", "optimizer", "all"] = "none"
    """What ZeRO keeps in the CPU's memory: optimiser state (and its step), or weights too."""
    precision: Precision = "auto"
    """"auto": bfloat16 where the device multiplies it fast, float32 elsewhere."""
    accumulate: Annotated[int, Field(ge=1)] = 1
    """Batches whose gradients make one step."""
    compile: bool = False
    """Let `torch.compile` fuse the module's operations: for GPUs; it costs a minute or more at the start."""
    checkpoint_activations: bool = False
    """Recompute the blocks' activations in the backward pass: less memory, a third more time."""

    @model_validator(mode="after")
    def _consistent(self) -> EngineConfig:
        if self.offload != "none" and self.zero_stage == 0:
            raise ValueError("offload moves what ZeRO shards: set zero_stage to 1 or more, or offload to none")
        if self.offload == "all" and self.zero_stage < 3:
            raise ValueError("offload all moves weights too: set zero_stage to 3, or offload to optimizer")
        if self.compile and self.zero_stage == 3:
            raise ValueError("gathering weights (zero_stage 3) breaks what compile fuses: leave one of them out")
        return self


def fast_bfloat16(device: str) -> bool:
    """Whether bfloat16 products are fast on this device: GPUs, and CPUs with the instructions for it."""
    return device != "cpu" or bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


class Piece(NamedTuple):
    """A stretch of something as long as a weight: of the weight in float32, of a moment of it, of its average."""

    kind: str
    name: str
    """Of the weight."""
    start: int
    """Where in the flattened weight the stretch begins."""
    values: Tensor
    """(n,), a view: writing to it changes what it is a piece of."""


class _Stretch(NamedTuple):
    """Where a stretch of a weight lies in a tensor that the optimiser steps."""

    name: str
    start: int
    offset: int
    size: int


class Engine:
    """A module under DeepSpeed. `module(batch)` must return (loss, {name: value to log}).

    Attributes:
        rank, world: this process and how many there are.
        stage: of ZeRO; from 1 on the pieces of all ranks together are whole, below each rank holds all.
    """

    def __init__(self, module: nn.Module, optimizer: OptimizerConfig, config: EngineConfig, *, micro_batch: int = 1):
        check_muon(optimizer, config)
        deepspeed = _import_deepspeed()
        torch.nn.functional.linear = LINEAR
        self.stage, self._offload = config.zero_stage, config.offload
        bfloat16 = config.precision == "bfloat16" or (config.precision == "auto" and fast_bfloat16(device()))
        self.dtype = torch.bfloat16 if bfloat16 else torch.float32
        zero: dict[str, Any] = {"stage": config.zero_stage}
        to_cpu = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
        if config.offload != "none":
            zero["offload_optimizer"] = to_cpu
        if config.offload == "all":
            zero["offload_param"] = to_cpu
        if optimizer.name == "muon" and config.zero_stage == 3:
            zero["reduce_scatter"] = False  # DeepSpeed asks for it
        settings: dict[str, Any] = {
            "train_micro_batch_size_per_gpu": micro_batch,
            "gradient_accumulation_steps": config.accumulate,
            "gradient_clipping": optimizer.clip,
            "zero_optimization": zero,
            "zero_force_ds_cpu_optimizer": False,
            "zero_allow_untested_optimizer": True,
            "bf16": {"enabled": bfloat16},
            "steps_per_print": 10**9,
        }
        self._shapes = {name: weight.shape for name, weight in module.named_parameters()}
        # as they were given: DeepSpeed rounds and shards them
        self._frozen = {name: w.detach().cpu() for name, w in module.named_parameters() if not w.requires_grad}
        groups = parameter_groups(module, optimizer)
        self._client: torch.optim.Optimizer
        if any(group.get("use_muon") for group in groups):
            self._client = _muon()(groups, adam_optimizer=torch.optim.AdamW)
        else:
            self._client = torch.optim.AdamW(groups)
        self._groups = [list(group["params"]) for group in self._client.param_groups]  # Muon sorts them
        self._peaks = [group["lr"] for group in self._client.param_groups]
        for group in self._client.param_groups:
            group["lr"] = 0.0  # some of DeepSpeed's optimisers begin with a step of zeros, which would decay weights
        self._engine, self._optimizer, _, _ = deepspeed.initialize(
            model=module, optimizer=self._client, config=settings
        )
        self.rank, self.world = deepspeed.comm.get_rank(), deepspeed.comm.get_world_size()
        self._layout = list(self._lay_out())
        for index, flat, _ in self._layout:
            self._begin_state(index, flat)
        if config.compile:
            self._engine.compile()

    @property
    def module(self) -> nn.Module:
        return self._engine.module

    @property
    def device(self) -> torch.device:
        return torch.device(self._engine.device)

    def step(self, batches: Iterable[Any], scale: float) -> dict[str, float]:
        """One optimisation step over the batches (as many as `accumulate`) at `scale` times the peak rates.

        Returns the logged values, averaged over the batches that have them. Raises `FloatingPointError` naming the term
        when a value is not finite; the weights are then those of the step before.
        """
        for group, peak in zip(self._optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * scale
        self._forget_gradients()
        logs: dict[str, list[float]] = {}
        for batch in batches:
            loss, values = self._engine(batch)
            values = {**values, "loss": loss}
            numbers = torch.stack([value.detach().float() for value in values.values()]).tolist()
            for name, number in zip(values, numbers, strict=True):
                if not math.isfinite(number):
                    raise FloatingPointError(f"the term '{name}' became {number}")
                logs.setdefault(name, []).append(number)
            self._engine.backward(loss)
            if self._offload != "none" and self._engine.is_gradient_accumulation_boundary():
                self._optimizer.finalize_gradient_accumulation_boundary()  # those of all batches, not of the last alone
            self._engine.step()
        norm = self._engine.get_global_grad_norm()
        means = {name: sum(values) / len(values) for name, values in logs.items()}
        return means if norm is None else {**means, "grad_norm": float(norm)}

    def _forget_gradients(self) -> None:
        """Zero the gradients of the step before, which DeepSpeed 0.19 would use again for weights that this one leaves
        out: under ZeRO stage 3, and wherever it offloads."""
        optimizer = self._optimizer
        kept: list[Tensor | None] = []
        if self.stage == 3:
            kept.append(optimizer.grad_partitions_flat_buffer)
        elif self._offload != "none":
            kept += optimizer.accumulated_grads_in_cpu.values()
        if self._offload != "none":
            kept += [flat.grad for _, flat, _ in self._layout]
        for gradient in kept:
            if gradient is not None:
                gradient.zero_()

    # --- what training changes

    def weights(self) -> list[Piece]:
        """The pieces of the trained weights, in float32, that this rank keeps."""
        return [
            Piece("weight", s.name, s.start, flat.detach().view(-1)[s.offset : s.offset + s.size])
            for _, flat, stretches in self._layout
            for s in stretches
        ]

    def pieces(self) -> list[Piece]:
        """`weights`, and the pieces of the optimiser's state; `step` is one number a weight."""
        found = self.weights()
        for group, flat, stretches in self._layout:
            for kind, values in self._client.state[flat].items():
                if kind == "step":
                    found += [Piece(kind, s.name, 0, values.view(1)) for s in stretches]
                    continue
                lie = self._whole_in_partition(group) if self._holds_whole(kind) else stretches
                found += [Piece(kind, s.name, s.start, values.view(-1)[s.offset : s.offset + s.size]) for s in lie]
        return found

    def buffers(self) -> list[Piece]:
        """What a module keeps beside weights, the same on every rank."""
        weights = {name for name, _ in self.module.named_parameters(remove_duplicate=False)}
        kept = {name: value for name, value in self.module.state_dict().items() if name not in weights}
        return [Piece("buffer", name, 0, value.view(-1)) for name, value in kept.items()]

    @torch.no_grad()
    def spread(self) -> None:
        """Lay the weights of `weights` into the module, in its precision and from all ranks."""
        if self.stage in (1, 2):
            self._optimizer.update_lp_params()
        elif self.stage == 3:
            self._optimizer.checkpoint_event_prologue()  # what every rank held whole goes
            sharded: dict[str, Any] = dict(self.module.named_parameters())
            for piece in self.weights():
                sharded[piece.name].ds_tensor.view(-1)[: len(piece.values)].copy_(piece.values)
            self._optimizer.checkpoint_event_epilogue()  # and comes again
        elif self.dtype != torch.float32:
            for weights, masters in zip(self._groups, self._client.param_groups, strict=True):
                for weight, master in zip(weights, masters["params"], strict=True):
                    weight.copy_(master)

    @contextmanager
    def whole(self) -> Iterator[None]:
        """All weights on every rank: for what is called besides the module's `forward`, which gathers what it needs."""
        if self.stage < 3:
            yield
        else:
            with _import_deepspeed().zero.GatheredParameters(list(self.module.parameters())):
                yield

    @torch.no_grad()
    def finish(self) -> None:
        """Leave the module with its whole weights in float32 and nothing of DeepSpeed; under stage 3 on the CPU."""
        whole = dict(self._frozen)
        pieces: dict[str, list[Piece]] = {}
        for piece in self.weights():
            pieces.setdefault(piece.name, []).append(piece)
        for name, shape in self._shapes.items():
            if name in whole:
                continue
            weight = torch.zeros(shape.numel(), device=self.device)
            for piece in pieces.get(name, ()):
                weight[piece.start : piece.start + len(piece.values)] = piece.values.to(self.device)
            if self.stage and self.world > 1:
                torch.distributed.all_reduce(weight)  # the pieces of the others, where this rank has zeros
            whole[name] = weight.view(shape).to("cpu" if self.stage == 3 else self.device)
        module = self.module
        self._engine.destroy()
        torch.nn.functional.linear = LINEAR
        module._compiled_call_impl = None
        if self.stage == 3:
            _replace_parameters(module, {name: nn.Parameter(w, name not in self._frozen) for name, w in whole.items()})
            module.to("cpu")
        else:
            for name, weight in module.named_parameters():
                weight.data = whole[name].to(weight.device)
        module.float()

    def _lay_out(self) -> Iterator[tuple[int, Tensor, list[_Stretch]]]:
        """(group, tensor, stretches of weights in it) for every tensor that the optimiser steps on this rank."""
        names = {id(weight): name for name, weight in self.module.named_parameters()}
        optimizer = self._optimizer
        if self.stage == 0:
            for index, (weights, group) in enumerate(zip(self._groups, self._client.param_groups, strict=True)):
                for weight, master in zip(weights, group["params"], strict=True):
                    yield index, master, [_Stretch(names[id(weight)], 0, 0, weight.numel())]
        elif self.stage < 3:
            for index, flat in enumerate(optimizer.single_partition_of_fp32_groups):
                stretches = []
                for weight in optimizer.bit16_groups[index]:
                    if (part := weight._hp_mapping) is not None:
                        here, there = part.hp_fragment_address, part.lp_fragment_address
                        stretches.append(_Stretch(names[id(weight)], there.start, here.start, here.numel))
                yield index, flat, stretches
        else:
            for index, flat in enumerate(optimizer.fp32_partitioned_groups_flat):
                stretches = []
                for weight in optimizer.fp16_groups[index]:
                    _, offset, size = optimizer.grad_position[optimizer.get_param_id(weight)]
                    start = self.rank * size
                    if start < weight.ds_numel:
                        stretches.append(_Stretch(names[id(weight)], start, offset, min(size, weight.ds_numel - start)))
                yield optimizer.sub_group_to_group_id[index], flat, stretches

    def _begin_state(self, group: int, flat: Tensor) -> None:
        """The optimiser's state before the first step, where it would make it at that step."""
        state = self._client.state[flat]
        if not self._client.param_groups[group].get("use_muon"):
            moments = {kind: torch.zeros_like(flat) for kind in ("exp_avg", "exp_avg_sq")}
            state.update(step=torch.tensor(0.0), **moments)
        elif self._holds_whole("momentum_buffer"):
            size = sum(stretch.size for stretch in self._whole_in_partition(group))
            state["momentum_buffer"] = torch.zeros(size, device=flat.device)
        else:
            dtype = self._optimizer.communication_data_type if self.stage == 3 else flat.dtype
            state["momentum_buffer"] = torch.zeros_like(flat, dtype=dtype)

    def _holds_whole(self, kind: str) -> bool:
        """Whether a rank keeps this state whole for each weight of which it has a part: ZeRO 1 and 2 do so for Muon."""
        return kind == "momentum_buffer" and self.stage in (1, 2) and self._offload == "none"

    def _whole_in_partition(self, group: int) -> list[_Stretch]:
        names = {id(weight): name for name, weight in self.module.named_parameters()}
        stretches, offset = [], 0
        for weight in self._optimizer.params_in_partition[group]:
            stretches.append(_Stretch(names[id(weight)], 0, offset, weight.numel()))
            offset += weight.numel()
        return stretches

    # --- what ranks tell one another

    def any(self, *wishes: bool) -> list[bool]:
        """For each wish, whether some rank has it: what all do together all must begin."""
        if self.world == 1:
            return list(wishes)
        told = torch.tensor(wishes, dtype=torch.uint8, device=self.device)
        torch.distributed.all_reduce(told, torch.distributed.ReduceOp.MAX)
        return [bool(wish) for wish in told.tolist()]

    def gathered(self, value: Any) -> list[Any]:
        """The value of every rank."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        torch.distributed.all_gather_object(values, value)
        return values


def check_muon(optimizer: OptimizerConfig, config: EngineConfig) -> None:
    """Raise `UserError` where DeepSpeed's Muon would not be Muon."""
    if optimizer.name == "muon" and config.zero_stage and optimizer.clip:
        raise UserError(
            f"under ZeRO stage {config.zero_stage} DeepSpeed would clip Muon's orthogonal steps, not the gradients: "
            "set optimizer.clip to 0, or engine.zero_stage to 0"
        )


def _replace_parameters(module: nn.Module, new: dict[str, nn.Parameter]) -> None:
    """Put `new` parameters in the places of those of these names, tied ones too."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    for child in module.modules():
        held = child._parameters.items()
        child._parameters = {key: None if p is None else new[names[id(p)]] for key, p in held}


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


def _muon() -> Any:
    """DeepSpeed's Muon, not compiled: its module compiles itself when imported, slowly on a CPU."""
    before = os.environ.get("TORCHDYNAMO_DISABLE")
    os.environ["TORCHDYNAMO_DISABLE"] = "1"
    try:
        from deepspeed.runtime.zero.muon.muon_optimizer import MuonWithAuxAdam
    finally:
        os.environ.pop("TORCHDYNAMO_DISABLE")
        if before is not None:
            os.environ["TORCHDYNAMO_DISABLE"] = before
    return MuonWithAuxAdam


def _import_deepspeed() -> Any:
    """DeepSpeed, set up for one process where no launcher has set up more."""
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
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
    # for inference alone; compiling it takes half a minute, and a process killed meanwhile locks all later ones out
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    _muon()  # before DeepSpeed itself imports it
    if not deepspeed.comm.is_initialized():
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        deepspeed.init_distributed(backend, verbose=False, timeout=timedelta(hours=PATIENCE))
    return deepspeed
