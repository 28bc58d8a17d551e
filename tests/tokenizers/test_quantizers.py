"""VQ and FSQ, held against vector-quantize-pytorch; and what every quantiser promises."""

import copy
from typing import Any

import pytest
import torch
import vector_quantize_pytorch as oracle
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from videolm.tokenizers.quantize.config import QuantizerConfig
from videolm.tokenizers.quantize.fsq import FSQ, FSQConfig
from videolm.tokenizers.quantize.lfq import LFQ, LFQConfig
from videolm.tokenizers.quantize.quantizer import Quantizer
from videolm.tokenizers.quantize.vq import VQ, VQConfig

CASES: dict[str, dict[str, Any]] = {
    "lfq": {"name": "lfq", "bits": 10},
    "fsq": {"name": "fsq", "levels": [8, 5, 4, 3]},
    "vq, averages": {"name": "vq", "codebook_size": 50, "dim": 6},
    "vq, gradient": {"name": "vq", "codebook_size": 50, "dim": 6, "update": "gradient"},
    "vq, not normalised": {"name": "vq", "codebook_size": 50, "dim": 6, "l2_normalized": False},
}


def made(config: dict[str, Any]) -> Quantizer:
    torch.manual_seed(0)
    return TypeAdapter(QuantizerConfig).validate_python(config).make()


@pytest.fixture(params=CASES)
def quantizer(request: pytest.FixtureRequest) -> Quantizer:
    return made(CASES[request.param])


def latents(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


def vq(**settings: Any) -> VQ:
    torch.manual_seed(0)
    return VQ(VQConfig(**{"codebook_size": 16, "dim": 4, "revive": 0.0} | settings))


def test_codes_and_vectors_are_inverse(quantizer: Quantizer) -> None:
    codes = torch.arange(quantizer.codebook_size)
    vectors = quantizer.vectors(codes)
    assert vectors.shape == (quantizer.codebook_size, quantizer.dim)
    assert len(vectors.unique(dim=0)) == quantizer.codebook_size
    latents = unbound(quantizer, vectors) if isinstance(quantizer, FSQ) else vectors
    assert torch.equal(quantizer.codes(latents), codes)


def unbound(quantizer: FSQ, vectors: Tensor) -> Tensor:
    """Latents that the bounds of FSQ bring to these vectors."""
    reach = (quantizer.levels - 1) * (1 + 1e-3) / 2
    offset = (1 - quantizer.levels % 2) / 2
    digits = vectors * (quantizer.levels // 2)
    return ((digits + offset) / reach).atanh() - (offset / reach).atanh()


def test_a_training_pass_gives_codes_and_their_vectors(quantizer: Quantizer) -> None:
    z = latents(2, 3, 4, quantizer.dim).requires_grad_()
    out = quantizer.eval()(z)
    assert out.codes.shape == (2, 3, 4) and out.codes.dtype == torch.int64
    assert torch.equal(out.codes, quantizer.codes(z)) and len(out.codes.unique()) > 5
    torch.testing.assert_close(out.vectors, quantizer.vectors(out.codes))
    assert all(loss.ndim == 0 and torch.isfinite(loss) for loss in out.losses.values())
    (gradient,) = torch.autograd.grad(out.vectors.sum(), z)
    assert torch.isfinite(gradient).all() and gradient.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions(quantizer: Quantizer, dtype: torch.dtype) -> None:
    z = latents(64, quantizer.dim).to(dtype)
    out = quantizer.to(dtype)(z)
    assert out.vectors.dtype == dtype and out.codes.max() < quantizer.codebook_size
    assert all(torch.isfinite(loss) for loss in out.losses.values())


def test_frozen_it_does_not_change(quantizer: Quantizer) -> None:
    z = latents(64, quantizer.dim)
    quantizer.train().freeze()
    before = copy.deepcopy(quantizer.state_dict())
    codes = quantizer.codes(z)
    for seed in range(3):
        quantizer(latents(64, quantizer.dim, seed=seed))
    assert torch.equal(quantizer.codes(z), codes)
    assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())
    assert not any(weight.requires_grad for weight in quantizer.parameters())


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "vq", "codebook_size": 1},
        {"name": "fsq", "levels": []},
        {"name": "fsq", "levels": [8, 2]},
        {"name": "lfq", "bits": 31},
        {"name": "rvq"},
        {"name": "vq", "decay": 1.0},
    ],
)
def test_configs_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(QuantizerConfig).validate_python(wrong)


# --- against vector-quantize-pytorch


@pytest.mark.parametrize("levels", [(8, 5, 5, 5), (7, 5, 5, 5, 5), (8, 8, 8, 6, 5), (4, 3)])
def test_fsq_is_the_oracles(levels: tuple[int, ...]) -> None:
    ours, theirs = FSQ(FSQConfig(levels=levels)), oracle.FSQ(list(levels))
    z = latents(4, 200, len(levels), scale=2)
    vectors, codes = theirs(z)
    out = ours(z)
    assert torch.equal(out.codes, codes.long()) and ours.codebook_size == theirs.codebook_size
    torch.testing.assert_close(out.vectors, vectors)
    torch.testing.assert_close(ours.vectors(out.codes), theirs.indices_to_codes(codes))


def test_fsqs_worked_example() -> None:
    fsq = FSQ(FSQConfig(levels=(3, 4)))
    assert fsq.vectors(torch.tensor(5)).tolist() == [1.0, -0.5] and fsq.codebook_size == 12


def test_lfq_is_the_oracles() -> None:
    ours, theirs = LFQ(LFQConfig(bits=8)), oracle.LFQ(dim=8, codebook_size=256, entropy_loss_weight=0)
    z = latents(4, 100, 8)
    theirs.eval()
    vectors, codes, _ = theirs(z)
    # theirs counts the first channel as the highest bit
    assert torch.equal(ours.codes(z.flip(-1)), codes.long())
    torch.testing.assert_close(ours.vectors(ours.codes(z)), vectors)


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_lfqs_entropy_is_the_oracles(temperature: float) -> None:
    """Theirs: per-sample less codebook entropy with gamma 1; its logits are 2 z c over the temperature, ours 2 z c too:
    |z - c|^2 differs from -2 z c by what no code changes."""
    ours = LFQ(LFQConfig(bits=6, temperature=temperature))
    theirs = oracle.LFQ(dim=6, codebook_size=64, entropy_loss_weight=1, commitment_loss_weight=0, diversity_gamma=1)
    z = latents(1, 300, 6, scale=0.5)
    _, _, loss = theirs.train()(z, inv_temperature=1 / temperature)
    torch.testing.assert_close(ours(z).losses["entropy"], loss.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("normalized", [True, False])
def test_vq_with_averages_is_the_oracles(normalized: bool) -> None:
    ours = vq(l2_normalized=normalized, decay=0.8)
    theirs = oracle.VectorQuantize(
        dim=4, codebook_size=16, decay=0.8, use_cosine_sim=normalized, commitment_weight=1.0, threshold_ema_dead_code=0
    )
    book = theirs._codebook
    book.embed.copy_(ours.table[None])
    book.embed_avg.copy_(ours.sums[None])
    book.cluster_size.copy_(ours.uses[None])
    book.initted.fill_(True)
    ours.train(), theirs.train()
    for seed in range(6):
        z = latents(3, 20, 4, seed=seed)
        given = torch.nn.functional.normalize(z, dim=-1) if normalized else z
        vectors, codes, loss = theirs(given)
        out = ours(z)
        assert torch.equal(out.codes, codes)
        torch.testing.assert_close(out.vectors, vectors, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(out.losses["commitment"], loss.squeeze(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.table, book.embed[0], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(ours.table, vq(l2_normalized=normalized).table, atol=0.05)  # it has learned


def test_vq_by_gradient_moves_entries_to_their_latents() -> None:
    ours = vq(update="gradient", l2_normalized=False)
    z = latents(200, 4)
    step = torch.optim.Adam(ours.parameters(), lr=0.05)
    first = None
    for _ in range(100):
        step.zero_grad()
        out = ours(z)
        (out.losses["codebook"] + 0.25 * out.losses["commitment"]).backward()
        step.step()
        first = first if first is not None else out.losses["codebook"].item()
    assert first is not None and out.losses["codebook"].item() < 0.7 * first
    for code in out.codes.unique():  # k-means: each entry is the mean of its latents
        torch.testing.assert_close(ours.table[code], z[ours.codes(z) == code].mean(0), rtol=0.1, atol=0.1)


# --- entries that fall out of use


def clusters(seed: int, count: int = 400) -> Tensor:
    """Latents around 8 directions, all in one corner of the space."""
    centres = torch.nn.functional.normalize(latents(8, 4, seed=99, scale=0.4) + 1, dim=-1)
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randint(8, (count,), generator=generator)
    return centres[chosen] + torch.randn(count, 4, generator=generator) * 0.02


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_dead_entries_are_brought_back(update: str) -> None:
    """Without it most of a random table is never near the latents."""
    used = {}
    for revive in (0.0, 0.05):
        ours = vq(revive=revive, decay=0.9, update=update, codebook_size=64).train()
        step = torch.optim.Adam(ours.parameters(), lr=0.03) if update == "gradient" else None
        for seed in range(80):
            losses = ours(clusters(seed)).losses
            if step is not None:
                step.zero_grad()
                losses["codebook"].backward()
                step.step()
        used[revive] = len(ours.codes(clusters(1000, 2000)).unique())
    assert used[0.05] >= 40 and used[0.05] >= 2 * used[0.0]


def test_the_same_passes_bring_back_the_same_entries() -> None:
    """So that a run that was resumed is the run that was not."""

    def after(passes: range, ours: VQ) -> VQ:
        for seed in passes:
            ours(clusters(seed))
        return ours

    whole = after(range(8), vq(revive=0.05).train())
    half = after(range(4), vq(revive=0.05).train())
    again = vq(revive=0.05).train()
    again.load_state_dict(half.state_dict())
    torch.manual_seed(123)  # whatever else was drawn
    for name, value in after(range(4, 8), again).state_dict().items():
        assert torch.equal(value, whole.state_dict()[name])


def test_nothing_is_learned_in_evaluation() -> None:
    ours = vq(revive=0.05).eval()
    before = copy.deepcopy(ours.state_dict())
    ours(clusters(0))
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())


def test_averages_stay_float32_in_a_module_that_is_not() -> None:
    """In bfloat16 an average with decay 0.99 would stand still."""
    ours = vq(decay=0.999).to(torch.bfloat16).train()
    before = ours.uses.clone()
    ours(clusters(0).bfloat16())
    assert ours.uses.dtype == ours.table.dtype == torch.float32 and ours.passes.dtype == torch.int64
    assert (ours.uses != before).all()
