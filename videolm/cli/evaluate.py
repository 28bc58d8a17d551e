"""Measure a model, or a video tokenizer alone. `videolm evaluate KIND --help` has the options of each kind.

examples:
  videolm evaluate shapes --samples 256 --tasks text_to_video --json
  videolm evaluate tokenizer --data my_clips/ --picture pairs.png
"""

from __future__ import annotations

import argparse

from videolm.cli import evaluate_audio, evaluate_recall, evaluate_shapes, evaluate_tokenizer

KINDS = {
    "audio": (evaluate_audio, "what comes back of sounds through an audio tokenizer, and how fast"),
    "recall": (evaluate_recall, "what a model that was to learn a few clips knows by heart"),
    "shapes": (evaluate_shapes, "ShapesWorld's judge on what a model makes"),
    "tokenizer": (evaluate_tokenizer, "what comes back of clips through a tokenizer, and how fast"),
}
"""Each in a module of its own, which offers what a command's does."""

OPEN = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    for name, (module, what) in KINDS.items():
        module.add_arguments(kinds.add_parser(name, help=what, description=module.__doc__))


def run(args: argparse.Namespace) -> None:
    KINDS[args.kind][0].run(args)
