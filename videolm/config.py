"""Strict configuration: frozen pydantic models <-> YAML, with dotted overrides.

Every component's config class stands beside the component; this file only knows how to read one. An unknown key
is an error that names the nearest known one, so a typo never trains for hours with a default.

>>> class Optimizer(Config):
...     lr: float = 1e-3
>>> class Run(Config):
...     optimizer: Optimizer = Optimizer()
>>> parse(Run, {}, {"optimizer.lr": "3e-4"}).optimizer.lr
0.0003
>>> parse(Run, {}, {"optimiser.lr": 1})
Traceback (most recent call last):
    ...
videolm.errors.UserError: unknown key 'optimiser'; did you mean 'optimizer'?
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from videolm.errors import UserError


class Config(BaseModel):
    """Base of every config: immutable, and closed to keys it does not declare."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


ConfigT = TypeVar("ConfigT")

TAG = "@"
"""Begins a tag that tells the members of a union apart, and that nobody writes."""
KINDS = ("kind", "name")
"""Keys that say which of several configs a mapping is."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error message: the nearest known name, or all of them.

    >>> nearest("text_to_vido", ["text_to_video", "image_to_video"])
    "did you mean 'text_to_video'?"
    >>> nearest("zzz", ["b", "a"])
    'known: a, b'
    """
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(known) or 'none'}"


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML file as a mapping. Raises `UserError` for a missing, broken or non-mapping file."""
    try:
        data = _load(Path(path).read_text())
    except OSError as error:
        raise UserError(f"cannot read the config {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise UserError(f"{path} must hold 'key: value' pairs, not a {type(data).__name__}")
    return data


def dump_yaml(config: Config) -> str:
    """What `--print_config` shows; reading it back gives an equal config."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, width=110)


def parse(
    kind: type[ConfigT], data: Mapping[str, Any], overrides: Mapping[str, Any] | None = None, *, source: str = ""
) -> ConfigT:
    """Validate `data`, with `overrides` of dotted keys laid over it, as a `kind`.

    Args:
        kind: a `Config` class (or a union of them told apart by a field).
        data: nested mappings, as `read_yaml` returns.
        overrides: `{"lm.num_layers": "4"}`; strings are read as YAML, so numbers, lists and null work.
        source: named in front of an error (a file name).

    Raises:
        UserError: an unknown key (with the nearest known one), or a value of the wrong type or range.
    """
    merged = _copy(data)
    for dotted, value in (overrides or {}).items():
        try:
            read = _load(value) if isinstance(value, str) else value
        except yaml.YAMLError as error:
            raise UserError(f"--{dotted}: {value!r} is not valid YAML; put text with signs in quotes") from error
        _set(merged, dotted.split("."), read, dotted)
    try:
        return TypeAdapter(kind).validate_python(merged)
    except ValidationError as error:
        raise UserError((f"{source}: " if source else "") + explain(error, kind)) from error


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid upon `base`, mapping by mapping; neither is changed.

    A mapping that names another kind of thing takes the place of the one before, whose settings it does not have.

    >>> merge({"data": {"kind": "folder", "path": "a"}, "seed": 1}, {"data": {"kind": "shapesworld"}})
    {'data': {'kind': 'shapesworld'}, 'seed': 1}
    """
    out = _copy(base)
    for key, value in over.items():
        before = out.get(key)
        both = isinstance(value, Mapping) and isinstance(before, dict)
        other = both and any(name in before and before[name] != value.get(name, before[name]) for name in KINDS)
        out[key] = merge(before, value) if both and not other else _copy(value)
    return out


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads `3e-4` as a string; people mean a number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def _load(text: str) -> Any:
    return yaml.load(text, Loader=_Loader)


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list | tuple) else value


def _set(tree: dict[str, Any], path: list[str], value: Any, dotted: str) -> None:
    for key in path[:-1]:
        if tree.get(key) is None:
            tree[key] = {}
        tree = tree[key]
        if not isinstance(tree, dict):
            raise UserError(f"--{dotted}: '{key}' is a value, not a group of settings")
    tree[path[-1]] = value


def explain(error: ValidationError, kind: Any) -> str:
    """The first problem of a pydantic error, in one line."""
    problem = error.errors()[0]
    if problem["type"] == "extra_forbidden":
        *path, key = problem["loc"]
        where, known = _place(kind, path)
        return f"unknown key '{'.'.join([*where, str(key)])}'; {nearest(str(key), known)}"
    message = "must be given" if problem["type"] == "missing" else problem["msg"].removeprefix("Value error, ")
    got = "" if problem["type"] in ("missing", "value_error") else f" (got {problem['input']!r})"
    name = ".".join(_place(kind, problem["loc"])[0])
    return " ".join(f"{name + ': ' if name else ''}{message}{got}".split())


def _place(kind: Any, path: Iterable[int | str]) -> tuple[list[str], set[str]]:
    """A pydantic path below `kind` as a user writes it, and the keys known there, lists and unions looked through.

    pydantic names the member of a union too (`data.folder.path`); that part is no key, but says whose keys are known.
    """
    kinds, written = _models(kind), []
    for part in map(str, path):
        if part.startswith(TAG):
            continue
        inside = [m.model_fields[part].annotation for m in kinds if part in m.model_fields]
        member = [m for m in kinds if part in _tags(m)] if len(kinds) > 1 else []
        kinds = member or [model for annotation in inside for model in _models(annotation)] or kinds
        if not member:
            written.append(part)
    return written, {name for model in kinds for name in model.model_fields}


def _tags(model: type[BaseModel]) -> set[object]:
    """What pydantic may call a member of a union: its discriminator, or its class."""
    literals = [field.default for field in model.model_fields.values() if get_origin(field.annotation) is Literal]
    return {model.__name__, *literals}


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models(inner)]
