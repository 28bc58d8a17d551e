"""VideoPoet's Table 2 on ShapesWorld: five mixtures of tasks at equal steps, each judged on four tasks.

    python benchmarks/table2.py

Trains `shapesworld/table2/*` one after the other (a run that is there already is gone on with), judges each model by
`videolm evaluate shapes`, and prints one table. A task that a model was not trained on it does from what it knows, as
in the paper. Two CPU cores take about fifteen minutes a mixture, and ten for the token shards that all five share.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from videolm.evaluate.shapes import SEED, evaluate_task
from videolm.files import atomic_path
from videolm.pipeline import VideoLM
from videolm.pipeline.folder import model_hash
from videolm.progress import quiet_libraries
from videolm.tasks import TASKS
from videolm.train.recipe import load_recipe
from videolm.train.run import Run

MIXTURES = {"t2v": "T2V", "t2v_t2i": "T2V+I", "ssl": "SSL", "no_t2i": "no T2I", "all": "all"}
"""Recipes in `shapesworld/table2/`, and the paper's names for them."""
JUDGED = ("text_to_video", "frame_prediction", "inpainting_central", "outpainting_central")
FOLDER = Path("runs/shapesworld-table2")


def judge(model: VideoLM, samples: int) -> dict[str, dict[str, float]]:
    """The judge's scores by task; text-to-video alone is told what to show."""
    known = {task.name for task in model.tasks.tasks}
    model.add_tasks([TASKS.get(name) for name in JUDGED if name not in known])
    return {name: evaluate_task(model, name, samples, prompted=name == "text_to_video") for name in JUDGED}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=128, help="clips a task that are judged (default: 128)")
    parser.add_argument("--steps", type=int, help="of every training (default: the recipes')")
    args = parser.parse_args()
    quiet_libraries()
    changes = {} if args.steps is None else {"lm_training.steps": args.steps}
    for name in MIXTURES:
        done = FOLDER / name / "scores.json"
        if done.exists() and json.loads(done.read_text())["samples"] == args.samples:
            continue
        began = time.monotonic()
        model = Run(load_recipe(f"shapesworld/table2/{name}", changes), resume=None).train()
        minutes = (time.monotonic() - began) / 60
        scores = judge(VideoLM.from_pretrained(model), args.samples)
        record = {
            "samples": args.samples,
            "seed": SEED,
            "model": model_hash(model),
            "minutes": minutes,
            "tasks": scores,
        }
        with atomic_path(done) as path:
            path.write_text(json.dumps(record, indent=2) + "\n")
    print(table({name: json.loads((FOLDER / name / "scores.json").read_text()) for name in MIXTURES}))


def table(found: dict[str, dict]) -> str:
    """The scores as Markdown: of each task the share of clips that are right in all attributes, and the mean over
    attributes."""
    lines = [
        "| mixture | " + " | ".join(JUDGED).replace("_", " ") + " | mean |",
        "| --- |" + " --- |" * (len(JUDGED) + 1),
    ]
    for name, record in found.items():
        cells, rights = [], []
        for task in JUDGED:
            scores = record["tasks"][task]
            each = [scores[key] for key in ("background", "colour", "shape", "size", "motion")]
            cells.append(f"{scores['all_right']:.1%} ({sum(each) / len(each):.1%})")
            rights.append(scores["all_right"])
        lines.append(f"| {MIXTURES[name]} | " + " | ".join(cells) + f" | {sum(rights) / len(rights):.1%} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
