"""From a network of pictures to one of clips that begins where the other ended (arXiv 1705.07750)."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Self

import torch
from torch import nn


class Inflatable(nn.Module):
    """A layer whose weights grow a dimension from pictures to clips."""

    @abstractmethod
    def inflate(self, image: Self) -> None:
        """Start from the same layer of a network of pictures."""


@torch.no_grad()
def inflate(video: nn.Module, image: nn.Module) -> None:
    """Copy the weights of `image` into the module of the same name in `video`; an `Inflatable` does it itself."""
    for name, own in [*video.named_parameters(recurse=False), *video.named_buffers(recurse=False)]:
        own.copy_(image.get_parameter(name) if isinstance(own, nn.Parameter) else image.get_buffer(name))
    for name, child in video.named_children():
        other: Any = image.get_submodule(name)
        if isinstance(child, Inflatable):
            child.inflate(other)
        else:
            inflate(child, other)
