"""A published tokenizer of videos or sounds into a folder of ours, which recipes and commands take by its path.

examples:
  videolm borrow emu3 BAAI/Emu3-VisionTokenizer --out emu3
  videolm borrow cosmos encoder.jit decoder.jit --out cosmos
  videolm borrow open_magvit2 video_128_262144.ckpt --out open_magvit2
  videolm borrow mimi kyutai/mimi --levels 4 --out mimi

Then `tokenizer: {pretrained: emu3}` in a recipe, `videolm evaluate tokenizer --model emu3`, `videolm tokenize
clip.mp4 --model emu3`, and so on. Untested with real weights: the tests make small ones of the same shape.
The files of cosmos are TorchScript programs, the only ones that are ever run: name those that you trust.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from videolm.cli.output import emit, say
from videolm.component import Component
from videolm.errors import UserError
from videolm.tokenizers.audio.pretrained import Dac, Encodec, Mimi
from videolm.tokenizers.video.cosmos import Cosmos
from videolm.tokenizers.video.emu3 import Emu3
from videolm.tokenizers.video.open_magvit2 import OpenMagvit2

OPEN = False


class Published(NamedTuple):
    """Where a tokenizer is had, and how."""

    load: Callable[..., Component]
    """Of its sources, and `levels` of an audio tokenizer."""
    takes: tuple[str, ...]
    """What the sources are."""
    home: str
    licence: str
    """Of the weights."""
    levels: bool = False
    """It has levels, as sound has."""


HUB = ("HUB_OR_FOLDER",)
KINDS = {
    "emu3": Published(Emu3.from_hub, HUB, "BAAI/Emu3-VisionTokenizer", "Apache-2.0"),
    "cosmos": Published(
        Cosmos.from_files,
        ("ENCODER.jit", "DECODER.jit"),
        "nvidia/Cosmos-0.1-Tokenizer-DV4x8x8, -DV8x8x8, -DV8x16x16",
        "NVIDIA Open Model License",
    ),
    "open_magvit2": Published(
        OpenMagvit2.from_checkpoint, ("CHECKPOINT",), "TencentARC/Open-MAGVIT2-Tokenizer-262144-Video", "Apache-2.0"
    ),
    "encodec": Published(Encodec.from_hub, HUB, "facebook/encodec_24khz", "none stated there", True),
    "dac": Published(Dac.from_hub, HUB, "descript/dac_44khz", "see its page", True),
    "mimi": Published(Mimi.from_hub, HUB, "kyutai/mimi", "see its page", True),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", metavar="KIND", choices=KINDS, help=", ".join(KINDS))
    parser.add_argument("sources", metavar="SOURCE", nargs="+", help="what the kind takes, see below")
    parser.add_argument("--out", metavar="DIR", required=True, help="the folder to make")
    parser.add_argument("--levels", metavar="N", type=int, help="of a tokenizer of sounds, its first N (default: 4)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.epilog = "kinds:\n" + "\n".join(
        f"  {name:12} {' '.join(kind.takes)}\n{'':15}from {kind.home}; licence of the weights: {kind.licence}"
        for name, kind in KINDS.items()
    )


def run(args: argparse.Namespace) -> None:
    kind, out = KINDS[args.kind], Path(args.out)
    if len(args.sources) != len(kind.takes):
        raise UserError(f"{args.kind} takes {' '.join(kind.takes)}, not {len(args.sources)} names")
    if args.levels is not None and not (kind.levels and args.levels > 0):
        raise UserError("--levels is a number of levels, 1 or more, of a tokenizer of sounds")
    if out.exists():
        raise UserError(f"{out} exists already; choose another folder")
    tokenizer = kind.load(*args.sources, **({"levels": args.levels} if args.levels else {}))
    temporary = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    tokenizer.save_pretrained(temporary)
    temporary.rename(out)
    if args.json:
        emit({"kind": args.kind, "path": str(out), "home": kind.home, "licence": kind.licence})
    else:
        say(f"{out}: {args.kind}, untested with real weights; their licence: {kind.licence} ({kind.home})")
