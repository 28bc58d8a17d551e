"""List the tasks a model knows: inputs, outputs, formats. `--show NAME` prints the row of one.

example:
  videolm tasks --show text_to_video
"""

from __future__ import annotations

import argparse
import json

from videolm.cli.output import emit, table
from videolm.component import read_json
from videolm.config import parse
from videolm.pipeline.folder import TOKENIZER, load_tasks, load_vocabulary, model_folder
from videolm.sequence import Layout, lay_out
from videolm.tasks import Task, Variant
from videolm.tokenizers.protocol import VIDEO_TOKENIZERS

OPEN = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--show", metavar="NAME", help="the row layout of one task, with token counts")
    parser.add_argument("--model", metavar="DIR", help="a model folder or hub name (default: the one that ships)")
    parser.add_argument("--json", action="store_true", help="one JSON object a task (with --show: a variant) on stdout")


def run(args: argparse.Namespace) -> None:
    folder = model_folder(args.model)
    tasks, vocabulary = load_tasks(folder), load_vocabulary(folder)
    settings = read_json(folder / TOKENIZER / "config.json")
    kind = VIDEO_TOKENIZERS.get(settings.get("name", "magvit_v2"))
    tokenizer = kind.without_weights(parse(kind.Settings, settings))
    if args.show:
        layouts = [lay_out(v, tasks, vocabulary, tokenizer.grid) for v in tasks.get(args.show).variants(tasks.formats)]
        for layout in layouts:
            emit(_row(layout)) if args.json else print(_picture(layout))
        return
    if args.json:
        for task in tasks.tasks:
            emit({**json.loads(task.model_dump_json()), "formats": _formats(task.variants(tasks.formats))})
        return
    rows = [["task", "in", "out", "formats", "what it makes"]]
    for task in tasks.tasks:
        ins = ", ".join(_inputs(task)) or "-"
        formats = " ".join(_formats(task.variants(tasks.formats)))
        rows.append([task.name, ins, task.output.stream, formats, task.summary])
    print(table(rows))


def _inputs(task: Task) -> list[str]:
    text = [] if task.text is None else ["[prompt]" if task.text.optional else "prompt"]
    frames = "/".join(map(str, task.prefixes))
    return text + (["image"] if task.image_input else [f"video ({frames} frames)"] if task.video_input else [])


def _formats(variants: list[Variant]) -> list[str]:
    return list(dict.fromkeys(str(variant.format) for variant in variants))


def _row(layout: Layout) -> dict[str, object]:
    return {
        "variant": str(layout.variant),
        "row": str(layout),
        "tokens": layout.length,
        "prefix": layout.prefix,
        "spans": [{"kind": s.kind, "name": s.name, "start": s.start, "length": s.length} for s in layout.spans],
    }


def _picture(layout: Layout) -> str:
    output = layout.length - layout.prefix
    return (
        f"{layout.variant}: {layout.length} tokens\n  {layout}\n"
        f"  prefix {layout.prefix} (seen both ways), output {output} (causal, with loss)"
    )
