"""How far two clips are for networks that have seen the world: LPIPS of their frames, I3D of their motion.

The networks' weights are public files that a user fetches (`PublicFile`); they are frozen, part of no model and of no
checkpoint. As losses they pull reconstructions from the mean of what might have been towards what looks right; as
measures they are LPIPS and the features of the Frechet video distance.
"""

from __future__ import annotations

from importlib.resources import files
from importlib.util import find_spec
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from videolm.cache import PublicFile
from videolm.errors import UserError

VGG16 = PublicFile(
    "vgg16-397923af.pth",
    "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    "https://download.pytorch.org/models/vgg16-397923af.pth",
    "LPIPS",
)
KINETICS_I3D = PublicFile(
    "i3d_torchscript.pt",
    "bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2",
    "https://www.dropbox.com/s/ge9e5ujwgetktms/i3d_torchscript.pt?dl=1",
    "the Frechet video distance and the loss of that network, I3D,",
)
I3D_FRAMES, I3D_SIDE = 10, 224
"""Frames that I3D needs at least, and pixels on a side."""
CONVOLUTIONS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Widths of VGG16's, between its poolings."""


class LPIPS(nn.Module):
    """Learned perceptual similarity, version 0.1 on VGG16 (arXiv 1801.03924): 0 for equal frames, more for unlike ones.

    At five depths, the features of each place are brought to length 1; their squared differences are weighted by
    channel, averaged over places and summed over depths.
    """

    file: ClassVar[PublicFile] = VGG16
    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        self.depths = []
        channels = 3
        for widths in CONVOLUTIONS:
            for width in widths:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
            self.depths.append(len(layers) - 1)
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers[:-1])  # numbered as in torchvision's file
        self.weights = nn.ParameterList(torch.ones(widths[-1]) for widths in CONVOLUTIONS)
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1))

    @classmethod
    def load(cls) -> Self:
        """With its public weights, frozen. Raises `UserError` where they are not to be had."""
        if find_spec("torchmetrics") is None:  # which has the weights of the channels
            raise UserError("LPIPS needs torchmetrics: pip install 'videolm[evaluate]'")
        network = cls()
        trunk = torch.load(cls.file.find(), map_location="cpu", weights_only=True)
        network.features.load_state_dict(
            {name.removeprefix("features."): value for name, value in trunk.items() if name.startswith("features.")}
        )
        channels = files("torchmetrics").joinpath("functional", "image", "lpips_models", "vgg.pth")
        with channels.open("rb") as file:
            linear = torch.load(file, map_location="cpu", weights_only=True)
        for depth, weight in enumerate(network.weights):
            weight.data.copy_(linear[f"lin{depth}.model.1.weight"].flatten())
        return network.eval().requires_grad_(False)

    def distance(self, one: Tensor, other: Tensor) -> Tensor:
        """Of two batches of clips (b, 3, f, H, W) in [-1, 1], clip by clip: (b,), means over frames.

        Raises `UserError` for frames of less than 16 pixels on a side, which are none after four poolings.
        """
        if min(one.shape[-2:]) < 16:
            raise UserError(f"LPIPS needs frames of 16x16 pixels or more, these have {one.shape[-1]}x{one.shape[-2]}")
        x, y = (self._normalised(clips) for clips in (one, other))
        total = x.new_zeros(len(x))
        for index, layer in enumerate(self.features):
            x, y = layer(x), layer(y)
            if index in self.depths:
                weight = self.weights[self.depths.index(index)]
                difference = (_unit(x) - _unit(y)).square()
                total = total + torch.einsum("c,nchw->n", weight, difference) / difference[0, 0].numel()
        return rearrange(total, "(b f) -> b f", b=len(one)).mean(1)

    def _normalised(self, clips: Tensor) -> Tensor:
        return (rearrange(clips.float(), "b c f H W -> (b f) c H W") - self.shift) / self.scale


class I3D(nn.Module):
    """Features of I3D trained on Kinetics-400 (arXiv 1705.07750), as the Frechet video distance takes them.

    Frames are resized, bilinear, until the shorter side has 224 pixels, and their middle is taken.
    """

    file: ClassVar[PublicFile] = KINETICS_I3D

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    @property
    def protocol(self) -> str:
        """How clips are brought to it, and which weights it has: figures of another protocol are not comparable."""
        return f"short side to {I3D_SIDE} bilinear, centre crop, {self.file.name} {self.file.sha256[:8]}"

    @classmethod
    def load(cls) -> Self:
        """With its public weights, frozen. TorchScript is a program, hence its hash is checked first.

        Raises `UserError` where the file is not to be had.
        """
        network = torch.jit.load(str(cls.file.find()), map_location="cpu")
        return cls(network).eval().requires_grad_(False)

    def forward(self, clips: Tensor) -> Tensor:
        """(b, 3, f, H, W) in [-1, 1] -> (b, 400). Raises `UserError` for clips of less than ten frames."""
        if clips.shape[2] < I3D_FRAMES:
            raise UserError(f"I3D needs clips of {I3D_FRAMES} frames or more, these have {clips.shape[2]}")
        height, width = clips.shape[-2:]
        scale = I3D_SIDE / min(height, width)
        size = max(I3D_SIDE, round(height * scale)), max(I3D_SIDE, round(width * scale))
        frames = rearrange(clips.float(), "b c f H W -> (b f) c H W")
        frames = F.interpolate(frames, size, mode="bilinear", align_corners=False)
        top, left = (size[0] - I3D_SIDE) // 2, (size[1] - I3D_SIDE) // 2
        frames = frames[..., top : top + I3D_SIDE, left : left + I3D_SIDE]
        made = rearrange(frames, "(b f) c H W -> b c f H W", b=len(clips))
        features: Tensor = self.network(made, rescale=False, resize=False, return_features=True)
        return features

    def distance(self, one: Tensor, other: Tensor) -> Tensor:
        """Of two batches of clips, clip by clip: (b,), the mean squared difference of their features."""
        return (self(one) - self(other)).square().mean(1)


def _unit(x: Tensor) -> Tensor:
    """Features (n, c, h, w) of length 1 at each place; the root's gradient stays finite where there are none."""
    return x / (x.square().sum(1, keepdim=True) + 1e-8).sqrt()
