"""Filling in: what is known stays, what is drawn follows from the seed, guidance is the formula."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from videolm.shapes import TokenGrid
from videolm.superres.decode import MaskedSampling, _passes, fill, hidden_share, resampled
from videolm.superres.model import MaskedModel

GRID = TokenGrid(3, 4, 6)
Make = Callable[..., MaskedModel]
Given = Callable[..., dict[str, Tensor]]
Run = Callable[..., Tensor]


@pytest.fixture
def run(make: Make, given_to: Given) -> Run:
    def filled(sampling: MaskedSampling, seed: int = 0, **changes: Any) -> Tensor:
        given = {name: value[0] for name, value in given_to(1).items() if name in ("codes", "hidden", "low", "text")}
        generator = torch.Generator().manual_seed(seed)
        return fill(make(), sampling=sampling, generator=generator, **{**given, **changes}).codes

    return filled


@pytest.mark.parametrize("steps", [1, 2, 8, 40])
def test_known_codes_stay_and_the_others_are_codes(run: Run, given_to: Given, steps: int) -> None:
    """Of 60, which two factors of 8 could overshoot; in more steps than there are hidden codes, too."""
    given = given_to(1)
    codes, hidden = given["codes"][0], given["hidden"][0]
    hidden[1:] = False
    found = run(MaskedSampling(steps=steps, temperature=3.0), hidden=hidden)
    assert torch.equal(found[~hidden], codes[~hidden])
    assert int(found.min()) >= 0 and int(found.max()) < 60 and not torch.equal(found, codes)


def test_what_is_drawn_follows_from_the_seed(run: Run, given_to: Given) -> None:
    sampling = MaskedSampling(steps=4, noise=0.2, guidance_scale=2, low_guidance_scale=1.5)
    assert torch.equal(run(sampling), run(sampling))
    assert not torch.equal(run(sampling), run(sampling, seed=1))
    assert torch.equal(run(sampling, hidden=torch.zeros(GRID, dtype=torch.bool)), given_to(1)["codes"][0])


def test_at_temperature_0_one_step_takes_the_likeliest(run: Run, make: Make, given_to: Given) -> None:
    model, given = make(), given_to(1)
    found = run(MaskedSampling(steps=1, temperature=0))
    hidden = given["hidden"]
    with torch.inference_mode():
        states = model(given["codes"], hidden, given["low"], torch.zeros(1), given["text"])[hidden]
        first = model.head.logits(states).argmax(-1)
        second = model.head.logits(states, [first]).argmax(-1)
    assert torch.equal(found[hidden[0]], 8 * first + second)


@pytest.mark.parametrize("low", [False, True])
@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("scales", [(1, 1), (4, 1), (8, 2), (0, 1), (1, 0), (0, 0)])
def test_passes_add_up_to_the_formula(low: bool, text: bool, scales: tuple[float, float]) -> None:
    """l = l(-,-) + s_low (l(low,-) - l(-,-)) + s_text (l(low,text) - l(low,-)), and no more passes than it takes."""
    s_text, s_low = scales
    passes = _passes(MaskedSampling(guidance_scale=s_text, low_guidance_scale=s_low), low, text)
    value = {(False, False): 3.0, (True, False): 7.0, (False, True): 11.0, (True, True): 20.0}
    nothing, small, both = value[False, False], value[low, False], value[low, text]
    expected = nothing + s_low * (small - nothing) + s_text * (both - small)
    assert sum(weight * value[a, b] for a, b, weight in passes) == pytest.approx(expected)
    if scales == (1, 1):
        assert [(a, b) for a, b, _ in passes] == [(low, text)]
    if scales == (8, 2) and low and text:
        assert len(passes) == 3


def test_guidance_moves_away_from_what_goes_without(run: Run, make: Make, given_to: Given) -> None:
    """At a large scale the likeliest code is that by which the prompt raises the logit most."""
    model, given = make(), given_to(1)
    hidden = given["hidden"]
    with torch.inference_mode():
        told = model(given["codes"], hidden, given["low"], torch.zeros(1), given["text"])[hidden]
        untold = model(given["codes"], hidden, given["low"], torch.zeros(1))[hidden]
        raised = (model.head.logits(told) - model.head.logits(untold)).nan_to_num(nan=-torch.inf).argmax(-1)
    found = run(MaskedSampling(steps=1, temperature=0, guidance_scale=1e5))[hidden[0]]
    assert (found // 8 == raised).float().mean() > 0.9


def test_what_is_expected_is_the_mean_over_each_factor(make: Make, given_to: Given) -> None:
    """Of vectors that tell the factors apart: the likelihoods themselves. Codes that were given keep their vectors."""
    model = make(codebook_size=64)
    given = {name: value[0] for name, value in given_to(1).items() if name in ("codes", "hidden", "low", "text")}

    def vectors(codes: Tensor) -> Tensor:
        one, other = (torch.nn.functional.one_hot(part, 8).float() for part in model.codes.split(codes))
        return torch.cat([one, other], -1)

    sampling, hidden = MaskedSampling(steps=1, temperature=0), given["hidden"]
    filled = fill(model, sampling=sampling, generator=torch.Generator(), vectors=vectors, **given)
    assert filled.expected is not None and filled.expected.shape == (*GRID, 16)
    assert torch.equal(filled.expected[~hidden], vectors(given["codes"][~hidden]))
    with torch.inference_mode():
        codes, low, text = (given[name][None] for name in ("codes", "low", "text"))
        states = model(codes, hidden[None], low, None, text)[0][hidden]
        first = model.head.logits(states)
        second = model.head.logits(states, [filled.codes[hidden] // 8])
    odds = torch.cat([first.softmax(-1), second.softmax(-1)], -1)
    torch.testing.assert_close(filled.expected[hidden], odds, atol=1e-5, rtol=1e-4)


def test_hidden_codes_fall_as_a_cosine(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = make(), list[int]()
    forward = model.forward

    def counted(codes: Tensor, hidden: Tensor, **given: Tensor) -> Tensor:
        seen.append(int(hidden[0].sum()))
        return forward(codes, hidden, **given)

    monkeypatch.setattr(model, "forward", counted)
    steps = list[None]()
    fill(
        model,
        torch.zeros(GRID, dtype=torch.long),
        torch.ones(GRID, dtype=torch.bool),
        MaskedSampling(steps=6),
        torch.Generator().manual_seed(0),
        on_step=lambda: steps.append(None),
    )
    assert seen == [int(72 * float(hidden_share(k / 6))) for k in range(6)] == [72, 69, 62, 50, 35, 18]
    assert len(steps) == 6


def test_noise_draws_so_many_anew() -> None:
    codes = torch.zeros(100, 100, dtype=torch.long)
    for rate in (0.0, 0.3, 1.0):
        changed = resampled(codes, rate, 1000, torch.Generator().manual_seed(0)) != codes
        assert float(changed.float().mean()) == pytest.approx(0.999 * rate, abs=0.02)
    assert codes.any().item() is False


def test_noise_at_sampling_is_told_to_the_model(run: Run) -> None:
    """And with it the small clip counts for something else."""

    def greedy(**changes: float) -> Tensor:
        return run(MaskedSampling(steps=1, temperature=0, **changes))

    clean, noised = greedy(), greedy(noise=1.0)
    assert not torch.equal(noised, clean)
    assert not torch.equal(noised, greedy(noise=1.0, distrust=0.0))
    assert not torch.equal(clean, greedy(distrust=1.0))


def test_the_clip_is_enlarged_from_the_codes_that_it_is_shown(make: Make, given_to: Given) -> None:
    """Noised ones too, so that both say the same."""
    model, seen = make(enlarged=True, enlarged_size=6), list[Tensor]()

    def enlarge(low: Tensor) -> Tensor:
        seen.append(low)
        large = low.repeat_interleave(2, 2).repeat_interleave(2, 3)
        return large[..., None].expand(-1, -1, -1, -1, 6) / 60

    given = {name: value[0] for name, value in given_to(1).items() if name in ("codes", "hidden", "low", "text")}

    def run(**changes: Any) -> Tensor:
        sampling = MaskedSampling(steps=2, temperature=0, low_guidance_scale=1.5, **changes)
        generator = torch.Generator().manual_seed(0)
        return fill(model, sampling=sampling, generator=generator, enlarge=enlarge, **given).codes

    assert not torch.equal(run(), run(noise=1.0))
    assert torch.equal(seen[0][0], given["low"]) and not torch.equal(seen[1], seen[0])
    with pytest.raises(ValueError, match="give what enlarges it"):
        fill(model, sampling=MaskedSampling(), generator=torch.Generator(), **given)
