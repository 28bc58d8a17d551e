"""`videolm COMMAND …`: finds the command, and turns outcomes into exit codes.

0 done, 1 the program failed, 2 the user can mend it (one line on stderr), 130 interrupted; `--debug` shows where.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

import videolm
from videolm.config import nearest
from videolm.errors import UserError
from videolm.progress import quiet_libraries

COMMANDS = {
    "tasks": "the tasks a model knows, and their rows",
    "generate": "make clips by one task",
    "story": "make a film of several scenes",
    "upscale": "make a clip larger",
    "batch": "make the clips of a file of prompts",
    "serve": "an HTTP API and a page",
    "prepare": "raw media to token shards",
    "estimate": "what a training takes: memory, time, storage",
    "train": "run a recipe: from raw clips to a model",
    "borrow": "a published tokenizer into a folder of ours",
    "tokenize": "films and pictures to token files",
    "detokenize": "token files back to films and pictures",
    "evaluate": "measure a model",
    "demo": "a page of clips made by the model that ships",
}
"""Each lives in the module of its name, with `add_arguments(parser)` and `run(args)`. Where `OPEN` is set, arguments
that the parser does not know are given to `run` too."""


NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Parser(argparse.ArgumentParser):
    """argparse with one-line errors and no guessing of abbreviated options."""

    def __init__(self, *args: object, **kwargs: object):
        kwargs.setdefault("allow_abbrev", False)
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in argv
    argv = [word for word in argv if word != "--debug"]
    quiet_libraries()
    try:
        return _run(argv)
    except SystemExit as exit:  # --help and --version
        return int(exit.code or 0)
    except KeyboardInterrupt as error:  # a training says where it stopped, every rank of it
        if not error.args or os.environ.get("RANK", "0") == "0":
            print(error if error.args else "interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except UserError as error:
        if debug:
            traceback.print_exc()
        print(f"videolm: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except Exception as error:
        if debug:
            traceback.print_exc()
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            print(f"videolm: error: {error.strerror}: make room, then give the command again", file=sys.stderr)
            return 2
        print(f"videolm: failed: {type(error).__name__}: {error} (--debug shows where)", file=sys.stderr)
        return 1


def _run(argv: list[str]) -> int:
    parser = Parser(prog="videolm", description="Video, images and text as tokens of one language model.")
    parser.epilog = "commands:\n" + "\n".join(f"  {name:10} {what}" for name, what in COMMANDS.items())
    parser.epilog += (
        "\n\nexample:\n  videolm generate text_to_video --prompt 'a small red circle moves right on a white background'"
    )
    parser.add_argument("--version", action="version", version=f"videolm {videolm.__version__}")
    parser.add_argument("command", metavar="COMMAND", nargs="?")
    if not argv or argv[0] not in COMMANDS:
        args = parser.parse_args(argv[:1])
        if args.command is None:
            parser.print_help()
            return 0
        raise UserError(f"unknown command '{args.command}'; {nearest(args.command, COMMANDS)}")
    module, args, rest = parse(argv)
    _quiet_loading()
    module.run(args, rest) if module.OPEN else module.run(args)
    return 0


def parse(argv: Sequence[str]) -> tuple[Any, argparse.Namespace, list[str]]:
    """The module of a command, its arguments, and those that are left where it takes more (`OPEN`)."""
    module = import_module(f"videolm.cli.{argv[0]}")
    command = Parser(prog=f"videolm {argv[0]}", description=module.__doc__)
    module.add_arguments(command)
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    args, rest = command.parse_known_args(argv[1:])
    if rest and not module.OPEN:
        command.error(f"unrecognized arguments: {' '.join(rest)}")
    return module, args, rest


def _quiet_loading() -> None:
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
