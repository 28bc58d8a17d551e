"""Stories: two to four scenes of one object, each of which begins as the last one ended.

Each scene has a caption of its own that says what its object is like when it begins. Only in stories does an object
keep the radius it grew to, and turn to another colour.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np

from videolm.shapesworld.captions import caption
from videolm.shapesworld.render import Pixels, render
from videolm.shapesworld.world import (
    BACKGROUNDS,
    COLOURS,
    FRAMES,
    MOTIONS,
    SHAPES,
    SIZES,
    STORY_RADII,
    TURNS,
    Object,
    Scene,
    Split,
    check,
    choose,
    draw_starts,
    is_held_out,
    nearest_size,
    stays_inside,
)

SCENES = (2, 4)
NEAR = 60.0
"""In RGB: a fade that comes nearer to the background than this is not shown."""


@dataclass(frozen=True)
class Story:
    """Scenes in their order."""

    scenes: tuple[Scene, ...]

    @property
    def captions(self) -> tuple[str, ...]:
        """What each scene is asked for by, canonical."""
        return tuple(caption(scene) for scene in self.scenes)


def draw_story(seed: int, index: int, *, split: Split = "train", scenes: tuple[int, int] = SCENES) -> Story:
    """Draw story `index` of `seed`.

    Args:
        seed: at least 0.
        index: at least 0.
        split: "train" shows no held-out (colour, shape, motion), "held_out" one at least, "all" any.
        scenes: the least and the largest number of scenes.

    Raises:
        ValueError: for a split that does not exist, or no scenes.
    """
    check("split", split, get_args(Split))
    least, most = scenes
    if not 1 <= least <= most:
        raise ValueError(f"scenes is {scenes}; wanted the least and the largest number, from 1 up")
    rng = np.random.default_rng([seed, index])
    while True:
        story = _draw(rng, int(rng.integers(least, most + 1)), train=split == "train")
        if story is not None and (split != "held_out" or any(_unseen(scene) for scene in story.scenes)):
            return story


def _unseen(scene: Scene) -> bool:
    return any(is_held_out(o.colour, o.shape, o.motion) for o in scene.objects if o.motion in MOTIONS)


def _draw(rng: np.random.Generator, count: int, train: bool) -> Story | None:
    """A story, or None where it comes to a state from which no scene can go on."""
    background, colour, shape = choose(rng, BACKGROUNDS), choose(rng, COLOURS), choose(rng, SHAPES)
    radius = SIZES[choose(rng, SIZES)]
    x, y = draw_starts(rng, np.array([radius]), np.zeros((1, 2)), 1)[0].tolist()
    scenes: list[Scene] = []
    for _ in range(count):
        size = nearest_size(radius)
        able = [m for m in MOTIONS if _may(Object(colour, shape, size, m, x, y, radius), train)]
        turns = [m for m, to in TURNS.items() if to != colour and not _fades_near(background, colour, to)]
        if not able + turns:
            return None
        pick = int(rng.integers(len(able) + bool(turns)))  # all turns are one motion
        motion = able[pick] if pick < len(able) else turns[int(rng.integers(len(turns)))]
        thing = Object(colour, shape, size, motion, x, y, radius)
        scenes.append(Scene(background, (thing,)))
        (x, y), radius, colour = thing.centre(1).tolist(), float(thing.radius(1)), TURNS.get(motion, colour)
    return Story(tuple(scenes))


def _may(thing: Object, train: bool) -> bool:
    if train and is_held_out(thing.colour, thing.shape, thing.motion):
        return False
    least, most = STORY_RADII
    return least - 1e-9 <= float(thing.radius(1)) <= most + 1e-9 and stays_inside(thing)


def _fades_near(background: str, colour: str, to: str) -> bool:
    fade = np.linspace(COLOURS[colour], COLOURS[to], 256)
    return bool((np.linalg.norm(fade - BACKGROUNDS[background], axis=-1) <= NEAR).any())


def render_story(story: Story, frames: int = FRAMES, size: tuple[int, int] = (64, 64)) -> Pixels:
    """A story's scenes one after another, each but the first without the frame that it shares with the last.

    Args:
        story: what to show.
        frames: of each scene, 1 + 4k; n scenes are 1 + n (frames - 1) in all.
        size: height and width in pixels, each at least 32.

    Returns:
        (frames of all scenes, height, width, 3), RGB.

    Raises:
        ValueError: as `render`.
    """
    clips = [render(scene, frames, size) for scene in story.scenes]
    return np.concatenate([clips[0], *(clip[1:] for clip in clips[1:])])
