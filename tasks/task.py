"""A task is data: a name, what goes in, what comes out. No code path anywhere asks for a task by name.

From the declaration alone follow the row's layout (`sequence.py`), the token streams that must be stored to train it
(`Task.sources`), what `generate` demands, and what `videolm tasks` prints. VideoPoet 3.2, 4.1, Figure 3.

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

Frames = Literal["all", "prefix", "rest", "last"]
"""The whole clip, the frames given (`Variant.prefix`), those after them, or the last one as a picture."""
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class Text(Config):
    """The prompt, in a fixed number of text positions."""

    kind: Literal["text"] = "text"
    content: Literal["caption", "class"] = "caption"
    """What it is in training: the clip's caption, or the name of its class."""
    optional: bool = False
    """May be left out when generating: its positions then hold the learned empty embedding."""


class Visual(Config):
    """Codes of a clip, or of its first or later frames. One frame is an image."""

    kind: Literal["visual"] = "visual"
    stream: Name = "video"
    """Which clip of an example: "video", "image" (a picture alone), "structure" (flow and depth), "styled" (the clip in
    the style that its caption names) or "story" (frames across the end of a scene)."""
    view: Name | None = None
    """What is done to its frames before they are tokenised, by name in `VIEWS`."""
    frames: Frames = "all"

    @property
    def source(self) -> str:
        """The stored token stream that the codes come from."""
        view = "last_frame" if self.frames == "last" else self.view
        return self.stream if view is None else f"{self.stream}.{view}"


class Audio(Config):
    """Codes of a clip's sound, level after level: of all of it, or of the time of its first or later frames."""

    kind: Literal["audio"] = "audio"
    frames: Frames = "all"

    @property
    def source(self) -> str:
        return "audio"


Part = Annotated[Text | Visual | Audio, Field(discriminator="kind")]
Made = Annotated[Visual | Audio, Field(discriminator="kind")]


class Task(Config):
    """See the module docstring."""

    name: Name
    summary: str
    """One line for `videolm tasks`."""
    prompt: Name
    """The task id, `<task:PROMPT>`: the kind of output, shared by tasks whose inputs tell them apart."""
    inputs: tuple[Part, ...] = ()
    outputs: tuple[Made, ...]
    prefixes: tuple[Annotated[int, Field(ge=0)], ...] = (0,)
    """Numbers of frames given, each a variant of its own; with 0 the parts that are a prefix are left out."""
    eos: bool = True
    """Whether the row ends with `<eos>`; VideoPoet leaves it out for text-to-image."""

    @model_validator(mode="after")
    def _consistent(self) -> Task:
        kinds = [part.kind for part in self.outputs]
        if not kinds or len(set(kinds)) < len(kinds):
            raise ValueError(f"{self.name}: one clip or picture comes out, or one sound, or one of each")
        if [part.kind for part in self.inputs].count("text") > 1:
            raise ValueError(f"{self.name}: one text input at most")
        if len(set(self.inputs)) < len(self.inputs):
            raise ValueError(f"{self.name}: an input is given twice")
        given = {part.source for part in self.prefix_parts}
        if not self.prefixes or (max(self.prefixes) > 0) != bool(given):
            raise ValueError(
                f"{self.name}: a prefix going in and prefixes above 0 belong together: Visual(frames='prefix')"
            )
        for part in self.outputs:
            if part.frames != ("rest" if part.source in given else "all"):
                raise ValueError(
                    f"{self.name}: the rest comes out where a prefix of the same goes in, and else all: "
                    f"frames='{'rest' if part.source in given else 'all'}' for its {part.source}"
                )
            if any(not isinstance(i, Text) and i.source == part.source and i.frames != "prefix" for i in self.inputs):
                raise ValueError(f"{self.name}: what comes out ({part.source}) goes in already")
        for shown in (part for part in self.inputs if not isinstance(part, Text)):
            if shown.frames == "rest":
                raise ValueError(f"{self.name}: the rest of a clip only comes out")
            if shown == Audio(frames="last") or (isinstance(shown, Visual) and shown.view and shown.frames != "all"):
                raise ValueError(f"{self.name}: a view is of all frames, and only a clip has a last one")
        return self

    @property
    def prefix_parts(self) -> tuple[Visual | Audio, ...]:
        """Inputs that are the first frames of something."""
        return tuple(p for p in self.inputs if not isinstance(p, Text) and p.frames == "prefix")

    @property
    def text(self) -> Text | None:
        """The text part, if the task has one."""
        return next((part for part in self.inputs if isinstance(part, Text)), None)

    @property
    def visual(self) -> Visual | None:
        """The clip or picture that comes out, if one does."""
        return next((part for part in self.outputs if isinstance(part, Visual)), None)

    @property
    def audio(self) -> Audio | None:
        """The sound that comes out, if one does."""
        return next((part for part in self.outputs if isinstance(part, Audio)), None)

    @property
    def takes(self) -> dict[str, bool]:
        """What `generate` is given for the inputs, by its names there, and whether it must be.

        >>> from videolm.tasks.stylization import stylization
        >>> stylization.takes
        {'text': True, 'structure': True, 'image': False}
        """
        found: dict[str, bool] = {}
        for part in self.inputs:
            name = self.given_as(part)
            needed = not part.optional if isinstance(part, Text) else part.frames != "prefix" or min(self.prefixes) > 0
            found[name] = found.get(name, False) or needed
        return found

    def given_as(self, part: Part) -> str:
        """What an input is called when generating."""
        if not isinstance(part, Visual):
            return part.kind
        if part.frames == "prefix":
            return "image" if max(self.prefixes) == 1 else "video"
        if part.frames == "last":
            return "last_image"
        return "structure" if part.stream == "structure" else "video"

    @property
    def makes_pictures(self) -> bool:
        """Whether what comes out is one frame."""
        return self.visual is not None and self.visual.stream == "image"

    @property
    def sources(self) -> tuple[str, ...]:
        """Token streams that examples of this task are built from; that of its captions is the first."""
        parts = (*self.outputs, *self.inputs)
        return tuple(dict.fromkeys(part.source for part in parts if not isinstance(part, Text)))

    def variants(self, formats: Iterable[Format]) -> list[Variant]:
        """Every row shape of this task: its formats (one frame for images) times its prefix lengths."""
        shapes = dict.fromkeys(Format(1, f.height, f.width) if self.makes_pictures else f for f in formats)
        return [Variant(self, shape, p) for shape in shapes for p in self.prefixes if p < shape.frames]


class Variant(NamedTuple):
    """A task in one shape: one fixed row. Batches are made of one variant."""

    task: Task
    format: Format
    prefix: int
    """Frames given."""

    @property
    def inputs(self) -> tuple[Part, ...]:
        """The inputs that this row has: without prefixes where no frames are given."""
        return tuple(p for p in self.task.inputs if self.prefix or isinstance(p, Text) or p.frames != "prefix")

    @property
    def looks(self) -> tuple[object, ...]:
        """What its row shows before the output: no model tells variants apart that look alike."""
        frames = {"prefix": self.prefix, "last": 1, "all": self.format.frames}
        given = ((part.kind, 0 if isinstance(part, Text) else frames[part.frames]) for part in self.inputs)
        return self.task.prompt, self.format, *given

    def __str__(self) -> str:
        return f"{self.task.name} {self.format}" + (f" prefix {self.prefix}" if self.prefix else "")
