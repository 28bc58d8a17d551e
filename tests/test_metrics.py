"""Measures on tensors, by hand."""

import pytest
import torch

from videolm.metrics import code_usage, psnr


@pytest.mark.parametrize(("difference", "decibels"), [(2.0, 0.0), (0.2, 20.0), (0.02, 40.0), (0.0, 100.0)])
def test_psnr_of_a_constant_difference(difference: float, decibels: float) -> None:
    clip = torch.rand(2, 3, 5, 4, 4) - 1
    assert psnr(clip, clip + difference).tolist() == pytest.approx([decibels] * 2, abs=0.01)


def test_psnr_is_of_each_clip_over_all_its_values() -> None:
    one, other = torch.zeros(2, 4), torch.tensor([[0.4, 0.0, 0.0, 0.0], [0.2, 0.2, 0.2, 0.2]])
    assert psnr(one, other).tolist() == pytest.approx([20.0, 20.0])
    assert psnr(one.bfloat16(), other.bfloat16()).dtype == torch.float32


def test_code_usage() -> None:
    assert code_usage(torch.arange(8).view(2, 4), 8) == {"codes_used": 8.0, "perplexity": 8.0}
    assert code_usage(torch.zeros(5, dtype=torch.long), 8) == {"codes_used": 1.0, "perplexity": 1.0}
    uneven = code_usage(torch.tensor([0, 0, 0, 1]), 4)
    assert uneven["codes_used"] == 2 and uneven["perplexity"] == pytest.approx(4 / 27**0.25, abs=1e-5)
