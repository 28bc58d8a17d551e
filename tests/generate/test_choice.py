"""Best of several, against the model's own loss, and against the rows drawn one by one."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from videolm.generate.choice import likeliest, likelihoods
from videolm.generate.engine import decode, rows_of
from videolm.generate.row import Plan, Row, TextInput
from videolm.generate.sampling import Sampling
from videolm.model.prefix_lm import PrefixLM
from videolm.sequence import Layout

Build = Callable[..., PrefixLM]
SAMPLING = Sampling(temperature=1.2, top_p=0.9, guidance_scale=2.5, best_of=3)


def seeded() -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(4)]


def drawn(model: PrefixLM, plan: Plan, rows: Tensor, text: TextInput, sampling: Sampling) -> list[Row]:
    found = rows_of(plan, rows, sampling, seeded(), text)
    decode(model, found)
    return found


@pytest.mark.parametrize("head", ["factorized", "flat"])
def test_the_likelihood_is_the_loss_of_the_codes_drawn(
    build: Build, layout: Layout, plan: Plan, rows: Tensor, text: TextInput, head: str
) -> None:
    """The loss is a mean over kinds of places; of those that have one choice nothing is drawn."""
    model = build(head=head)
    for row in drawn(model, plan, rows, text, SAMPLING)[:3]:
        ids, own = torch.tensor([row.ids]), text.alone(0)
        segments = [(span.kind, span.start, span.stop) for span in layout.outputs]
        loss = model(ids, layout.positions, layout.prefix, segments, *own).by_kind["visual"]  # type: ignore[misc]
        count = sum(stop - start for kind, start, stop in segments if kind == "visual")
        assert likelihoods(model, [row]).item() == pytest.approx(-count * loss.item(), rel=1e-6)


def test_the_likeliest_of_each_prompts_rows_is_kept(build: Build, plan: Plan, rows: Tensor, text: TextInput) -> None:
    model = build()
    found = drawn(model, plan, rows, text, SAMPLING)
    kept = likeliest(model, found, 3)
    scores = torch.cat([likelihoods(model, [row]) for row in found]).view(4, 3)
    assert len(scores.unique()) == 12
    assert [found.index(row) for row in kept] == [3 * i + int(best) for i, best in enumerate(scores.argmax(1))]
    assert len({found.index(row) % 3 for row in kept}) > 1


def test_the_first_of_several_is_the_one_that_there_is_without(
    build: Build, plan: Plan, rows: Tensor, text: TextInput
) -> None:
    model = build()
    several = drawn(model, plan, rows, text, SAMPLING)
    alone = drawn(model, plan, rows, text, SAMPLING.model_copy(update={"best_of": 1}))
    assert [row.ids for row in several[::3]] == [row.ids for row in alone]
    assert len({tuple(row.ids) for row in several}) == 12
