"""The decode step in C++ (`step.cpp`): built at first use where a compiler is found, and kept in the user's cache.

Structures here mirror those of `step.cpp`, field by field.
"""

from __future__ import annotations

import hashlib
import math
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from ctypes import CDLL, POINTER, Structure, byref, c_double, c_int64, c_void_p
from functools import cache
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from tqdm import tqdm

from videolm.cache import cache_folder
from videolm.generate.steps import Feed
from videolm.model.attention import Cache
from videolm.model.head import FactorizedHead, FlatHead
from videolm.model.prefix_lm import PrefixLM
from videolm.model.transformer import Block

Precision = Literal["float32", "bfloat16", "int8"]
"""Of weights, and of the keys and values that are kept; an int8 has a scale for each row, or place of a head."""
DTYPES: dict[Precision, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.int8}
FLAGS = ("-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "-std=c++17", "-fno-math-errno")
TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.int8: 2}
Pointer = c_void_p


class Matrix(Structure):
    _fields_ = (("data", Pointer), ("scale", Pointer), ("rows", c_int64), ("cols", c_int64), ("type", c_int64))


class Layer(Structure):
    _fields_ = (
        *((name, Pointer) for name in ("attention_norm", "q_norm", "k_norm", "mlp_norm")),
        *((name, Matrix) for name in ("q", "k", "v", "o", "gate", "up", "down")),
    )


class Kind(Structure):
    _fields_ = (
        *((name, c_int64) for name in ("start", "size", "factors")),
        ("head", Matrix),
        *((name, Pointer) for name in ("seen", "mix_norm")),
        *((name, Matrix) for name in ("gate", "up", "down", "second")),
    )


class Model(Structure):
    _fields_ = (
        *((name, c_int64) for name in ("width", "heads", "inner", "layers", "kinds")),
        ("eps", c_double),
        ("cache_type", c_int64),
        ("layer", POINTER(Layer)),
        ("norm", Pointer),
        ("kind", POINTER(Kind)),
        *((name, Pointer) for name in ("special", "visual_a", "visual_b", "audio")),
        *((name, c_int64) for name in ("special_size", "visual_size", "split")),
    )


class Slots(Structure):
    _fields_ = (
        *((name, Pointer) for name in ("keys", "values", "key_scale", "value_scale")),
        *((name, c_int64) for name in ("slots", "blocks")),
    )


class Group(Structure):
    _fields_ = (
        *((name, c_int64) for name in ("slot", "first", "count", "place")),
        *((name, Pointer) for name in ("cos", "sin")),
    )


class Draw(Structure):
    _fields_ = (
        *((name, c_int64) for name in ("token", "other", "kind", "seed", "place")),
        *((name, c_double) for name in ("scale", "temperature", "top_p")),
        ("top_k", c_int64),
    )


@cache
def library() -> CDLL | None:
    """The compiled step, built if need be; None where there is no compiler or it fails, which is told once."""
    wanted = (os.environ["CXX"],) if "CXX" in os.environ else ("g++", "c++", "clang++")
    compiler = next(filter(None, map(shutil.which, wanted)), None)
    if compiler is None:
        return None
    try:
        loaded = CDLL(str(_built(compiler)))
    except (OSError, RuntimeError) as error:  # no home, no room, no OpenMP
        tqdm.write(f"decoding without C++, which is slower: it cannot be built ({error})", file=sys.stderr)
        return None
    loaded.lanes.restype = c_int64
    loaded.step.restype = None
    loaded.step.argtypes = [POINTER(Model), POINTER(Slots), *(c_int64, Pointer) * 3, Pointer, c_int64]
    return loaded


def _built(compiler: str) -> Path:
    """The library as this compiler builds it for this processor. Raises `OSError` or `RuntimeError` where it cannot."""
    source = files(__package__).joinpath("step.cpp").read_bytes()
    told = subprocess.run([compiler, "--version"], capture_output=True, check=False).stdout
    name = hashlib.sha256(b"\0".join([source, told, " ".join(FLAGS).encode(), _processor()])).hexdigest()[:24]
    built = cache_folder() / f"step-{name}.so"
    if built.exists():
        return built
    built.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=built.parent) as folder:
        code, path = Path(folder) / "step.cpp", Path(folder) / built.name
        code.write_bytes(source)
        command = [compiler, *FLAGS, str(code), "-o", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(next((line for line in done.stderr.splitlines() if "error" in line), f"{compiler} fails"))
        path.rename(built)
    return built


def _processor() -> bytes:
    """What a build for this processor depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return "\n".join([platform.machine(), *sorted({x for x in lines if x.startswith(("flags", "Features"))})]).encode()


def misfit(model: PrefixLM) -> str:
    """Why the step does not compute this model: "" where it does."""
    if model.device.type != "cpu":
        return "decoding in C++ is for a CPU"
    if model.dtype not in (torch.float32, torch.bfloat16):
        return f"decoding in C++ is for models in float32 or bfloat16, not {str(model.dtype).removeprefix('torch.')}"
    if (built := library()) is None:
        return "decoding in C++ needs a compiler (g++), and none was found that works"
    lm, lanes = model.config.lm, built.lanes()
    for name in ("hidden_size", "head_dim", "mlp_size"):
        if getattr(lm, name) % lanes:
            return f"decoding in C++ needs a {name} that is a multiple of {lanes}, not {getattr(lm, name)}"
    return ""


class Weights:
    """A model's weights as the step takes them; those that are as `precision` says are the model's own, not copies."""

    def __init__(self, model: PrefixLM, precision: Precision):
        self.dtype, self._kept = DTYPES[precision], list[object]()
        lm, embedding, head = model.config.lm, model.embedding, model.head
        blocks = [self._layer(block) for block in model.transformer.layers if isinstance(block, Block)]
        self.kinds = list(head.kinds)
        kinds = [self._kind(head, name) for name in self.kinds]
        self.struct = Model(
            width=lm.hidden_size,
            heads=lm.num_heads,
            inner=lm.mlp_size,
            layers=lm.num_layers,
            kinds=len(kinds),
            eps=lm.norm_eps,
            cache_type=TYPES[self.dtype],
            layer=(Layer * len(blocks))(*blocks),
            norm=self._vector(model.transformer.norm.weight),
            kind=(Kind * len(kinds))(*kinds),
            special=self._vector(embedding.special.weight),
            visual_a=self._vector(embedding.visual_a.weight),
            visual_b=self._vector(embedding.visual_b.weight),
            audio=None if embedding.audio is None else self._vector(embedding.audio.weight),
            special_size=embedding.special_size,
            visual_size=embedding.visual_size,
            split=embedding.codes.sizes[1],
        )

    def _layer(self, block: Block) -> Layer:
        attention, mlp = block.attention, block.mlp
        named = {name: self._matrix(getattr(attention, f"{name}_proj").weight) for name in "qkvo"}
        named |= {name: self._matrix(getattr(mlp, f"{name}_proj").weight) for name in ("gate", "up", "down")}
        norms = {"attention_norm": block.attention_norm, "mlp_norm": block.mlp_norm}
        if isinstance(attention.q_norm, nn.RMSNorm) and isinstance(attention.k_norm, nn.RMSNorm):
            norms |= {"q_norm": attention.q_norm, "k_norm": attention.k_norm}
        vectors = {name: self._vector(norm.weight) for name, norm in norms.items()}
        return Layer(**named, **vectors)

    def _kind(self, head: FactorizedHead | FlatHead, name: str) -> Kind:
        _, start, size = head.kinds[name]
        sizes = {"start": start, "size": size, "factors": head.factors(name)}
        if isinstance(head, FlatHead):
            return Kind(**sizes, head=self._matrix(head.whole.weight[start : start + size]))
        if name != "visual":
            return Kind(**sizes, head=self._matrix(getattr(head.whole, name).weight))
        mix = {part: self._matrix(getattr(head.mix, f"{part}_proj").weight) for part in ("gate", "up", "down")}
        return Kind(
            **sizes,
            **mix,
            head=self._matrix(head.visual_a.weight),
            second=self._matrix(head.visual_b.weight),
            seen=self._vector(head.seen_a.weight),
            mix_norm=self._vector(head.mix_norm.weight),
        )

    def _vector(self, weight: Tensor) -> int:
        return self._keep(weight.detach().float())

    def _matrix(self, weight: Tensor) -> Matrix:
        rows, cols = weight.shape
        kept, scale = lowered(weight.detach(), self.dtype)
        return Matrix(self._keep(kept), None if scale is None else self._keep(scale), rows, cols, TYPES[self.dtype])

    def _keep(self, tensor: Tensor) -> int:
        tensor = tensor.contiguous()
        self._kept.append(tensor)
        return tensor.data_ptr()


def zeros(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Zeros of which those that are never read take no time and no memory (numpy asks for them so, torch does not)."""
    count = math.prod(shape) * dtype.itemsize
    return torch.from_numpy(np.zeros(count, np.uint8)).view(dtype).view(*shape)


def lowered(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """(..., n) as `dtype`; for int8 with the (...) scales to multiply by, such that the largest of each is 127."""
    if dtype != torch.int8:
        return x.to(dtype), None
    scale = x.float().abs().amax(-1).clamp_min(1e-12) / 127
    return (x.float() / scale[..., None]).round().to(dtype), scale


_packed: WeakKeyDictionary[PrefixLM, tuple[object, Weights]] = WeakKeyDictionary()


def packed(model: PrefixLM, precision: Precision) -> Weights:
    """A model's `Weights`, made anew where they have changed since."""
    state = precision, [(weight.data_ptr(), weight._version) for weight in model.parameters()]
    found = _packed.get(model)
    if found is None or found[0] != state:
        found = _packed[model] = state, Weights(model, precision)
    return found[1]


class NativeSteps:
    """Steps by one C++ call each (see `Steps`)."""

    def __init__(self, model: PrefixLM, slots: int, length: int, precision: Precision):
        self.model, self.weights = model, packed(model, precision)
        loaded = library()
        assert loaded is not None  # `misfit` says so
        self._step, self._lanes = loaded.step, loaded.lanes()
        lm, blocks = model.config.lm, -(-length // self._lanes)
        shape = lm.num_layers, slots, lm.num_heads
        dtype = self.weights.dtype
        self._keys = zeros((*shape, blocks, lm.head_dim, self._lanes), dtype)
        self._values = zeros((*shape, blocks * self._lanes, lm.head_dim), dtype)
        self._scales = zeros((2, *shape, blocks * self._lanes), torch.float32) if dtype == torch.int8 else None
        scales = (None, None) if self._scales is None else [scale.data_ptr() for scale in self._scales]
        self._slots = Slots(self._keys.data_ptr(), self._values.data_ptr(), *scales, slots, blocks)
        self._rotary: dict[int, tuple[Tensor, Tensor]] = {}
        self._kinds = {name: index for index, name in enumerate(self.weights.kinds)}

    def fill(self, slot: int, cache: Cache, positions: Tensor) -> None:
        found = [lowered(torch.cat(kept), self._keys.dtype) for kept in (cache.keys, cache.values)]
        (keys, values), scales = zip(*found, strict=True)
        count, lanes = keys.shape[2], self._lanes
        if self._scales is not None:
            self._scales[:, :, slot, :, :count] = torch.stack(scales)
        self._values[:, slot, :, :count] = values
        keys = F.pad(keys, (0, 0, 0, -count % lanes))
        whole = rearrange(keys, "layers heads (blocks lanes) dim -> layers heads blocks dim lanes", lanes=lanes)
        self._keys[:, slot, :, : whole.shape[2]] = whole
        if self.model.config.lm.positions == "1d":
            positions = torch.arange(len(positions))[:, None]
        self._rotary[slot] = tuple(table.contiguous() for table in self.model.transformer.rotary(positions))  # type: ignore[assignment]

    def step(self, feeds: Sequence[Feed]) -> list[list[int | None]]:
        ids: list[int] = []
        groups: list[Group] = []
        draws: list[Draw] = []
        asked: list[tuple[int, int]] = []
        for n, feed in enumerate(feeds):
            first = len(ids)
            for slot in feed.slots:
                cos, sin = self._rotary[slot]
                groups.append(Group(slot, len(ids), len(feed.ids), feed.place, cos.data_ptr(), sin.data_ptr()))
                ids += feed.ids
            away = first + len(feed.ids)
            for at, kind in enumerate(feed.kinds):
                if kind is None:
                    continue
                asked.append((n, at))
                sampling = feed.sampling.of(kind)
                draws.append(
                    Draw(
                        first + at,
                        away + at if len(feed.slots) > 1 else -1,
                        self._kinds[kind],
                        feed.seed,
                        feed.place + at + 1,
                        sampling.guidance_scale,
                        sampling.temperature,
                        sampling.top_p,
                        sampling.top_k,
                    )
                )
        found = (c_int64 * len(draws))()
        self._step(
            byref(self.weights.struct),
            byref(self._slots),
            len(ids),
            (c_int64 * len(ids))(*ids),
            len(groups),
            (Group * len(groups))(*groups),
            len(draws),
            (Draw * len(draws))(*draws),
            found,
            torch.get_num_threads(),
        )
        drawn = [list[int | None]([None]) * len(feed.ids) for feed in feeds]
        for (n, at), value in zip(asked, found, strict=True):
            drawn[n][at] = value
        return drawn
