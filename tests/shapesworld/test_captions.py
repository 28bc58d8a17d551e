"""Captions in their forms, and back."""

from typing import Any

import pytest

from videolm.shapesworld import (
    Attributes,
    Object,
    Scene,
    caption,
    captions,
    draw_scene,
    image_caption,
    image_captions,
    parse_caption,
)

ONE = Scene("gray", (Object("orange", "star", "small", "moves left", 0.5, 0.5),))
TWO = Scene("pink", (*ONE.objects, Object("cyan", "cross", "large", "stays still", 0.5, 0.5)))


def test_clip_forms() -> None:
    assert captions(ONE) == (
        "a small orange star moves left on a gray background",
        "on a gray background, a small orange star moves left",
        "gray background: a orange star, small, moves left",
    )
    assert caption(ONE) == captions(ONE)[0]
    assert caption(ONE, "listing") == captions(ONE)[2]


def test_picture_forms() -> None:
    assert image_captions(ONE) == (
        "a small orange star on a gray background",
        "on a gray background, a small orange star",
        "gray background: a orange star, small",
    )
    assert image_caption(ONE) == image_captions(ONE)[0]
    assert image_caption(ONE, "background_first") == image_captions(ONE)[1]


def test_two_objects() -> None:
    assert captions(TWO) == (
        "a small orange star moves left and a large cyan cross stays still on a pink background",
        "on a pink background, a small orange star moves left and a large cyan cross stays still",
        "pink background: a orange star, small, moves left and a cyan cross, large, stays still",
    )
    assert image_caption(TWO) == "a small orange star and a large cyan cross on a pink background"


@pytest.mark.parametrize("two_objects", [0.0, 1.0])
def test_round_trip(two_objects: float) -> None:
    for index in range(300):
        scene = draw_scene(0, index, split="all", two_objects=two_objects)
        assert parse_caption(caption(scene)) == scene.attributes
        still = tuple(Attributes(true.background, true.colour, true.shape, true.size) for true in scene.attributes)
        assert parse_caption(image_caption(scene)) == still


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a small orange star moves left on a gray background.",
        "A small orange star moves left on a gray background",
        "a small beige star moves left on a gray background",
        "a small orange star turns on a gray background",
        "a small orange star  on a gray background",
        "a small orange star moves left and a large cyan cross on a gray background",
        captions(ONE)[1],
        captions(ONE)[2],
    ],
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a canonical caption: 'a <size>"):
        parse_caption(text)


def test_wrong_form() -> None:
    form: Any = "poem"
    with pytest.raises(ValueError, match="form is 'poem'; it must be one of 'canonical', 'background_first'"):
        caption(ONE, form)
