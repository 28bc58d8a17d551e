"""What a model was trained to do: its tasks, formats and text length; saved beside it as `tasks.json`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field, model_validator

from videolm.config import Config, nearest, parse
from videolm.errors import UserError
from videolm.shapes import Format
from videolm.tasks.task import Task, Variant


class TaskSet(Config):
    """Tasks in formats. Every row shape the model has seen is one of `variants()`."""

    tasks: tuple[Task, ...]
    formats: tuple[Format, ...]
    """(frames, height, width) of the clips; pictures have the same sizes."""
    fps: Annotated[float, Field(gt=0)] = 8.0
    """Frames a second of every clip."""
    text_length: Annotated[int, Field(ge=1)] = 64
    """Text positions in a row; a longer prompt is an error."""

    @model_validator(mode="after")
    def _consistent(self) -> TaskSet:
        if not self.tasks or not self.formats:
            raise ValueError("a model needs at least one task and one format")
        if len({task.name for task in self.tasks}) != len(self.tasks):
            raise ValueError("a task is named twice")
        seen: dict[tuple[object, ...], str] = {}
        for variant in self.variants():
            other = seen.setdefault(variant.looks, variant.task.name)
            if other != variant.task.name:
                raise ValueError(
                    f"{other} and {variant.task.name} look alike to the model, which sees "
                    f"<task:{variant.task.prompt}> and the same inputs: give one of them another prompt"
                )
        return self

    @property
    def specials(self) -> list[str]:
        """Special tokens that the rows need beyond the structural ones."""
        variants = self.variants()
        names = [task_token(v.task) for v in variants]
        names += [name for v in variants for name in self.format_tokens(v.format)]
        return list(dict.fromkeys(names))

    def format_tokens(self, shape: Format) -> list[str]:
        """The conditioning tokens of a format: `<res:WxH>` unless it is the size of the first format, which rows have
        when nothing is said (VideoPoet: 128x128), and `<frames:N>` unless it is an image.

        >>> from videolm.tasks.generation import text_to_video
        >>> both = TaskSet(tasks=(text_to_video,), formats=(Format(17, 128, 128), Format(17, 224, 128)))
        >>> both.format_tokens(Format(17, 224, 128)), both.format_tokens(Format(1, 128, 128))
        (['<res:128x224>', '<frames:17>'], [])
        """
        usual = self.formats[0]
        res = [] if shape[1:] == usual[1:] else [f"<res:{shape.width}x{shape.height}>"]
        return res + ([] if shape.frames == 1 else [f"<frames:{shape.frames}>"])

    def variants(self) -> list[Variant]:
        return [variant for task in self.tasks for variant in task.variants(self.formats)]

    def with_tasks(self, tasks: Iterable[Task]) -> TaskSet:
        """This set with the `tasks` it lacks. Raises `UserError` for another task of a name that it has."""
        known = {task.name: task for task in self.tasks}
        new = [task for task in tasks if known.get(task.name) != task]
        for task in new:
            if task.name in known:
                raise UserError(f"the model knows another task '{task.name}': choose another name for yours")
        return parse(TaskSet, {**dict(self), "tasks": (*self.tasks, *new)})

    def get(self, name: str) -> Task:
        """A task by name. Raises `UserError` naming the nearest one."""
        for task in self.tasks:
            if task.name == name:
                return task
        raise UserError(f"unknown task '{name}'; {nearest(name, [task.name for task in self.tasks])}")

    def find(
        self, name: str, *, frames: int | None = None, size: tuple[int, int] | None = None, prefix: int | None = None
    ) -> Variant:
        """The variant of a task with these frames, (height, width) and frames given; the first that fits.

        Without `prefix` the longest one is taken. Raises `UserError` that lists what the model has.
        """
        variants = self.get(name).variants(self.formats)
        if not variants:
            raise UserError(f"{name} has no variant in this model's formats")
        for what, got, of in (
            ("frames", frames, lambda v: v.format.frames),
            ("size", size, lambda v: (v.format.height, v.format.width)),
            ("given frames", prefix, lambda v: v.prefix),
        ):
            if got is None:
                continue
            fitting = [v for v in variants if of(v) == got]
            if not fitting:
                has = ", ".join(_show(x) for x in dict.fromkeys(of(v) for v in variants))
                raise UserError(f"{name} of this model has {what} {has}, not {_show(got)}")
            variants = fitting
        first = variants[0].format
        return max((v for v in variants if v.format == first), key=lambda v: v.prefix)


def task_token(task: Task) -> str:
    return f"<task:{task.prompt}>"


def _show(value: int | tuple[int, int]) -> str:
    return f"{value[1]}x{value[0]}" if isinstance(value, tuple) else str(value)
