"""Windows: which places see which, exactly, at any size, by any kernel."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from videolm.model.windowed import WindowedConfig, WindowedTransformer
from videolm.model.windows import KERNELS, Kernel, Window, attend, flash_fits, fold, real, unfold

Grid = tuple[int, int, int]
GRIDS = st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9))


@given(grid=GRIDS, sides=GRIDS)
def test_what_is_folded_comes_back(grid: Grid, sides: Grid) -> None:
    window = Window(*sides)
    x = torch.arange(2 * math.prod(grid) * 3.0).view(2, *grid, 3)
    folded = fold(x, window)
    assert folded.shape[1:3] == (math.prod(window.counts(grid)), math.prod(window))
    assert torch.equal(unfold(folded, window, grid), x)
    there = real(grid, window, x.device)
    assert math.prod(grid) == (math.prod(folded.shape[1:3]) if there is None else int(there.sum()))


def dense(x: Tensor, window: Window, heads: int) -> Tensor:
    """Attention of a grid (t, h, w, d) to itself with a mask of all its places, made of their coordinates."""
    grid = x.shape[:3]
    places = torch.stack(torch.meshgrid(*map(torch.arange, grid), indexing="ij"), -1).view(-1, 3)
    own = places // torch.tensor(window)
    mask = (own[:, None] == own[None]).all(-1)
    q = x.reshape(1, -1, heads, x.shape[-1] // heads).transpose(1, 2)
    y = torch.nn.functional.scaled_dot_product_attention(q, q, q, attn_mask=mask)
    return y.transpose(1, 2).reshape(x.shape)


@pytest.mark.parametrize("kernel", KERNELS)
@settings(max_examples=25, deadline=None)
@given(grid=GRIDS, sides=GRIDS, seed=st.integers(0, 9))
def test_folded_attention_is_masked_attention(kernel: Kernel, grid: Grid, sides: Grid, seed: int) -> None:
    """Of every kernel, and where windows do not divide the grid."""
    window, device = Window(*sides), "cpu"
    x = torch.randn(*grid, 8, generator=torch.Generator().manual_seed(seed))
    if kernel == "flash":
        if not torch.cuda.is_available() or not flash_fits(x.cuda().bfloat16()):
            pytest.skip("flash-attn is not installed")
        x, device = x.bfloat16().float(), "cuda"
    folded = fold(x[None], window).unflatten(-1, (2, 4)).to(device, torch.bfloat16 if device == "cuda" else None)
    y = attend(folded, folded, folded, real(grid, window, folded.device), kernel)
    found = unfold(y.flatten(-2).float().cpu(), window, grid)[0]
    torch.testing.assert_close(found, dense(x, window, heads=2), atol=1e-5 if device == "cpu" else 2e-2, rtol=1e-4)


@pytest.mark.parametrize("padded", [False, True])
def test_on_the_way_back_kernels_agree_too(padded: bool) -> None:
    """Products, which a CPU trains small windows by in bfloat16, and torch's kernel."""
    torch.manual_seed(0)
    there = torch.arange(10) < torch.tensor([[10], [7], [3]]) if padded else None
    for dtype, chosen, bounds in ((torch.float32, "sdpa", (1e-5, 1e-4)), (torch.bfloat16, "plain", (0.05, 0.05))):
        parts = [torch.randn(2, 3, 10, 2, 8, dtype=dtype, requires_grad=True) for _ in range(3)]
        found = {}
        for kernel in ("auto", "plain", "sdpa"):
            y = attend(*parts, there, kernel)  # type: ignore[arg-type]
            found[kernel] = torch.autograd.grad(y.square().sum(), parts)
        assert all(torch.equal(a, b) for a, b in zip(found["auto"], found[chosen], strict=True))
        for own, other in zip(found["plain"], found["sdpa"], strict=True):
            torch.testing.assert_close(own, other, atol=bounds[0], rtol=bounds[1])


def test_padding_changes_nothing_of_a_whole_model() -> None:
    """Windows that reach past a grid, and the largest that do not, give the same states."""
    torch.manual_seed(0)
    windows = (Window(1, 8, 2), Window(1, 2, 8), Window(5, 4, 4))
    config = WindowedConfig(hidden_size=24, num_layers=3, num_heads=2, windows=windows)
    model = WindowedTransformer(config, text=False).double().eval()
    x, low = torch.randn(1, 3, 6, 10, 24).double(), torch.randn(1, 3, 3, 5, 24).double()
    with torch.inference_mode():
        y = model(x, low)
        bare = WindowedConfig(**{**config.model_dump(), "windows": ((1, 6, 2), (1, 2, 8), (3, 4, 4))})
        other = WindowedTransformer(bare, text=False).double().eval()
        other.load_state_dict(model.state_dict())
        torch.testing.assert_close(other(x, low), y)


def reach(windows: tuple[Window, ...], grid: Grid, place: Grid, *, low: bool = False) -> set[Grid]:
    """Places whose input changes the state at `place`, in a model of one layer of each window."""
    torch.manual_seed(0)
    config = WindowedConfig(hidden_size=8, num_layers=len(windows), num_heads=1, windows=windows)
    model = WindowedTransformer(config, text=False).double()
    x = torch.randn(1, *grid, 8, dtype=torch.double, requires_grad=True)
    small = torch.randn(1, grid[0], grid[1] // 2, grid[2] // 2, 8, dtype=torch.double, requires_grad=True)
    model(x, small)[(0, *place)].sum().backward()
    grad = small.grad if low else x.grad
    assert grad is not None
    return {(t, h, w) for t, h, w in grad[0].abs().sum(-1).nonzero().tolist()}


def block(*sides: range) -> set[Grid]:
    return {(t, h, w) for t in sides[0] for h in sides[1] for w in sides[2]}


STAGES: list[tuple[Grid, Window, Grid, tuple[range, range, range]]] = [
    # VideoPoet, appendix A.3: first stage at (5, 56, 32), second at (5, 112, 64)
    ((5, 56, 32), Window(1, 56, 4), (2, 20, 13), (range(2, 3), range(56), range(12, 16))),
    ((5, 56, 32), Window(1, 8, 32), (4, 55, 0), (range(4, 5), range(48, 56), range(32))),
    ((5, 56, 32), Window(5, 8, 8), (0, 9, 17), (range(5), range(8, 16), range(16, 24))),
    ((5, 112, 64), Window(1, 112, 2), (1, 3, 63), (range(1, 2), range(112), range(62, 64))),
    ((5, 112, 64), Window(1, 4, 64), (3, 50, 30), (range(3, 4), range(48, 52), range(64))),
    ((5, 112, 64), Window(5, 8, 8), (4, 111, 0), (range(5), range(104, 112), range(8))),
]


@pytest.mark.parametrize(("grid", "window", "place", "seen"), STAGES, ids=[f"{w}" for _, w, _, _ in STAGES])
def test_golden_windows_of_the_paper(grid: Grid, window: Window, place: Grid, seen: tuple[range, range, range]) -> None:
    """And of the small clip the places below, in windows of half the height and width."""
    assert reach((window,), grid, place) == block(*seen)
    t, h, w = seen
    halves = (t, range(h.start // 2, h.stop // 2), range(w.start // 2, w.stop // 2))
    assert reach((window,), grid, place, low=True) == block(*halves)


def test_layers_of_all_windows_see_everything() -> None:
    windows = (Window(1, 8, 2), Window(1, 2, 8), Window(3, 2, 2))
    assert reach(windows, (3, 8, 8), (1, 4, 4)) == block(range(3), range(8), range(8))


def test_a_window_past_the_edge() -> None:
    """The last window of an axis is what is left of it."""
    assert reach((Window(2, 4, 4),), (3, 6, 10), (2, 5, 9)) == block(range(2, 3), range(4, 6), range(8, 10))
    assert reach((Window(2, 4, 4),), (3, 6, 10), (2, 5, 9), low=True) == block(range(2, 3), range(2, 3), range(4, 5))


def test_activations_computed_again_give_the_same_gradients() -> None:
    torch.manual_seed(0)
    config = WindowedConfig(hidden_size=16, num_layers=2, num_heads=2, windows=(Window(1, 4, 2), Window(2, 2, 2)))
    model = WindowedTransformer(config)
    x, low, text = torch.randn(2, 2, 4, 4, 16), torch.randn(2, 2, 2, 2, 16), torch.randn(2, 3, 16)
    found = []
    for model.checkpointing in (False, True):
        model.zero_grad()
        model(x, low, text).square().sum().backward()
        found.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert len(found[0]) == len(list(model.parameters()))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hidden_size": 30}, "multiple of 2"),
        ({"num_layers": 2}, "multiple of the 3 windows"),
        ({"windows": ((1, 0, 4), (1, 4, 4), (2, 2, 2))}, "1 at least"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        WindowedConfig(**{"hidden_size": 32, "num_layers": 3, "num_heads": 4, **change})
