"""What a client asks for: fields of a form or of JSON to a call of the model, checked before it is queued."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, ValidationError, field_validator

from videolm.config import Config, nearest
from videolm.errors import UserError
from videolm.generate.sampling import Sampling
from videolm.pipeline.chain import links
from videolm.pipeline.folder import Outline
from videolm.pipeline.inputs import choose, misfit
from videolm.pipeline.story import going_on
from videolm.serve.errors import ApiError, too_large
from videolm.serve.limits import Limits
from videolm.shapes import Format
from videolm.tasks import Audio, Task, Variant
from videolm.tasks.task_set import TaskSet

REFERENCES = {
    "input_reference": None,
    "image_reference": "image",
    "last_image_reference": "last_image",
    "video_reference": "video",
    "audio_reference": "audio",
    "structure_reference": "structure",
    "mask_reference": "mask",
}
"""Fields for media, and the inputs that they are; None: what the file says that it is."""
SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")
SEEDS = 2**63


class Scene(Config):
    """A scene of a story."""

    prompt: str
    seconds: Annotated[float, Field(gt=0)]


class VideoRequest(Config):
    """The fields of `POST /v1/videos` beside media: OpenAI's, those that other servers of video models have, and ours.

    Values of forms are strings, and are read as numbers where numbers are wanted.
    """

    prompt: str | None = None
    """What the clip shows."""
    model: str | None = None
    """The model that the server has, or nothing."""
    seconds: Annotated[float, Field(gt=0)] | None = None
    """How long the clip is; by default as long as the model makes them at once. Longer ones go on from their ends."""
    size: str | None = None
    """WIDTHxHEIGHT, one of the model's, or one that super-resolution reaches."""
    width: Annotated[int, Field(ge=1)] | None = None
    height: Annotated[int, Field(ge=1)] | None = None
    num_frames: Annotated[int, Field(ge=1)] | None = None
    fps: Annotated[float, Field(gt=0)] | None = None
    """Frames a second: the model has one rate."""
    num_inference_steps: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Of super-resolution."""
    guidance_scale: Annotated[float, Field(ge=0, le=100)] | None = None
    negative_prompt: str | None = None
    seed: Annotated[int, Field(ge=0, lt=SEEDS)] | None = None
    """Of what is drawn; by default another one each time."""
    generate_sound: bool | None = None
    """Whether the clip has sound; by default as the task says."""
    task: str | None = None
    """One of the model's tasks, or several, A+B; by default the one that what is given calls for."""
    guide_by: Literal["text", "all"] | None = None
    temperature: Annotated[float, Field(ge=0, le=100)] | None = None
    audio_temperature: Annotated[float, Field(ge=0, le=100)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    best_of: Annotated[int, Field(ge=1, le=16)] | None = None
    mask: str | None = None
    """What to make anew of a video: LEFT,TOP,RIGHT,BOTTOM in shares of the picture; or a picture, as mask_reference."""
    scenes: tuple[Scene, ...] = ()
    """A story: prompts, and how long each is shown. In a form: JSON."""

    @field_validator("scenes", mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        return json.loads(value) if isinstance(value, str) else value


class Asked(NamedTuple):
    """A request that the model can meet."""

    request: dict[str, Any]
    """What is stored: prompt, seed, tasks, options of the call, scenes, box of the mask."""
    shown: dict[str, Any]
    """What the video object tells."""


def read_fields(fields: Mapping[str, Any], limits: Limits) -> VideoRequest:
    """Fields as they came. Raises `ApiError` that names the first one that is wrong."""
    given = {name: value for name, value in fields.items() if value is not None and value != ""}
    for name in given:
        if name not in VideoRequest.model_fields:
            known = [*VideoRequest.model_fields, *REFERENCES]
            raise ApiError(400, f"unknown field '{name[:60]}'; {nearest(name[:60], known)}", param=name[:60])
    try:
        request = VideoRequest.model_validate(given)
    except (ValidationError, ValueError, RecursionError) as error:
        if not isinstance(error, ValidationError):
            raise ApiError(400, 'scenes is no JSON: [{"prompt": ..., "seconds": ...}]', param="scenes") from error
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ApiError(400, f"{where}: {first['msg']}", param=where or None, code="invalid_value") from error
    texts = [request.prompt, request.negative_prompt, *(scene.prompt for scene in request.scenes)]
    if any(len(text or "") > limits.prompt_characters for text in texts):
        raise too_large(f"a prompt has at most {limits.prompt_characters} characters here", "prompt")
    if len(request.scenes) > limits.scenes:
        raise too_large(f"a story has at most {limits.scenes} scenes here", "scenes")
    return request


def plan(
    asked: VideoRequest,
    given: Collection[str],
    outline: Outline,
    name: str,
    limits: Limits,
    seed: int,
    *,
    extends: bool = False,
) -> Asked:
    """What is to be made. Raises `ApiError` for what the model cannot.

    Args:
        given: names of the media, as calls have them.
        name: of the model.
        seed: where the request has none.
        extends: whether the video given is to go on for the seconds asked for.
    """
    tasks = outline.tasks
    if asked.model not in (None, name):
        raise ApiError(404, f"the model here is '{name}'", param="model", code="model_not_found")
    if asked.fps not in (None, tasks.fps):
        raise ApiError(400, f"this model makes {tasks.fps:g} frames a second", param="fps")
    if asked.prompt is not None and asked.scenes:
        raise ApiError(400, "give a prompt or scenes, which have prompts of their own", param="scenes")
    options = {field: value for field in Sampling.model_fields if (value := getattr(asked, field, None)) is not None}
    if asked.negative_prompt:
        options["negative_prompt"] = asked.negative_prompt
    factor = _sized(asked, outline, options)
    box = None if asked.mask is None else _box(asked.mask)
    media = {*given, *(["mask"] if box else [])}
    try:
        names, variant = _variant(asked, media, outline, options, extends)
        scenes = _scenes(asked, variant, names, outline, limits, extends)
    except UserError as error:
        raise ApiError(400, str(error), param="task" if asked.task else None, code="unsupported") from error
    sounds, shape = _sounds(variant.task), variant.format
    if asked.generate_sound not in (None, sounds):
        raise ApiError(400, f"{names[-1]} makes {'sound' if sounds else 'no sound'}", param="generate_sound")
    if factor > 1:
        if variant.task.visual is None:
            raise ApiError(400, f"{variant.task.name} makes no clip to enlarge", param="size")
        options |= {"upscale": factor}
        options |= {} if asked.num_inference_steps is None else {"num_inference_steps": asked.num_inference_steps}
    request = {
        "prompt": asked.prompt,
        "seed": seed if asked.seed is None else asked.seed,
        "tasks": names,
        "options": options,
        "scenes": scenes,
        "box": box,
        "factor": factor,
        "extends": extends,
    }
    seconds = sum(length for _, length in scenes) or shape.frames / tasks.fps
    shown = {
        "model": name,
        "prompt": asked.scenes[0].prompt if asked.scenes else asked.prompt,
        "seconds": f"{seconds:.10g}",
        "size": f"{factor * shape.width}x{factor * shape.height}",
        "task": "+".join(names),
        "seed": request["seed"],
    }
    return Asked(request, shown)


def _variant(
    asked: VideoRequest, media: set[str], outline: Outline, options: dict[str, Any], extends: bool
) -> tuple[list[str], Variant]:
    """The tasks that are run, and the variant of the last one."""
    tasks, names = outline.tasks, asked.task.split("+") if asked.task else []
    given = media | ({"text"} if asked.prompt is not None or asked.scenes else set())
    if extends:
        if names or media != {"video"}:
            raise UserError("a video that goes on takes a prompt and seconds, and nothing else")
        variant = _next(tasks, asked, sound=False, shape=None)
        return [variant.task.name], variant
    if len(names) > 1:
        links(tasks, names, dict.fromkeys(media))
        return names, tasks.find(names[-1])
    if asked.generate_sound and not names:
        fitting = (task for task in tasks.tasks if task.visual and _sounds(task) and not misfit(task, given))
        task = next(fitting, None)
        if task is None:
            raise UserError("no task of this model makes a clip with sound of what was given")
        names = [task.name]
    size = {field: options.get(field) for field in ("num_frames", "height", "width")}
    variant = choose(tasks, given, names[0] if names else None, **size)
    return [variant.task.name], variant


def _scenes(
    asked: VideoRequest,
    variant: Variant,
    names: list[str],
    outline: Outline,
    limits: Limits,
    extends: bool,
) -> list[tuple[str | None, float]]:
    """The story that makes a clip of another length than the model's own; none where it has that."""
    tasks, shape = outline.tasks, variant.format
    scenes: list[tuple[str | None, float]] = [(scene.prompt, scene.seconds) for scene in asked.scenes]
    if extends and asked.seconds is None:
        raise ApiError(400, "say for how many seconds the video goes on", param="seconds")
    if asked.seconds is not None and (extends or round(asked.seconds * tasks.fps) != shape.frames):
        scenes = scenes or [(asked.prompt, asked.seconds)]
    if not scenes:
        return []
    if sum(length for _, length in scenes) > limits.made_seconds:
        raise too_large(f"clips are at most {limits.made_seconds:g} s long here", "seconds")
    if len(names) > 1:
        raise ApiError(400, "several tasks make a clip of the model's own length: leave seconds out", param="seconds")
    _next(tasks, asked, sound=_sounds(variant.task), shape=shape)
    return scenes


def _next(tasks: TaskSet, asked: VideoRequest, sound: bool, shape: Format | None) -> Variant:
    """What would go on from a clip. Raises `UserError` where nothing does."""
    prompted, most = asked.prompt is not None or bool(asked.scenes), max(shape.frames for shape in tasks.formats)
    return going_on(tasks, prompted=prompted, sound=sound, new_scene=False, most=most, shape=shape, overlap=None)


def _sounds(task: Task) -> bool:
    return any(isinstance(part, Audio) for part in task.outputs)


def _sized(asked: VideoRequest, outline: Outline, options: dict[str, Any]) -> int:
    """Write the model's format into `options`; returns by what super-resolution enlarges it."""
    if asked.num_frames is not None:
        options["num_frames"] = asked.num_frames
    if asked.size is not None:
        found = SIZE.fullmatch(asked.size)
        if found is None:
            raise ApiError(400, f"size is WIDTHxHEIGHT, for example {_sizes(outline)[0]}", param="size")
        width, height = map(int, found.groups())
        if (asked.width, asked.height) not in ((None, None), (width, height)):
            raise ApiError(400, "size says other than width and height", param="size")
    elif (asked.width is None) != (asked.height is None):
        raise ApiError(400, "width and height go together", param="width")
    elif asked.width is None or asked.height is None:
        return 1
    else:
        width, height = asked.width, asked.height
    for factor in outline.factors:
        if any((factor * shape.width, factor * shape.height) == (width, height) for shape in outline.tasks.formats):
            options |= {"width": width // factor, "height": height // factor}
            return factor
    raise ApiError(
        400,
        f"this model makes no {width}x{height}; it makes {', '.join(_sizes(outline))}",
        param="size",
        code="unsupported",
    )


def _sizes(outline: Outline) -> list[str]:
    found = [f"{f * shape.width}x{f * shape.height}" for f in outline.factors for shape in outline.tasks.formats]
    return list(dict.fromkeys(found))


def _box(text: str) -> list[float]:
    try:
        box = [float(number) for number in text.split(",")]
    except ValueError:
        box = []
    if len(box) != 4 or not all(0 <= side <= 1 for side in box) or box[0] >= box[2] or box[1] >= box[3]:
        raise ApiError(400, "mask is LEFT,TOP,RIGHT,BOTTOM in shares of the picture, 0 to 1", param="mask")
    return box
