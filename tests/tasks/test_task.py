"""A task is data: what contradicts itself is refused, and everything else follows from the declaration."""

import json
from typing import Any

import pytest

from videolm.config import parse
from videolm.errors import UserError
from videolm.shapes import Format
from videolm.tasks import TASKS, Audio, Task, Text, Visual

PREFIX, REST = Visual(frames="prefix"), Visual(frames="rest")
SQUARE, PORTRAIT, LONG = Format(17, 64, 64), Format(17, 112, 64), Format(41, 64, 64)


def make(**changes: Any) -> Task:
    return parse(Task, {"name": "mine", "summary": "A task.", "prompt": "video", "outputs": [Visual()]} | changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"outputs": []}, "one clip or picture comes out, or one sound, or one of each"),
        ({"outputs": [Visual(), Visual()]}, "one clip or picture comes out, or one sound, or one of each"),
        ({"outputs": [Audio(), Audio()]}, "one clip or picture comes out, or one sound, or one of each"),
        ({"name": "Text to video"}, "name: String should match pattern"),
        ({"inputs": [PREFIX], "outputs": [REST]}, "belong together"),
        ({"inputs": [PREFIX], "outputs": [REST], "prefixes": []}, "belong together"),
        ({"prefixes": []}, "belong together"),
        ({"prefixes": [5]}, "belong together"),
        ({"prefixes": [0, 5]}, "belong together"),
        ({"outputs": [REST], "prefixes": [5]}, "belong together"),
        ({"outputs": [PREFIX]}, "else all: frames='all' for its video"),
        ({"outputs": [REST]}, "else all: frames='all' for its video"),
        ({"inputs": [PREFIX], "prefixes": [5]}, "else all: frames='rest' for its video"),
        ({"inputs": [Audio(frames="prefix")], "outputs": [Audio()], "prefixes": [1]}, "frames='rest' for its audio"),
        ({"inputs": [Visual(stream="styled", frames="rest")]}, "the rest of a clip only comes out"),
        ({"inputs": [Audio(frames="last")]}, "only a clip has a last one"),
        ({"inputs": [Visual(view="mine", frames="prefix")], "prefixes": [1]}, "a view is of all frames"),
        ({"inputs": [PREFIX], "outputs": [REST], "prefixes": [-1]}, "greater than or equal to 0"),
        ({"inputs": [Text(), Text(content="class")]}, "one text input at most"),
        ({"inputs": [PREFIX, PREFIX], "outputs": [REST], "prefixes": [5]}, "an input is given twice"),
        ({"inputs": [Visual()]}, "what comes out (video) goes in already"),
        ({"inputs": [{"kind": "text", "optinal": True}]}, "unknown key 'inputs.0.optinal'; did you mean 'optional'"),
        ({"inputs": [{"kind": "sound"}]}, "'text', 'visual', 'audio'"),
        ({"input": []}, "unknown key 'input'; did you mean 'inputs'"),
    ],
)
def test_what_contradicts_itself_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as error:
        make(**changes)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_variants_are_formats_times_prefixes_that_leave_something_to_make() -> None:
    task = make(inputs=[Text(), PREFIX], outputs=[REST], prefixes=[5, 17])
    assert [str(v) for v in task.variants([SQUARE, LONG])] == [
        "mine 17x64x64 prefix 5",
        "mine 41x64x64 prefix 5",
        "mine 41x64x64 prefix 17",
    ]


def test_pictures_have_one_variant_a_size_whatever_the_lengths() -> None:
    task = make(prompt="image", outputs=[Visual(stream="image")])
    assert [v.format for v in task.variants([SQUARE, LONG, PORTRAIT])] == [Format(1, 64, 64), Format(1, 112, 64)]


NEEDS = {
    "unconditional_image": (("image",), {}),
    "unconditional_video": (("video",), {}),
    "unconditional_video_with_audio": (("video", "audio"), {}),
    "text_to_image": (("image",), {"text": True}),
    "text_to_video": (("video",), {"text": True}),
    "text_to_video_with_audio": (("video", "audio"), {"text": True}),
    "class_to_video": (("video",), {"text": True}),
    "image_to_video": (("video",), {"text": False, "image": True}),
    "frame_prediction": (("video",), {"text": False, "video": True}),
    "class_frame_prediction": (("video",), {"text": True, "video": True}),
    "frame_interpolation": (("video", "video.last_frame"), {"text": False, "image": True, "last_image": True}),
    "story_continuation": (("story",), {"text": True, "video": True}),
    "inpainting_central": (("video", "video.inpainting_central"), {"text": False, "video": True}),
    "inpainting_dynamic": (("video", "video.inpainting_dynamic"), {"text": False, "video": True}),
    "outpainting_central": (("video", "video.outpainting_central"), {"text": False, "video": True}),
    "outpainting_vertical": (("video", "video.outpainting_vertical"), {"text": False, "video": True}),
    "outpainting_horizontal": (("video", "video.outpainting_horizontal"), {"text": False, "video": True}),
    "outpainting_dynamic": (("video", "video.outpainting_dynamic"), {"text": False, "video": True}),
    "stylization": (("styled", "structure"), {"text": True, "structure": True, "image": False}),
    "audio_to_video": (("video", "audio"), {"text": False, "audio": True}),
    "video_to_audio": (("audio", "video"), {"text": False, "video": True}),
    "audio_video_continuation": (("video", "audio"), {"text": False, "image": True, "audio": True}),
}
"""Of every task that ships, the token streams it is trained on, and what it is given and whether it must be."""


def test_what_the_shipped_tasks_need() -> None:
    assert {name: (TASKS.get(name).sources, TASKS.get(name).takes) for name in TASKS} == NEEDS


def test_what_a_view_makes_may_come_out() -> None:
    task = make(inputs=[Visual()], outputs=[Visual(view="backwards")])
    assert task.sources == ("video.backwards", "video") and task.takes == {"video": True}


@pytest.mark.parametrize("name", list(TASKS))
def test_a_task_is_the_same_after_json(name: str) -> None:
    task = TASKS.get(name)
    again = parse(Task, json.loads(task.model_dump_json()))
    assert again == task and hash(again) == hash(task)
    assert again.variants([SQUARE, PORTRAIT]) == task.variants([SQUARE, PORTRAIT])
