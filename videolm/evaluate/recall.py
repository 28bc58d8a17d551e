"""What a model knows by heart: the outputs of its training rows, decoded greedily from their prefixes alone.

Every step of decoding sees what was decoded before, never the truth: a model whose loss fell while it samples noise
fails here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from videolm.data.mixture import Mixture
from videolm.data.shards import Shard
from videolm.data.sources import ShapesWorldData
from videolm.errors import UserError
from videolm.evaluate.world import World
from videolm.generate.engine import TextInput, decode
from videolm.generate.sampling import Sampling, generators
from videolm.media import Audio, Video
from videolm.pipeline import VideoLM
from videolm.pipeline.video_lm import outputs_of
from videolm.progress import progress
from videolm.sequence import Layout
from videolm.train.recipe import Recipe

GREEDY = Sampling(guidance_scale=1.0, temperature=0.0)


def evaluate_recall(
    model: VideoLM, recipe: Recipe, run: Path, *, examples: int = 64, batch: int = 32
) -> dict[str, dict[str, float]]:
    """By variant: "tokens", the share of codes that are those of the training row; "row", the row's length; "examples";
    and, for ShapesWorld, the judge's scores of what the decoded codes show (`World.scores`) under his names.

    Args:
        recipe: that of the run.
        run: its folder, with its token shards.
        examples: of each task at most, the first.

    Raises:
        UserError: a folder without token shards.
    """
    folder = run / "tokens" / "train"
    if not folder.is_dir():
        raise UserError(f"{run} holds no token shards (tokens/train); give the folder of a run, not of its model")
    variants = model.tasks.variants()
    shards = {name: Shard(folder / name) for name in {name for v in variants for name in v.task.sources}}
    layouts = [model.layout(variant) for variant in variants]
    mixture = Mixture(
        layouts,
        recipe.tasks,
        shards,
        tokens=recipe.lm_training.tokens,
        text_dropout=0.0,
        seed=recipe.seed,
        examples=recipe.lm_training.examples,
    )
    counts = [min(examples, mixture.count(layout)) for layout in layouts]
    found = {}
    with progress(sum(counts), "recall", "row") as bar:
        for layout, count in zip(layouts, counts, strict=True):
            parts = [range(start, min(start + batch, count)) for start in range(0, count, batch)]
            rows = [_recalled(model, mixture, layout, part) for part in parts]
            bar.update(count)
            right = torch.cat([right for right, _ in rows]).float().mean()
            scores = {"tokens": float(right), "row": float(layout.length), "examples": float(count)}
            if isinstance(recipe.data, ShapesWorldData):
                scores |= _judged(model, recipe, layout, [codes for _, codes in rows], count)
            found[str(layout.variant)] = scores
    return found


@torch.inference_mode()
def _recalled(
    model: VideoLM, mixture: Mixture, layout: Layout, indices: Sequence[int]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Which codes (b, n) are right, and the codes decoded by source."""
    zeros, kept = np.zeros(len(indices)), np.ones(len(indices), bool)
    rows = mixture.rows(layout, np.array(indices), zeros, kept)
    text = None
    if layout.text is not None and any(rows.captions):
        embeddings, mask = model.text(rows.captions)
        text = TextInput(embeddings, mask, layout.text.start)
    given = rows.ids.clone()
    for span in layout.outputs:
        given[:, span.start : span.stop] = span.ids[0]  # nothing of the truth
    made = decode(
        model.lm,
        given.to(model.device),
        layout.positions.to(model.device),
        layout.prefix,
        outputs_of(layout),
        GREEDY,
        generators(0, len(indices)),
        text,
    ).cpu()
    places = torch.cat([torch.arange(span.start, span.stop) for span in layout.outputs if span.source])
    return (made == rows.ids)[:, places], layout.codes(made)


@torch.inference_mode()
def _judged(
    model: VideoLM, recipe: Recipe, layout: Layout, codes: Sequence[dict[str, Tensor]], count: int
) -> dict[str, float]:
    task, fps = layout.variant.task, model.tasks.fps
    assert isinstance(recipe.data, ShapesWorldData)
    world = World(recipe.data, layout.variant.format, fps)
    videos: list[Video] = []
    sounds: list[Audio] = []
    for part in codes:
        if task.visual is not None:
            clips = model.tokenizer.decode(part[task.visual.source]).float().clamp(-1, 1)
            videos += [Video.from_tensor(clip, fps) for clip in clips]
        if task.audio is not None and model.audio is not None:
            heard = model.audio.decode(part[task.audio.source]).float().clamp(-1, 1)
            sounds += [Audio(sound[None].numpy(), model.audio.sample_rate) for sound in heard]
    return world.scores(task, range(count), videos, sounds)
