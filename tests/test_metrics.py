"""Measures on tensors, by hand."""

import pytest
import torch

from videolm.errors import UserError
from videolm.metrics import SSIM_WINDOW, code_usage, frechet_distance, psnr, ssim


@pytest.mark.parametrize(("difference", "decibels"), [(2.0, 0.0), (0.2, 20.0), (0.02, 40.0), (0.0, 100.0)])
def test_psnr_of_a_constant_difference(difference: float, decibels: float) -> None:
    clip = torch.rand(2, 3, 5, 4, 4) - 1
    assert psnr(clip, clip + difference).tolist() == pytest.approx([decibels] * 2, abs=0.01)


def test_psnr_is_of_each_clip_over_all_its_values() -> None:
    one, other = torch.zeros(2, 4), torch.tensor([[0.4, 0.0, 0.0, 0.0], [0.2, 0.2, 0.2, 0.2]])
    assert psnr(one, other).tolist() == pytest.approx([20.0, 20.0])
    assert psnr(one.bfloat16(), other.bfloat16()).dtype == torch.float32


def test_ssim_is_one_for_equal_clips_and_falls_with_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    clip = torch.rand(2, 3, 3, 16, 12, generator=generator) - 0.5
    noise = torch.randn(clip.shape, generator=generator)
    assert ssim(clip, clip).tolist() == pytest.approx([1.0, 1.0], abs=1e-6)
    noisy = torch.stack([ssim(clip, clip + amount * noise) for amount in (0.0, 0.02, 0.05, 0.2, 1.0)])
    assert noisy.shape == (5, 2) and (noisy.diff(dim=0) < 0).all()
    assert ssim(clip, clip + noise) == pytest.approx(ssim(clip + noise, clip), abs=1e-5)


@pytest.mark.parametrize(("one", "other"), [(0.0, 0.02), (-0.9, -0.5), (-1.0, 1.0), (0.01, -0.01)])
def test_ssim_of_flat_grounds_compares_their_means_on_0_to_1(one: float, other: float) -> None:
    """(2 m n + (0.01)^2) / (m^2 + n^2 + (0.01)^2): nothing varies, so the other terms are 1 (Wang et al. 2004)."""
    m, n = (one + 1) / 2, (other + 1) / 2
    wanted = (2 * m * n + 1e-4) / (m * m + n * n + 1e-4)
    clips = [torch.full((1, 3, 2, 11, 13), level) for level in (one, other)]
    assert ssim(*clips).tolist() == pytest.approx([wanted], abs=1e-3)


def test_ssim_is_by_the_definition() -> None:
    """Position by position with a window made here, away from the edges, which the library mirrors."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, 21, 21, generator=generator, dtype=torch.float64)
    bell = torch.exp(-(torch.arange(-5, 6).double() ** 2) / (2 * 1.5**2))
    window = bell[:, None] * bell / (bell[:, None] * bell).sum()

    def mean(values: torch.Tensor) -> torch.Tensor:
        return (values.unfold(0, 11, 1).unfold(1, 11, 1) * window).sum((-1, -2))

    mirrored = [torch.nn.functional.pad(each[None, None], (5, 5, 5, 5), mode="reflect")[0, 0] for each in (x, y)]
    (a, b), c1, c2 = mirrored, 0.01**2, 0.03**2
    variances = mean(a * a) - mean(a) ** 2 + mean(b * b) - mean(b) ** 2
    covariance = mean(a * b) - mean(a) * mean(b)
    wanted = (2 * mean(a) * mean(b) + c1) * (2 * covariance + c2)
    wanted /= (mean(a) ** 2 + mean(b) ** 2 + c1) * (variances + c2)
    clips = [(2 * each - 1).float().expand(1, 3, 1, 21, 21) for each in (x, y)]
    assert ssim(*clips).tolist() == pytest.approx([float(wanted.mean())], abs=1e-4)


def test_ssim_is_of_each_clip_and_in_any_precision() -> None:
    clip = torch.rand(3, 3, 2, 12, 12, generator=torch.Generator().manual_seed(0)) * 2 - 1
    other = clip.flip(-1)
    alone = [float(ssim(clip[index, None], other[index, None])) for index in range(3)]
    assert ssim(clip, other).tolist() == pytest.approx(alone)
    assert ssim(clip.bfloat16(), other.bfloat16()).dtype == torch.float32


def test_what_ssim_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    small = torch.zeros(1, 3, 1, SSIM_WINDOW, SSIM_WINDOW - 1)
    with pytest.raises(UserError, match="frames of 11x11 pixels or more, these have 10x11"):
        ssim(small, small)
    monkeypatch.setattr("videolm.metrics.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install 'videolm\\[evaluate\\]'"):
        ssim(torch.zeros(1, 3, 1, 16, 16), torch.zeros(1, 3, 1, 16, 16))


def test_code_usage() -> None:
    assert code_usage(torch.arange(8).view(2, 4), 8) == {"codes_used": 8.0, "perplexity": 8.0}
    assert code_usage(torch.zeros(5, dtype=torch.long), 8) == {"codes_used": 1.0, "perplexity": 1.0}
    uneven = code_usage(torch.tensor([0, 0, 0, 1]), 4)
    assert uneven["codes_used"] == 2 and uneven["perplexity"] == pytest.approx(4 / 27**0.25, abs=1e-5)


def test_frechet_distance_of_independent_features_is_that_of_each() -> None:
    """(m1 - m2)^2 + (s1 - s2)^2 of each feature (Dowson and Landau 1982)."""
    base = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, -1.0], [0.0, 1.0]]) * (1.5**0.5)  # covariance 1
    one, other = base * torch.tensor([2.0, 3.0]), base * torch.tensor([5.0, 1.0]) + torch.tensor([1.0, -4.0])
    assert frechet_distance(one, other) == pytest.approx(3**2 + 2**2 + 1 + 16)


@pytest.mark.parametrize("count", [40, 5])
def test_frechet_distance_against_the_root_of_the_product(count: int) -> None:
    """trace of sqrt(A B) is that of sqrt(sqrt(A) B sqrt(A)), which is symmetric; also with fewer rows than features."""
    torch.manual_seed(0)
    one, other = torch.randn(2, count, 12, dtype=torch.float64) @ torch.randn(12, 12, dtype=torch.float64)
    first, second = one.T.cov(), other.T.cov()
    values, vectors = torch.linalg.eigh(first)
    root = vectors @ values.clamp_min(0).sqrt().diag() @ vectors.T
    trace = torch.linalg.eigvalsh(root @ second @ root).clamp_min(0).sqrt().sum()
    wanted = (one.mean(0) - other.mean(0)).square().sum() + first.trace() + second.trace() - 2 * trace
    assert frechet_distance(one, other) == pytest.approx(float(wanted), rel=1e-5)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-4)


def test_frechet_distance_of_one_clip_is_refused() -> None:
    with pytest.raises(UserError, match="two clips or more on each side, not 3 and 1"):
        frechet_distance(torch.zeros(3, 2), torch.zeros(1, 2))
