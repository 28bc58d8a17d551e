"""Best of several: of the rows drawn for one clip the likeliest is kept.

What a model draws and holds unlikely itself is mostly what went wrong on the way: a code that does not fit, and those
that had to follow it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from videolm.generate.row import Row
from videolm.model.prefix_lm import PrefixLM


@torch.inference_mode()
def likelihoods(model: PrefixLM, rows: Sequence[Row]) -> Tensor:
    """Log-likelihood in nats, (b,) float64, of all that was drawn in rows of one prefix, given that prefix and without
    guidance or temperature: one pass over whole rows."""
    plan, (prefix, *_) = rows[0].plan, rows[0].prefixes
    ids = torch.tensor([row.ids for row in rows], device=model.device)
    told: tuple[Tensor, Tensor, int] | tuple[()] = ()
    if prefix.text is not None:
        text, mask, start = prefix.text
        told = (text.expand(len(rows), -1, -1), mask.expand(len(rows), -1), start)
    hidden = model.hidden(ids, plan.positions.to(ids.device), plan.prefix, *told)
    total = torch.zeros(len(rows), dtype=torch.float64, device=ids.device)
    for kind, start, stop, choices in plan.outputs:
        if len(choices) > 1:
            scores = model.head.score(hidden[:, start - 1 : stop - 1], ids[:, start:stop], {kind: stop - start})
            total -= scores.each.double().sum(1)
    return total


def likeliest(model: PrefixLM, rows: Sequence[Row], each: int) -> list[Row]:
    """Of every `each` rows one after another, which share a prefix, the likeliest; the first of equals.

    They are scored together and apart from all others, so that the choice is the same in any batch.
    """
    groups = [rows[start : start + each] for start in range(0, len(rows), each)]
    return [group[int(likelihoods(model, group).argmax())] for group in groups]
