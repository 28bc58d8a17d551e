"""What long work tells people: a bar with the time left on a terminal, a plain line now and then elsewhere; and not
what libraries would."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import Any

from tqdm import tqdm


class _Lines(tqdm):
    """tqdm's text, a line at a time, for logs and pipes."""

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        self.fp.write(f"{msg or self}\n")
        self.fp.flush()
        return True


def progress(total: int | None, what: str, unit: str, *, done: int = 0, enabled: bool = True) -> Any:
    """A `tqdm` bar on stderr.

    Args:
        total: units in all, where known.
        what: shown in front.
        done: units that were done before.
        enabled: False shows nothing (ranks other than the first).
    """
    kind, seconds = (tqdm, 0.1) if sys.stderr.isatty() else (_Lines, 15.0)
    return kind(total=total, desc=what, unit=unit, initial=done, mininterval=seconds, disable=not enabled)


def quiet_libraries() -> None:
    """Keep libraries' chatter off the terminal; our own messages and errors remain."""
    warnings.filterwarnings("ignore")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    logging.getLogger("transformers").setLevel(logging.ERROR)
