"""Logits to choices: pure functions over (b, size) float32 logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from videolm.config import Config, parse
from videolm.errors import UserError


class Sampling(Config):
    """How ids are drawn. Top-k and top-p act on each factor of a factorised head, on the joint of a flat one."""

    guidance_scale: Annotated[float, Field(ge=0)] = 1.0
    """1: the prompt as trained; above: away from what the model would make without it."""
    guide_by: Literal["text", "all"] = "text"
    """What guidance leads away from goes without: the prompt, or also the clips and sounds given, for models that were
    trained with `condition_dropout`."""
    temperature: Annotated[float, Field(ge=0)] = 1.0
    """0: always the likeliest id."""
    audio_temperature: Annotated[float, Field(ge=0)] | None = None
    """Of a sound's ids, where it is not the same: what is heard is mostly settled, where an object stands is not."""
    top_k: Annotated[int, Field(ge=0)] = 0
    """Draw from the k likeliest only; 0: from all."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Draw from the fewest likeliest that hold this much probability."""
    best_of: Annotated[int, Field(ge=1, le=64)] = 1
    """Rows drawn for each that is wanted, of which the likeliest is kept."""

    def with_changes(self, changes: Mapping[str, Any]) -> Sampling:
        """These settings with others in their place; a temperature alone is that of sounds too.

        Raises `UserError` for unknown names and wrong values.

        >>> sampling = Sampling(temperature=1, audio_temperature=0.5)
        >>> sampling.with_changes({"top_k": 5}).of("audio0").temperature
        0.5
        >>> sampling.with_changes({"temperature": 2}).of("audio0").temperature
        2.0
        """
        both = {"audio_temperature": None} if changes.get("temperature") is not None else {}
        return parse(Sampling, self.model_dump(), {**both, **changes})

    def of(self, kind: str) -> Sampling:
        """The settings for ids of a kind of `Span`."""
        if not kind.startswith("audio") or self.audio_temperature is None:
            return self
        return self.model_copy(update={"temperature": self.audio_temperature, "audio_temperature": None})


def generators(seed: int, count: int) -> list[torch.Generator]:
    """A generator a clip, seeded `seed`, `seed` + 1 and on. Raises `UserError` for seeds that torch does not take.

    >>> [generator.initial_seed() for generator in generators(7, 2)]
    [7, 8]
    """
    if not -(2**63) <= seed < 2**63 - count:
        raise UserError(f"the seed {seed} has more than 63 bits")
    return [torch.Generator().manual_seed(seed + index) for index in range(count)]


def guide(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance (arXiv 2207.12598): unconditional + scale * (conditional - unconditional).

    >>> guide(torch.tensor([2.0]), torch.tensor([1.0]), 3.0)
    tensor([4.])
    """
    return unconditional + scale * (conditional - unconditional)


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Logits with all but the `k` largest set to -inf (just k, where some are equal); 0 keeps all.

    >>> keep_top_k(torch.tensor([[1.0, 3.0, 2.0]]), 2)
    tensor([[-inf, 3., 2.]])
    """
    if not 0 < k < logits.shape[-1]:
        return logits
    values, index = logits.topk(k, dim=-1)
    return torch.full_like(logits, -torch.inf).scatter(-1, index, values)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Logits with only the fewest likeliest kept whose probability reaches `p`; the likeliest always stays.

    >>> keep_top_p(torch.tensor([[0.5, 0.3, 0.2]]).log(), 0.7).isinf()
    tensor([[False, False,  True]])
    """
    if p >= 1:
        return logits
    ordered, index = logits.sort(dim=-1, descending=True)
    probability = ordered.softmax(-1)
    surplus = probability.cumsum(-1) - probability >= p
    return logits.masked_fill(surplus.scatter(-1, index, surplus), -torch.inf)


def draw(logits: Tensor, sampling: Sampling, noise: Tensor | None) -> Tensor:
    """One choice a row: (b, size) logits to (b,) indices, by Gumbel noise (b, size) where one is drawn.

    With noise the same choice is the same draw, so that a row does not depend on the batch it is drawn in.
    """
    if noise is None:
        return logits.argmax(-1)
    logits = keep_top_p(keep_top_k(logits / sampling.temperature, sampling.top_k), sampling.top_p)
    return (logits + noise).argmax(-1)
