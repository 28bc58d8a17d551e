"""The loss in chunks, against the one over all logits."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from videolm.model.loss import linear_cross_entropy

POSITIONS, WIDTH, IDS = 50, 12, 300


def drawn() -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states, weight, and ids: some of them twice, and every third the likeliest."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(POSITIONS, WIDTH, generator=generator, dtype=torch.float64)
    weight = torch.randn(IDS, WIDTH, generator=generator, dtype=torch.float64)
    ids = torch.randint(IDS // 10, (POSITIONS,), generator=generator)
    ids[::3] = (hidden @ weight.T).argmax(1)[::3]
    return hidden.requires_grad_(), weight.requires_grad_(), ids


@pytest.mark.parametrize("chunk", [1, 7, 50, 64, None])
def test_loss_and_gradients_are_those_of_all_logits_at_once(chunk: int | None) -> None:
    hidden, weight, ids = drawn()
    scores = linear_cross_entropy(hidden, weight, ids, chunk)
    (3 * scores.loss).backward()
    ours = hidden.grad, weight.grad
    hidden.grad = weight.grad = None
    logits = hidden @ weight.T
    loss = F.cross_entropy(logits, ids)
    (3 * loss).backward()
    torch.testing.assert_close(scores.loss, loss, rtol=1e-12, atol=0)
    torch.testing.assert_close(scores.each, F.cross_entropy(logits, ids, reduction="none"), rtol=1e-12, atol=0)
    assert torch.equal(scores.right, logits.argmax(1) == ids) and scores.right.any() and not scores.right.all()
    torch.testing.assert_close(ours[0], hidden.grad, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(ours[1], weight.grad, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("autocast", [False, True])
def test_in_bfloat16_the_weights_gradient_is_summed_in_float32(autocast: bool) -> None:
    """A thousand positions pull at few ids: summed in bfloat16, one after another, the late ones would be lost."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(1000, WIDTH, generator=generator).bfloat16().float() + 2
    weight = torch.randn(8, WIDTH, generator=generator).bfloat16().float()
    ids = torch.randint(8, (1000,), generator=generator)
    exact = weight.double().requires_grad_()
    F.cross_entropy(hidden.double() @ exact.T, ids).backward()
    dtype = torch.float32 if autocast else torch.bfloat16
    hidden, weight = hidden.to(dtype).requires_grad_(), weight.to(dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        scores = linear_cross_entropy(hidden, weight, ids, 10)
    scores.loss.backward()
    assert scores.loss.dtype == scores.each.dtype == torch.float32
    assert hidden.grad is not None and weight.grad is not None and exact.grad is not None
    assert hidden.grad.dtype == weight.grad.dtype == dtype
    error = (weight.grad.double() - exact.grad).norm() / exact.grad.norm()
    assert error < 0.005


def test_improbable_ids_have_a_finite_loss() -> None:
    """A probability of 10^-130 is none in float32."""
    hidden, weight = torch.tensor([[300.0]], requires_grad=True), torch.tensor([[1.0], [0.0]])
    scores = linear_cross_entropy(hidden, weight, torch.tensor([1]))
    scores.loss.backward()
    assert float(scores.loss.detach()) == pytest.approx(300) and float(hidden.grad) == pytest.approx(1)  # type: ignore[arg-type]


@pytest.mark.parametrize("frozen", ["hidden", "weight"])
def test_what_is_frozen_has_no_gradient_and_costs_none(frozen: str) -> None:
    hidden, weight, ids = drawn()
    expected = torch.autograd.grad(F.cross_entropy(hidden @ weight.T, ids), [hidden, weight])
    (hidden if frozen == "hidden" else weight).requires_grad_(False)
    with products() as shapes:
        linear_cross_entropy(hidden, weight, ids, POSITIONS).loss.backward()
    assert len(shapes) == 2
    for given, gradient in zip((hidden, weight), expected, strict=True):
        assert (given.grad is None) == (not given.requires_grad)
        if given.grad is not None:
            torch.testing.assert_close(given.grad, gradient)


def test_without_gradients_it_is_one_product_a_chunk() -> None:
    hidden, weight, ids = drawn()
    with products() as shapes, torch.no_grad():
        loss = linear_cross_entropy(hidden, weight, ids, 20).loss
    assert shapes == [(20, IDS), (20, IDS), (10, IDS)]
    torch.testing.assert_close(loss, F.cross_entropy(hidden @ weight.T, ids).detach())


def test_it_goes_backward_once() -> None:
    loss = linear_cross_entropy(*drawn()).loss
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="goes backward once"):
        loss.backward()


@contextmanager
def products() -> Iterator[list[tuple[int, ...]]]:
    """The shapes of all matrix products made meanwhile."""

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            out = func(*args, **(kwargs or {}))
            if func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm_):
                shapes.append(tuple(out.shape))
            return out

    shapes: list[tuple[int, ...]] = []
    with Watch():
        yield shapes
