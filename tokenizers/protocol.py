"""What every video tokenizer offers, so that a config can swap them (`docs/architecture.md`, contracts).

Tokenizers know nothing of vocabularies or offsets: their codes run from 0 to `codebook_size - 1`.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, NamedTuple

from torch import Tensor

from videolm.component import Component
from videolm.errors import UserError
from videolm.registry import Registry
from videolm.shapes import TokenGrid


class Reconstruction(NamedTuple):
    """A training pass: the clip through the bottleneck and back, its codes, and the quantiser's loss terms."""

    video: Tensor  # (b, c, f, H, W)
    codes: Tensor  # (b, t, h, w)
    losses: dict[str, Tensor]


class VideoTokenizer(Component):
    """Clips (b, 3, f, H, W) in [-1, 1] <-> codes (b, t, h, w) int64.

    Attributes:
        codebook_size: codes lie in [0, codebook_size).
        causal: the codes of the first 1 + temporal_stride * k frames do not depend on later frames.
        temporal_stride: frames a latent frame stands for.
        spatial_stride: pixels on a side that a latent position stands for.
        first_frame_alone: the first latent frame stands for one frame; an image is a clip of one frame.
    """

    codebook_size: int
    temporal_stride: int
    spatial_stride: int
    causal: ClassVar[bool]
    first_frame_alone: ClassVar[bool]

    @abstractmethod
    def grid(self, frames: int, height: int, width: int) -> TokenGrid:
        """The latent grid of a clip. Raises `UserError` for a size or length that does not fit."""

    @abstractmethod
    def encode(self, video: Tensor) -> Tensor:
        """(b, 3, f, H, W) in [-1, 1] -> (b, t, h, w) codes."""

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """(b, t, h, w) codes -> (b, 3, f, H, W), close to [-1, 1] (a decoder may overshoot)."""

    @abstractmethod
    def forward(self, video: Tensor) -> Reconstruction:
        """The differentiable round trip used in training."""

    @abstractmethod
    def freeze_codes(self) -> None:
        """Let only what decodes train from here on, so that a clip's codes stay what they are."""

    def check_video(self, video: Tensor) -> None:
        """Raise `UserError` unless `video` is (b, 3, f, H, W), not empty, finite and in [-1, 1]."""
        if video.ndim != 5 or video.shape[1] != 3 or not video.is_floating_point() or not video.numel():
            raise UserError(
                f"a video tensor is float (b, 3, frames, height, width), not {video.dtype} {tuple(video.shape)}"
            )
        low, high = float(video.min()), float(video.max())
        if not (low >= -1.01 and high <= 1.01):  # catches NaN too
            raise UserError(f"pixels must lie in [-1, 1], got [{low:g}, {high:g}]; Video.to_tensor() scales them")

    def check_codes(self, codes: Tensor) -> None:
        """Raise `UserError` unless `codes` is (b, t, h, w), not empty, of integers in [0, codebook_size)."""
        if codes.ndim != 4 or codes.is_floating_point() or not codes.numel():
            raise UserError(f"codes are integers (b, t, h, w), not {codes.dtype} {tuple(codes.shape)}")
        low, high = int(codes.min()), int(codes.max())
        if low < 0 or high >= self.codebook_size:
            raise UserError(f"codes must lie in [0, {self.codebook_size}), got [{low}, {high}]: another tokenizer's?")


VIDEO_TOKENIZERS: Registry[type[VideoTokenizer]] = Registry(
    "video tokenizer", {"magvit_v2": "videolm.tokenizers.video.magvit_v2:MagvitV2"}
)
