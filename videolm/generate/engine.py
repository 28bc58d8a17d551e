"""The decode loop: rows with a prefix in, rows with their outputs drawn out.

The prefix is computed once into a preallocated cache; each further position is one step over one new id. Positions with
a single legal id (special tokens) are written, not drawn. Guidance is one batch of two: rows with and without text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from videolm.generate.sampling import Sampling, draw, guide
from videolm.model.prefix_lm import PrefixLM


class Output(NamedTuple):
    """A run of output positions: head kind, place in the row, legal ids."""

    kind: str
    start: int
    stop: int
    ids: range


class TextInput(NamedTuple):
    """Text embeddings for rows: (b, m, width), which of them are tokens (b, m), and where they go in the row."""

    embeddings: Tensor
    mask: Tensor
    start: int


@torch.inference_mode()
def decode(
    model: PrefixLM,
    rows: Tensor,
    positions: Tensor,
    prefix: int,
    outputs: Sequence[Output],
    sampling: Sampling,
    generators: Sequence[torch.Generator],
    text: TextInput | None = None,
    negative: TextInput | None = None,
    bare: Tensor | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Draw the output positions of `rows`.

    Args:
        rows: (b, n) ids; the first `prefix` are given, the rest is overwritten.
        positions: (n, 3) coordinates of the row.
        outputs: what each position from `prefix` on is, in order and without gaps.
        generators: one a row.
        text: what the rows are prompted with.
        negative: what guidance leads away from; by default no text. Read only when `guidance_scale` is not 1.
        bare: rows (b, n) whose prefix guidance leads away from, where that is not the same.
        on_step: called with (positions drawn, positions to draw).

    Returns:
        (b, n) ids; the same for any batch split, given the same generators (up to rounding of the products).
    """
    rows = rows.clone()
    batch, length = rows.shape
    prompted = text is not None and bool(text.mask.any())
    guided = sampling.guidance_scale != 1 and (prompted or bare is not None)
    copies = 2 if guided else 1
    embeddings, mask, text_start = _paired(text, negative) if guided and text else (text or (None, None, 0))
    cache = model.new_cache(copies * batch, length)
    drawn, of = 0, sum(out.stop - out.start for out in outputs if len(out.ids) > 1)
    done = 0  # positions computed
    hidden = None
    for out in outputs:
        if len(out.ids) == 1:
            rows[:, out.start : out.stop] = out.ids[0]
            continue
        first = out.ids.start - model.head.kinds[out.kind].start
        if first or len(out.ids) != model.head.kinds[out.kind].size:
            raise ValueError(f"positions {out.start}..{out.stop} may hold only part of the {out.kind} ids")
        for place in range(out.start, out.stop):
            new = rows[:, done:place].repeat(copies, 1)
            if done == 0:
                if guided and bare is not None:
                    new[batch:, :prefix] = bare[:, :prefix]
                hidden = model.hidden(new, positions[:place], prefix, embeddings, mask, text_start, cache)[:, -1]
            else:
                for at in range(new.shape[1]):
                    step = positions[done + at : done + at + 1]
                    hidden = model.hidden(new[:, at : at + 1], step, prefix, cache=cache)[:, -1]
            done = place
            assert hidden is not None
            parts: list[Tensor] = []
            for _ in range(model.head.factors(out.kind)):
                logits = model.head.logits(hidden, out.kind, [part.repeat(copies) for part in parts])
                if guided:
                    logits = guide(logits[:batch], logits[batch:], sampling.guidance_scale)
                    logits = logits.nan_to_num(nan=-torch.inf)  # -inf minus -inf: ids past the codebook's end
                parts.append(draw(logits, sampling, generators))
            rows[:, place] = model.head.join(parts, out.kind)
            drawn += 1
            if on_step is not None:
                on_step(drawn, of)
    return rows


def _paired(text: TextInput, negative: TextInput | None) -> TextInput:
    """Rows with the prompt over rows with the negative prompt (or no text), padded to one length."""
    if negative is None:
        negative = TextInput(torch.zeros_like(text.embeddings), torch.zeros_like(text.mask), text.start)
    longest = max(text.mask.shape[1], negative.mask.shape[1])

    def padded(x: Tensor) -> Tensor:
        return torch.cat([x, x.new_zeros(x.shape[0], longest - x.shape[1], *x.shape[2:])], dim=1)

    return TextInput(
        torch.cat([padded(text.embeddings), padded(negative.embeddings)]),
        torch.cat([padded(text.mask), padded(negative.mask)]),
        text.start,
    )
