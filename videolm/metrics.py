"""Measures on tensors."""

from __future__ import annotations

import torch
from torch import Tensor


def psnr(one: Tensor, other: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of clips (b, ...) in [-1, 1]: (b,), each clip over all its values, at most 100.

    >>> psnr(torch.zeros(1, 4), torch.full((1, 4), 0.2))
    tensor([20.])
    """
    error = (one - other).float().flatten(1).square().mean(1)
    return 10 * (4 / error.clamp_min(4e-10)).log10()


def code_usage(codes: Tensor, codebook_size: int) -> dict[str, float]:
    """How many codes occur, and the perplexity exp(H) of their distribution.

    >>> code_usage(torch.tensor([0, 0, 3, 3]), 8)
    {'codes_used': 2.0, 'perplexity': 2.0}
    """
    share = torch.bincount(codes.flatten(), minlength=codebook_size).double() / codes.numel()
    entropy = -torch.xlogy(share, share).sum()
    return {"codes_used": float((share > 0).sum()), "perplexity": round(float(entropy.exp()), 6)}
