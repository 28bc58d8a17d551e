"""Attention over a bidirectional prefix, against the same with a mask."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from videolm.model.attention import Cache, prefix_attention

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


@pytest.mark.parametrize("prefix", [0, 4, N])
def test_gradients_are_those_with_the_mask(prefix: int) -> None:
    ours, theirs = [x.requires_grad_() for x in qkv()], [x.requires_grad_() for x in qkv()]
    weights = torch.randn(2, 3, N, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (prefix_attention(*ours, prefix) * weights).sum().backward()
    (F.scaled_dot_product_attention(*theirs, attn_mask=mask(prefix)) * weights).sum().backward()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_a_cache_keeps_what_is_appended_layer_by_layer() -> None:
    _, k, v = qkv()
    cache = Cache(layers=2, batch=2, heads=3, length=N, head_dim=4, like=k)
    cache.append(0, k[:, :, :5], v[:, :, :5])
    cache.append(1, v[:, :, :5], k[:, :, :5])
    cache.length = 5
    keys, values = cache.append(0, k[:, :, 5:7], v[:, :, 5:7])
    assert torch.equal(keys, k[:, :, :7]) and torch.equal(values, v[:, :, :7])
    keys, values = cache.append(1, v[:, :, 5:6], k[:, :, 5:6])
    assert torch.equal(keys, v[:, :, :6]) and torch.equal(values, k[:, :, :6])


def test_a_full_cache_says_so() -> None:
    _, k, v = qkv()
    cache = Cache(layers=1, batch=2, heads=3, length=4, head_dim=4, like=k)
    with pytest.raises(ValueError, match="the cache holds 4 positions, 9 are asked for"):
        cache.append(0, k, v)
