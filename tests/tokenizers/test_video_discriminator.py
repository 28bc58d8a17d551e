"""The discriminator of clips, and the terms that only it has: LeCam's and the gradient penalty."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from videolm.tokenizers.losses.adversarial import DECAY, Adversary, Seen, balance
from videolm.tokenizers.losses.video_discriminator import VideoDiscriminator, VideoDiscriminatorConfig, halved

CONFIG = VideoDiscriminatorConfig(channels=8, multipliers=(2, 2, 2))


class Linear(nn.Module):
    """Says the sum of all pixels times one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.5))

    def forward(self, video: Tensor) -> Seen:
        return Seen(self.weight * video.flatten(1).sum(1, keepdim=True), [])


def clips(frames: int = 5, side: int = 16, count: int = 4) -> tuple[Tensor, Tensor]:
    """Flat ones, and the same with noise."""
    generator = torch.Generator().manual_seed(0)
    true = torch.rand(count, 3, 1, 1, 1, generator=generator).expand(-1, -1, frames, side, side) * 2 - 1
    return true, true + 0.3 * torch.randn(count, 3, frames, side, side, generator=generator)


def test_at_paper_size_it_has_the_papers_layers() -> None:
    """17x128x128 halves to 1x4x4 by itself; parameters counted by hand."""
    with torch.device("meta"):
        discriminator = VideoDiscriminator(VideoDiscriminatorConfig())
    widths = [128, 256, 512, 512, 512, 512]
    blocks = sum(a * a * 27 + a + a * b * 27 + b + a * b for a, b in pairwise(widths))
    ends = (3 * 27 + 1) * 128 + (512 * 27 + 1) * 512 + (512 * 16 + 1) * 512 + 513
    assert sum(value.numel() for value in discriminator.parameters()) == blocks + ends
    shape, x = [], torch.zeros(1, 1, 17, 128, 128)
    for _ in widths[1:]:
        x = halved(x)
        shape.append(tuple(x.shape[2:]))
    assert shape == [(9, 64, 64), (5, 32, 32), (3, 16, 16), (2, 8, 8), (1, 4, 4)]


@pytest.mark.parametrize("size", [(1, 16, 16), (5, 16, 24), (17, 17, 9)])
def test_it_takes_pictures_and_clips_of_any_size(size: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    seen = VideoDiscriminator(CONFIG)(torch.rand(2, 3, *size))
    assert seen.logits.shape == (2, 1) and seen.logits.isfinite().all()
    folded = VideoDiscriminatorConfig(channels=8, multipliers=(2,), patch=2)
    assert VideoDiscriminator(folded)(torch.rand(2, 3, 5, 16, 8)).logits.shape == (2, 1)


def test_what_is_halved_is_blurred() -> None:
    """A flat ground stays; the finest stripes, which any other place of the samples would turn, become grey."""
    assert torch.allclose(halved(torch.full((1, 2, 5, 6, 7), 3.0)), torch.full((1, 2, 3, 3, 4), 3.0))
    stripes = torch.tensor([1.0, -1.0]).repeat(8).expand(1, 1, 4, 4, 16)
    assert halved(stripes)[..., 1:-1].abs().max() < 1e-6
    spike = torch.zeros(1, 1, 8, 8, 8)
    spike[..., 4, 4, 4] = 1
    assert halved(spike).amax() == pytest.approx((3 / 8) ** 3) and halved(spike).sum() == pytest.approx(1 / 8)


def test_each_term_has_gradients_for_its_own_side() -> None:
    torch.manual_seed(0)
    adversary, (true, made) = CONFIG.make(), clips()
    made.requires_grad_()
    terms = adversary(made, true, {"lecam", "r1"})
    assert set(terms) == {"adversarial", "discriminator", "lecam", "r1"}
    weights = [value for value in adversary.parameters() if value.ndim > 1]
    for name, term in terms.items():
        ours = torch.autograd.grad(term, [made], retain_graph=True, allow_unused=True)[0]
        theirs = torch.autograd.grad(term, weights, retain_graph=True, allow_unused=True)
        if name == "adversarial":
            assert ours is not None and ours.abs().sum() > 0 and all(value is None for value in theirs)
        else:
            assert ours is None and any(value is not None and value.abs().sum() > 0 for value in theirs)
    assert set(adversary(made, true, {})) == {"adversarial", "discriminator"}


def test_its_gradients_are_whole_in_bfloat16() -> None:
    """Of a kernel's taps that see nothing but padding oneDNN leaves them as the memory was."""
    torch.manual_seed(0)
    adversary, (true, made) = CONFIG.make(), clips(frames=3, count=2)
    expected = torch.autograd.grad(adversary(made, true, {})["discriminator"], list(adversary.parameters()))
    adversary = adversary.bfloat16()
    for _ in range(8):
        terms = adversary(made.bfloat16(), true.bfloat16(), {})
        found = torch.autograd.grad(terms["discriminator"], list(adversary.parameters()))
        scale = max(value.abs().max() for value in expected)
        assert all((one - other).abs().max() < 0.1 * scale for one, other in zip(found, expected, strict=True))


def test_terms_of_a_discriminator_that_can_be_computed_by_hand() -> None:
    true, made = torch.full((2, 1, 1, 1, 2), 2.0), torch.full((2, 1, 1, 1, 2), -1.0)  # said: 2 and -1
    adversary = Adversary([Linear()], "non_saturating")
    terms = adversary(made, true, {"lecam", "r1"})
    softplus = nn.functional.softplus
    assert terms["adversarial"].item() == pytest.approx(softplus(torch.tensor(1.0)).item())
    told = softplus(torch.tensor(-2.0)) + softplus(torch.tensor(-1.0))
    assert terms["discriminator"].item() == pytest.approx(told.item())
    assert terms["r1"].item() == pytest.approx(2 * 0.5**2)  # two pixels, each with the weight as its slope
    assert terms["lecam"].item() == pytest.approx(3.0**2 + 3.0**2)  # the averages begin with what is said first
    assert adversary.means.tolist() == [[2.0, -1.0]]
    adversary(made, made, {"lecam"})
    assert adversary.means[0].tolist() == pytest.approx([2 * DECAY - (1 - DECAY), -1.0])
    adversary.eval()(true, made, {"lecam"})
    assert adversary.means[0, 1] == -1
    hinge = Adversary([Linear()], "hinge")(made, true, {})
    assert (hinge["adversarial"].item(), hinge["discriminator"].item()) == (2.0, 0.0)
    assert adversary.bfloat16().means.dtype == torch.float32


def test_it_learns_to_tell_true_clips_from_noisy_ones() -> None:
    torch.manual_seed(0)
    adversary, (true, made) = CONFIG.make(), clips(count=8)
    optimizer = torch.optim.Adam(adversary.parameters(), 2e-3)
    for _ in range(30):
        terms = adversary(made, true, {"lecam", "r1"})
        optimizer.zero_grad()
        (terms["discriminator"] + 0.001 * terms["lecam"] + 0.1 * terms["r1"]).backward()
        optimizer.step()
    assert terms["discriminator"].item() < 0.5  # 1.39 where it cannot tell
    assert terms["adversarial"].item() > 1


def test_an_adversarial_term_can_pull_as_hard_as_the_others() -> None:
    video = torch.randn(2, 3, requires_grad=True)
    rebuilt, adversarial = (3 * video).sum(), (0.1 * video).sum()
    assert balance(rebuilt, adversarial, video).item() == pytest.approx(30)
    assert balance(rebuilt, (0 * video).sum(), video).item() == 1e4
