"""Heads: proper distributions over each kind's ids, whatever the size of the codebook."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from videolm.model.config import LMConfig
from videolm.model.head import FactorizedHead, FlatHead, Kind

CONFIG = LMConfig(hidden_size=16, num_layers=1, num_heads=1)
HEADS = {"factorized": FactorizedHead, "flat": FlatHead}


def make(head: str, visual: int = 64) -> FactorizedHead | FlatHead:
    starts = [0, 8, 8 + visual, 8 + visual + 6]
    names = ["special", "visual", "audio0", "audio1"]
    kinds = [Kind(n, a, b - a) for n, (a, b) in zip(names, pairwise([*starts, 8 + visual + 12]), strict=True)]
    torch.manual_seed(0)
    made = HEADS[head](CONFIG, kinds)
    for weight in made.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.5)
    return made


def hidden(rows: int) -> Tensor:
    return torch.randn(rows, 16, generator=torch.Generator().manual_seed(1))


def losses(head: FactorizedHead | FlatHead, states: Tensor, ids: Tensor, kind: str) -> Tensor:
    return head.score(states[None], ids[None], {kind: len(ids)}).each[0]


def ids_of(head: FactorizedHead | FlatHead, kind: str) -> Tensor:
    _, start, size = head.kinds[kind]
    return torch.arange(start, start + size)


# 64: a power of two; 1000: the last half holds 8 of 32; 600: whole halves are past the end; 992: none is cut
SIZES = [2, 3, 64, 600, 992, 1000]


@pytest.mark.parametrize("visual", SIZES)
def test_the_probabilities_of_all_codes_sum_to_one(visual: int) -> None:
    head = make("factorized", visual)
    ids = ids_of(head, "visual")
    for state in hidden(3):
        nats = losses(head, state.expand(len(ids), -1), ids, "visual")
        assert nats.isfinite().all()
        assert float((-nats).exp().sum()) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("visual", SIZES)
def test_no_choice_leads_past_the_end_of_the_codebook(visual: int) -> None:
    head = make("factorized", visual)
    (state,) = hidden(1)[None]
    a = head.logits(state, "visual").softmax(-1)[0]
    for first in range(head.codes.sizes[0]):
        codes = first * head.codes.sizes[1] + torch.arange(head.codes.sizes[1])
        if first * head.codes.sizes[1] >= visual:
            assert a[first] == 0
        else:
            b = head.logits(state, "visual", [torch.tensor([first])]).softmax(-1)[0]
            assert a[first] > 0 and (b[codes >= visual] == 0).all() and (b[codes < visual] > 0).all()


def test_the_second_half_depends_on_the_first() -> None:
    """Without that, p(a) p(b|a) could not be any distribution."""
    head = make("factorized")
    state = hidden(1)
    seen = [head.logits(state, "visual", [torch.tensor([a])]).softmax(-1) for a in (0, 1)]
    assert (seen[0] - seen[1]).abs().max() > 0.05


def test_the_loss_is_the_joint_of_what_is_drawn_in_turn() -> None:
    head = make("factorized")
    ids = ids_of(head, "visual")
    a, b = head.parts(ids, "visual")
    state = hidden(1).expand(len(ids), -1)
    p_a = head.logits(state, "visual").log_softmax(-1).gather(1, a[:, None])[:, 0]
    p_b = head.logits(state, "visual", [a]).log_softmax(-1).gather(1, b[:, None])[:, 0]
    torch.testing.assert_close(losses(head, state, ids, "visual"), -(p_a + p_b))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("visual", [64, 600])
@pytest.mark.parametrize("kind", ["special", "visual", "audio0", "audio1"])
def test_parts_and_join_are_inverse(head: str, visual: int, kind: str) -> None:
    made = make(head, visual)
    ids = ids_of(made, kind)
    parts = made.parts(ids, kind)
    assert len(parts) == made.factors(kind)
    assert torch.equal(made.join(parts, kind), ids)
    for index, part in enumerate(parts):
        size = made.logits(hidden(len(ids)), kind, parts[:index]).shape[-1]
        assert part.min() >= 0 and part.max() < size


@pytest.mark.parametrize("kind", ["special", "audio1"])
def test_small_kinds_have_a_softmax_of_their_own(kind: str) -> None:
    head = make("factorized")
    ids = ids_of(head, kind)
    state = hidden(1).expand(len(ids), -1)
    torch.testing.assert_close(losses(head, state, ids, kind), -head.logits(state, kind)[0].log_softmax(-1))


@pytest.mark.parametrize("kind", ["special", "visual", "audio1"])
def test_the_flat_head_trains_over_all_ids_and_draws_from_the_legal_ones(kind: str) -> None:
    head = make("flat")
    ids = ids_of(head, kind)
    state = hidden(1).expand(len(ids), -1)
    everything = F.linear(state, head.whole.weight)
    assert everything.shape[1] == 8 + 64 + 12
    torch.testing.assert_close(losses(head, state, ids, kind), -everything[0].log_softmax(-1)[ids])
    torch.testing.assert_close(head.logits(state, kind), everything[:, ids])


@pytest.mark.parametrize("head", HEADS)
def test_logits_and_losses_are_float32_whatever_computes(head: str) -> None:
    made = make(head).bfloat16()
    ids = ids_of(made, "visual")[:4]
    assert made.logits(hidden(4).bfloat16(), "visual").dtype == torch.float32
    scores = made.score(hidden(4).bfloat16()[None], ids[None], {"visual": 4})
    assert scores.loss.dtype == scores.each.dtype == torch.float32 and scores.each.shape == (1, 4)


@pytest.mark.parametrize("visual", [600, 1000])
def test_gradients_are_finite_beside_codes_that_are_none(visual: int) -> None:
    head = make("factorized", visual)
    head.score(hidden(2)[None], ids_of(head, "visual")[None, -2:], {"visual": 2}).loss.backward()
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in head.parameters())


@pytest.mark.parametrize("head", HEADS)
def test_kinds_are_scored_together_as_each_alone(head: str) -> None:
    made = make(head)
    kinds = ["audio1", "visual", "special"]
    each = [ids_of(made, kind)[:4].view(2, 2) for kind in kinds]
    states = hidden(12).view(2, 6, 16)
    scores = made.score(states, torch.cat(each, 1), dict.fromkeys(kinds, 2))
    for index, (kind, ids) in enumerate(zip(kinds, each, strict=True)):
        columns = slice(2 * index, 2 * index + 2)
        alone = made.score(states[:, columns], ids, {kind: 2})
        torch.testing.assert_close(scores.each[:, columns], alone.each)
        assert torch.equal(scores.right[:, columns], alone.right)
    torch.testing.assert_close(scores.loss, scores.each.mean())


@pytest.mark.parametrize("visual", [64, 600])
def test_an_id_is_right_when_every_factor_is_the_likeliest(visual: int) -> None:
    """Given the right first half, as in training: a second half is not right after a wrong first."""
    head = make("factorized", visual)
    ids = ids_of(head, "visual")
    for state in hidden(3):
        scores = head.score(state.expand(1, len(ids), -1), ids[None], {"visual": len(ids)})
        a = int(head.logits(state[None], "visual").argmax())
        b = int(head.logits(state[None], "visual", [torch.tensor([a])]).argmax())
        assert ids[scores.right[0]].tolist() == [head.kinds["visual"].start + a * head.codes.sizes[1] + b]
