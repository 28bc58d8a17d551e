"""Each adversarial term moves what it should: the sound, or the discriminators."""

import pytest
import torch

from videolm.config import parse
from videolm.errors import UserError
from videolm.tokenizers.losses.sound_discriminators import DiscriminatorConfig, STFTDiscriminator

CONFIG = DiscriminatorConfig(windows=(256, 128), channels=4, waves=(1, 2), wave_channels=4)


def sounds(count: int = 3, length: int = 4000) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    true = torch.sin(torch.arange(length) * (0.05 + 0.1 * torch.rand(count, 1, generator=generator)))
    return true, true + 0.3 * torch.randn(count, length, generator=generator)


def test_the_shapes_are_the_papers() -> None:
    """Frames of a quarter window, an eighth of them left after three halvings; 7 layers of features."""
    torch.manual_seed(0)
    logits, features = STFTDiscriminator(1024, 4)(torch.zeros(2, 16_000))
    frames = 16_000 // 256 + 1
    assert [value.shape[1] for value in features] == [4, 8, 16, 16, 32, 32, 64]
    assert features[-1].shape[3] == 1024 // 2 // 64
    assert logits.shape == (2, features[-1].shape[2]) and abs(logits.shape[1] - frames / 8) < 2


def test_each_term_has_gradients_for_its_own_side() -> None:
    torch.manual_seed(0)
    adversary, (true, made) = CONFIG.make(), sounds()
    made.requires_grad_()
    terms = adversary(made, true, {"features"})
    for name in ("adversarial", "features"):
        (grad,) = torch.autograd.grad(terms[name], made, retain_graph=True)
        assert grad.abs().sum() > 0
        assert all(
            value is None
            for value in torch.autograd.grad(
                terms[name], list(adversary.parameters()), retain_graph=True, allow_unused=True
            )
        )
    (grad,) = torch.autograd.grad(terms["discriminator"], [made], retain_graph=True, allow_unused=True)
    assert grad is None
    weights = [value for value in adversary.parameters() if value.ndim > 1]  # of a bias, both terms may cancel
    assert all(value.abs().sum() > 0 for value in torch.autograd.grad(terms["discriminator"], weights))


def test_it_learns_to_tell_true_sounds_from_noisy_ones() -> None:
    torch.manual_seed(0)
    adversary, (true, made) = CONFIG.make(), sounds()
    optimizer = torch.optim.Adam(adversary.parameters(), 2e-3)
    for _ in range(40):
        terms = adversary(made, true, {"features"})
        optimizer.zero_grad()
        terms["discriminator"].backward()
        optimizer.step()
    assert terms["discriminator"].item() < 0.5  # 2 where it cannot tell
    assert adversary(made, true, {"features"})["adversarial"].item() > 1.5
    assert adversary(true, true, {"features"})["features"].item() == 0


def test_windows_that_do_not_halve_are_refused() -> None:
    with pytest.raises(UserError, match="windows.0: .* multiple of 128"):
        parse(DiscriminatorConfig, {"windows": [200]})
