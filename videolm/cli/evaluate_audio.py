"""Measure an audio tokenizer alone: SNR, codes in use, speed, and on ShapesWorld what its judge hears.

DIR is a model with one or the folder of an audio tokenizer by itself. Without --data the sounds are ShapesWorld's, of a
seed that training does not draw from; with it they are of all films and sound files in a folder.

example:
  videolm evaluate audio --model runs/shapesworld-soundstream/audio_tokenizer --samples 512 --json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from videolm.cli.arguments import add_force, add_model, check_counts
from videolm.cli.evaluate_tokenizer import device_name
from videolm.cli.output import emit, table
from videolm.config import parse
from videolm.data.example import Source
from videolm.data.sources import FolderData, ShapesWorldData
from videolm.evaluate.audio_tokenizer import evaluate_audio_tokenizer
from videolm.evaluate.shapes import SEED
from videolm.files import atomic_path, check_writable
from videolm.media import Audio
from videolm.pipeline.folder import find_audio_tokenizer
from videolm.shapes import Format
from videolm.train.engine import device

FPS = 8.0
"""Sounds are measured in stretches of 17 frames at this rate."""
SHAPE = Format(17, 64, 64)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser, "a model, an audio tokenizer")
    parser.add_argument("--data", metavar="PATH", help="a folder of films and sounds, or one (default: ShapesWorld)")
    parser.add_argument("--samples", metavar="N", type=int, default=256, help="sounds of two seconds (default: 256)")
    parser.add_argument("--seed", metavar="S", type=int, default=SEED, help=f"of the sounds drawn (default: {SEED})")
    parser.add_argument("--batch", metavar="N", type=int, default=32, help="sounds a batch (default: 32)")
    parser.add_argument("--out", metavar="FILE", help="write the scores as JSON here too")
    add_force(parser)
    parser.add_argument("--json", action="store_true", help="the scores as one JSON object on stdout")


def run(args: argparse.Namespace) -> None:
    check_counts(args)
    if args.out:
        check_writable(args.out, args.force)
    tokenizer = find_audio_tokenizer(args.model).to(device())
    if args.data is None:
        source: Source[Audio] = ShapesWorldData(seed=args.seed, clips=args.samples).open("audio", SHAPE, FPS, "train")
    else:
        settings = {"path": args.data, "validation_share": 0, "stride": SHAPE.frames}
        source = parse(FolderData, {**settings, "sample_rate": tokenizer.sample_rate}).open(
            "audio", SHAPE, FPS, "train"
        )
    scores = evaluate_audio_tokenizer(tokenizer, source, samples=args.samples, seed=args.seed, batch=args.batch)
    record = {
        "tokenizer": tokenizer.config.name,
        "weights": tokenizer.fingerprint(),
        "levels": tokenizer.levels,
        "codebook_size": tokenizer.codebook_size,
        "data": "shapesworld" if args.data is None else args.data,
        "seed": args.seed,
        "device": device_name(),
        **scores,
    }
    if args.out:
        with atomic_path(Path(args.out)) as path:
            path.write_text(json.dumps(record, indent=2) + "\n")
    if args.json:
        emit(record)
    else:
        shown = {name: f"{value:.6g}" if isinstance(value, float) else str(value) for name, value in record.items()}
        print(table([list(row) for row in shown.items()]))
