"""What a language model makes of rows whose outputs are known: to be looked at while it learns, or counted after it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from videolm.data.mixture import Mixture, Rows
from videolm.generate.engine import decode, rows_of
from videolm.generate.row import Plan, TextInput
from videolm.generate.sampling import Sampling, generators
from videolm.media import Image, Video, contact_sheet
from videolm.model.prefix_lm import PrefixLM
from videolm.sequence import Layout
from videolm.tokenizers.protocol import VideoTokenizer
from videolm.tokenizers.text.t5 import TextEncoder


@torch.inference_mode()
def made_anew(
    lm: PrefixLM, text: TextEncoder, rows: Rows, sampling: Sampling, generators: Sequence[torch.Generator]
) -> Tensor:
    """Rows (b, n) with the prefixes of `rows` and outputs drawn by the model, which sees nothing of the truth."""
    layout, device = rows.layout, lm.device
    prompt = None
    if layout.text is not None and any(rows.captions):
        embeddings, mask = text(rows.captions) if rows.text is None else rows.text
        prompt = TextInput(embeddings.to(device, lm.dtype), mask.to(device), layout.text.start)
    given = rows.ids[:, : layout.prefix].to(device)
    return decode(lm, rows_of(Plan.of(layout), given, sampling, generators, prompt)).cpu()


@torch.inference_mode()
def sample_sheet(
    lm: PrefixLM,
    text: TextEncoder,
    tokenizer: VideoTokenizer,
    mixture: Mixture,
    sampling: Sampling,
    fps: float,
    count: int,
    seed: int,
) -> Image | None:
    """Clips and pictures made from the mixture's rows, each above the true one; None where no task makes any.

    Args:
        count: rows; of the tasks in turn, those of one layout made together.
    """
    choices = [choice for choice in mixture.choices if choice[0].variant.task.visual is not None]
    sheet: list[tuple[str, Video]] = []
    for index, (layout, data) in enumerate(choices[:count]):
        size = len(range(index, count, len(choices)))
        rows = mixture.draw(layout, data, np.random.default_rng([seed, index]), size, dropout=False)
        made = made_anew(lm, text, rows, sampling, generators(seed, size))
        shown = [_clips(layout, tokenizer, ids, fps) for ids in (made, rows.ids)]
        captions = [text.pieces.decode(caption) for caption in rows.captions]
        for caption, clip, true in zip(captions, *shown, strict=True):
            sheet += [(f"{layout.variant}: {caption}", clip), ("true", true)]
    return contact_sheet(sheet, height=96) if sheet else None


def _clips(layout: Layout, tokenizer: VideoTokenizer, ids: Tensor, fps: float) -> list[Video]:
    part = layout.variant.task.visual
    assert part is not None
    device = next(tokenizer.parameters()).device
    clips = tokenizer.decode(layout.codes(ids)[part.source].to(device)).float().clamp(-1, 1).cpu()
    return [Video.from_tensor(clip, fps) for clip in clips]
