"""What is said of a scene, in three forms, and what a canonical caption asks for.

>>> parse_caption("a small red star bounces on a pink background")
(Attributes(background='pink', colour='red', shape='star', size='small', motion='bounces'),)
"""

import re
from collections.abc import Collection
from typing import Literal, get_args

from videolm.shapesworld.styles import STYLES
from videolm.shapesworld.world import BACKGROUNDS, COLOURS, MOTIONS, SHAPES, SIZES, TURNS, Attributes, Scene, check

Form = Literal["canonical", "background_first", "listing"]


def caption(scene: Scene, form: Form = "canonical") -> str:
    """The caption of a scene's clip.

    Args:
        scene: several objects are joined by "and".
        form: "canonical" (a small red star bounces on a pink background), which evaluation uses,
            "background_first" (on a pink background, a small red star bounces) or
            "listing" (pink background: a red star, small, bounces).

    Raises:
        ValueError: for a form that does not exist.
    """
    return _compose(scene, form, moving=True)


def captions(scene: Scene) -> tuple[str, str, str]:
    """The caption of a scene's clip in its three forms; training takes each a third of the time."""
    first, second, third = (caption(scene, form) for form in get_args(Form))
    return first, second, third


def image_caption(scene: Scene, form: Form = "canonical") -> str:
    """The caption of a scene's picture: that of its clip less the motions.

    Raises:
        ValueError: for a form that does not exist.
    """
    return _compose(scene, form, moving=False)


def image_captions(scene: Scene) -> tuple[str, str, str]:
    """The caption of a scene's picture in its three forms."""
    first, second, third = (image_caption(scene, form) for form in get_args(Form))
    return first, second, third


def in_style(text: str, style: str) -> str:
    """A caption, of any form, that asks for a style too.

    Raises:
        ValueError: for a style that does not exist.
    """
    check("style", style, STYLES)
    return f"{text} in {style} style"


def split_style(text: str) -> tuple[str, str | None]:
    """A caption without its style, and the style where it asks for one.

    >>> split_style("a small red star bounces on a pink background in sepia style")
    ('a small red star bounces on a pink background', 'sepia')
    """
    for style in STYLES:
        if text.endswith(f" in {style} style"):
            return text.removesuffix(f" in {style} style"), style
    return text, None


def _compose(scene: Scene, form: Form, moving: bool) -> str:
    check("form", form, get_args(Form))
    phrases = []
    for thing in scene.objects:
        if form == "listing":
            phrase, motion = f"a {thing.colour} {thing.shape}, {thing.size}", f", {thing.motion}"
        else:
            phrase, motion = f"a {thing.size} {thing.colour} {thing.shape}", f" {thing.motion}"
        phrases.append(phrase + motion if moving else phrase)
    objects = " and ".join(phrases)
    if form == "canonical":
        return f"{objects} on a {scene.background} background"
    if form == "background_first":
        return f"on a {scene.background} background, {objects}"
    return f"{scene.background} background: {objects}"


def _one_of(names: Collection[str]) -> str:
    return f"({'|'.join(names)})"


def _pattern(motion: str) -> re.Pattern[str]:
    """Nine groups: size, colour, shape and motion of an object, those of a second, the background."""
    words = f"a {_one_of(SIZES)} {_one_of(COLOURS)} {_one_of(SHAPES)}{motion}"
    return re.compile(f"{words}(?: and {words})? on a {_one_of(BACKGROUNDS)} background")


_CLIP, _PICTURE = _pattern(f" {_one_of((*MOTIONS, *TURNS))}"), _pattern("()")


def parse_caption(text: str) -> tuple[Attributes, ...]:
    """What a canonical caption, of a clip or a picture, asks for: ``Attributes`` for each object it names.

    Raises:
        ValueError: for anything else.
    """
    match = _CLIP.fullmatch(text) or _PICTURE.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{text!r} is not a canonical caption: 'a <size> <colour> <shape> <motion> on a <background> "
            f"background' (a picture has no motion, two objects are joined by 'and'), with size "
            f"{_one_of(SIZES)}, colour {_one_of(COLOURS)}, shape {_one_of(SHAPES)}, motion "
            f"{_one_of(MOTIONS)}, background {_one_of(BACKGROUNDS)}"
        )
    *words, background = match.groups()
    return tuple(
        Attributes(background, colour, shape, size, motion or None)
        for size, colour, shape, motion in (words[:4], words[4:])
        if size
    )
