"""What exists in ShapesWorld and how it moves: attributes as data, scenes as values, paths as pure functions.

Coordinates are those of the unit square, x right and y down, whatever the frame's size; time t runs from 0 to
1 over a clip. Nothing here knows pixels. Scene ``index`` of ``seed`` follows from these two alone: any can be
made anywhere, in any order, with no state.

>>> draw_scene(seed=0, index=0) == draw_scene(seed=0, index=0)
True
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from math import pi
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

RGB = tuple[int, int, int]
Split = Literal["train", "held_out", "all"]

FRAMES = 17  # of the default clip; any 1 + 4k will do
FPS = 8
MARGIN = 0.03  # left between an object's circle and the frame's edges

COLOURS: dict[str, RGB] = {
    "red": (230, 40, 40),
    "green": (40, 180, 70),
    "blue": (50, 80, 230),
    "yellow": (245, 215, 50),
    "purple": (150, 50, 190),
    "orange": (245, 135, 30),
    "cyan": (40, 205, 220),
}
BACKGROUNDS: dict[str, RGB] = {
    "black": (12, 12, 12),
    "white": (245, 245, 245),
    "gray": (128, 128, 128),
    "brown": (105, 65, 35),
    "pink": (250, 175, 195),
}
SHAPES = ("circle", "square", "triangle", "diamond", "star", "cross")
SIZES = {"small": 0.11, "large": 0.20}  # nominal radius
MOTIONS = (
    "stays still",
    "moves left",
    "moves right",
    "moves up",
    "moves down",
    "grows",
    "shrinks",
    "bounces",
)
TURNS = {f"turns {colour}": colour for colour in COLOURS}
"""Motions of stories alone: standing still while the colour fades to another."""

TRAVEL = 0.35  # how far a motion carries the centre
_DIRECTIONS = {"moves left": (-1, 0), "moves right": (1, 0), "moves up": (0, -1), "moves down": (0, 1)}
_SCALES = {"grows": (0.7, 1.4), "shrinks": (1.4, 0.7)}  # of the nominal radius, at t = 0 and 1
STORY_RADII = (0.077, 0.28)  # within these the radius stays in a story: 0.7 small and 1.4 large

_TURNING_POINTS = np.array([0.0, 0.25, 0.5, 0.75, 1.0])  # between these every path is monotone
_TIMES = np.linspace(0, 1, 129)  # fine enough to see whether two circles ever meet
_START_PAIRS = 64  # starts tried for two objects before other attributes are drawn


def check(what: str, name: str, names: Collection[str]) -> None:
    """Refuse a name that is not one of ``names`` with a ValueError that lists them."""
    if name not in names:
        raise ValueError(f"{what} is {name!r}; it must be one of {', '.join(map(repr, names))}")


def displacement(motion: str, t: ArrayLike) -> NDArray[np.float64]:
    """How far (x, y) ``motion`` has carried the centre by the times ``t`` (...) in [0, 1]: (..., 2).

    A bounce begins at its top: y = y0 - 0.35 |cos 2πt| with y0, the contact, 0.35 below the start.
    """
    t = np.asarray(t, dtype=np.float64)
    if motion == "bounces":
        x, y = np.zeros_like(t), TRAVEL * (1 - np.abs(np.cos(2 * pi * t)))
    else:
        towards_x, towards_y = _DIRECTIONS.get(motion, (0, 0))
        x, y = TRAVEL * towards_x * t, TRAVEL * towards_y * t
    return np.stack([x, y], axis=-1)


def scale(motion: str, t: ArrayLike) -> NDArray[np.float64]:
    """The radius under ``motion`` at times ``t`` (...) in [0, 1], as a multiple of the nominal one: (...)."""
    first, last = _SCALES.get(motion, (1.0, 1.0))
    return first + (last - first) * np.asarray(t, dtype=np.float64)


@dataclass(frozen=True)
class Attributes:
    """What a caption says of one object; None where it does not say (an image has no motion)."""

    background: str | None
    colour: str | None
    shape: str | None
    size: str | None
    motion: str | None = None


@dataclass(frozen=True)
class Object:
    """One object and the place (x, y), in the unit square, where its centre is at t = 0.

    Raises:
        ValueError: for a colour, shape, size or motion that does not exist, or a start not above 0.
    """

    colour: str
    shape: str
    size: str
    motion: str
    x: float
    y: float
    start: float | None = None
    """The radius at t = 0 where a story found it so; else it follows from size and motion."""

    def __post_init__(self) -> None:
        check("colour", self.colour, COLOURS)
        check("shape", self.shape, SHAPES)
        check("size", self.size, SIZES)
        check("motion", self.motion, (*MOTIONS, *TURNS))
        if self.start is not None and self.start <= 0:
            raise ValueError(f"start is {self.start}; a radius is above 0")

    def radius(self, t: ArrayLike) -> NDArray[np.float64]:
        """Radius at times ``t`` (...) in [0, 1], in frame widths: (...)."""
        size = SIZES[self.size] if self.start is None else self.start / scale(self.motion, 0)
        return size * scale(self.motion, t)

    def centre(self, t: ArrayLike) -> NDArray[np.float64]:
        """Centre (x, y) at times ``t`` (...) in [0, 1]: (..., 2)."""
        return np.array([self.x, self.y]) + displacement(self.motion, t)

    def rgb(self, t: ArrayLike) -> NDArray[np.float64]:
        """Colour at times ``t`` (...) in [0, 1], from 0 to 255: (..., 3)."""
        first, last = (np.array(COLOURS[name], float) for name in (self.colour, TURNS.get(self.motion, self.colour)))
        return first + np.asarray(t, dtype=np.float64)[..., None] * (last - first)


@dataclass(frozen=True)
class Scene:
    """A background and objects, the later drawn over the earlier.

    Raises:
        ValueError: for a background that does not exist, or no object.
    """

    background: str
    objects: tuple[Object, ...]

    def __post_init__(self) -> None:
        check("background", self.background, BACKGROUNDS)
        if not self.objects:
            raise ValueError("no object; a scene has at least one")

    @property
    def attributes(self) -> tuple[Attributes, ...]:
        """What is true of each object."""
        return tuple(Attributes(self.background, o.colour, o.shape, o.size, o.motion) for o in self.objects)


@cache
def is_held_out(colour: str, shape: str, motion: str) -> bool:
    """Whether this combination is kept for evaluation: the first byte of its words' sha256 is below 26.

    35 of the 336 combinations are, 2 to 7 a motion.
    """
    return sha256(f"{colour} {shape} {motion}".encode()).digest()[0] < 26


def draw_scene(seed: int, index: int, *, split: Split = "train", two_objects: float = 0.0, crowd: int = 0) -> Scene:
    """Draw scene ``index`` of ``seed``, uniform over backgrounds, sizes, the split's combinations and starts.

    Args:
        seed: at least 0.
        index: at least 0.
        split: "train" shows no held-out (colour, shape, motion), "held_out" no other, "all" any.
        two_objects: the share of scenes, in [0, 1], that have two objects, of different colours, with circles
            that never overlap.
        crowd: where not 0, every scene has so many objects instead, each drawn as if it were alone: one may hide
            another, which its caption names all the same.

    Raises:
        ValueError: for a split that does not exist, a share outside [0, 1], or fewer than no objects.
    """
    check("split", split, get_args(Split))
    if not 0 <= two_objects <= 1:
        raise ValueError(f"two_objects is {two_objects}; it is a share of the scenes, from 0 to 1")
    if crowd < 0:
        raise ValueError(f"crowd is {crowd}; it is a number of objects")
    rng = np.random.default_rng([seed, index])
    background = choose(rng, BACKGROUNDS)
    if crowd:
        return Scene(background, tuple(_draw_single(rng, split)[0] for _ in range(crowd)))
    pair = rng.random() < two_objects
    return Scene(background, _draw_pair(rng, split) if pair else _draw_single(rng, split))


def choose(rng: np.random.Generator, names: tuple[str, ...] | dict[str, RGB] | dict[str, float]) -> str:
    """One of the names, each as likely."""
    return tuple(names)[rng.integers(len(names))]


def _draw_words(rng: np.random.Generator, split: Split) -> tuple[str, str, str, str]:
    """Colour, shape, size and motion that the split may show."""
    while True:
        colour, shape, size, motion = (choose(rng, names) for names in (COLOURS, SHAPES, SIZES, MOTIONS))
        if split == "all" or is_held_out(colour, shape, motion) == (split == "held_out"):
            return colour, shape, size, motion


def draw_starts(
    rng: np.random.Generator, radius: NDArray[np.float64], offset: NDArray[np.float64], count: int
) -> NDArray[np.float64]:
    """Uniform starts (count, 2) among those whose circle stays ``MARGIN`` inside the frame.

    Args:
        rng: to draw from.
        radius: (t,), at the turning points of the path.
        offset: (t, 2), what has been travelled by then.
        count: of starts.
    """
    reach = MARGIN + radius[:, None]
    return rng.uniform((reach - offset).max(0), (1 - reach - offset).min(0), (count, 2))


def stays_inside(thing: Object) -> bool:
    """Whether an object's circle stays ``MARGIN`` inside the frame for its whole path."""
    centre, reach = thing.centre(_TURNING_POINTS), MARGIN + thing.radius(_TURNING_POINTS)[:, None]
    return bool((centre - reach >= -1e-9).all() and (centre + reach <= 1 + 1e-9).all())


def nearest_size(radius: float) -> str:
    """The size whose nominal radius is nearest in ratio."""
    return min(SIZES, key=lambda name: abs(np.log(radius / SIZES[name])))


def _starts(rng: np.random.Generator, size: str, motion: str, count: int) -> NDArray[np.float64]:
    radius = SIZES[size] * scale(motion, _TURNING_POINTS)
    return draw_starts(rng, radius, displacement(motion, _TURNING_POINTS), count)


def _draw_single(rng: np.random.Generator, split: Split) -> tuple[Object, ...]:
    colour, shape, size, motion = _draw_words(rng, split)
    x, y = _starts(rng, size, motion, 1)[0].tolist()
    return (Object(colour, shape, size, motion, x, y),)


def _draw_pair(rng: np.random.Generator, split: Split) -> tuple[Object, ...]:
    while True:
        first, second = _draw_words(rng, split), _draw_words(rng, split)
        if first[0] == second[0]:
            continue
        starts = [_starts(rng, *words[2:], _START_PAIRS) for words in (first, second)]  # (n, 2) each
        paths = [displacement(words[3], _TIMES) for words in (first, second)]  # (t, 2) each
        reach = sum(SIZES[words[2]] * scale(words[3], _TIMES) for words in (first, second))  # (t,)
        gaps = np.linalg.norm((starts[1] - starts[0])[:, None] + paths[1] - paths[0], axis=-1)  # (n, t)
        apart = (gaps > reach).all(1)
        # Two that can hardly keep apart (two large ones that grow never do) give way to other attributes.
        if apart.any():
            places = [start[apart.argmax()].tolist() for start in starts]
            return Object(*first, *places[0]), Object(*second, *places[1])
