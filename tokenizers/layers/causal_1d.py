"""Convolutions over samples that never look ahead, for audio codecs.

Tensors are (b, c, n). All padding is silence in front of the first sample; where a sound comes in chunks its `Past`
stands in for the padding, as for video. Strides group samples: with a stride of s, output k sees inputs up to
s (k + 1) - 1, the last of its group, so whole groups in give whole outputs, whatever the chunks.
"""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from videolm.tokenizers.layers.causal import begins
from videolm.tokenizers.layers.stream import Past


class CausalConv1d(nn.Module):
    """(b, c, n) -> (b, c', n / stride)."""

    def __init__(self, channels: int, out_channels: int, kernel: int, stride: int = 1, dilation: int = 1):
        super().__init__()
        conv = nn.Conv1d(channels, out_channels, kernel)  # initialises as torch does
        assert conv.bias is not None
        self.weight = nn.Parameter(conv.weight.detach().flatten(1))  # (c', c*k): a matrix, for Muon
        self.bias = conv.bias
        self.kernel, self.stride, self.dilation = kernel, stride, dilation
        self.context = (kernel - 1) * dilation - (stride - 1)
        """Samples before a group that its output sees."""

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        if begins(past):
            x = F.pad(x, (self.context, 0))
        if past is not None and self.context:
            x = past.join(self, x, keep=self.context, dim=-1)
        weight = self.weight.unflatten(1, (x.shape[1], self.kernel))
        return F.conv1d(x, weight.to(x.dtype), self.bias.to(x.dtype), self.stride, dilation=self.dilation)


class CausalUpsample1d(nn.Module):
    """(b, c, n) -> (b, c', n * stride): a transposed convolution of kernel 2 * stride that writes nothing past the end.

    Each group of outputs is a linear function of its own input and the one before, as overlap-add is.
    """

    def __init__(self, channels: int, out_channels: int, stride: int):
        super().__init__()
        self.conv = CausalConv1d(channels, out_channels * stride, kernel=2)
        self.stride = stride

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        return rearrange(self.conv(x, past), "b (c s) n -> b c (n s)", s=self.stride)


class ResidualUnit(nn.Module):
    """ELU, dilated convolution, ELU, convolution of kernel 1, around a skip connection (SoundStream, Figure 3)."""

    def __init__(self, channels: int, dilation: int, kernel: int = 7):
        super().__init__()
        self.conv = CausalConv1d(channels, channels, kernel, dilation=dilation)
        self.project = CausalConv1d(channels, channels, 1)

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        return x + self.project(F.elu(self.conv(F.elu(x), past)), past)


class Chain(nn.ModuleList):
    """Layers one after another, each given the same past."""

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        for layer in self:
            x = layer(x, past)
        return x


class Activation(nn.Module):
    """ELU, with the signature of a layer of a chain."""

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        return F.elu(x)
