"""Files that appear whole or not at all: checked first, written under a temporary name, then renamed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from videolm.errors import UserError


def check_writable(path: str | os.PathLike[str], overwrite: bool = False) -> Path:
    """Check, before any work is done, that a file can be written at `path`, and return it as a `Path`.

    Missing parent folders are no error: `atomic_path` makes them.

    Raises:
        UserError: `path` is a folder; it exists and `overwrite` is not set; a parent is not a folder,
            or may not be written to.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder: give the name of a file to write")
    if path.exists() and not overwrite:
        raise UserError(f"{path} exists already: choose another name, or force it to be overwritten")
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    if not parent.is_dir():
        raise UserError(f"cannot write {path}: {parent} is a file where a folder is wanted")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UserError(f"cannot write {path}: no permission to write in the folder {parent}")
    return path


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; what was written there becomes `path` when the block ends well.

    The temporary name keeps the suffix of `path`, since writers choose their format by it. When the
    block raises, the temporary file goes and `path` is as it was. Missing parent folders are made.

    >>> import json, tempfile
    >>> target = Path(tempfile.mkdtemp()) / "metrics.json"
    >>> with atomic_path(target) as temporary:
    ...     _ = temporary.write_text(json.dumps({"loss": 1.5}))
    ...     target.exists()
    False
    >>> target.read_text()
    '{"loss": 1.5}'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not from `tempfile`: its files are readable by their owner alone, and would stay so once renamed.
    temporary = path.with_name(f".{path.stem[:64]}.{secrets.token_hex(6)}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
