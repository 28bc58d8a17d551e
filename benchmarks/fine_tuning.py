"""A new task taught to the model that ships, with and without replay, whole and by adapters: what it learns, and what
it still knows of the tasks it had.

    python benchmarks/fine_tuning.py [--steps 400] [--samples 128]

Four trainings of equal steps on 2,000 clips (a run that is there already is gone on with), each judged on the new task,
a clip played backwards, and on three old ones; the model before all that is the first row. Scores are shares of clips
that are right in all attributes; a clip made backwards is turned round again for the judge. Two CPU cores take about
forty minutes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from videolm.data.sources import ShapesWorldData
from videolm.evaluate.shapes import SEED, evaluate_task, scenes
from videolm.evaluate.world import World
from videolm.files import atomic_path
from videolm.generate.sampling import generators
from videolm.media import Video
from videolm.pipeline import VideoLM
from videolm.progress import quiet_libraries
from videolm.tasks import TASKS
from videolm.tasks.file import load_tasks
from videolm.train.recipe import load_recipe
from videolm.train.run import Run

FOLDER = Path("runs/fine-tuning")
NEW, OLD = "reverse_clip", ("text_to_video", "image_to_video", "frame_prediction")
TASK_FILE = Path(__file__).with_name("reverse_clip.py")
LORA = {"lora.rank": 16, "lm_training.optimizer.lr": 3e-3}
WAYS: dict[str, dict[str, Any]] = {
    "whole, replay 0.25": {},
    "whole, no replay": {"replay": 0},
    "LoRA 16, replay 0.25": LORA,
    "LoRA 16, no replay": {**LORA, "replay": 0},
}
BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400, help="of every training (default: 400)")
    parser.add_argument("--samples", type=int, default=128, help="clips a task that are judged (default: 128)")
    args = parser.parse_args()
    quiet_libraries()
    shipped = VideoLM.from_pretrained()
    shipped.add_tasks(load_tasks(str(TASK_FILE)))
    found = {"before": scores_of(shipped, FOLDER / "before.json", args.samples)}
    for way, settings in WAYS.items():
        out = FOLDER / way.replace(", ", "-").replace(" ", "-")
        changes = {
            "start": "shipped",
            "out": str(out),
            "tokens": str(FOLDER / ("tokens-lora" if "lora.rank" in settings else "tokens")),
            "data": {"kind": "shapesworld", "seed": 7, "clips": 2000},
            "task_file": str(TASK_FILE),
            "tasks": {NEW: 1},
            "lm_training.steps": args.steps,
            **settings,
        }
        model = Run(load_recipe("finetune", changes), resume=None).train()
        found[way] = scores_of(VideoLM.from_pretrained(model), out / "scores.json", args.samples)
    print("| | " + " | ".join((NEW, *OLD)).replace("_", " ") + " |")
    print("| --- " * (len(OLD) + 2) + "|")
    for way, scores in found.items():
        print(f"| {way} | " + " | ".join(f"{scores[task]:.1%}" for task in (NEW, *OLD)) + " |")


def scores_of(model: VideoLM, kept: Path, samples: int) -> dict[str, float]:
    """Shares of clips that are all right by task, from the file they are kept in if it is of as many samples."""
    if kept.exists() and (scores := json.loads(kept.read_text()))["samples"] == samples:
        return scores
    scores = {task: evaluate_task(model, task, samples)["all_right"] for task in OLD}
    scores |= {NEW: backwards(model, samples), "samples": samples}
    with atomic_path(kept) as path:
        path.write_text(json.dumps(scores, indent=2) + "\n")
    return scores


def backwards(model: VideoLM, samples: int) -> float:
    """The share of clips made backwards that, turned round, show all that the true ones do."""
    shape = model.tasks.find(NEW).format
    world = World(ShapesWorldData(seed=SEED, clips=samples), shape, model.tasks.fps, scenes(samples, "train"))
    videos: list[Video] = []
    for start in range(0, samples, BATCH):
        clips = [world.source("video")[index].media for index in range(start, min(start + BATCH, samples))]
        videos += model(task=NEW, video=clips, generator=generators(SEED + start, len(clips))).videos
    turned = [Video(video.frames[::-1], video.fps) for video in videos]
    return world.scores(TASKS.get("text_to_video"), range(samples), turned, [])["all_right"]


if __name__ == "__main__":
    main()
