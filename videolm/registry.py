"""The one registry class: a lazy table from a name to a thing, for the three extension points.

Entries of this project are given as "module:attribute" and imported on first use, so listing names costs nothing;
a user's own file registers objects directly.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from videolm.config import nearest
from videolm.errors import UserError

T = TypeVar("T")


class Registry(Generic[T]):
    """Names to things of one kind.

    >>> colours = Registry("colour", {"pi": "math:pi"})
    >>> colours.get("pi") > 3
    True
    >>> colours.get("pie")
    Traceback (most recent call last):
        ...
    videolm.errors.UserError: unknown colour 'pie'; did you mean 'pi'?
    """

    def __init__(self, kind: str, entries: dict[str, str] | None = None):
        self.kind = kind
        self._entries: dict[str, Any] = dict(entries or {})

    def register(self, name: str, thing: T | str) -> None:
        """Add an entry: the thing itself, or "module:attribute". A name that is taken is refused."""
        if name in self._entries:
            raise UserError(f"the {self.kind} '{name}' is registered already; choose another name")
        self._entries[name] = thing

    def get(self, name: str) -> T:
        """The thing of that name. Raises `UserError` naming the nearest one that exists."""
        if name not in self._entries:
            raise UserError(f"unknown {self.kind} '{name}'; {nearest(name, self._entries)}")
        thing = self._entries[name]
        if isinstance(thing, str):
            module, attribute = thing.split(":")
            thing = self._entries[name] = getattr(importlib.import_module(module), attribute)
        return thing

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries
