"""What is done to a clip's frames before they are tokenised: the masks (COMMIT), the last frame alone, half the size.

A task names its views, so that they are saved with a model by name. A view of your own is a function in your file of
tasks, under the name that your task uses:

>>> VIEWS.register("mirrored", lambda video, backwards: video.flip(-1))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from videolm.registry import Registry
from videolm.tasks import masks
from videolm.tasks.masks import Mask, hide

View = Callable[[Tensor, bool], Tensor]
"""A clip (c, f, H, W) in [-1, 1] and `backwards` -> a clip as long (the last frame: as short as a picture), of the same
size (`half`: half of it). `backwards` turns round what moves in a mask, which every other training clip has."""


@dataclass(frozen=True)
class Masked:
    """The clip without the pixels that a mask hides."""

    mask: Mask

    def __call__(self, video: Tensor, backwards: bool = False) -> Tensor:
        frames, height, width = video.shape[-3:]
        return hide(video, self.mask(frames, height, width, backwards).to(video.device))


def last_frame(video: Tensor, backwards: bool = False) -> Tensor:
    """The last frame, as a picture (c, 1, H, W)."""
    return video[..., -1:, :, :]


def half(video: Tensor, backwards: bool = False) -> Tensor:
    """The clip at half the height and width, by bicubic interpolation without aliasing (VideoPoet 3.3)."""
    frames, sides = video.movedim(1, 0), [side // 2 for side in video.shape[-2:]]
    small = F.interpolate(frames, sides, mode="bicubic", antialias=True, align_corners=False)
    return small.movedim(0, 1).clamp(-1, 1)


VIEWS: Registry[View] = Registry("view")
VIEWS.register("last_frame", last_frame)
VIEWS.register("half", half)
VIEWS.register("inpainting_central", Masked(masks.inpainting_central))
VIEWS.register("inpainting_dynamic", Masked(masks.inpainting_dynamic))
VIEWS.register("outpainting_central", Masked(masks.outpainting_central))
VIEWS.register("outpainting_vertical", Masked(masks.outpainting_vertical))
VIEWS.register("outpainting_horizontal", Masked(masks.outpainting_horizontal))
VIEWS.register("outpainting_dynamic", Masked(masks.outpainting_dynamic))
