"""Requests as they come, to what is stored of them."""

from pathlib import Path
from typing import Any

import pytest

from videolm.pipeline.folder import Outline, load_outline
from videolm.serve.asking import Asked, plan, read_fields
from videolm.serve.errors import ApiError
from videolm.serve.limits import Limits

LIMITS = Limits()


@pytest.fixture(scope="module")
def outline(upscaling_model: Path) -> Outline:
    return load_outline(upscaling_model)


def asked(outline: Outline, *given: str, extends: bool = False, **fields: Any) -> Asked:
    return plan(read_fields(fields, LIMITS), given, outline, "mine", LIMITS, 7, extends=extends)


def wrong(outline: Outline, *given: str, **fields: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        asked(outline, *given, **fields)
    return caught.value


def test_a_prompt_alone(outline: Outline) -> None:
    """As a form has it: strings, and empty ones for what is left out."""
    request, shown = asked(outline, prompt="a red circle", seconds="", guidance_scale="2.5", seed="", top_k="3")
    assert request["tasks"] == ["text_to_video"] and request["seed"] == 7 and request["scenes"] == []
    assert request["options"] == {"guidance_scale": 2.5, "top_k": 3}
    assert shown["seconds"] == "2.125" and shown["size"] == "32x32" and shown["model"] == "mine"


def test_sizes_that_super_resolution_reaches(outline: Outline) -> None:
    for fields in ({"size": "64x64"}, {"width": "64", "height": "64"}, {"size": "64x64", "width": 64, "height": 64}):
        request, shown = asked(outline, prompt="x", num_inference_steps=3, **fields)
        assert request["factor"] == 2 and shown["size"] == "64x64"
        assert request["options"] == {"width": 32, "height": 32, "upscale": 2, "num_inference_steps": 3}
    for size in ("128x128", "64x32", "0x0", "64", "64x64x64", "-1x5", "99999999x1"):
        assert wrong(outline, prompt="x", size=size).param == "size"
    assert wrong(outline, prompt="x", width=64).param == "width"
    assert wrong(outline, prompt="x", size="64x64", width=32, height=32).param == "size"


def test_long_clips_are_stories_of_one_scene(outline: Outline) -> None:
    request, shown = asked(outline, prompt="x", seconds="5")
    assert request["scenes"] == [("x", 5.0)] and shown["seconds"] == "5"
    assert asked(outline, prompt="x", seconds="2.125").request["scenes"] == []
    story = [{"prompt": "a", "seconds": 1}, {"prompt": "b", "seconds": 2}]
    request, shown = asked(outline, scenes=story)
    assert request["scenes"] == [("a", 1.0), ("b", 2.0)] and shown["prompt"] == "a"
    assert wrong(outline, prompt="x", seconds="61").status == 413
    assert wrong(outline, prompt="x", scenes=story).param == "scenes"
    assert wrong(outline, scenes=[{"prompt": "a", "seconds": 1}] * 33).status == 413
    request, shown = asked(outline, prompt="x", seconds=5, size="64x64")
    assert request["factor"] == 2 and request["scenes"] and shown["size"] == "64x64"
    assert wrong(outline, prompt="x", seconds=5, task="text_to_image+image_to_video").param == "seconds"


def test_a_video_goes_on(outline: Outline) -> None:
    request, _ = asked(outline, "video", prompt="x", seconds="3", extends=True)
    assert request["extends"] and request["scenes"] == [("x", 3.0)] and request["tasks"] == ["frame_prediction"]
    assert wrong(outline, "video", prompt="x", extends=True).param == "seconds"
    assert wrong(outline, "image", prompt="x", seconds=3, extends=True).status == 400


def test_tasks_by_name_by_what_is_given_and_one_after_the_other(outline: Outline) -> None:
    assert asked(outline, "image", prompt="x").request["tasks"] == ["image_to_video"]
    assert asked(outline, "video").request["tasks"] == ["frame_prediction"]
    chain = asked(outline, prompt="x", task="text_to_image+image_to_video")
    assert chain.request["tasks"] == ["text_to_image", "image_to_video"]
    assert wrong(outline, prompt="x", task="text_to_vido").message.endswith("did you mean 'text_to_video'?")
    assert "needs" in wrong(outline, prompt="x", task="image_to_video").message
    assert wrong(outline, prompt="x", generate_sound="true").code == "unsupported"
    assert asked(outline, prompt="x", generate_sound="false").request["tasks"] == ["text_to_video"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"foo": 1}, "foo"),
        ({"seconds": "x"}, "seconds"),
        ({"seconds": "nan"}, "seconds"),
        ({"seconds": -1}, "seconds"),
        ({"seed": 2**63}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"top_p": 2}, "top_p"),
        ({"temperature": float("inf")}, "temperature"),
        ({"audio_temperature": -0.1}, "audio_temperature"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": ["x"]}, "prompt"),
        ({"prompt": "x" * 2001}, "prompt"),
        ({"num_inference_steps": 10**9}, "num_inference_steps"),
        ({"scenes": "[[["}, "scenes"),
        ({"scenes": "[" * 5000}, "scenes"),
        ({"scenes": [{"prompt": "x"}]}, "scenes.0.seconds"),
        ({"prompt": "x", "fps": 24}, "fps"),
        ({"prompt": "x", "model": "sora-2"}, "model"),
        ({"prompt": "x", "mask": "0,0,2,2"}, "mask"),
        ({"prompt": "x", "mask": "0,0,nan,1"}, "mask"),
        ({"prompt": "x", "task": "+"}, "task"),
    ],
)
def test_a_field_that_is_wrong_is_named(outline: Outline, fields: dict[str, Any], param: str) -> None:
    error = wrong(outline, **fields)
    assert error.param == param and 400 <= error.status < 500
