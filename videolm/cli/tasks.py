"""List the tasks a model knows: inputs, outputs, formats. `--show NAME` prints the row of one.

With `--paper`, every task that ships, at VideoPoet's size; with `--tasks FILE`, your own among them.

examples:
  videolm tasks --show text_to_video
  videolm tasks --paper --show stylization
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from videolm.cli.arguments import add_model
from videolm.cli.output import emit, table
from videolm.pipeline.folder import (
    AUDIO_TOKENIZER,
    load_index,
    load_tasks,
    load_vocabulary,
    model_folder,
    outline,
    outline_audio,
)
from videolm.sequence import Layout, lay_out
from videolm.shapes import Format, SoundGrid
from videolm.tasks import TASKS, Task, Variant
from videolm.tasks.file import load_tasks as load_task_file
from videolm.tasks.task_set import TaskSet
from videolm.tokenizers.audio.protocol import AUDIO_TOKENIZERS
from videolm.tokenizers.protocol import VIDEO_TOKENIZERS, VideoTokenizer
from videolm.vocabulary import Vocabulary

PAPER = (Format(17, 128, 128),)

OPEN = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--show", metavar="NAME", help="the row layout of one task, with token counts")
    add_model(parser)
    parser.add_argument("--paper", action="store_true", help="no model: all tasks that ship, at VideoPoet's size")
    parser.add_argument("--tasks", metavar="FILE", help="a Python file with tasks of your own")
    parser.add_argument("--json", action="store_true", help="one JSON object a task (with --show: a variant) on stdout")


def run(args: argparse.Namespace) -> None:
    tasks, vocabulary, tokenizer, sound = _paper() if args.paper else _model(model_folder(args.model))
    if args.tasks:
        tasks = tasks.with_tasks(load_task_file(args.tasks))
        vocabulary = vocabulary.with_specials(tasks.specials)
    if args.show:
        variants = tasks.get(args.show).variants(tasks.formats)
        for layout in [lay_out(variant, tasks, vocabulary, tokenizer.grid, sound) for variant in variants]:
            emit(_row(layout)) if args.json else print(_picture(layout))
        return
    if args.json:
        for task in tasks.tasks:
            emit({**json.loads(task.model_dump_json()), "formats": _formats(task.variants(tasks.formats))})
        return
    rows = [["task", "in", "out", "formats", "what it makes"]]
    for task in tasks.tasks:
        out = " + ".join("sound" if made is task.audio else _picture_or_clip(task) for made in task.outputs)
        formats = " ".join(_formats(task.variants(tasks.formats)))
        rows.append([task.name, ", ".join(_inputs(task)) or "-", out, formats, task.summary])
    print(table(rows))


Rows = tuple[TaskSet, Vocabulary, VideoTokenizer, SoundGrid | None]


def _paper() -> Rows:
    tasks = TaskSet(tasks=tuple(TASKS.get(name) for name in TASKS), formats=PAPER)
    kind, codec = VIDEO_TOKENIZERS.get("magvit_v2"), AUDIO_TOKENIZERS.get("soundstream")
    sound = codec.without_weights(codec.Settings()).grid
    return tasks, Vocabulary().with_specials(tasks.specials), kind.without_weights(kind.Settings()), sound


def _model(folder: Path) -> Rows:
    tasks, vocabulary = load_tasks(folder), load_vocabulary(folder)
    sound = outline_audio(folder).grid if AUDIO_TOKENIZER in load_index(folder) else None
    return tasks, vocabulary, outline(folder), sound


def _picture_or_clip(task: Task) -> str:
    return "picture" if task.makes_pictures else "clip"


def _inputs(task: Task) -> list[str]:
    names = {"text": "prompt", "last_image": "last image"}
    if any(part.frames == "prefix" for part in task.prefix_parts) and max(task.prefixes) > 1:
        names["video"] = f"video ({'/'.join(map(str, task.prefixes))} frames)"
    found = [(names.get(name, name), needed) for name, needed in task.takes.items()]
    return [name if needed else f"[{name}]" for name, needed in found]


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
