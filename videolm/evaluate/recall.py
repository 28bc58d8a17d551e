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
from videolm.data.shards import Shard, TokenData
from videolm.data.sources import ShapesWorldData
from videolm.errors import UserError
from videolm.evaluate.world import World
from videolm.generate.sampling import Sampling, generators
from videolm.media import Audio, Video
from videolm.pipeline import VideoLM
from videolm.progress import progress
from videolm.sequence import Layout
from videolm.train.recipe import Recipe
from videolm.train.samples import made_anew

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
    place = Path(recipe.tokens or run / "tokens")
    if not place.is_dir():
        raise UserError(f"{run} holds no token shards (tokens); give the folder of a run, not of its model")
    data = []
    for name in recipe.datasets:
        served = tuple(task for task in recipe.weights if recipe.serves(name, task))
        sources = {source: Shard(place / name / "train" / source) for source in recipe.sources(name)}
        if served:
            data.append(TokenData(sources, 1.0, served, recipe.formats[0]))
    layouts = [model.layout(variant) for variant in model.tasks.variants()]
    limits = recipe.lm_training.examples
    mixture = Mixture(
        layouts, recipe.weights, data, steps=1, tokens=recipe.lm_training.tokens, seed=recipe.seed, examples=limits
    )
    choices = mixture.choices
    counts = [min(examples, len(mixture.numbers(*choice))) for choice in choices]
    found = {}
    with progress(sum(counts), "recall", "row") as bar:
        for (layout, shards), count in zip(choices, counts, strict=True):
            parts = [range(start, min(start + batch, count)) for start in range(0, count, batch)]
            rows = [_recalled(model, mixture, layout, shards, part) for part in parts]
            bar.update(count)
            right = torch.cat([right for right, _ in rows]).float().mean()
            scores = {"tokens": float(right), "row": float(layout.length), "examples": float(count)}
            if isinstance(recipe.data, ShapesWorldData):
                scores |= _judged(model, recipe, layout, [codes for _, codes in rows], count)
            found[str(layout.variant)] = scores
    return found


def _recalled(
    model: VideoLM, mixture: Mixture, layout: Layout, data: TokenData, indices: Sequence[int]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Which codes (b, n) are right, and the codes decoded by source."""
    zeros, kept = np.zeros(len(indices)), np.ones(len(indices), bool)
    rows = mixture.rows(layout, data.shards, mixture.numbers(layout, data)[list(indices)], zeros, kept, kept)
    made = made_anew(model.lm, model.text, rows, GREEDY, generators(0, len(indices)))
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
