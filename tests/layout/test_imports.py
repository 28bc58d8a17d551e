"""Who imports whom: every import of the source, wherever in a file it stands, is held against the levels."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import videolm

# Rooms (the second part of a module's name) by level. A room imports its own level and lower ones.
LEVELS = (
    {
        "errors",
        "files",
        "cache",
        "config",
        "configs",
        "registry",
        "component",
        "metrics",
        "progress",
        "rotary",
        "shapes",
        "workers",
    },
    {"vocabulary", "tokenizers", "media", "shapesworld"},
    {"tasks", "model"},
    {"sequence", "superres"},
    {"data", "generate"},
    {"pipeline", "train"},
    {"evaluate", "serve"},
    {"cli"},
)
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}

# What the levels would allow and the design does not.
NEVER = {
    "tokenizers": {"vocabulary"},  # codes run from 0: no offsets
    "tasks": {"tokenizers"},  # a task names modalities
    "model": {"vocabulary", "tasks", "tokenizers", "media", "shapesworld"},  # ids and tensors
    "generate": {"media", "tokenizers", "shapesworld"},  # ids, never pixels or strings
}


def imports(module: str, path: Path, known: dict[str, Path]) -> Iterator[tuple[int, str]]:
    """(line, module) for each import in a file, relative ones and names taken from a package made absolute.

    `from videolm import shapes` is videolm.shapes; `from videolm import Task` is where Task lives.
    """
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            target = ".".join(filter(None, (base, node.module)))
            for alias in node.names:
                name = f"{target}.{alias.name}"
                if target == "videolm" and alias.name in videolm._HOMES:
                    name = videolm._HOMES[alias.name]
                elif target != "videolm" and name not in known:
                    name = target
                yield node.lineno, name


def room(module: str) -> str | None:
    """The room of a first-party module: videolm.model.attention is in `model`."""
    top, _, rest = module.partition(".")
    return rest.partition(".")[0] or None if top == "videolm" else None


@pytest.fixture(scope="module")
def edges(modules: dict[str, Path]) -> list[tuple[str, str, str]]:
    """(where, importer's module, imported module) for the whole source but the front door."""
    return [
        (f"{path.name}:{line}", module, imported)
        for module, path in modules.items()
        if module not in ("videolm", "videolm.__main__")
        for line, imported in imports(module, path, modules)
    ]


def test_every_module_has_a_level(modules: dict[str, Path]) -> None:
    rooms = {room(module) for module in modules} - {None, "__main__"}
    without = rooms - set(LEVEL)
    assert not without, "a new room needs a level, here and in docs/architecture.md"


def test_higher_imports_lower(edges: list[tuple[str, str, str]]) -> None:
    wrong = []
    for where, importer, imported in edges:
        here, there = room(importer), room(imported)
        if here not in LEVEL or there in (None, here, "__version__"):
            continue
        if there not in LEVEL:
            wrong.append(f"{importer} ({where}) imports {imported}, which is no room")
        elif LEVEL[there] > LEVEL[here]:
            wrong.append(f"{importer} ({where}, level {LEVEL[here]}) imports {imported} (level {LEVEL[there]})")
        elif there in NEVER.get(here, ()):
            wrong.append(f"{importer} ({where}) imports {imported}: {here} does without {there}")
    assert not wrong, "\n".join(wrong)


def test_rooms_of_a_level_form_no_circle(edges: list[tuple[str, str, str]]) -> None:
    graph: dict[str, set[str]] = {}
    for _, importer, imported in edges:
        here, there = room(importer), room(imported)
        if there in LEVEL and here != there:
            graph.setdefault(here, set()).add(there)
    circle: list[str] = []
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = error.args[1]
    assert not circle, " <- ".join(circle)


def test_deepspeed_is_imported_in_one_file(edges: list[tuple[str, str, str]]) -> None:
    files = {importer for _, importer, imported in edges if imported.partition(".")[0] == "deepspeed"}
    assert files == {"videolm.train.engine"}


def test_no_library_that_needs_cuda(root: Path) -> None:
    """Their PyPI builds are linked with CUDA; beside a CPU torch the first two break `transformers`."""
    unwanted = {"torchvision", "torchaudio", "torchcodec"}
    folders = ("videolm", "tokenizers", "tasks", "configs", "tests", "benchmarks")
    wrong = [
        f"{path.relative_to(root)}:{line} imports {name}"
        for folder in folders
        for path in sorted((root / folder).rglob("*.py"))
        for line, name in imports(path.stem, path, {})
        if name.partition(".")[0] in unwanted
    ]
    assert not wrong, "\n".join(wrong)


def test_our_names_are_never_bare(edges: list[tuple[str, str, str]]) -> None:
    """`tokenizers` bare is Hugging Face's, `tasks` and `configs` bare work in a checkout alone."""
    bare = {"tokenizers", "tasks", "configs"}
    wrong = [f"{importer} ({where}): {name}" for where, importer, name in edges if name.partition(".")[0] in bare]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("import videolm.model.head", "videolm.model.head"),
        ("from videolm import Task", "videolm.tasks.task"),
        ("from videolm import shapes", "videolm.shapes"),
        ("from videolm.shapes import TokenGrid", "videolm.shapes"),
        ("from videolm.model import head", "videolm.model.head"),
        ("from . import head", "videolm.model.head"),
        ("from .head import Head", "videolm.model.head"),
        ("from ..shapes import TokenGrid", "videolm.shapes"),
        ("def f():\n    import deepspeed", "deepspeed"),
    ],
)
def test_how_imports_are_read(statement: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "attention.py"
    path.write_text(statement)
    known = {"videolm.model.head": path, "videolm.shapes": path}
    assert [name for _, name in imports("videolm.model.attention", path, known)] == [expected]
