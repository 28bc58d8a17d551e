"""What super-resolution is worth on ShapesWorld, beside plain interpolation and beside what codes can hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from videolm import shapesworld
from videolm.evaluate.shapes import SEED, scenes
from videolm.generate.sampling import generators
from videolm.media import Video
from videolm.metrics import psnr, sharpness
from videolm.pipeline import VideoLM
from videolm.progress import progress
from videolm.shapesworld import Scene
from videolm.superres.decode import resampled
from videolm.superres.enlarge import enlarged

STAGE_ROWS = ("bicubic, of true", "ours, of true", "ceiling, of true", "bicubic, of made", "ours, of made")
"""What `evaluate_stage` tells of."""


class Compared(NamedTuple):
    """Clips (b, 3, f, H, W) of the same scenes, by what made them, and their scores."""

    clips: dict[str, Tensor]
    scores: dict[str, dict[str, float]]


@torch.inference_mode()
def from_true_codes(
    model: VideoLM, samples: int, *, seed: int = SEED, corrupted: float = 0.0, prompted: bool = True, **changes: Any
) -> Compared:
    """Clips at twice the size from the codes of true small ones: by interpolation of what these show ("bicubic"), by
    the model's first stage ("ours"), and what the codes of the large ones show ("ceiling").

    Args:
        corrupted: share of the small clips' codes that are drawn anew at random first.
        prompted: whether captions are given.
        changes: of the stage's `MaskedSampling`.

    Raises `UserError` for a model without super-resolution.
    """
    shape = model.tasks.formats[0]
    drawn, side = scenes(samples, "train", seed), (2 * shape.height, 2 * shape.width)
    found: dict[str, list[Tensor]] = {"true": [], "bicubic": [], "ours": [], "ceiling": []}
    device = model.device
    with progress(samples, "super-resolution", "clip") as bar:
        for scene, generator in zip(drawn, generators(seed, samples), strict=True):
            small, large = (_clip(scene, shape.frames, size).to(device) for size in ((shape.height, shape.width), side))
            low = model.tokenizer.encode(small)[0]
            low = resampled(low, corrupted, model.tokenizer.codebook_size, generator)
            shown = model.tokenizer.decode(low[None]).float().clamp(-1, 1)
            clip = Video.from_tensor(shown[0].cpu(), model.tasks.fps)
            prompt = shapesworld.caption(scene) if prompted else None
            made = model.upscale(clip, prompt, codes=low, generator=generator, **changes)
            ceiling = model.tokenizer.decode(model.tokenizer.encode(large)).float().clamp(-1, 1)
            each = (large, enlarged(shown), made.to_tensor()[None], ceiling)
            for kept, value in zip(found.values(), each, strict=True):
                kept.append(value.cpu())
            bar.update()
    clips = {name: torch.cat(each) for name, each in found.items()}
    return Compared(clips, {name: _scores(each, drawn, clips["true"]) for name, each in clips.items()})


@torch.inference_mode()
def from_made_clips(model: VideoLM, samples: int, *, seed: int = SEED, batch: int = 32, **changes: Any) -> Compared:
    """The same of clips that the language model makes of captions: "bicubic" and "ours", of which no true ones are.

    Raises `UserError` for a model without super-resolution.
    """
    drawn = scenes(samples, "train", seed)
    bicubic, ours = list[Tensor](), list[Tensor]()
    with progress(samples, "super-resolution of made clips", "clip") as bar:
        for start in range(0, samples, batch):
            captions = [shapesworld.caption(scene) for scene in drawn[start : start + batch]]
            seeds = generators(seed + start, len(captions))
            job = model.job(prompt=captions, task="text_to_video", generator=seeds)
            model.decode([job])
            out, codes = job.output("np"), job.codes
            for clip, caption, own, generator in zip(out.videos, captions, codes, seeds, strict=True):
                bicubic.append(enlarged(clip.to_tensor()[None]))
                made = model.upscale(clip, caption, codes=own, generator=generator, **changes)
                ours.append(made.to_tensor()[None])
                bar.update()
    clips = {"bicubic": torch.cat(bicubic), "ours": torch.cat(ours)}
    return Compared(clips, {name: _scores(each, drawn) for name, each in clips.items()})


def evaluate_stage(model: VideoLM, samples: int, seed: int = SEED) -> dict[str, dict[str, float]]:
    """Scores of `STAGE_ROWS`, each with the number of samples. Raises `UserError` without super-resolution."""
    true, made = from_true_codes(model, samples, seed=seed).scores, from_made_clips(model, samples, seed=seed).scores
    rows = {f"{name}, of true": scores for name, scores in true.items()}
    rows |= {f"{name}, of made": scores for name, scores in made.items()}
    return {name: {**rows[name], "samples": samples} for name in STAGE_ROWS}


def closed(scores: dict[str, dict[str, float]]) -> float:
    """The share of the way from "bicubic" to "ceiling" that "ours" goes, in dB."""
    low, ours, high = (scores[name]["psnr"] for name in ("bicubic", "ours", "ceiling"))
    return (ours - low) / (high - low)


def _clip(scene: Scene, frames: int, size: tuple[int, int]) -> Tensor:
    return Video(shapesworld.render(scene, frames, size), 1.0).to_tensor()[None]


def _scores(clips: Tensor, drawn: Sequence[Scene], true: Tensor | None = None) -> dict[str, float]:
    judged = [shapesworld.judge(Video.from_tensor(clip, 1.0).frames) for clip in clips]
    scores = shapesworld.score(judged, drawn)
    scores["sharpness"] = float(np.mean([float(sharpness(clip[None])) for clip in clips]))
    if true is not None:
        scores["psnr"] = float(psnr(clips, true).mean())
    return scores
