"""Arguments that several commands take."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from videolm.config import parse
from videolm.errors import UserError
from videolm.files import check_writable
from videolm.generate.engine import Decoding
from videolm.generate.sampling import Sampling

DECODING = ("engine", "precision", "window", "rows", "compiled")
"""Settings of `Decoding` that commands take."""

SAMPLING = ("negative_prompt", *Sampling.model_fields)

LAUNCHERS = (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS"))
"""Where `torchrun` and `srun` say which process this is, of how many."""


def add_outputs(parser: argparse.ArgumentParser) -> None:
    """`--out`, `--force` and `--json` of a command that writes one file for each input."""
    parser.add_argument("--out", metavar="DIR", required=True, help="the folder to write in")
    add_force(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a file on stdout")


def add_force(parser: argparse.ArgumentParser) -> None:
    """`--force` of a command that writes."""
    parser.add_argument("--force", action="store_true", help="overwrite what is there")


def add_model(parser: argparse.ArgumentParser, what: str = "a model folder") -> None:
    """`--model`, which may be `what`."""
    parser.add_argument("--model", metavar="DIR", help=f"{what} or a hub name (default: the one that ships)")


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """How ids are drawn, for a command that generates."""
    parser.add_argument("--negative-prompt", metavar="TEXT", help="what guidance leads away from")
    parser.add_argument("--guidance-scale", metavar="G", type=float, help="1: as trained; more: closer to the prompt")
    parser.add_argument("--guide-by", choices=("text", "all"), help="closer to the prompt, or to all that is given")
    parser.add_argument("--temperature", metavar="T", type=float, help="0: always the likeliest id")
    parser.add_argument("--audio-temperature", metavar="T", type=float, help="of sounds, if not the same")
    parser.add_argument("--top-k", metavar="K", type=int, help="draw from the K likeliest ids; 0: from all")
    parser.add_argument("--top-p", metavar="P", type=float, help="draw from the likeliest ids with this probability")
    parser.add_argument("--best-of", metavar="N", type=int, help="draw N for each clip and keep the likeliest")


def sampling_of(args: argparse.Namespace) -> dict[str, Any]:
    """What the arguments of `add_sampling` say, as options of a call of `VideoLM`."""
    return {name: value for name in SAMPLING if (value := getattr(args, name)) is not None}


def add_upscaling(parser: argparse.ArgumentParser) -> None:
    """Super-resolution of what a command makes; see `check_upscaling`."""
    parser.add_argument("--upscale", metavar="N", type=int, help="so many times as high and wide: 2, or 4 (two stages)")
    parser.add_argument("--upscale-steps", metavar="N", type=int, help="of super-resolution (default: the model's)")


def check_upscaling(args: argparse.Namespace) -> None:
    """Raises `UserError` for steps of nothing."""
    if args.upscale_steps is not None and args.upscale is None:
        raise UserError("--upscale-steps goes with --upscale")


def add_decoding(parser: argparse.ArgumentParser) -> None:
    """The settings of `Decoding` for a command that generates."""
    group = parser.add_argument_group("speed", "how ids are computed")
    for name, choices in (("engine", ("auto", "native", "torch")), ("precision", ("float32", "bfloat16", "int8"))):
        group.add_argument(f"--{name}", choices=choices, help=_help(name))
    for name in ("window", "rows"):
        group.add_argument(f"--{name}", metavar="N", type=int, help=_help(name))
    group.add_argument("--compiled", action="store_true", default=None, help=_help("compiled"))


def _help(name: str) -> str:
    field = Decoding.model_fields[name]
    return f"{(field.description or '').rstrip('.')} (default: {field.default})"


def decoding_of(args: argparse.Namespace) -> Decoding:
    """The `Decoding` that the arguments of `add_decoding` say."""
    return parse(Decoding, {name: value for name in DECODING if (value := getattr(args, name)) is not None})


def add_workers(parser: argparse.ArgumentParser) -> None:
    """How a command that shares its work among processes does so; see `place` and `videolm.workers`."""
    group = parser.add_argument_group("several processes")
    group.add_argument(
        "--workers", metavar="N", type=int, default=1, help="processes, by datatrove (default: this one)"
    )
    group.add_argument("--slurm", metavar="PARTITION", help="run the workers as jobs of a Slurm cluster, by datatrove")
    group.add_argument("--hours", metavar="H", type=int, default=24, help="a Slurm job may take (default: 24)")
    group.add_argument("--rank", metavar="R", type=int, help="this process's number, from 0 (default: the launcher's)")
    group.add_argument("--world", metavar="N", type=int, help="how many processes there are")


def place(args: argparse.Namespace) -> tuple[int, int]:
    """Which process this is, of how many."""
    if (args.rank is None) != (args.world is None):
        raise UserError("--rank and --world go together")
    if args.rank is None:
        for rank, world in LAUNCHERS:
            if rank in os.environ and world in os.environ:
                return int(os.environ[rank]), int(os.environ[world])
        return 0, 1
    if not 0 <= args.rank < args.world:
        raise UserError(f"--rank is {args.rank}: give 0 to {args.world - 1} for {args.world} processes")
    return args.rank, args.world


def check_counts(args: argparse.Namespace) -> None:
    """Raise `UserError` for `--samples`, `--batch` or `--seed` of an evaluation that are too small."""
    for name, least in (("samples", 1), ("batch", 1), ("seed", 0)):
        if getattr(args, name) < least:
            raise UserError(f"--{name} is {getattr(args, name)}, and must be at least {least}")


def outputs(inputs: Sequence[str], suffixes: Sequence[str], out: str, force: bool) -> list[Path]:
    """Where the result for each input goes, with its suffix.

    Raises `UserError` when one cannot go there, or two would go to one place.
    """
    found = [Path(out) / f"{Path(name).stem}{suffix}" for name, suffix in zip(inputs, suffixes, strict=True)]
    for index, path in enumerate(found):
        if path in found[:index]:
            both = f"{inputs[found.index(path)]} and {inputs[index]}"
            raise UserError(f"{both} would both become {path}: give them in two calls, with another --out")
        check_writable(path, force)
    return found


def size(text: str) -> tuple[int, int]:
    """Width and height as people write them.

    >>> size("64x48")
    (64, 48)
    """
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise argparse.ArgumentTypeError(f"a size is WIDTHxHEIGHT, for example 64x64, not {text!r}")
    return int(width), int(height)
