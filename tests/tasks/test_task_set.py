"""A model's tasks and formats: found by what is asked for, or an error that lists what there is."""

import json
from typing import Any

import pytest

from videolm.config import parse
from videolm.errors import UserError
from videolm.shapes import Format
from videolm.tasks import TASKS
from videolm.tasks.task_set import TaskSet

SQUARE, PORTRAIT, LONG = Format(17, 64, 64), Format(17, 112, 64), Format(41, 64, 64)


def task_set(*names: str, formats: tuple[Format, ...] = (SQUARE, PORTRAIT, LONG)) -> TaskSet:
    return TaskSet(tasks=tuple(TASKS.get(name) for name in names or TASKS), formats=formats)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"name": "text_to_video"}, "text_to_video 17x64x64"),
        ({"name": "text_to_video", "frames": 41}, "text_to_video 41x64x64"),
        ({"name": "text_to_video", "size": (112, 64)}, "text_to_video 17x112x64"),
        ({"name": "text_to_image", "size": (112, 64)}, "text_to_image 1x112x64"),
        ({"name": "image_to_video"}, "image_to_video 17x64x64 prefix 1"),
        ({"name": "frame_prediction"}, "frame_prediction 17x64x64 prefix 9"),
        ({"name": "frame_prediction", "prefix": 5}, "frame_prediction 17x64x64 prefix 5"),
        ({"name": "frame_prediction", "frames": 41, "prefix": 5}, "frame_prediction 41x64x64 prefix 5"),
    ],
)
def test_a_variant_is_found_by_what_is_asked_for(asked: dict[str, Any], found: str) -> None:
    assert str(task_set().find(**asked)) == found


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"name": "text_to_vdeo"}, "unknown task 'text_to_vdeo'; did you mean 'text_to_video'?"),
        ({"name": "text_to_video", "frames": 16}, "text_to_video of this model has frames 17, 41, not 16"),
        ({"name": "text_to_video", "size": (64, 112)}, "has size 64x64, 64x112, not 112x64"),
        ({"name": "text_to_image", "frames": 17}, "text_to_image of this model has frames 1, not 17"),
        ({"name": "frame_prediction", "prefix": 6}, "has given frames 5, 9, not 6"),
        ({"name": "text_to_video", "frames": 41, "size": (112, 64)}, "not 64x112"),
    ],
)
def test_an_error_lists_what_the_model_has(asked: dict[str, Any], said: str) -> None:
    """Sizes are shown as people say them: width x height."""
    with pytest.raises(UserError) as error:
        task_set().find(**asked)
    assert said in str(error.value)


def test_the_list_is_of_what_still_fits() -> None:
    """Asked for 41 frames at 112x64, the answer is the sizes that have 41 frames."""
    with pytest.raises(UserError, match="has size 64x64, not 64x112"):
        task_set().find("text_to_video", frames=41, size=(112, 64))


def test_a_task_that_no_format_leaves_room_for() -> None:
    short = task_set("frame_prediction", formats=(Format(5, 64, 64),))
    with pytest.raises(UserError, match="frame_prediction has no variant in this model's formats"):
        short.find("frame_prediction")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tasks": []}, "at least one task and one format"),
        ({"formats": []}, "at least one task and one format"),
        ({"tasks": [TASKS.get("text_to_video")] * 2}, "a task is named twice"),
        ({"fps": 0}, "fps"),
        ({"text_length": 0}, "text_length"),
        ({"format": [SQUARE]}, "did you mean 'formats'"),
    ],
)
def test_sets_that_cannot_be(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse(TaskSet, {"tasks": [TASKS.get("text_to_video")], "formats": [SQUARE]} | changes)


def test_specials_are_named_once_in_order_of_need() -> None:
    names = ("text_to_video", "text_to_image", "frame_prediction")
    assert task_set(*names).specials == [
        "<task:video>",
        "<task:image>",
        "<frames:17>",
        "<res:64x112>",
        "<frames:41>",
    ]


@pytest.mark.parametrize(
    ("shape", "tokens"),
    [
        (Format(17, 128, 128), ["<frames:17>"]),
        (Format(41, 128, 128), ["<frames:41>"]),
        (Format(17, 224, 128), ["<res:128x224>", "<frames:17>"]),
        (Format(1, 128, 128), []),
        (Format(1, 224, 128), ["<res:128x224>"]),
        (Format(17, 72, 128), ["<res:128x72>", "<frames:17>"]),
    ],
)
def test_format_tokens(shape: Format, tokens: list[str]) -> None:
    """VideoPoet: the length of a clip, and `<res>` for sizes other than the usual one."""
    assert task_set(formats=(Format(17, 128, 128),)).format_tokens(shape) == tokens


def test_two_square_sizes_are_told_apart() -> None:
    both = task_set(formats=(Format(17, 64, 64), Format(17, 128, 128)))
    assert both.format_tokens(Format(17, 64, 64)) == ["<frames:17>"]
    assert both.format_tokens(Format(17, 128, 128)) == ["<res:128x128>", "<frames:17>"]


def test_variants_are_those_of_every_task() -> None:
    both = task_set("text_to_video", "frame_prediction", formats=(SQUARE,))
    assert [str(v) for v in both.variants()] == [
        "text_to_video 17x64x64",
        "frame_prediction 17x64x64 prefix 5",
        "frame_prediction 17x64x64 prefix 9",
    ]


def test_saved_and_read_back_equal() -> None:
    before = task_set()
    again = parse(TaskSet, json.loads(before.model_dump_json()))
    assert again == before and again.variants() == before.variants()
    assert all(isinstance(shape, Format) for shape in again.formats)


def test_tasks_that_the_model_cannot_tell_apart_are_refused() -> None:
    """One prompt, and inputs of the same kinds and lengths: their rows begin alike."""
    mine = TASKS.get("image_to_video").model_copy(update={"name": "mine"})
    with pytest.raises(UserError, match="image_to_video and mine look alike to the model, which sees <task:video>"):
        parse(TaskSet, {"tasks": [TASKS.get("image_to_video"), mine], "formats": [SQUARE]})
    other = mine.model_copy(update={"prompt": "mine"})
    assert task_set("image_to_video").with_tasks([other]).get("mine") == other


def test_tasks_are_added_once_and_never_replaced() -> None:
    one = task_set("text_to_video")
    assert one.with_tasks(one.tasks) == one
    with pytest.raises(UserError, match="the model knows another task 'text_to_video': choose another name"):
        one.with_tasks([TASKS.get("text_to_video").model_copy(update={"summary": "Mine."})])
