"""The user's folder of what is built, fetched or trusted once: `VIDEOLM_CACHE`, or `videolm` in the user's cache."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from videolm.errors import UserError


def cache_folder() -> Path:
    """Where what is built, fetched or trusted is kept; it need not exist."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("VIDEOLM_CACHE") or Path(base) / "videolm")


def trusted_folder() -> Path:
    """Where the hashes are kept of programs that the user has named; it need not exist."""
    return cache_folder() / "trusted"


def trust(sha256: str) -> None:
    """Note that the program of this hash may be run: the user has named it."""
    trusted_folder().mkdir(parents=True, exist_ok=True)
    (trusted_folder() / sha256).touch()


def is_trusted(sha256: str) -> bool:
    """Whether the user has named the program of this hash before."""
    return (trusted_folder() / sha256).is_file()


@dataclass(frozen=True)
class PublicFile:
    """Published weights that a user fetches, known by their hash: nothing else of that name is read."""

    name: str
    sha256: str
    source: str
    """Where it is to be had."""
    what: str
    """What needs it, for the error."""

    @property
    def place(self) -> Path:
        """Where it belongs."""
        return cache_folder() / "weights" / self.name

    def find(self) -> Path:
        """Its path. Raises `UserError`, which says where it is to be had and where it goes, unless it is there."""
        if not self.place.is_file():
            raise UserError(
                f"{self.what} needs {self.name} (sha256 {self.sha256}) from {self.source}: put it at {self.place}"
            )
        with self.place.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != self.sha256:
            raise UserError(
                f"{self.place} is not what {self.what} needs: its sha256 is {found}, not {self.sha256}; "
                f"fetch it again from {self.source}"
            )
        return self.place
