"""Several tasks one after the other, each on what the one before made. VideoPoet 7.1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from videolm.errors import UserError
from videolm.media import Image
from videolm.pipeline.inputs import MEDIA, NAMES, taken
from videolm.pipeline.job import listed
from videolm.pipeline.output import VideoLMOutput
from videolm.tasks import Task
from videolm.tasks.task_set import TaskSet

EVERY = ("prompt", "prompt_embeds", "prompt_attention_mask")
"""What goes to every task that takes text."""
LAST = ("upscale", "num_inference_steps")
"""What is for what the last task makes."""


def links(tasks: TaskSet, names: Sequence[str], given: dict[str, Any]) -> list[tuple[Task, set[str]]]:
    """The tasks of a chain, each with the media that go to it: what was made before it, or what is given.

    A medium that is given goes to the first task that takes it. Raises `UserError` for a task that lacks one, and for
    one that no task takes.
    """
    left, made = {name for name in given if name in MEDIA}, set[str]()
    found = []
    for task in map(tasks.get, names):
        takes = {name: needed for name, needed in taken(task).items() if name != "text"}
        own = takes.keys() & left - made
        makes = "structure" in own and callable(given["structure"])
        lacking = [name for name, needed in takes.items() if needed and name not in own | made]
        if makes and "video" not in left | made:
            lacking = ["video"]
        if lacking:
            raise UserError(f"in {'+'.join(names)} {task.name} needs {NAMES[lacking[0]]}, and nothing gives it one")
        found.append((task, own | (takes.keys() & made) | ({"video"} if makes else set())))
        left -= own | ({"video"} if makes else set())
        made |= {"image"} if task.makes_pictures else {"video"}
        made |= set() if task.audio is None else {"audio"}
    if left:
        raise UserError(f"no task of {'+'.join(names)} takes {NAMES[min(left)]}")
    return found


def run_chain(
    tasks: TaskSet, names: Sequence[str], given: dict[str, Any], call: Callable[..., VideoLMOutput]
) -> VideoLMOutput:
    """What the last task makes, with the sound that one before it made where it makes none.

    Args:
        given: the call's options, of which "structure" may be what makes one of a clip.
        call: runs one task.
    """
    now = {name: value for name, value in given.items() if name in MEDIA}
    text = {name: value for name, value in given.items() if name in EVERY}
    rest = {name: value for name, value in given.items() if name not in (*MEDIA, *EVERY, *LAST, "task")}
    last = {name: given[name] for name in LAST if name in given}
    out: VideoLMOutput | None = None
    chain = links(tasks, names, given)
    for at, (task, takes) in enumerate(chain, 1):
        media = {name: now[name] for name in takes}
        if callable(maker := media.get("structure")):
            clips = media.pop("video")
            media["structure"] = [maker(clip) for clip in clips] if isinstance(clips, list) else maker(clips)
        sizes = {"num_frames": None} if task.makes_pictures else {}
        asked = {**rest, **sizes, "task": task.name, **(last if at == len(chain) else {})}
        made = call(**media, **(text if task.text is not None else {}), **asked)
        if out is not None and out.sounds and not made.sounds:
            made = replace(made, sounds=out.sounds, audio=out.audio, audio_sampling_rate=out.audio_sampling_rate)
        if out is None:  # from now on there is one of each for every clip
            text = _for_each(text, rest.pop("num_videos_per_prompt", 1))
        out = made
        if task.makes_pictures:
            now["image"] = [Image(clip.frames[0]) for clip in out.videos]
        else:
            now["video"] = out.videos
        now |= {"audio": out.sounds} if out.sounds else {}
    assert out is not None
    return out


def _for_each(text: dict[str, Any], each: int) -> dict[str, Any]:
    """Prompts, so many times."""
    found = dict(text)
    if "prompt" in text:
        found["prompt"] = [prompt for prompt in listed(text["prompt"]) for _ in range(each)]
    for name in EVERY[1:]:
        if name in text:
            found[name] = text[name].repeat_interleave(each, 0)
    return found
