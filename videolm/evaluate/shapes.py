"""Scores by ShapesWorld's judge, who reads attributes back from pixels.

Text-to-video on canonical captions of fixed seeds; image-to-video and frame prediction on true first frames of the same
scenes; and the tokenizer alone on true clips, since reconstruction is the ceiling of generation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from videolm import shapesworld
from videolm.errors import UserError
from videolm.media import Image, Video
from videolm.metrics import code_usage, psnr
from videolm.pipeline import VideoLM
from videolm.progress import progress
from videolm.shapesworld import Judgement, Scene

Split = Literal["train", "held_out"]
SEED = 1000
"""Of evaluation scenes; training draws from small seeds."""


def scenes(count: int, split: Split, seed: int = SEED) -> list[Scene]:
    """Scenes to evaluate on: combinations seen in training, or held out of it."""
    return [shapesworld.draw_scene(seed, index, split=split) for index in range(count)]


def evaluate_task(
    model: VideoLM, task: str, samples: int, *, split: Split = "train", seed: int = SEED, batch: int = 32
) -> dict[str, float]:
    """The judge's scores of one task, and the number of samples.

    Prompts are canonical captions; frames given are those of the true clip. `held_out` scores are averaged over
    motions. Raises `UserError` for a model without the task or at another rate.
    """
    variant = model.tasks.find(task)
    if variant.task.text is None:
        raise UserError(f"{task} takes no prompt, so there is nothing to judge it by")
    truths = scenes(samples, split, seed)
    still = variant.format.frames == 1
    judged: list[Judgement] = []
    with progress(samples, f"{task} {split}", "clip") as bar:
        for start in range(0, samples, batch):
            part = truths[start : start + batch]
            judged += [shapesworld.judge(clip.frames) for clip in _generate(model, task, part, seed, start, still)]
            bar.update(len(part))
    captions = [shapesworld.image_caption(s) if still else shapesworld.caption(s) for s in truths]
    return {**shapesworld.score(judged, captions, over_motions=split == "held_out"), "samples": samples}


def _generate(model: VideoLM, task: str, truths: Sequence[Scene], seed: int, start: int, still: bool) -> list[Video]:
    variant = model.tasks.find(task)
    captions = [shapesworld.image_caption(s) if still else shapesworld.caption(s) for s in truths]
    generators = [torch.Generator().manual_seed(seed + start + index) for index in range(len(truths))]
    if not variant.prefix:
        return model(captions, task=task, generator=generators).videos
    size = (variant.format.height, variant.format.width)
    clips = [shapesworld.render(scene, variant.format.frames, size)[: variant.prefix] for scene in truths]
    if variant.task.image_input:
        return model(captions, task=task, generator=generators, image=[Image(clip[0]) for clip in clips]).videos
    videos = [Video(clip, model.tasks.fps) for clip in clips]
    return model(captions, task=task, generator=generators, video=videos).videos


@torch.inference_mode()
def evaluate_tokenizer(model: VideoLM, samples: int, *, seed: int = SEED, batch: int = 32) -> dict[str, float]:
    """PSNR in dB, codes in use, and the judge's scores of reconstructions of true clips that training did not see."""
    shape = model.tasks.formats[0]
    truths = scenes(samples, "train", seed)
    judged: list[Judgement] = []
    quality: list[torch.Tensor] = []
    used: list[torch.Tensor] = []
    for start in range(0, samples, batch):
        part = truths[start : start + batch]
        frames = [shapesworld.render(scene, shape.frames, (shape.height, shape.width)) for scene in part]
        clips = torch.stack([Video(each, model.tasks.fps).to_tensor() for each in frames]).to(model.device)
        codes = model.tokenizer.encode(clips)
        decoded = model.tokenizer.decode(codes).clamp(-1, 1)
        quality.append(psnr(decoded, clips).cpu())
        used.append(codes.cpu())
        judged += [shapesworld.judge(Video.from_tensor(clip, model.tasks.fps).frames) for clip in decoded]
    return {
        "psnr": float(torch.cat(quality).mean()),
        **code_usage(torch.cat(used), model.tokenizer.codebook_size),
        **shapesworld.score(judged, truths),
        "samples": samples,
    }


def evaluate_shapes(
    model: VideoLM, samples: int, tasks: Sequence[str] = (), seed: int = SEED
) -> dict[str, dict[str, float]]:
    """Scores by row: the tokenizer, text-to-video on seen and held-out combinations, and the model's other tasks."""
    names = tasks or [task.name for task in model.tasks.tasks if task.text is not None]
    scores = {"reconstruction": evaluate_tokenizer(model, samples, seed=seed)}
    for name in names:
        scores[name] = evaluate_task(model, name, samples, seed=seed)
        if name == "text_to_video":
            scores["text_to_video, held out"] = evaluate_task(model, name, samples, split="held_out", seed=seed)
    return scores
