"""Scores by ShapesWorld's judge, who reads attributes back from pixels and sounds.

Every task on canonical captions and true inputs of fixed seeds; and the tokenizer alone on true clips, since
reconstruction is the ceiling of generation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from videolm import shapesworld
from videolm.data.sources import ShapesWorldData
from videolm.errors import UserError
from videolm.evaluate.tokenizer import evaluate_tokenizer, open_source
from videolm.evaluate.world import World
from videolm.generate.sampling import generators
from videolm.media import Audio, Video
from videolm.pipeline import VideoLM
from videolm.progress import progress
from videolm.shapesworld import Scene

Split = Literal["train", "held_out"]
SEED = 1000
"""Of evaluation scenes; training draws from small seeds."""


def scenes(count: int, split: Split, seed: int = SEED) -> list[Scene]:
    """Scenes to evaluate on: combinations seen in training, or held out of it."""
    return [shapesworld.draw_scene(seed, index, split=split) for index in range(count)]


def evaluate_task(
    model: VideoLM,
    task: str,
    samples: int,
    *,
    split: Split = "train",
    seed: int = SEED,
    batch: int = 32,
    prompted: bool = True,
) -> dict[str, float]:
    """The judge's scores of one task (`World.scores`), and the number of samples.

    `held_out` scores are averaged over motions. Tasks whose text is optional can be judged without it (`prompted`).
    Raises `UserError` for a model without the task or at another rate, and for a task that nothing goes into.
    """
    variant = model.tasks.find(task)
    if not variant.task.inputs:
        raise UserError(f"{task} takes nothing, so there is nothing to judge it by")
    data = ShapesWorldData(seed=seed, clips=samples)
    world = World(data, variant.format, model.tasks.fps, scenes(samples, split, seed))
    videos: list[Video] = []
    sounds: list[Audio] = []
    with progress(samples, f"{task} {split}", "clip") as bar:
        for start in range(0, samples, batch):
            indices = range(start, min(start + batch, samples))
            inputs = world.inputs(variant, indices)
            if not prompted:
                inputs.pop("prompt", None)
            out = model(task=task, **inputs, generator=generators(seed + start, len(indices)))
            videos, sounds = videos + out.videos, sounds + out.sounds
            bar.update(len(indices))
    options = {"over_motions": True} if split == "held_out" else {}
    return {**world.scores(variant.task, range(samples), videos, sounds, **options), "samples": samples}


def evaluate_reconstruction(model: VideoLM, samples: int, seed: int = SEED) -> dict[str, float]:
    """PSNR in dB, codes in use, and the judge's scores of reconstructions of true clips that training did not see."""
    source = open_source(None, model.tasks.formats[0], model.tasks.fps, samples=samples, seed=seed)
    return evaluate_tokenizer(model.tokenizer, source, with_ssim=False).scores


def evaluate_shapes(
    model: VideoLM, samples: int, tasks: Sequence[str] = (), seed: int = SEED
) -> dict[str, dict[str, float]]:
    """Scores by row: the tokenizer, text-to-video on seen and held-out combinations, and the model's other tasks."""
    names = tasks or [task.name for task in model.tasks.tasks if task.inputs]
    scores = {"reconstruction": evaluate_reconstruction(model, samples, seed)}
    for name in names:
        scores[name] = evaluate_task(model, name, samples, seed=seed)
        if name == "text_to_video":
            scores["text_to_video, held out"] = evaluate_task(model, name, samples, split="held_out", seed=seed)
    return scores
