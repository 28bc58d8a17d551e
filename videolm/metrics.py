"""Measures on tensors."""

from __future__ import annotations

from importlib.util import find_spec

import torch
from einops import rearrange
from torch import Tensor

from videolm.errors import UserError

SSIM_WINDOW = 11
"""Pixels on a side of SSIM's window."""


def psnr(one: Tensor, other: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of clips (b, ...) in [-1, 1]: (b,), each clip over all its values, at most 100.

    >>> psnr(torch.zeros(1, 4), torch.full((1, 4), 0.2))
    tensor([20.])
    """
    error = (one - other).float().flatten(1).square().mean(1)
    return 10 * (4 / error.clamp_min(4e-10)).log10()


def snr(sound: Tensor, truth: Tensor) -> Tensor:
    """Signal-to-noise ratio in dB of sounds (b, n): (b,), the power of the truth over that of the error, at most 100.

    Where the truth is silent it is minus infinity.

    >>> snr(torch.full((1, 4), 0.9), torch.ones(1, 4))
    tensor([20.0000])
    """
    power, error = (value.float().square().mean(-1) for value in (truth, truth - sound))
    return 10 * (power / error.clamp_min(1e-10 * power).clamp_min(1e-20)).log10()


def mean_colour(clips: Tensor) -> Tensor:
    """The mean colour of clips (b, 3, f, H, W) in [-1, 1]: (b, 3) in [0, 1].

    >>> mean_colour(torch.tensor([1.0, -1.0, 0.0]).view(1, 3, 1, 1, 1))
    tensor([[1.0000, 0.0000, 0.5000]])
    """
    return (clips.float().mean((2, 3, 4)) + 1) / 2


def sharpness(clips: Tensor) -> Tensor:
    """The variance of the Laplacian of the grey pictures in [0, 1] of clips (b, 3, f, H, W): (b,), a mean over frames.

    The usual measure of blur (Pech-Pacheco et al. 2000); the borders are left out.

    >>> sharpness(torch.zeros(1, 3, 2, 8, 8))
    tensor([0.])
    """
    grey = torch.einsum("c,bcfhw->bfhw", torch.tensor([0.299, 0.587, 0.114]), (clips.float() + 1) / 2)
    middle = grey[..., 1:-1, 1:-1]
    around = grey[..., :-2, 1:-1] + grey[..., 2:, 1:-1] + grey[..., 1:-1, :-2] + grey[..., 1:-1, 2:]
    return (around - 4 * middle).flatten(2).var(2, correction=0).mean(1)


def ssim(one: Tensor, other: Tensor) -> Tensor:
    """Structural similarity of clips (b, 3, f, H, W) in [-1, 1]: (b,), the mean over frames, 1 for equal clips.

    Wang et al. 2004 by `torchmetrics`: an 11x11 gaussian window of sigma 1.5, k1 = 0.01, k2 = 0.03, each colour channel
    on its own, edges mirrored. Pixels are brought to [0, 1] first, as everywhere: the luminance term compares means by
    their ratio, so in [-1, 1], where grey is 0, it would tell apart greys that look the same.

    Raises `UserError` as `check_ssim`.
    """
    check_ssim(*one.shape[-2:])
    from torchmetrics.functional.image import structural_similarity_index_measure

    settings = {"data_range": 1.0, "gaussian_kernel": True, "sigma": 1.5, "k1": 0.01, "k2": 0.03}
    pair = [(rearrange(clips.float(), "b c f H W -> b f c H W") + 1) / 2 for clips in (one, other)]
    # Clip by clip: the library makes five copies of what it is given.
    return torch.stack([structural_similarity_index_measure(a, b, **settings) for a, b in zip(*pair, strict=True)])


def check_ssim(height: int, width: int) -> None:
    """Raise `UserError` for frames smaller than `ssim`'s window, and when `torchmetrics` is not installed."""
    if min(height, width) < SSIM_WINDOW:
        raise UserError(f"SSIM needs frames of {SSIM_WINDOW}x{SSIM_WINDOW} pixels or more, these have {width}x{height}")
    if find_spec("torchmetrics") is None:
        raise UserError("SSIM needs torchmetrics: pip install 'videolm[evaluate]'")


def frechet_distance(one: Tensor, other: Tensor) -> float:
    """Between the normal distributions fitted to two sets of features (n, d) and (m, d), each of two rows or more.

    |mean1 - mean2|^2 + trace(C1 + C2 - 2 sqrt(C1 C2)) (arXiv 1706.08500, 1812.01717). The product has as eigenvalues
    the squares of the root's, so that the trace needs no root of a matrix, also where n < d and the matrices have none.

    >>> round(frechet_distance(torch.tensor([[0.0], [2.0]]), torch.tensor([[3.0], [5.0]])), 6)
    9.0
    """
    if min(len(one), len(other)) < 2:
        raise UserError(f"a Frechet distance needs two clips or more on each side, not {len(one)} and {len(other)}")
    one, other = one.double(), other.double()
    mean = (one.mean(0) - other.mean(0)).square().sum()
    first, second = (features.T.cov().view(2 * features.shape[1:]) for features in (one, other))
    root = torch.linalg.eigvals(first @ second).real.clamp_min(0).sqrt().sum()
    return max(0.0, float(mean + first.trace() + second.trace() - 2 * root))


def code_usage(codes: Tensor, codebook_size: int) -> dict[str, float]:
    """How many codes occur, and the perplexity exp(H) of their distribution.

    >>> code_usage(torch.tensor([0, 0, 3, 3]), 8)
    {'codes_used': 2.0, 'perplexity': 2.0}
    """
    share = torch.bincount(codes.flatten(), minlength=codebook_size).double() / codes.numel()
    entropy = -torch.xlogy(share, share).sum()
    return {"codes_used": float((share > 0).sum()), "perplexity": round(float(entropy.exp()), 6)}
