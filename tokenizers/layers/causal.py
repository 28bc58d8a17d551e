"""Convolutions and norms that never look ahead in time, and the moves between space-time and channels.

Tensors are (b, c, t, h, w) kept in channels-last memory, so that folding time into the batch is a view and not a copy.
All temporal padding is in front of the first frame, so one frame alone is a clip of length one (MAGVIT-v2, 3.1).
Where a clip comes in chunks, its `Past` stands in for the padding; None is a clip that is whole.
Nothing here takes a statistic over time: group norm over (t, h, w) is how open causal autoencoders have leaked.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from videolm.tokenizers.layers.inflate import Inflatable
from videolm.tokenizers.layers.stream import Past


class CausalConv3d(Inflatable):
    """A convolution whose output at time t sees inputs up to t alone.

    (b, c, t, h, w) -> (b, c', ceil(t / stride_t), h / stride_h, w / stride_w). With a temporal stride of 2, output k
    stands for frame 2k: 17 frames -> 9 -> 5, the first alone each time. Beyond its edges the input goes on as it is at
    the edge, in time as before a still: so what does not move has the same codes at every time, and a flat ground the
    same at every place. With zeros there, the codes of one grey change along all borders, which a language model has
    to learn by heart.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        kernel: tuple[int, int, int],
        stride: tuple[int, int, int] = (1, 1, 1),
    ):
        super().__init__()
        conv = nn.Conv3d(channels, out_channels, kernel)  # initialises as torch does
        assert conv.bias is not None
        self.weight = nn.Parameter(conv.weight.detach().flatten(1))  # (c', c*kt*kh*kw): a matrix, for Muon
        self.bias = conv.bias
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        kt, kh, kw = self.kernel
        if self.kernel != (1, 1, 1):
            before = kt - 1 if begins(past) else 0
            x = F.pad(x, (kw // 2, kw // 2, kh // 2, kh // 2, before, 0), mode="replicate")
        if past is not None and kt > self.stride[0]:
            x = past.join(self, x, keep=kt - self.stride[0], dim=2)
        weight = self.weight.unflatten(1, (x.shape[1], *self.kernel))
        return F.conv3d(x, weight.to(x.dtype), self.bias.to(x.dtype), self.stride)

    def inflate(self, image: CausalConv3d) -> None:
        """Start from the convolution of a picture tokenizer: on a still, this one then does what that one does.

        Its kernel becomes the last slice in time, the one at the frame itself, between zeros (MAGVIT-v2, 3.1). Where
        several frames are in the channels (`space_to_depth`), the last of them is read, and each is written.
        """
        kernel = image.weight.unflatten(1, (-1, *image.kernel))  # (c', c, 1, kh, kw)
        inputs = self.weight.shape[1] // (self.kernel[0] * self.kernel[1] * self.kernel[2])
        weight = torch.zeros(len(kernel), inputs, *self.kernel)
        weight[:, inputs - kernel.shape[1] :, -1] = kernel[:, :, 0].detach().cpu()
        times = len(self.bias) // len(image.bias)
        with torch.no_grad():
            self.weight.copy_(weight.repeat(times, 1, 1, 1, 1).flatten(1))
            self.bias.copy_(image.bias.repeat(times))


class FrameNorm(nn.Module):
    """Normalisation with statistics of one frame (`groups` > 0: group norm) or one position (`groups` = 0: layer norm).

    With `condition` channels the scale and shift are a linear function of a second input on the same grid
    (the adaptive norm of MAGVIT-v2's decoder, modulated by the quantised latents).
    """

    def __init__(self, channels: int, groups: int, condition: int = 0):
        super().__init__()
        self.groups = groups
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.modulate = nn.Linear(condition, 2 * channels) if condition else None
        if self.modulate is not None:
            nn.init.zeros_(self.modulate.weight)
            nn.init.zeros_(self.modulate.bias)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """x (b, c, t, h, w), condition (b, k, t, h, w) where the norm is adaptive."""
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        if self.groups:
            frames = rearrange(x, "b c t h w -> (b t) c h w")
            y = F.group_norm(frames, self.groups, weight, bias, eps=1e-6)
            y = rearrange(y, "(b t) c h w -> b t h w c", b=len(x))
        else:
            y = F.layer_norm(rearrange(x, "b c t h w -> b t h w c"), weight.shape, weight, bias, eps=1e-6)
        if self.modulate is not None:
            if condition is None:
                raise ValueError("an adaptive norm needs its condition")
            scale, shift = self.modulate(rearrange(condition, "b k t h w -> b t h w k")).chunk(2, dim=-1)
            y = y * (1 + scale) + shift
        return rearrange(y, "b t h w c -> b c t h w")


def begins(past: Past | None) -> bool:
    """Whether the chunk at hand begins with the first frame of its clip."""
    return past is None or past.time == 0


def space_to_depth(video: Tensor, patch: tuple[int, int, int], past: Past | None = None) -> Tensor:
    """Patches of (t, h, w) pixels into channels, the first frame in a patch of its own.

    (b, c, f, H, W) -> (b, c*pt*ph*pw, 1 + (f-1)/pt, H/ph, W/pw); the first frame is repeated to fill its patch.
    """
    pt, ph, pw = patch
    if pt > 1 and begins(past):
        video = torch.cat([repeat(video[:, :, :1], "b c 1 h w -> b c p h w", p=pt - 1), video], dim=2)
    out = rearrange(video, "b c (t pt) (h ph) (w pw) -> b t h w (pt ph pw c)", pt=pt, ph=ph, pw=pw)
    return rearrange(out, "b t h w c -> b c t h w")


def depth_to_space(x: Tensor, patch: tuple[int, int, int], past: Past | None = None) -> Tensor:
    """The inverse of `space_to_depth`: the surplus frames before the first are dropped."""
    pt, ph, pw = patch
    x = rearrange(x, "b (pt ph pw c) t h w -> b t pt h ph w pw c", pt=pt, ph=ph, pw=pw)
    video = rearrange(x, "b t pt h ph w pw c -> b c (t pt) (h ph) (w pw)")
    return video[:, :, pt - 1 :] if begins(past) else video


def nearest_in_time(x: Tensor, stride: tuple[int, int, int], past: Past | None = None) -> Tensor:
    """Repeat latents onto a finer grid, the first latent frame standing for one frame alone.

    (b, c, t, h, w) -> (b, c, 1 + (t-1)*st, h*sh, w*sw).
    """
    st, sh, sw = stride
    out = repeat(x, "b c t h w -> b (t st) (h sh) (w sw) c", st=st, sh=sh, sw=sw)
    return rearrange(out[:, st - 1 :] if begins(past) else out, "b t h w c -> b c t h w")
