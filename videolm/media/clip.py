"""`Video` and `Image`: pixels as values, checked once at construction.

Outside the models pixels are uint8, frames first and channels last: (f, H, W, 3). Models take and give
float tensors in [-1, 1], channels first: (c, f, H, W); there an image is a clip of one frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from videolm.errors import UserError

Pixels = NDArray[np.uint8]

ROUNDING = 1e-3
"""How far floats may lie outside their range, as a share of it, and still count as rounding."""


@dataclass(frozen=True, eq=False)
class Video:
    """A clip without sound: frames of one size at a constant rate.

    Raises:
        UserError: `frames` is not a uint8 array of shape (f, H, W, 3) with at least one frame and one
            pixel, or `fps` is not a finite positive number.
    """

    frames: Pixels
    """(f, H, W, 3) uint8, RGB."""
    fps: float
    """Frames per second."""

    def __post_init__(self) -> None:
        _check_pixels(self.frames, "frames", "(f, H, W, 3)")
        object.__setattr__(self, "fps", check_fps(self.fps))

    @classmethod
    def from_array(cls, array: ArrayLike, fps: float, value_range: tuple[float, float] | None = None) -> Video:
        """A clip from (f, H, W, 3): uint8 as it is, or floats in `value_range`, which is [0, 1] unless said.

        Floats outside the range are an error, save for rounding (a thousandth of the range).

        Raises:
            UserError: the shape or dtype is wrong, or a value is outside the range, NaN or infinite.
        """
        return cls(_to_uint8(array, value_range), fps)

    @classmethod
    def from_tensor(cls, tensor: torch.Tensor, fps: float) -> Video:
        """A clip from a model's output (c, f, H, W) in [-1, 1], c = 3, on any device and of any float type.

        Models overshoot a little, so values beyond the range are clamped to it; NaN is an error.

        Raises:
            UserError: the shape or dtype is wrong, or a value is NaN.
        """
        return cls(_from_tensor(tensor), fps)

    def to_tensor(self) -> torch.Tensor:
        """(c, f, H, W) float32 in [-1, 1], c = 3, on the CPU. `from_tensor` of it gives the same frames."""
        return _to_tensor(self.frames)

    def __len__(self) -> int:
        """The number of frames."""
        return self.frames.shape[0]

    @property
    def height(self) -> int:
        return self.frames.shape[1]

    @property
    def width(self) -> int:
        return self.frames.shape[2]

    @property
    def duration(self) -> float:
        """Seconds."""
        return len(self) / self.fps


@dataclass(frozen=True, eq=False)
class Image:
    """A still picture.

    Raises:
        UserError: `pixels` is not a uint8 array of shape (H, W, 3) with at least one pixel.
    """

    pixels: Pixels
    """(H, W, 3) uint8, RGB."""

    def __post_init__(self) -> None:
        _check_pixels(self.pixels, "pixels", "(H, W, 3)")

    @classmethod
    def from_array(cls, array: ArrayLike, value_range: tuple[float, float] | None = None) -> Image:
        """A picture from (H, W, 3), as `Video.from_array`."""
        return cls(_to_uint8(array, value_range))

    @classmethod
    def from_tensor(cls, tensor: torch.Tensor) -> Image:
        """A picture from a model's one-frame output (c, 1, H, W) in [-1, 1], as `Video.from_tensor`."""
        if tensor.ndim == 4 and tensor.shape[1] != 1:
            raise UserError(f"the tensor has {tensor.shape[1]} frames, an image has one: use Video.from_tensor")
        return cls(_from_tensor(tensor)[0])

    def to_tensor(self) -> torch.Tensor:
        """(c, 1, H, W) float32 in [-1, 1], c = 3: a clip of one frame."""
        return _to_tensor(self.pixels[None])

    @property
    def height(self) -> int:
        return self.pixels.shape[0]

    @property
    def width(self) -> int:
        return self.pixels.shape[1]


def check_fps(fps: float) -> float:
    """`fps` as a float; `UserError` unless it is a finite number above 0."""
    try:
        rate = float(fps)
    except (TypeError, ValueError):
        rate = math.nan
    if not (math.isfinite(rate) and rate > 0):
        raise UserError(f"fps is {fps!r}: wanted a finite number of frames per second above 0")
    return rate


def _check_pixels(array: object, name: str, shape: str) -> None:
    if not isinstance(array, np.ndarray):
        raise UserError(f"{name} is a {type(array).__name__}: wanted a uint8 array {shape}")
    if array.dtype != np.uint8:
        raise UserError(f"{name} has dtype {array.dtype}: wanted uint8; from_array and from_tensor convert floats")
    if array.ndim != shape.count(",") + 1 or array.shape[-1] != 3 or 0 in array.shape:
        raise UserError(f"{name} has shape {array.shape}: wanted {shape}, none of them 0")


def _to_uint8(values: ArrayLike, value_range: tuple[float, float] | None) -> Pixels:
    array = np.asarray(values)
    if array.dtype == np.uint8:
        if value_range not in (None, (0, 255)):
            raise UserError(
                f"uint8 values lie in 0 to 255, value_range says {value_range}: leave it out, or pass floats"
            )
        return array
    if array.dtype.kind != "f":
        raise UserError(f"the array has dtype {array.dtype}: wanted uint8 (0 to 255) or floats (0 to 1)")
    low, high = (0.0, 1.0) if value_range is None else value_range
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"value_range is {value_range}: wanted two finite numbers, the lower first")
    if array.size and not np.isfinite(array).all():
        raise UserError("the array holds NaN or infinite values: wanted finite floats")
    unit = (array.astype(np.float32) - low) / (high - low)
    if unit.size and (unit.min() < -ROUNDING or unit.max() > 1 + ROUNDING):
        raise UserError(
            f"the array holds floats from {array.min():g} to {array.max():g}, outside [{low:g}, {high:g}]: "
            "scale them, or say their range with value_range=(low, high)"
        )
    return np.rint(unit.clip(0, 1) * 255).astype(np.uint8)


def _from_tensor(tensor: torch.Tensor) -> Pixels:
    if tensor.ndim != 4 or tensor.shape[0] != 3 or not tensor.is_floating_point():
        raise UserError(f"the tensor is {tensor.dtype} {tuple(tensor.shape)}: wanted floats (3, f, H, W) in [-1, 1]")
    values = tensor.detach().to("cpu", torch.float32)
    if values.isnan().any():
        raise UserError("the tensor holds NaN: wanted floats in [-1, 1]")
    levels = values.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
    return np.ascontiguousarray(levels.permute(1, 2, 3, 0).numpy())


def _to_tensor(frames: Pixels) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(frames.transpose(3, 0, 1, 2))).to(torch.float32) / 127.5 - 1
