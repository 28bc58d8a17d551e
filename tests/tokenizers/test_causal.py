"""The tokenizers' layers: against torch's own convolutions and norms, and never a look ahead in time."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videolm.tokenizers.layers.causal import CausalConv3d, FrameNorm, depth_to_space, nearest_in_time, space_to_depth

KERNELS = [(3, 3, 3), (1, 3, 3), (3, 1, 1), (1, 1, 1)]


@pytest.fixture(autouse=True)
def fixed_weights() -> None:
    torch.manual_seed(0)


def clip(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def sees(layer: Callable[[Tensor], Tensor], x: Tensor, frame: int) -> list[int]:
    """Output frames that change when input frame `frame` does."""
    changed = x.clone()
    changed[:, :, frame] += clip(*x[:, :, frame].shape)
    return (layer(x) - layer(changed)).abs().amax((0, 1, 3, 4)).nonzero().flatten().tolist()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("stride", [(1, 1, 1), (1, 2, 2), (2, 2, 2)])
def test_a_causal_convolution_is_torchs_on_a_clip_that_goes_on_as_at_its_edges(
    kernel: tuple[int, int, int], stride: tuple[int, int, int]
) -> None:
    layer = CausalConv3d(3, 5, kernel, stride).double()
    reference = nn.Conv3d(3, 5, kernel, stride).double()
    assert reference.bias is not None
    with torch.no_grad():
        reference.weight.copy_(layer.weight.view(5, 3, *kernel))
        reference.bias.copy_(layer.bias)
    x = clip(2, 3, 9, 8, 6)
    kt, kh, kw = kernel
    around = (kw // 2, kw // 2, kh // 2, kh // 2, kt - 1, 0)
    torch.testing.assert_close(layer(x), reference(F.pad(x, around, mode="replicate")))


@pytest.mark.parametrize(("frames", "out"), [(1, 1), (5, 3), (17, 9), (9, 5)])
def test_a_temporal_stride_keeps_the_first_frame_alone(frames: int, out: int) -> None:
    layer = CausalConv3d(2, 4, (3, 3, 3), (2, 2, 2)).double()
    x = clip(1, 2, frames, 8, 8)
    assert layer(x).shape == (1, 4, out, 4, 4)
    torch.testing.assert_close(layer(x)[:, :, :1], layer(x[:, :, :1]))
    if frames > 2:  # output k stands for frame 2k, and sees the two before it
        assert sees(layer, x, 2) == [1, 2][: out - 1]
        assert sees(layer, x, 1) == [1]


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_causal_convolution_never_looks_ahead(kernel: tuple[int, int, int]) -> None:
    layer = CausalConv3d(2, 4, kernel).double()
    for frame in range(5):
        assert sees(layer, clip(1, 2, 5, 4, 4), frame) == list(range(frame, min(5, frame + kernel[0])))


def test_convolution_weights_are_matrices_initialised_as_torch_does() -> None:
    """(c', c*kt*kh*kw): Muon takes matrices."""
    torch.manual_seed(3)
    layer = CausalConv3d(4, 6, (3, 3, 3))
    torch.manual_seed(3)
    reference = nn.Conv3d(4, 6, 3)
    assert layer.weight.shape == (6, 4 * 27) and torch.equal(layer.weight, reference.weight.flatten(1))


@pytest.mark.parametrize("groups", [0, 1, 4])
@pytest.mark.parametrize("condition", [0, 3])
def test_a_norm_takes_no_statistic_over_time(groups: int, condition: int) -> None:
    norm = FrameNorm(8, groups, condition).double()
    given = clip(2, 3, 6, 5, 4) if condition else None
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    x = clip(2, 8, 6, 5, 4)
    assert sees(lambda x: norm(x, given), x, 2) == [2]
    alone = norm(x[:, :, 2:3], None if given is None else given[:, :, 2:3])
    torch.testing.assert_close(norm(x, given)[:, :, 2:3], alone)


def test_group_norm_of_each_frame() -> None:
    norm = FrameNorm(8, 4).double()
    x = clip(2, 8, 3, 5, 4) * 3 + 1
    y = norm(x).unflatten(1, (4, 2)).movedim(3, 0)  # t b group c h w
    torch.testing.assert_close(y.mean((3, 4, 5)), torch.zeros(3, 2, 4, dtype=torch.float64))
    ones = torch.ones(3, 2, 4, dtype=torch.float64)
    torch.testing.assert_close(y.var((3, 4, 5), unbiased=False), ones, atol=1e-5, rtol=0)  # the norm adds 1e-6


def test_layer_norm_of_each_position() -> None:
    norm = FrameNorm(8, 0).double()
    x = clip(1, 8, 3, 5, 4) * 3 + 1
    changed = x.clone()
    changed[:, :, 1, 2, 3] += 1 + clip(1, 8)
    differs = (norm(x) - norm(changed)).abs().amax((0, 1)).nonzero().tolist()
    assert differs == [[1, 2, 3]]
    torch.testing.assert_close(norm(x).mean(1), torch.zeros(1, 3, 5, 4, dtype=torch.float64))


@pytest.mark.parametrize("groups", [0, 4])
def test_an_adaptive_norm_starts_as_the_plain_one_and_then_scales_and_shifts(groups: int) -> None:
    adaptive, plain = FrameNorm(8, groups, 3).double(), FrameNorm(8, groups).double()
    x, given = clip(2, 8, 3, 4, 4), clip(2, 3, 3, 4, 4)
    torch.testing.assert_close(adaptive(x, given), plain(x))
    assert adaptive.modulate is not None
    nn.init.normal_(adaptive.modulate.weight)
    scale, shift = torch.einsum("ok, bkthw -> bothw", adaptive.modulate.weight, given).chunk(2, dim=1)
    torch.testing.assert_close(adaptive(x, given), plain(x) * (1 + scale) + shift)
    with pytest.raises(ValueError, match="needs its condition"):
        adaptive(x)


@pytest.mark.parametrize("patch", [(1, 1, 1), (2, 4, 4), (4, 2, 2), (1, 2, 4)])
@pytest.mark.parametrize("latents", [1, 3])
def test_space_to_depth_and_back(patch: tuple[int, int, int], latents: int) -> None:
    pt, ph, pw = patch
    video = clip(2, 3, 1 + (latents - 1) * pt, 2 * ph, 3 * pw)
    folded = space_to_depth(video, patch)
    assert folded.shape == (2, 3 * pt * ph * pw, latents, 2, 3)
    assert torch.equal(depth_to_space(folded, patch), video)


def test_the_first_frame_has_a_patch_of_its_own() -> None:
    patch = (4, 2, 2)
    video = clip(1, 3, 9, 4, 4)
    assert torch.equal(space_to_depth(video, patch)[:, :, :1], space_to_depth(video[:, :, :1], patch))
    for frame in range(9):
        assert sees(lambda x: space_to_depth(x, patch), video, frame) == [(frame + 3) // 4]


@pytest.mark.parametrize("stride", [(1, 2, 2), (2, 2, 2), (4, 1, 2)])
def test_nearest_in_time_repeats_each_latent_over_the_pixels_it_stands_for(stride: tuple[int, int, int]) -> None:
    st, sh, sw = stride
    x = clip(2, 3, 4, 2, 3)
    y = nearest_in_time(x, stride)
    assert y.shape == (2, 3, 1 + 3 * st, 2 * sh, 3 * sw)
    for frame in range(y.shape[2]):
        latent = -(-frame // st)  # the first stands for one frame, the next for `st` each
        expected = x[:, :, latent].repeat_interleave(sh, 2).repeat_interleave(sw, 3)
        assert torch.equal(y[:, :, frame], expected)
