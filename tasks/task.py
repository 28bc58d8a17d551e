"""A task is data: a name, what goes in, what comes out. No code path anywhere asks for a task by name.

From the declaration alone follow the row's layout (`sequence.py`), the token streams that must be stored to train it
(`Task.streams`), what `generate` demands, and what `videolm tasks` prints. VideoPoet 3.2, 4.1, Figure 3.

A task of your own is a few lines in any file:

>>> continue_clip = Task(
...     name="continue_clip",
...     summary="Go on from the first nine frames.",
...     prompt="video",
...     inputs=(Text(optional=True), Visual(frames="prefix")),
...     outputs=(Visual(frames="rest"),),
...     prefixes=(9,),
... )
>>> [str(v) for v in continue_clip.variants([Format(17, 64, 64)])]
['continue_clip 17x64x64 prefix 9']
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, model_validator

from videolm.config import Config
from videolm.shapes import Format


class Text(Config):
    """The prompt, in a fixed number of text positions."""

    kind: Literal["text"] = "text"
    optional: bool = False
    """May be left out when generating: its positions then hold the learned empty embedding."""


class Visual(Config):
    """Codes of a clip, or of its first or later frames. One frame is an image."""

    kind: Literal["visual"] = "visual"
    stream: Literal["video", "image"] = "video"
    """Which stored token stream the codes come from."""
    frames: Literal["all", "prefix", "rest"] = "all"
    """The whole clip, the frames given (`Variant.prefix`), or those after them."""


Part = Annotated[Text | Visual, Field(discriminator="kind")]


class Task(Config):
    """See the module docstring."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    summary: str
    """One line for `videolm tasks`."""
    prompt: str
    """The task id, `<task:PROMPT>`: the kind of output, shared by tasks whose inputs tell them apart."""
    inputs: tuple[Part, ...] = ()
    outputs: tuple[Visual, ...]
    prefixes: tuple[Annotated[int, Field(ge=0)], ...] = (0,)
    """Numbers of frames given, each a variant of its own; 0 where no frames go in."""
    eos: bool = True
    """Whether the row ends with `<eos>`; VideoPoet leaves it out for text-to-image."""

    @model_validator(mode="after")
    def _consistent(self) -> Task:
        if len(self.outputs) != 1:
            raise ValueError(f"a task has one output, {self.name} has {len(self.outputs)}")
        kinds = [part.kind for part in self.inputs]
        if len(set(kinds)) < len(kinds):
            raise ValueError(f"{self.name}: one text and one visual input at most")
        given = "visual" in kinds
        if given and Visual(stream=self.output.stream, frames="prefix") not in self.inputs:
            raise ValueError(f"{self.name}: a visual input is the first frames of the output, Visual(frames='prefix')")
        made = "rest" if given else "all"
        if {bool(frames) for frames in self.prefixes} != {given} or self.output.frames != made:
            raise ValueError(
                f"{self.name}: a prefix going in, prefixes above 0 and the rest coming out belong together"
            )
        return self

    @property
    def output(self) -> Visual:
        return self.outputs[0]

    @property
    def text(self) -> Text | None:
        """The text part, if the task has one."""
        return next((part for part in self.inputs if isinstance(part, Text)), None)

    @property
    def image_input(self) -> bool:
        """Whether a single frame goes in."""
        return set(self.prefixes) == {1}

    @property
    def video_input(self) -> bool:
        """Whether several frames go in."""
        return max(self.prefixes) > 1

    @property
    def streams(self) -> tuple[str, ...]:
        """Token streams that examples of this task are built from."""
        parts = (*self.inputs, *self.outputs)
        return tuple(dict.fromkeys(part.stream for part in parts if isinstance(part, Visual)))

    def variants(self, formats: Iterable[Format]) -> list[Variant]:
        """Every row shape of this task: its formats (one frame for images) times its prefix lengths."""
        image = self.output.stream == "image"
        shapes = dict.fromkeys(Format(1, f.height, f.width) if image else f for f in formats)
        return [Variant(self, shape, p) for shape in shapes for p in self.prefixes if p < shape.frames]


class Variant(NamedTuple):
    """A task in one shape: one fixed row. Batches are made of one variant."""

    task: Task
    format: Format
    prefix: int
    """Frames given."""

    def __str__(self) -> str:
        return f"{self.task.name} {self.format}" + (f" prefix {self.prefix}" if self.prefix else "")
