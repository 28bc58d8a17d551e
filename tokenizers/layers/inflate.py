"""From a network of pictures to one of clips that begins where the other ended (arXiv 1705.07750)."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def inflate(video: nn.Module, image: nn.Module) -> None:
    """Copy the weights of `image` into the module of the same name in `video`.

    A layer with an `inflate` method does it itself: its kernel has grown a dimension. All others are as they were.
    """
    for name, own in [*video.named_parameters(recurse=False), *video.named_buffers(recurse=False)]:
        own.copy_(image.get_parameter(name) if isinstance(own, nn.Parameter) else image.get_buffer(name))
    for name, child in video.named_children():
        other = image.get_submodule(name)
        if hasattr(child, "inflate"):
            child.inflate(other)
        else:
            inflate(child, other)
