"""Every task of a model, generated: seconds, ids, what the judge says, and a contact sheet.

Claim: each generates through one call.
Run: python benchmarks/every_task.py MODEL [--recipe overfit_every_task] [--count 4] [--picture sheet.png]

What goes in are the recipe's scenes: those that the model was trained on, if that made it. Seconds are of a call that
makes `count` clips, after one that warms up; ids of each clip.
"""

import argparse
import time

from videolm import VideoLM
from videolm.data.sources import ShapesWorldData
from videolm.evaluate.world import World
from videolm.generate.sampling import generators
from videolm.media import Video, contact_sheet, write_image
from videolm.train.recipe import load_recipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model folder")
    parser.add_argument("--recipe", default="overfit_every_task", help="whose data is given")
    parser.add_argument("--count", type=int, default=4, help="clips of a task")
    parser.add_argument("--picture", help="where the contact sheet goes")
    args = parser.parse_args()
    model = VideoLM.from_pretrained(args.model)
    data = load_recipe(args.recipe).data
    assert isinstance(data, ShapesWorldData)
    world = World(data, model.tasks.formats[0], model.tasks.fps)
    shown: list[tuple[str, Video]] = []
    print("| task | row | ids a clip | seconds | ids/s | judge: all right |\n" + "| --- " * 6 + "|")
    for variant in model.tasks.variants():
        task, count = variant.task, args.count
        inputs = world.inputs(variant, range(count))
        for _ in range(2):
            began = time.perf_counter()
            more = {} if task.inputs else {"num_videos_per_prompt": count}
            out = model(task=task.name, **inputs, **more, generator=generators(0, count))
            took = time.perf_counter() - began
        judged = world.scores(task, range(count), out.videos, out.sounds)["all_right"] if task.inputs else None
        print(
            f"| `{task.name}`{f', {variant.prefix} frames given' if variant.prefix else ''} | "
            f"{model.layout(out.variant).length} | {out.tokens} | {took:.2f} | {count * out.tokens / took:.0f} | "
            f"{'' if judged is None else f'{judged:.0%}'} |",
            flush=True,
        )
        if out.videos:
            shown.append((f"{variant}  {inputs.get('prompt', [''])[0]}", out.videos[0]))
    if args.picture:
        write_image(contact_sheet(shown, height=64), args.picture, overwrite=True)


if __name__ == "__main__":
    main()
