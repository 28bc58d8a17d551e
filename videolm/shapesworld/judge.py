"""What a clip shows, by measurement: no network, only pixels, so that a generated clip is right or wrong.

The background is what borders the frame, the object all that differs from it. Its area and centroid in each
frame give its path, and the six outlines of that area at that place its shape.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from videolm.shapesworld.captions import parse_caption
from videolm.shapesworld.outlines import OPAQUE, OUTLINES, Floats, Window, coverage
from videolm.shapesworld.world import (
    BACKGROUNDS,
    COLOURS,
    MOTIONS,
    RGB,
    Attributes,
    Scene,
    displacement,
    nearest_size,
    scale,
)

DISTANCE = 60  # in RGB, beyond which a pixel is not background
LEAST = 0.005  # of the frame: an object that covers less is none
ATTRIBUTES = tuple(field.name for field in fields(Attributes))


@dataclass(frozen=True)
class Judgement(Attributes):
    """What a clip shows; None for what cannot be told."""

    @property
    def found(self) -> bool:
        """Whether there is an object at all; a clip without one is wrong in everything."""
        return self.colour is not None

    @property
    def words(self) -> str:
        """As a caption would say it, less what cannot be told.

        >>> Judgement("pink", "red", "star", "small", "bounces").words
        'a small red star bounces on a pink background'
        >>> Judgement("pink", None, None, None, None).words
        'nothing on a pink background'
        """
        said = filter(None, (self.size, self.colour, self.shape, self.motion))
        return f"{' '.join(('a', *said)) if self.found else 'nothing'} on a {self.background} background"


def judge(frames: NDArray[np.uint8], *, story: bool = False, span: tuple[float, float] = (0.0, 1.0)) -> Judgement:
    """Measure the attributes of the one object of a clip, or of a picture, which has no motion.

    An object that is missing from some frames has no motion, and from the first no size.

    Args:
        frames: (f, H, W, 3) or (H, W, 3), RGB, uint8.
        story: whether they are a scene of a story, whose caption says what its object is like when it begins: its
            colour, which may turn to another, and its size, whatever it grows to.
        span: the times of the first and of the last frame, where they are part of a scene.

    Raises:
        ValueError: for another shape or type.
    """
    clip = _checked(frames)
    background, mask = _foreground(clip)
    return _measure(clip, background, mask, story, span)


def judge_pair(frames: NDArray[np.uint8]) -> tuple[Judgement, Judgement]:
    """Measure the two objects of a clip or a picture, told apart by their colours: the one seen more of is first.

    Args:
        frames: (f, H, W, 3) or (H, W, 3), RGB, uint8; the frames are taken to run from t = 0 to 1.

    Raises:
        ValueError: for another shape or type.
    """
    clip = _checked(frames)
    background, mask = _foreground(clip)
    distances = np.stack([np.linalg.norm(clip[mask] - np.array(rgb, np.float32), axis=-1) for rgb in COLOURS.values()])
    plain = distances.min(0) < DISTANCE  # an edge is a blend, which may be near to a third colour
    counts = np.bincount(distances.argmin(0)[plain], minlength=len(COLOURS))
    first, second = np.argsort(-counts, kind="stable")[:2]
    cores = np.zeros((2, *mask.shape), bool)
    for core, colour in zip(cores, (first, second), strict=True):
        core[mask] = plain & (distances.argmin(0) == colour)
    # The circles of two objects never meet, so a pixel belongs to the one that it is nearer to in that one's radii.
    height, width = mask.shape[1:]
    rows, columns = (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width
    nearness = np.full(cores.shape, np.inf)
    for near, core in zip(nearness, cores, strict=True):
        seen = core.any((1, 2))
        centre, radius = centroids(core[seen]), np.sqrt(core[seen].mean((1, 2)) / np.pi)
        off = np.hypot(columns[None, None] - centre[:, :1, None], rows[None, :, None] - centre[:, 1:, None])
        near[seen] = off / radius[:, None, None]
    owner = nearness.argmin(0)
    one, two = (_measure(clip, background, mask & (owner == i) & np.isfinite(nearness[i])) for i in (0, 1))
    return one, two


class Track(NamedTuple):
    """Where the object of a clip is in each frame; NaN in those that show none (under `LEAST` of the frame)."""

    centre: Floats
    """(f, 2), x and y of its centroid in the unit square."""
    radius: Floats
    """(f,), of the circle of its area, in frame widths."""


def track(frames: NDArray[np.uint8]) -> Track:
    """Follow the one object of a clip (f, H, W, 3).

    Raises:
        ValueError: for another shape or type.
    """
    mask = foreground(frames)
    area = mask.mean((1, 2))
    seen = area >= LEAST
    centre, radius = np.full((len(mask), 2), np.nan), np.full(len(mask), np.nan)
    centre[seen], radius[seen] = centroids(mask[seen]), np.sqrt(area[seen] / np.pi)
    return Track(centre, radius)


def foreground(frames: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which pixels (f, H, W) of a clip (f, H, W, 3) are not of its background.

    Raises:
        ValueError: for another shape or type.
    """
    return _foreground(_checked(frames))[1]


def in_order(pair: tuple[Judgement, Judgement], truth: Scene) -> tuple[Judgement, Judgement]:
    """The two judgements in the order of a scene's objects, by colour: `score` then takes each with its attributes."""
    (one, two), (first, second) = pair, truth.objects
    crossed = (two.colour == first.colour) + (one.colour == second.colour)
    straight = (one.colour == first.colour) + (two.colour == second.colour)
    return (two, one) if crossed > straight else (one, two)


def _checked(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if frames.dtype != np.uint8 or frames.ndim not in (3, 4) or frames.shape[-1] != 3 or 0 in frames.shape:
        raise ValueError(f"frames are {frames.dtype} {frames.shape}; wanted uint8 (f, H, W, 3) or (H, W, 3)")
    return frames[None] if frames.ndim == 3 else frames


def border(clip: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The pixels (f, n, 3) on the edges of the frames (f, H, W, 3)."""
    return np.concatenate([clip[:, 0], clip[:, -1], clip[:, 1:-1, 0], clip[:, 1:-1, -1]], axis=1)


def _foreground(clip: NDArray[np.uint8]) -> tuple[str, NDArray[np.bool_]]:
    """The background's name, and which pixels (f, H, W) are not of it."""
    background = _nearest(BACKGROUNDS, _median(border(clip)))
    return background, beyond(clip, BACKGROUNDS[background], DISTANCE)


def beyond(clip: NDArray[np.uint8], ground: ArrayLike, distance: float) -> NDArray[np.bool_]:
    """Which pixels (f, H, W) are further than `distance`, in RGB, from a colour."""
    differences = clip - np.asarray(ground, np.float32)
    return np.einsum("fhwc,fhwc->fhw", differences, differences) > distance**2


def _measure(
    clip: NDArray[np.uint8],
    background: str,
    mask: NDArray[np.bool_],
    story: bool = False,
    span: tuple[float, float] = (0.0, 1.0),
) -> Judgement:
    """What the object whose pixels are the mask (f, H, W) shows."""
    area = mask.mean((1, 2))  # (f,)
    if area.mean() < LEAST:
        return Judgement(background, None, None, None, None)
    seen = area > 0
    centre, radius = centroids(mask[seen]), np.sqrt(area[seen] / np.pi)
    shape = _shape(mask[seen], centre, radius)
    colour = _nearest(COLOURS, _median(clip[mask]))
    if len(clip) == 1:
        return Judgement(background, colour, shape, nearest_size(radius[0]))
    motion = _motion(np.linspace(*span, len(clip))[seen], centre, radius)
    start = radius[0] / scale(motion, span[0]).item()  # nominal
    if story:
        start *= scale(motion, 0).item()
        first, last = (_median(clip[frame][mask[frame]]) for frame in np.flatnonzero(seen)[[0, -1]])
        fade = (last - first) / (span[1] - span[0])
        colour, turned = _nearest(COLOURS, first - span[0] * fade), _nearest(COLOURS, last + (1 - span[1]) * fade)
        motion = motion if turned == colour else f"turns {turned}"
    return Judgement(
        background,
        colour,
        shape,
        nearest_size(start) if area[0] >= LEAST else None,
        motion if area.min() >= LEAST else None,
    )


def _median(pixels: NDArray[np.uint8]) -> Floats:
    """Channel by channel (3,), of ``pixels`` (..., 3)."""
    return np.median(pixels.reshape(-1, 3), axis=0)


def _nearest(palette: Mapping[str, RGB], rgb: Floats) -> str:
    """The colour of a palette nearest to one (3,)."""
    return min(palette, key=lambda name: float(np.linalg.norm(rgb - palette[name])))


def centroids(mask: NDArray[np.bool_]) -> Floats:
    """The mean place (f, 2), in the unit square, of the true pixels of each (f, H, W)."""
    _, height, width = mask.shape
    weights = mask / mask.sum((1, 2), keepdims=True)
    x = weights.sum(1) @ ((np.arange(width) + 0.5) / width)
    y = weights.sum(2) @ ((np.arange(height) + 0.5) / height)
    return np.stack([x, y], axis=-1)


def _shape(mask: NDArray[np.bool_], centre: Floats, radius: Floats) -> str:
    """The outline which, given the areas and centroids of (f, H, W), has most in common with it."""
    size = mask.shape[1:]
    overlap = {}
    for shape, outline in OUTLINES.items():
        window = Window.around(centre, outline.reach * radius.max(), size)
        template = coverage(shape, centre, radius, window, size) > OPAQUE // 2  # (f, h, w)
        shared = np.count_nonzero(template & np.stack(window.views(mask)))
        overlap[shape] = shared / (np.count_nonzero(template) + np.count_nonzero(mask) - shared)
    return max(overlap, key=overlap.__getitem__)


def _motion(t: Floats, centre: Floats, radius: Floats) -> str:
    """The motion whose path, best placed, leaves the least squares in x, y and log radius over t (f,)."""

    def error(motion: str) -> float:
        rest = np.column_stack([centre - displacement(motion, t), np.log(radius / scale(motion, t))])
        return float(((rest - rest.mean(0)) ** 2).sum())  # (f, 3): what a start cannot explain

    return min(MOTIONS, key=error)


def marks(judgements: Sequence[Judgement], truths: Sequence[Scene | Attributes | str]) -> dict[str, Floats]:
    """What each of n clips has right: 1, or 0, in arrays (n,).

    Args:
        judgements: what the clips show.
        truths: what each should: a scene, attributes, or a canonical caption. Only what they state is marked,
            so the truth of a picture is its caption, which has no motion.

    Returns:
        An array for each attribute that is stated, NaN where a clip's own truth does not state it; "all_right" for all
        of them at once, and "found".

    Raises:
        ValueError: for no clips, lists of two lengths, or a truth that is not of one object.
    """
    if not judgements or len(judgements) != len(truths):
        raise ValueError(f"{len(judgements)} judgements of {len(truths)} truths; wanted as many, and some")
    found = np.array([seen.found for seen in judgements])
    marked: dict[str, Floats] = {}
    for name in ATTRIBUTES:
        wanted = [getattr(_single(truth), name) for truth in truths]
        right = found & [getattr(seen, name) == value for seen, value in zip(judgements, wanted, strict=True)]
        if any(value is not None for value in wanted):
            marked[name] = np.where([value is None for value in wanted], np.nan, right)
    all_right = np.ones(len(truths), bool)
    for values in marked.values():
        all_right &= values != 0  # what is not stated cannot be wrong
    return {**marked, "all_right": all_right.astype(float), "found": found.astype(float)}


def motion_weights(truths: Sequence[Scene | Attributes | str]) -> Floats:
    """Weights (n,) by which a mean over clips is one within each true motion, then over the motions."""
    motions = [_single(truth).motion for truth in truths]
    counts = Counter(motions)
    return np.array([1 / counts[motion] for motion in motions])


def score(
    judgements: Sequence[Judgement], truths: Sequence[Scene | Attributes | str], *, over_motions: bool = False
) -> dict[str, float]:
    """The share of clips that are right, by attribute: means of `marks`.

    Args:
        judgements: what the clips show.
        truths: what each should.
        over_motions: average within each true motion, then over the motions. The score on held-out
            combinations is reported so, since some motions have more of them than others.

    Returns:
        A share in [0, 1] for each attribute stated; "all_right" for all of them at once, and "found".

    Raises:
        ValueError: for no clips, lists of two lengths, or a truth that is not of one object.
    """
    marked = marks(judgements, truths)
    weights = motion_weights(truths) if over_motions else np.ones(len(truths))
    stated = {name: ~np.isnan(values) for name, values in marked.items()}
    return {
        name: float(np.average(values[stated[name]], weights=weights[stated[name]])) for name, values in marked.items()
    }


def _single(truth: Scene | Attributes | str) -> Attributes:
    if isinstance(truth, Attributes):
        return truth
    objects = truth.attributes if isinstance(truth, Scene) else parse_caption(truth)
    if len(objects) != 1:
        raise ValueError(f"{truth!r} has {len(objects)} objects; the judge reads clips of one")
    return objects[0]
