"""A training step without its numbers: what a forward and backward pass holds.

Tensors may be fake: shapes on the meta device that pass for the CPU's, so that attention takes the kernel that training
takes. On the plain meta device it is taken apart, and keeps an n x n matrix that no real kernel keeps. What is held
is linear in the layers, so passes through one and two of them tell of any number.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class Activations(NamedTuple):
    """Bytes of a forward and backward pass, beside weights and their gradients."""

    held: float
    """Between forward and backward: activations."""
    peak: float
    """At most."""


class Held(TorchDispatchMode):
    """Counts the bytes of tensors that come into being and pass away under it.

    Attributes:
        now: bytes held.
        peak: the most there were.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._sizes: dict[int, int] = {}  # of storages; those that were there before have none

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for value in tree_iter((args, kwargs)):
            self._meet(value, new=False)
        out = func(*args, **(kwargs or {}))
        for value in tree_iter(out):
            self._meet(value, new=True)
        self.peak = max(self.peak, self.now)
        return out

    def _meet(self, value: object, new: bool) -> None:
        if isinstance(value, Tensor) and (key := (storage := value.untyped_storage())._cdata) not in self._sizes:
            self._sizes[key] = storage.nbytes() if new else 0
            self.now += self._sizes[key]
            weakref.finalize(storage, self._part, key)

    def _part(self, key: int) -> None:
        self.now -= self._sizes.pop(key)


class DryRun:
    """Where modules are made and called without memory.

    >>> dry = DryRun(torch.bfloat16)
    >>> with dry.making():
    ...     module = nn.Linear(100_000, 100_000)
    >>> with dry.calling():
    ...     module(torch.zeros(8, 100_000, dtype=torch.bfloat16)).shape
    torch.Size([8, 100000])
    """

    def __init__(self, dtype: torch.dtype):
        self.dtype = dtype
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)

    @contextmanager
    def making(self) -> Iterator[None]:
        """Modules made here have weights of the dtype."""
        before = torch.get_default_dtype()
        torch.set_default_dtype(self.dtype)
        try:
            with self._mode:
                yield
        finally:
            torch.set_default_dtype(before)

    def calling(self) -> FakeTensorMode:
        """Modules that were made by `making` are called here."""
        return self._mode


def activations(module: nn.Module, batch: Any) -> Activations:
    """The forward and backward pass of `module(batch)`, which returns a loss first; real, or under `DryRun.calling`.

    No gradients stay.
    """

    def forget(weight: Tensor) -> None:
        weight.grad = None

    hooks = [p.register_post_accumulate_grad_hook(forget) for p in module.parameters() if p.requires_grad]
    with Held() as held:
        loss = module(batch)[0]
        between = held.now
        loss.backward()
    for hook in hooks:
        hook.remove()
    return Activations(between, held.peak)
