"""What super-resolution is worth on ShapesWorld, beside plain interpolation and beside what codes can hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from videolm import shapesworld
from videolm.evaluate.row import Case, Floats, Row
from videolm.evaluate.shapes import BATCH, SEED, scenes
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
    drawn = scenes(samples, "train", seed)
    return _compared(drawn, _of_true(model, drawn, seed, corrupted, prompted, changes))


def from_made_clips(model: VideoLM, samples: int, *, seed: int = SEED, batch: int = BATCH, **changes: Any) -> Compared:
    """The same of clips that the language model makes of captions: "bicubic" and "ours", of which no true ones are.

    Raises `UserError` for a model without super-resolution.
    """
    drawn = scenes(samples, "train", seed)
    return _compared(drawn, _of_made(model, drawn, seed, batch, changes))


def evaluate_stage(
    model: VideoLM, samples: int, seed: int = SEED, *, batch: int = BATCH, shown: int = 0
) -> dict[str, Row]:
    """The rows `STAGE_ROWS`: the judge's attributes, sharpness, and PSNR in dB where there are true large clips.

    Raises `UserError` without super-resolution.
    """
    drawn, rows = scenes(samples, "train", seed), {name: Row("super_resolution", shown) for name in STAGE_ROWS}
    ways = {"of true": _of_true(model, drawn, seed), "of made": _of_made(model, drawn, seed, batch)}
    for way, made in ways.items():
        for scene, clips in zip(drawn, made, strict=True):
            for name in clips.keys() - {"true"}:

                def show(_: int, name: str = name, scene: Scene = scene, clips: dict[str, Tensor] = clips) -> Case:
                    return _case(name, scene, clips)

                rows[f"{name}, {way}"].add(_measures(clips[name], [scene], clips.get("true")), show)
    return rows


def closed(scores: dict[str, dict[str, float]]) -> float:
    """The share of the way from "bicubic" to "ceiling" that "ours" goes, in dB."""
    low, ours, high = (scores[name]["psnr"] for name in ("bicubic", "ours", "ceiling"))
    return (ours - low) / (high - low)


def _of_true(
    model: VideoLM,
    drawn: Sequence[Scene],
    seed: int,
    corrupted: float = 0.0,
    prompted: bool = True,
    changes: dict[str, Any] | None = None,
) -> Iterator[dict[str, Tensor]]:
    """Clips (1, 3, f, H, W) of each scene."""
    shape, device = model.tasks.formats[0], model.device
    side = (2 * shape.height, 2 * shape.width)
    with progress(len(drawn), "super-resolution", "clip") as bar:
        for scene, generator in zip(drawn, generators(seed, len(drawn)), strict=True):
            small, large = (_clip(scene, shape.frames, size).to(device) for size in ((shape.height, shape.width), side))
            with torch.inference_mode():
                low = model.tokenizer.encode(small)[0]
                low = resampled(low, corrupted, model.tokenizer.codebook_size, generator)
                shown = model.tokenizer.decode(low[None]).float().clamp(-1, 1)
                clip = Video.from_tensor(shown[0].cpu(), model.tasks.fps)
                prompt = shapesworld.caption(scene) if prompted else None
                made = model.upscale(clip, prompt, codes=low, generator=generator, **(changes or {}))
                ceiling = model.tokenizer.decode(model.tokenizer.encode(large)).float().clamp(-1, 1)
                found = {"true": large, "bicubic": enlarged(shown), "ours": made.to_tensor()[None], "ceiling": ceiling}
            bar.update()
            yield {name: value.cpu() for name, value in found.items()}


def _of_made(
    model: VideoLM, drawn: Sequence[Scene], seed: int, batch: int, changes: dict[str, Any] | None = None
) -> Iterator[dict[str, Tensor]]:
    """The same."""
    with progress(len(drawn), "super-resolution of made clips", "clip") as bar:
        for start in range(0, len(drawn), batch):
            captions = [shapesworld.caption(scene) for scene in drawn[start : start + batch]]
            seeds = generators(seed + start, len(captions))
            job = model.job(prompt=captions, task="text_to_video", generator=seeds)
            model.decode([job])
            out, codes = job.output("np"), job.codes
            for clip, caption, own, generator in zip(out.videos, captions, codes, seeds, strict=True):
                with torch.inference_mode():
                    bicubic = enlarged(clip.to_tensor()[None])
                    made = model.upscale(clip, caption, codes=own, generator=generator, **(changes or {}))
                bar.update()
                yield {"bicubic": bicubic, "ours": made.to_tensor()[None]}


def _compared(drawn: Sequence[Scene], made: Iterator[dict[str, Tensor]]) -> Compared:
    each = list(made)
    clips = {name: torch.cat([one[name] for one in each]) for name in each[0]}
    scores = {name: _measures(value, drawn, clips.get("true")) for name, value in clips.items()}
    return Compared(
        clips, {name: {key: float(of.mean()) for key, of in found.items()} for name, found in scores.items()}
    )


def _clip(scene: Scene, frames: int, size: tuple[int, int]) -> Tensor:
    return Video(shapesworld.render(scene, frames, size), 1.0).to_tensor()[None]


def _measures(clips: Tensor, drawn: Sequence[Scene], true: Tensor | None = None) -> dict[str, Floats]:
    found = shapesworld.marks([shapesworld.judge(Video.from_tensor(clip, 1.0).frames) for clip in clips], drawn)
    found["sharpness"] = np.array([float(sharpness(clip[None])) for clip in clips])
    if true is not None:
        found["psnr"] = psnr(clips, true).double().numpy()
    return found


def _case(name: str, scene: Scene, clips: dict[str, Tensor]) -> Case:
    videos = {which: Video.from_tensor(clip[0], 1.0) for which, clip in clips.items()}
    strips = [(f"{name}: {shapesworld.judge(videos[name].frames).words}", videos[name])]
    strips += [(which, clip) for which, clip in videos.items() if which == "true"]
    return Case(shapesworld.caption(scene), strips)
