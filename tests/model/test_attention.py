"""Attention over a bidirectional prefix, against the same with a mask."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from videolm.model import attention
from videolm.model.attention import (
    Cache,
    Window,
    flash,
    flash_fits,
    flash_installed,
    in_blocks,
    prefix_attention,
    two_calls,
)

N = 9


def qkv() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 3, N, 4, generator=generator, dtype=torch.float64) for _ in range(3)]


def mask(prefix: int) -> Tensor:
    """(n, n): the prefix sees itself whole, later rows what is before them."""
    seen = torch.ones(N, N, dtype=torch.bool).tril()
    seen[:prefix, :prefix] = True
    return seen


@pytest.mark.parametrize("prefix", [0, 1, 2, 5, N - 1, N, N + 3])
def test_prefix_attention_is_attention_with_the_mask(prefix: int) -> None:
    q, k, v = qkv()
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask(prefix))
    torch.testing.assert_close(prefix_attention(q, k, v, prefix), expected)


@pytest.mark.parametrize("rows", [1, 2, 3, 128])
@pytest.mark.parametrize("prefix", [0, 1, 5, N - 1, N, N + 3])
def test_attention_in_blocks_is_attention_with_the_mask(
    prefix: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "ROWS", rows)
    q, k, v = qkv()
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask(prefix))
    torch.testing.assert_close(in_blocks(q, k, v, prefix), expected)


@pytest.mark.parametrize("attend", [prefix_attention, in_blocks])
@pytest.mark.parametrize("prefix", [0, 4, N])
def test_gradients_are_those_with_the_mask(attend: Callable[..., Tensor], prefix: int) -> None:
    ours, theirs = [x.requires_grad_() for x in qkv()], [x.requires_grad_() for x in qkv()]
    weights = torch.randn(2, 3, N, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (attend(*ours, prefix) * weights).sum().backward()
    (F.scaled_dot_product_attention(*theirs, attn_mask=mask(prefix)) * weights).sum().backward()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


@pytest.mark.parametrize("prefix", [0, 1, 5, N, N + 3])
def test_a_kernel_is_called_with_heads_inside_and_never_with_a_mask(prefix: int) -> None:
    """What flash-attn takes: q, k, v (b, n, heads, dim), and whether the attention is causal."""
    calls: list[tuple[tuple[int, ...], bool]] = []

    def kernel(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
        calls.append((tuple(q.shape), causal))
        scores = torch.einsum("bihd,bjhd->bhij", q, k) / q.shape[-1] ** 0.5
        if causal:
            scores = scores.masked_fill(~mask(0), -torch.inf)
        return torch.einsum("bhij,bjhd->bihd", scores.softmax(-1), v)

    q, k, v = qkv()
    y = two_calls(*(x.transpose(1, 2) for x in (q, k, v)), prefix, kernel)
    torch.testing.assert_close(y.transpose(1, 2), F.scaled_dot_product_attention(q, k, v, attn_mask=mask(prefix)))
    causal, both = ((2, N, 3, 4), True), ((2, min(prefix, N), 3, 4), False)
    assert calls == ([both] if prefix >= N else [causal] if prefix <= 1 else [causal, both])


def test_flash_attn_is_for_half_precision_on_a_gpu() -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        assert not flash_fits(torch.zeros(1, 1, 1, 64, dtype=dtype))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.skipif(not flash_installed(), reason="flash-attn is not installed")
@pytest.mark.parametrize("prefix", [0, 5, 70, 200])
def test_flash_attn_is_attention_with_the_mask(prefix: int) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 200, 4, 64, generator=generator).cuda().bfloat16().requires_grad_() for _ in range(3))
    seen = torch.ones(200, 200, dtype=torch.bool).tril()
    seen[:prefix, :prefix] = True
    y = two_calls(q, k, v, prefix, flash)
    exact = [x.detach().double().transpose(1, 2).requires_grad_() for x in (q, k, v)]
    expected = F.scaled_dot_product_attention(*exact, attn_mask=seen.cuda())
    torch.testing.assert_close(y.double(), expected.transpose(1, 2), rtol=0.02, atol=0.02)
    torch.testing.assert_close(prefix_attention(*(x.transpose(1, 2) for x in (q, k, v)), prefix), y.transpose(1, 2))
    y.sum().backward()
    expected.sum().backward()
    for ours, theirs in zip((q, k, v), exact, strict=True):
        assert ours.grad is not None and theirs.grad is not None
        torch.testing.assert_close(ours.grad.double(), theirs.grad.transpose(1, 2), rtol=0.05, atol=0.05)


def test_a_cache_keeps_keys_and_values_layer_by_layer() -> None:
    q, k, v = qkv()
    cache = Cache()
    first, second = cache.attend(q, k, v, 5, 0), cache.attend(q, v, k, 5, 1)
    assert torch.equal(first, prefix_attention(q, k, v, 5)) and torch.equal(second, prefix_attention(q, v, k, 5))
    assert [x is y for x, y in zip([*cache.keys, *cache.values], [k, v, v, k], strict=True)] == [True] * 4


def test_a_window_sees_all_up_to_each_of_its_places() -> None:
    """Rows at places of their own; what stood there before is overwritten, what comes later not seen."""
    q, k, v = qkv()
    whole = prefix_attention(q, k, v, 0)
    store = torch.full((1, 2, 2, 3, N + 2, 4), 1e3, dtype=k.dtype)
    for row, start in enumerate((5, 3)):
        store[0, 0, row, :, :start], store[0, 1, row, :, :start] = k[row, :, :start], v[row, :, :start]
    places = torch.stack([torch.arange(5, 9), torch.arange(3, 7)])
    at = places[:, None, :, None].expand(2, 3, 4, 4)
    y = Window(store, places).attend(*(x.gather(2, at) for x in (q, k, v)), prefix=0, layer=0)
    torch.testing.assert_close(y, whole.gather(2, at))
    assert torch.equal(store[0, 0, 0, :, :9], k[0, :, :9]) and float(store[0, 0, 0, :, 9:].min()) == 1e3
