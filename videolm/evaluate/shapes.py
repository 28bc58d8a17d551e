"""Scores by ShapesWorld's judge, who reads attributes back from pixels.

Text-to-video on canonical captions of fixed seeds; image-to-video and frame prediction on true first frames of the same
scenes; and the tokenizer alone on true clips, since reconstruction is the ceiling of generation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from videolm import shapesworld
from videolm.errors import UserError
from videolm.evaluate.tokenizer import evaluate_tokenizer, open_source
from videolm.generate.sampling import generators
from videolm.media import Image, Video
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
    drawn = generators(seed + start, len(truths))
    if not variant.prefix:
        return model(captions, task=task, generator=drawn).videos
    size = (variant.format.height, variant.format.width)
    clips = [shapesworld.render(scene, variant.format.frames, size)[: variant.prefix] for scene in truths]
    if variant.task.image_input:
        return model(captions, task=task, generator=drawn, image=[Image(clip[0]) for clip in clips]).videos
    videos = [Video(clip, model.tasks.fps) for clip in clips]
    return model(captions, task=task, generator=drawn, video=videos).videos


def evaluate_reconstruction(model: VideoLM, samples: int, seed: int = SEED) -> dict[str, float]:
    """PSNR in dB, codes in use, and the judge's scores of reconstructions of true clips that training did not see."""
    source = open_source(None, model.tasks.formats[0], model.tasks.fps, samples=samples, seed=seed)
    return evaluate_tokenizer(model.tokenizer, source, with_ssim=False).scores


def evaluate_shapes(
    model: VideoLM, samples: int, tasks: Sequence[str] = (), seed: int = SEED
) -> dict[str, dict[str, float]]:
    """Scores by row: the tokenizer, text-to-video on seen and held-out combinations, and the model's other tasks."""
    names = tasks or [task.name for task in model.tasks.tasks if task.text is not None]
    scores = {"reconstruction": evaluate_reconstruction(model, samples, seed)}
    for name in names:
        scores[name] = evaluate_task(model, name, samples, seed=seed)
        if name == "text_to_video":
            scores["text_to_video, held out"] = evaluate_task(model, name, samples, split="held_out", seed=seed)
    return scores
