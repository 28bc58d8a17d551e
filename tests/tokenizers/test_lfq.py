"""Lookup-free quantisation: codes are bits, and the entropy terms are what their definition says (MAGVIT-v2 3.1)."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from videolm.tokenizers.quantize.lfq import LFQ, LFQConfig, binary_entropy, bits_to_codes, codes_to_bits, entropy_loss


def latents(count: int, bits: int, *, scale: float = 0.5, seed: int = 0) -> Tensor:
    return torch.randn(count, bits, generator=torch.Generator().manual_seed(seed)) * scale


def by_definition(z: Tensor, temperature: float) -> tuple[float, float]:
    """E[H(p(c|z))] and H(E[p(c|z)]) with p over all 2^K codes, straight from |z - c|^2."""
    bits = z.shape[-1]
    codes = codes_to_bits(torch.arange(2**bits), bits).double()
    p = (-torch.cdist(z.double(), codes).square() / temperature).softmax(-1)
    mean = p.mean(0)
    return float(-torch.xlogy(p, p).sum(-1).mean()), float(-torch.xlogy(mean, mean).sum())


def first_term(z: Tensor, temperature: float) -> float:
    return float(binary_entropy(z * 4 / temperature).sum(-1).mean())


@given(bits=st.integers(10, 18), data=st.data())
def test_codes_and_bits_are_inverse(bits: int, data: st.DataObject) -> None:
    codes = torch.tensor(data.draw(st.lists(st.integers(0, 2**bits - 1), min_size=1, max_size=8)))
    signs = codes_to_bits(codes, bits)
    assert signs.shape == (len(codes), bits) and set(signs.unique().tolist()) <= {-1.0, 1.0}
    assert torch.equal(bits_to_codes(signs), codes)


def test_every_code_has_its_own_signs() -> None:
    assert torch.equal(bits_to_codes(codes_to_bits(torch.arange(2**12), 12)), torch.arange(2**12))


def test_bit_i_counts_two_to_the_i_and_zero_is_minus() -> None:
    assert bits_to_codes(torch.eye(18)).tolist() == [2**i for i in range(18)]
    assert bits_to_codes(torch.zeros(18)).item() == 0


@pytest.mark.parametrize("temperature", [0.3, 1.0, 5.0])
@pytest.mark.parametrize("bits", [1, 4, 8])
def test_the_entropy_loss_is_exact_in_one_group(bits: int, temperature: float) -> None:
    z = latents(20, bits)
    sure, used = by_definition(z, temperature)
    assert first_term(z, temperature) == pytest.approx(sure, abs=1e-4)
    assert float(entropy_loss(z, temperature, group_bits=8)) == pytest.approx(sure - used, abs=1e-4)


@pytest.mark.parametrize("group_bits", [1, 3, 4])
def test_groups_keep_the_first_term_and_never_understate_the_second(group_bits: int) -> None:
    one = latents(40, 1)
    z = torch.cat([one * sign for sign in (1, 1, -1, 1, 1, -1, 1, 1)], dim=1) + latents(40, 8, scale=0.1, seed=1)
    sure, used = by_definition(z, 1.0)
    grouped = sure - float(entropy_loss(z, group_bits=group_bits))  # the first term is exact: this is the second
    assert first_term(z, 1.0) == pytest.approx(sure, abs=1e-4)
    assert grouped > used + 0.2  # these bits move together, so that the bound has something to miss


@pytest.mark.parametrize("group_bits", [1, 3, 5])
def test_groups_are_exact_where_bits_are_independent(group_bits: int) -> None:
    """All sign patterns once: the bits of E[p] are independent, and no grouping loses anything."""
    z = codes_to_bits(torch.arange(2**6), 6) * 0.2
    sure, used = by_definition(z, 1.0)
    assert float(entropy_loss(z, group_bits=group_bits)) == pytest.approx(sure - used, abs=1e-4)


@pytest.mark.parametrize(("bits", "group_bits"), [(18, 8), (18, 5), (13, 4), (10, 9)])
def test_every_bit_is_in_a_group(bits: int, group_bits: int) -> None:
    """At a temperature so high that every code is equally likely, both terms are K log 2."""
    assert float(entropy_loss(latents(4, bits), 1e6, group_bits)) == pytest.approx(0, abs=1e-3)


def test_sure_latents_and_many_codes_are_rewarded() -> None:
    every = codes_to_bits(torch.arange(2**6), 6)
    best = -6 * torch.tensor(2.0).log()
    assert torch.isclose(entropy_loss(every * 5), best, atol=1e-4)  # sure, and all codes used
    unsure, same = entropy_loss(every * 0.1), entropy_loss(every[:1].expand(64, 6) * 5)
    assert entropy_loss(every * 5) < unsure - 1 and entropy_loss(every * 5) < same - 1
    assert unsure <= 1e-5 and same.abs() < 1e-4  # never above 0: mixing raises entropy
    assert first_term(every * 0.5, 1.0) > first_term(every, 1.0) > first_term(every * 2, 1.0)


def test_descent_on_the_loss_makes_latents_sure_and_diverse() -> None:
    z = (latents(64, 5, scale=0.05) + 0.1).requires_grad_()
    before = len(bits_to_codes(z).unique())
    step = torch.optim.Adam([z], lr=0.05)
    for _ in range(60):
        step.zero_grad()
        entropy_loss(z).backward()
        step.step()
    assert len(bits_to_codes(z).unique()) == 32 > before
    assert first_term(z.detach(), 1.0) < 0.05


def test_gradients_pass_straight_through() -> None:
    z = latents(6, 7).requires_grad_()
    weights = latents(6, 7, seed=1)
    out = LFQ(LFQConfig(bits=7))(z)
    assert torch.equal(out.vectors.sign(), torch.where(z > 0, 1.0, -1.0))
    assert torch.allclose(out.vectors.abs(), torch.ones(6, 7))
    (out.vectors * weights).sum().backward()
    assert z.grad is not None and torch.equal(z.grad, weights)


def test_the_commitment_is_the_mean_squared_distance_to_the_signs() -> None:
    z = torch.tensor([[0.5, -3.0], [1.0, 0.0]])
    assert float(LFQ(LFQConfig(bits=2))(z).losses["commitment"]) == pytest.approx((0.25 + 4 + 0 + 1) / 4)


def test_any_leading_shape_gives_the_losses_of_the_flat_one() -> None:
    z = latents(24, 6)
    lfq = LFQ(LFQConfig(bits=6))
    flat, shaped = lfq(z), lfq(z.view(2, 3, 4, 6))
    assert shaped.codes.shape == (2, 3, 4) and torch.equal(shaped.codes.flatten(), flat.codes)
    assert all(torch.equal(shaped.losses[name], flat.losses[name]) for name in ("entropy", "commitment"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [0.0, 1e-20, 1.0, 1e4, 1e15])
def test_losses_and_gradients_stay_finite(scale: float, dtype: torch.dtype) -> None:
    z = (latents(16, 18) * scale).to(dtype).requires_grad_()
    out = LFQ(LFQConfig(bits=18))(z)
    assert out.vectors.dtype == dtype and out.codes.dtype == torch.int64
    total = out.losses["entropy"] + out.losses["commitment"] + out.vectors.float().sum()
    total.backward()
    assert z.grad is not None and torch.isfinite(total) and torch.isfinite(z.grad).all()
    assert out.losses["entropy"].dtype == torch.float32


def test_binary_entropy() -> None:
    logits = torch.tensor([0.0, 1.0, -1.0, 80.0, -1e30])
    p = logits[:3].sigmoid()
    expected = -(p * p.log() + (1 - p) * (1 - p).log())
    assert torch.allclose(binary_entropy(logits), torch.cat([expected, torch.zeros(2)]), atol=1e-6)
