"""A task is data: what contradicts itself is refused, and everything else follows from the declaration."""

import json
from typing import Any

import pytest

from videolm.config import parse
from videolm.errors import UserError
from videolm.shapes import Format
from videolm.tasks import TASKS, Task, Text, Visual

PREFIX, REST = Visual(frames="prefix"), Visual(frames="rest")
SQUARE, PORTRAIT, LONG = Format(17, 64, 64), Format(17, 112, 64), Format(41, 64, 64)


def make(**changes: Any) -> Task:
    return parse(Task, {"name": "mine", "summary": "A task.", "prompt": "video", "outputs": [Visual()]} | changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"outputs": []}, "a task has one output, mine has 0"),
        ({"outputs": [Visual(), Visual()]}, "a task has one output, mine has 2"),
        ({"name": "Text to video"}, "name: String should match pattern"),
        ({"inputs": [PREFIX], "prefixes": [5]}, "belong together"),
        ({"inputs": [PREFIX], "outputs": [REST]}, "belong together"),
        ({"inputs": [PREFIX], "outputs": [REST], "prefixes": [5, 0]}, "belong together"),
        ({"inputs": [PREFIX], "outputs": [REST], "prefixes": []}, "belong together"),
        ({"prefixes": []}, "belong together"),
        ({"prefixes": [5]}, "belong together"),
        ({"prefixes": [0, 5]}, "belong together"),
        ({"outputs": [REST], "prefixes": [5]}, "belong together"),
        ({"outputs": [PREFIX]}, "belong together"),
        ({"inputs": [PREFIX], "outputs": [REST], "prefixes": [-1]}, "greater than or equal to 0"),
        ({"inputs": [Text(), Text()]}, "one text and one visual input at most"),
        ({"inputs": [PREFIX, PREFIX], "outputs": [REST], "prefixes": [5]}, "one text and one visual input at most"),
        ({"inputs": [Visual()]}, "a visual input is the first frames of the output"),
        ({"inputs": [Visual(stream="image", frames="prefix")]}, "a visual input is the first frames of the output"),
        ({"inputs": [{"kind": "text", "optinal": True}]}, "unknown key 'inputs.0.optinal'; did you mean 'optional'"),
        ({"inputs": [{"kind": "sound"}]}, "'text', 'visual'"),
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


@pytest.mark.parametrize(
    ("name", "streams", "text", "image_input", "video_input"),
    [
        ("unconditional_video", ("video",), None, False, False),
        ("text_to_image", ("image",), Text(), False, False),
        ("text_to_video", ("video",), Text(), False, False),
        ("image_to_video", ("video",), Text(optional=True), True, False),
        ("frame_prediction", ("video",), Text(optional=True), False, True),
    ],
)
def test_what_the_shipped_tasks_need(
    name: str, streams: tuple[str, ...], text: Text | None, image_input: bool, video_input: bool
) -> None:
    task = TASKS.get(name)
    assert (task.streams, task.text, task.image_input, task.video_input) == (streams, text, image_input, video_input)


def test_the_shipped_tasks_are_all_looked_at_above() -> None:
    assert len(list(TASKS)) == 5


@pytest.mark.parametrize("name", list(TASKS))
def test_a_task_is_the_same_after_json(name: str) -> None:
    task = TASKS.get(name)
    again = parse(Task, json.loads(task.model_dump_json()))
    assert again == task and hash(again) == hash(task)
    assert again.variants([SQUARE, PORTRAIT]) == task.variants([SQUARE, PORTRAIT])
