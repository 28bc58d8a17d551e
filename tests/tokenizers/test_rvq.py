"""Residual VQ, held against vector-quantize-pytorch; its start, its dropout, and what resumes."""

import copy

import pytest
import torch
import vector_quantize_pytorch as oracle
from torch import Tensor

from videolm.tokenizers.quantize.rvq import RVQ, RVQConfig
from videolm.tokenizers.quantize.vq import VQ, VQConfig

SETTINGS = {"levels": 3, "codebook_size": 16, "dim": 6, "dropout": 0.0}


def rvq(**settings: float) -> RVQ:
    torch.manual_seed(0)
    return RVQ(RVQConfig(**SETTINGS | settings))  # type: ignore[arg-type]


def latents(clips: int = 8, frames: int = 64, seed: int = 0, dim: int = 6) -> Tensor:
    """Around 40 centres of growing distance."""
    centres = torch.randn(40, dim, generator=torch.Generator().manual_seed(99)) * 3
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(40, (clips, frames), generator=generator)
    return centres[drawn] + 0.1 * torch.randn(clips, frames, dim, generator=generator)


def learned(**settings: float) -> RVQ:
    quantizer = rvq(**settings).train()
    for seed in range(20):
        quantizer(latents(seed=seed))
    return quantizer.eval()


def test_codes_and_vectors_are_the_oracles() -> None:
    ours = learned()
    theirs = oracle.ResidualVQ(dim=6, num_quantizers=3, codebook_size=16, kmeans_init=False).eval()
    for mine, layer in zip(ours.tables, theirs.layers, strict=True):
        layer._codebook.embed.data.copy_(mine.table[None])
    z = latents(seed=100)
    with torch.no_grad():
        vectors, codes, _ = theirs(z)
    assert torch.equal(ours.codes(z), codes)
    torch.testing.assert_close(ours.vectors(codes), vectors, atol=1e-5, rtol=1e-5)


def test_a_pass_is_codes_and_their_vectors() -> None:
    quantizer, z = learned(), latents(seed=100).requires_grad_()
    out = quantizer(z)
    assert out.codes.shape == (8, 64, 3)
    assert torch.equal(out.codes, quantizer.codes(z))
    torch.testing.assert_close(out.vectors, quantizer.vectors(out.codes), atol=1e-5, rtol=1e-5)
    (gradient,) = torch.autograd.grad(out.vectors.sum(), z)
    assert torch.equal(gradient, torch.ones_like(z))  # straight through


def test_each_level_comes_nearer() -> None:
    quantizer, z = learned(), latents(seed=100)
    codes = quantizer.codes(z)
    errors = [float((quantizer.vectors(codes[..., : n + 1]) - z).square().mean()) for n in range(3)]
    assert errors[0] > 1.5 * errors[1] > 2 * errors[2]


def test_first_pass_starts_from_kmeans() -> None:
    """After one pass 16 clusters are found, where entries drawn at random miss some."""
    torch.manual_seed(0)
    centres = torch.randn(16, 6) * 5
    z = (centres.repeat_interleave(20, 0) + 0.05 * torch.randn(320, 6))[torch.randperm(320)][None]
    errors = {}
    for rounds in (0, 10):
        table = VQ(VQConfig(codebook_size=16, dim=6, l2_normalized=False, kmeans=rounds)).train()
        table(z)
        errors[rounds] = float((table.vectors(table.codes(z)) - z).square().mean())
    assert errors[10] < errors[0] / 2
    with pytest.raises(ValueError, match="kmeans starts a table of averages"):
        VQConfig(kmeans=5, update="gradient")


def test_start_with_fewer_latents_than_entries() -> None:
    quantizer = rvq(codebook_size=64).train()
    out = quantizer(latents(1, 10))
    assert torch.isfinite(out.vectors).all()
    assert all(torch.isfinite(table.table).all() for table in quantizer.tables)
    assert len(quantizer.tables[0].table.unique(dim=0)) == 64  # no two codes for one entry


def test_all_levels_learn() -> None:
    quantizer = learned(dropout=0.9)
    codes = quantizer.codes(latents(seed=100))
    assert min(len(level.unique()) for level in codes.unbind(-1)) >= 14


def test_dropout_takes_the_first_levels_alone() -> None:
    quantizer, z = learned(dropout=1.0).train(), latents(64, 4, seed=100)
    before = copy.deepcopy(quantizer)
    vectors = quantizer(z).vectors
    codes = before.eval().codes(z)
    prefixes = torch.stack([before.vectors(codes[..., : n + 1]) for n in range(3)])  # (q, b, n, dim)
    depth = (prefixes - vectors).square().mean((2, 3)).argmin(0)
    assert sorted(set(depth.tolist())) == [0, 1, 2]
    assert depth[0] == 2  # one clip has all levels
    torch.testing.assert_close(vectors, prefixes[depth, torch.arange(64)], atol=1e-4, rtol=1e-4)


def test_the_same_passes_learn_the_same() -> None:
    whole, half = rvq(dropout=0.5).train(), rvq(dropout=0.5).train()
    for seed in range(4):
        whole(latents(seed=seed))
        half(latents(seed=seed))
    again = rvq(dropout=0.5).train()
    again.load_state_dict(half.state_dict())
    for seed in range(4, 8):
        whole(latents(seed=seed))
        again(latents(seed=seed))
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in whole.state_dict().items())


def test_frozen_it_does_not_change() -> None:
    quantizer = learned().train()
    quantizer.freeze()
    before = copy.deepcopy(quantizer.state_dict())
    quantizer(latents(seed=5))
    assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())
