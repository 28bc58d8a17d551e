"""Tasks of a user's own, declared in a Python file: `--tasks my_tasks.py`, or `task_file:` in a recipe.

The file is run, so it is one that the user names, never one from a model's folder. Views that it registers are there
from then on.
"""

from __future__ import annotations

import runpy
from functools import cache
from pathlib import Path

from pydantic import ValidationError

from videolm.config import explain
from videolm.errors import UserError
from videolm.tasks.task import Task


def load_tasks(path: str | Path) -> tuple[Task, ...]:
    """The tasks that a file declares, as variables of any name. The file is run once.

    Raises `UserError` for a file that is missing, fails or declares none.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no file of tasks {path}")
    return _run(path.resolve())


@cache
def _run(path: Path) -> tuple[Task, ...]:
    try:
        found = runpy.run_path(str(path))
    except UserError:
        raise
    except ValidationError as error:
        raise UserError(f"{path}: {explain(error, Task)}") from error
    except Exception as error:
        raise UserError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    tasks = tuple(value for value in found.values() if isinstance(value, Task))
    if not tasks:
        raise UserError(f"{path} declares no task: name = Task(name=..., ...)")
    return tuple(dict.fromkeys(tasks))
