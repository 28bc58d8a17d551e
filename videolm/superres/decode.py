"""Filling a clip's hidden codes in, many at a step (MaskGIT, arXiv 2202.04200): the surest stay, the others are drawn
again.

How many are still hidden falls as a cosine, as in training (`hidden_share`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Annotated, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from videolm.config import Config
from videolm.model.factor import Factors
from videolm.superres.model import MaskedModel

OnStep = Callable[[], None]


class MaskedSampling(Config):
    """How hidden codes are drawn. The paper's first stage has 24 steps and scales of 4 (text) and 1 (low)."""

    steps: Annotated[int, Field(ge=1, le=1000)] = 24
    guidance_scale: Annotated[float, Field(ge=0)] = 1.0
    """1: the prompt as trained; above: away from what the model would make without it."""
    low_guidance_scale: Annotated[float, Field(ge=0)] = 1.0
    """The same for the clip at half the size."""
    temperature: Annotated[float, Field(ge=0)] = 1.0
    """Of the codes drawn; 0: always the likeliest."""
    choice_temperature: Annotated[float, Field(ge=0)] = 1.0
    """Of the choice of those that stay, as Gumbel noise upon their log-likelihoods, falling to 0 over the steps."""
    noise: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the small clip's codes that are drawn anew at random first, as in training."""
    distrust: Annotated[float, Field(ge=0, le=1)] | None = None
    """The share that the model is told are wrong; by default those of `noise`, which it was told in training."""
    expected: bool = False
    """Show the mean of what each code might have been, when it was drawn, in place of the code: nearer to the truth on
    average, and softer where the model is not sure. The paper shows codes."""


class Stage(NamedTuple):
    """A model that doubles height and width, and how it is sampled from."""

    model: MaskedModel
    sampling: MaskedSampling


class Filled(NamedTuple):
    """A clip filled in.

    Attributes:
        codes: (t, h, w).
        expected: (t, h, w, dim), the mean of their vectors as far as they were drawn; None where it was not asked for.
    """

    codes: Tensor
    expected: Tensor | None


def hidden_share(at: Tensor | float) -> Tensor:
    """The share of codes that are hidden at a point in [0, 1] of training's or sampling's schedule: cos(pi / 2 * at).

    >>> hidden_share(torch.tensor([0.0, 1.0])).round(decimals=6).tolist()
    [1.0, -0.0]
    """
    return torch.cos(math.pi / 2 * torch.as_tensor(at))


def resampled(codes: Tensor, rate: float, size: int, generator: torch.Generator) -> Tensor:
    """Codes, each of them drawn anew from `size` with probability `rate`."""
    anew = torch.rand(codes.shape, generator=generator) < rate
    drawn = torch.randint(size, codes.shape, generator=generator)
    return torch.where(anew.to(codes.device), drawn.to(codes.device), codes)


@torch.inference_mode()
def fill(
    model: MaskedModel,
    codes: Tensor,
    hidden: Tensor,
    sampling: MaskedSampling,
    generator: torch.Generator,
    low: Tensor | None = None,
    text: Tensor | None = None,
    on_step: OnStep | None = None,
    enlarge: Callable[[Tensor], Tensor] | None = None,
    vectors: Callable[[Tensor], Tensor] | None = None,
) -> Filled:
    """The clip with its hidden codes drawn.

    Both guidances act together, l = l(-, -) + s_low (l(low, -) - l(-, -)) + s_text (l(low, text) - l(low, -)), from
    forward passes in one batch; those that a scale of 1 makes needless are not made.

    Args:
        codes, hidden: (t, h, w); which of the codes are not known.
        generator: on the CPU.
        low: (t, h / 2, w / 2).
        text: (m, text_size), of which every row is a token; none or no row: no text.
        on_step: called after every step.
        enlarge: see `Enlarge`; for models that are shown the small clip enlarged.
        vectors: of codes, (...) to (..., dim): what `expected` is the mean of. By default there is none.
    """
    passes = _passes(sampling, low is not None, text is not None and len(text) > 0)
    weights = torch.tensor([weight for _, _, weight in passes], device=model.device)[:, None, None]
    count, given = len(passes), {}
    if low is not None:
        low = resampled(low, sampling.noise, model.config.codebook_size, generator)
        shown = torch.tensor([each for each, _, _ in passes], device=low.device)
        given["low"] = torch.where(shown[:, None, None, None], low, -1)
        if model.config.enlarged:
            if enlarge is None:
                raise ValueError("this model is shown the small clip enlarged: give what enlarges it")
            given["enlarged"] = enlarge(low[None]).expand(count, -1, -1, -1, -1)
        told = sampling.noise if sampling.distrust is None else sampling.distrust
        given["rate"] = torch.full((count,), told, device=low.device)
    if text is not None and len(text):
        given["text"] = text.expand(count, -1, -1)
        prompted = torch.tensor([each for _, each, _ in passes], device=text.device)
        given["text_mask"] = prompted[:, None].expand(count, len(text))
    codes, hidden = codes.clone(), hidden.clone()
    first = int(hidden.sum())
    expected = None if vectors is None else vectors(codes)
    for step in range(sampling.steps):
        places = hidden.nonzero(as_tuple=True)
        if len(places[0]) == 0:
            break
        states = model(codes.expand(count, -1, -1, -1), hidden.expand(count, -1, -1, -1), **given)
        drawn, sure, odds = _draw(model, states[:, *places], weights, sampling.temperature, generator)
        codes[places] = drawn
        if vectors is not None and expected is not None:
            expected[places] = _mean(model.codes, drawn, odds, vectors)
        at = (step + 1) / sampling.steps
        left = min(int(first * float(hidden_share(at))), len(drawn) - 1) if at < 1 else 0
        sure += sampling.choice_temperature * (1 - at) * _gumbel(sure, generator)
        hidden[places] = False
        again = sure.argsort()[:left]
        hidden[tuple(axis[again] for axis in places)] = True
        if on_step is not None:
            on_step()
    return Filled(codes, expected)


def _passes(sampling: MaskedSampling, low: bool, text: bool) -> list[tuple[bool, bool, float]]:
    """(with the small clip, with text, weight) of the forward passes whose sum is the guided one."""
    weights = defaultdict[tuple[bool, bool], float](float, {(False, False): 1.0})
    if low:
        weights[False, False] -= sampling.low_guidance_scale
        weights[True, False] += sampling.low_guidance_scale
    if text:
        weights[low, False] -= sampling.guidance_scale
        weights[low, True] += sampling.guidance_scale
    return [(*which, weight) for which, weight in weights.items() if weight]


def _draw(
    model: MaskedModel, states: Tensor, weights: Tensor, temperature: float, generator: torch.Generator
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Codes (m,) for states (passes, m, d), their log-likelihoods, and those (m, n) of all choices of each factor."""
    count, places = states.shape[:2]
    flat, chosen, odds = states.flatten(0, 1), list[Tensor](), list[Tensor]()
    sure = states.new_zeros(places, dtype=torch.float32)
    for _ in model.codes.sizes:
        logits = model.head.logits(flat, [part.repeat(count) for part in chosen]).unflatten(0, (count, places))
        guided = (weights * logits).sum(0).nan_to_num(nan=-torch.inf)  # of codes past the codebook's end
        noised = guided if not temperature else guided / temperature + _gumbel(guided, generator)
        picked = noised.argmax(-1)
        odds.append(guided.log_softmax(-1, dtype=torch.float32))
        sure += odds[-1].gather(1, picked[:, None])[:, 0]
        chosen.append(picked)
    return model.codes.join(chosen), sure, odds


def _mean(
    factors: Factors, codes: Tensor, odds: Sequence[Tensor], vectors: Callable[[Tensor], Tensor], at_once: int = 1024
) -> Tensor:
    """Vectors (m, dim) of codes (m,), moved by what is expected of each factor where the others are as drawn."""
    found = []
    for own, *shares in zip(codes.split(at_once), *(each.split(at_once) for each in odds), strict=True):
        parts, vector = factors.split(own), vectors(own)
        mean = vector.clone()
        for which, share in enumerate(shares):
            choices = [part[:, None] for part in parts]
            choices[which] = torch.arange(share.shape[1], device=own.device)[None]
            others = factors.join(choices)
            weights = share.masked_fill(others >= factors.size, -torch.inf).softmax(-1).to(vector.dtype)
            mean += torch.einsum("m n, m n d -> m d", weights, vectors(others.clamp_max(factors.size - 1))) - vector
        found.append(mean)
    return torch.cat(found)


def _gumbel(like: Tensor, generator: torch.Generator) -> Tensor:
    uniform = torch.rand(like.shape, generator=generator).clamp_min(1e-20)
    return (-(-uniform.log()).clamp_min(1e-20).log()).to(like.device)
