"""Conditions of real footage: where things are and how they move (optical flow, depth), and masks from files.

VideoPoet 4.1 takes flow from RAFT and depth from MiDaS; here flow is OpenCV's DIS, which needs no weights, or RAFT by
torchvision where that is installed, and depth any depth estimator of `transformers` that the user has. ShapesWorld
knows both of itself (`render_structure`).
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from videolm.errors import UserError
from videolm.media import Image, Video
from videolm.media.clip import Pixels
from videolm.shapesworld.styles import FASTEST

Floats = NDArray[np.float32]
FlowName = Literal["dis", "raft"]


class Footage:
    """How footage gives the streams that tasks ask for: "structure" is made of a clip, any other is the clip itself.

    For stylisation a clip is its own target: its look is what its caption says. For stories it goes on from its own
    first frames.
    """

    STREAMS = ("video", "image", "audio", "styled", "story", "structure")

    def __init__(self, stream: str, depth_model: str, flow: FlowName = "dis"):
        """Raises `UserError` for a stream that footage does not have, and for structure without a depth estimator."""
        if stream not in self.STREAMS:
            raise UserError(f"clips have no '{stream}': a task of yours takes {', '.join(self.STREAMS)}")
        if stream == "structure" and not depth_model:
            raise UserError("stylisation of clips needs a depth estimator: set data.depth_model to its folder")
        self._maker = StructureMaker(depth_model, flow) if stream == "structure" else None

    def __call__(self, video: Video) -> Video:
        return video if self._maker is None else self._maker(video)


class StructureMaker:
    """Flow in x and in y and depth, as the three channels of one clip, as `shapesworld.render_structure` has them."""

    def __init__(self, depth_model: str | Path, flow: FlowName = "dis"):
        """See `DepthEstimator`; flow by `optical_flow`, or by `RaftFlow`. Raises `UserError` as they do."""
        self.depth = DepthEstimator(depth_model)
        self.flow: Callable[[Pixels], Floats] = optical_flow if flow == "dis" else RaftFlow()

    def __call__(self, video: Video) -> Video:
        flow = np.clip(self.flow(video.frames) / FASTEST, -1, 1)
        shown = np.concatenate([flow, 2 * self.depth(video)[..., None] - 1], axis=-1)
        return Video(np.rint((shown + 1) * 127.5).astype(np.uint8), video.fps)


def optical_flow(frames: Pixels) -> Floats:
    """How far what is seen at each pixel has come since the frame before, by DIS (arXiv 1603.03590).

    Args:
        frames: (f, H, W, 3), RGB, uint8.

    Returns:
        (f, H, W, 2), x and y as shares of the width and the height; 0 in the first frame.

    Raises:
        UserError: OpenCV is not installed, or frames are smaller than 16 pixels.
    """
    try:
        cv2: Any = importlib.import_module("cv2")  # its types lack what it has
    except ImportError as error:
        raise UserError("optical flow needs OpenCV: pip install 'videolm[conditions]'") from error
    height, width = frames.shape[1:3]
    if min(height, width) < 16:
        raise UserError(f"optical flow needs frames of 16x16 pixels or more, these have {width}x{height}")
    flow: Floats = np.zeros((len(frames), height, width, 2), np.float32)
    grey = [cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY) for frame in frames]
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    for index in range(1, len(frames)):
        # From this frame to the one before, turned round: so it is known at each pixel of this frame.
        flow[index] = -dis.calc(grey[index], grey[index - 1], None)
    flow /= (width, height)
    return flow


class RaftFlow:
    """RAFT's flow (arXiv 2003.12039) by torchvision, with the weights it comes with; called as `optical_flow`."""

    SMALLEST = 128
    """Pixels on a side that it needs; smaller frames are enlarged for it."""

    def __init__(self, model: Callable[..., Any] | None = None):
        """Load torchvision's large model, or take another of its kind.

        Raises `UserError` where torchvision or its weights cannot be had.
        """
        if model is None:
            try:
                flow: Any = importlib.import_module("torchvision.models.optical_flow")
                model = flow.raft_large(weights=flow.Raft_Large_Weights.DEFAULT).eval()
            except (ImportError, OSError, RuntimeError) as error:
                reason = str(error).splitlines()[0]
                raise UserError(
                    f"RAFT needs torchvision and its weights ({reason}); flow by DIS needs neither"
                ) from error
        self._model = model

    @torch.inference_mode()
    def __call__(self, frames: Pixels) -> Floats:
        height, width = frames.shape[1:3]
        size = [max(self.SMALLEST, -(-side // 8) * 8) for side in (height, width)]
        pixels = torch.from_numpy(frames).movedim(-1, 1).float() / 127.5 - 1
        pixels = F.interpolate(pixels, size, mode="bilinear", antialias=True)
        flow = torch.zeros(len(frames), 2, height, width)
        for index in range(1, len(frames)):
            # From this frame to the one before, turned round, as for `optical_flow`; the last refinement is the best.
            found = -self._model(pixels[index : index + 1], pixels[index - 1 : index])[-1]
            found = found / torch.tensor([size[1], size[0]]).view(2, 1, 1)
            flow[index] = F.interpolate(found, (height, width), mode="bilinear", antialias=True)[0]
        return flow.movedim(1, -1).numpy()


class DepthEstimator:
    """A depth estimator of `transformers` (MiDaS and DPT, Depth Anything, ...), near things large."""

    def __init__(self, folder: str | Path):
        """Load a model from a folder that holds its `config.json`, `model.safetensors` and `preprocessor_config.json`.

        Raises `UserError` that says what is missing, and how to have it.
        """
        from transformers import AutoModelForDepthEstimation

        folder = Path(folder)
        settings = folder / "preprocessor_config.json"
        if not (folder / "config.json").is_file() or not settings.is_file():
            raise UserError(
                f"there is no depth estimator in {folder}: fetch one, for instance "
                f"`hf download depth-anything/Depth-Anything-V2-Small-hf --local-dir {folder}`"
            )
        try:
            self._model = AutoModelForDepthEstimation.from_pretrained(folder, use_safetensors=True).eval()
            self._settings: dict[str, Any] = json.loads(settings.read_text())
        except (OSError, ValueError) as error:
            raise UserError(f"cannot load the depth estimator in {folder}: {str(error).splitlines()[0]}") from error

    @torch.inference_mode()
    def __call__(self, video: Video, batch: int = 8) -> Floats:
        """(f, H, W) in [0, 1]: 0 the furthest place of the clip, 1 the nearest."""
        parts = torch.from_numpy(video.frames).movedim(-1, 1).split(batch)
        depth = torch.cat([self._estimate(part) for part in parts])
        low, high = depth.min(), depth.max()
        return ((depth - low) / (high - low).clamp_min(1e-6)).numpy()

    def _estimate(self, frames: Tensor) -> Tensor:
        """Frames (b, 3, H, W) uint8 to relative inverse depth (b, H, W)."""
        size, settings = frames.shape[-2:], self._settings
        wanted, multiple = settings.get("size", {"height": 384, "width": 384}), settings.get("ensure_multiple_of", 1)
        target = [max(1, round(wanted[side] / multiple)) * multiple for side in ("height", "width")]
        pixels = F.interpolate(frames.float() / 255, target, mode="bicubic", antialias=True)
        mean, deviation = (torch.tensor(settings.get(key, [0.5] * 3)) for key in ("image_mean", "image_std"))
        pixels = (pixels - mean[:, None, None]) / deviation[:, None, None]
        found = self._model(pixel_values=pixels.to(self._model.dtype)).predicted_depth.float()
        return F.interpolate(found[:, None], size, mode="bicubic")[:, 0]


def picture_mask(image: Image, height: int, width: int) -> Tensor:
    """A user's mask, white where to generate: (1, H, W) bool, for all frames of a clip."""
    grey = torch.from_numpy(image.pixels.mean(-1))[None, None]
    return F.interpolate(grey, (height, width), mode="area")[0] > 127.5


def box_mask(box: tuple[float, float, float, float], height: int, width: int) -> Tensor:
    """A box (left, top, right, bottom) in shares of the picture, inside which to generate: (1, H, W) bool.

    Raises `UserError` for a box that is empty or lies outside.
    """
    left, top, right, bottom = box
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise UserError(f"the box {box} is none: wanted left, top, right, bottom in 0 to 1, left below right")
    x, y = ((torch.arange(side) + 0.5) / side for side in (width, height))
    return (((y >= top) & (y < bottom))[:, None] & (x >= left) & (x < right))[None]
