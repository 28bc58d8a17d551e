"""Whether a clip in a style is in that style, and whether what it shows is where it should be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from videolm.shapesworld.judge import beyond, border, centroids
from videolm.shapesworld.styles import STYLES, render_style
from videolm.shapesworld.world import Scene

DISTANCE = 25.0
"""In RGB, from the border's median, beyond which a pixel is of the object."""


@dataclass(frozen=True)
class StyleJudgement:
    """How a clip compares with those that its scene should have been."""

    style: str
    """The nearest of the four."""
    error: float
    """Root mean square distance to the true clip in that style, from 0 to 255."""
    path_error: float | None
    """Mean distance, in frame widths, of the object's centroid from its true place; None where a frame has none."""

    @property
    def words(self) -> str:
        """What is seen, for people.

        >>> StyleJudgement("sepia", 3.1, 0.02).words
        'sepia style, path off by 0.020'
        """
        path = "no path" if self.path_error is None else f"path off by {self.path_error:.3f}"
        return f"{self.style} style, {path}"


def judge_style(frames: NDArray[np.uint8], scene: Scene) -> StyleJudgement:
    """Compare a clip with a scene in each of the styles.

    Args:
        frames: (f, H, W, 3), RGB, uint8, of f = 1 + 4k frames.
        scene: of one object, what the clip should show in some style.

    Raises:
        ValueError: for another shape or type, or a scene of several objects.
    """
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise ValueError(f"frames are {frames.dtype} {frames.shape}; wanted uint8 (f, H, W, 3)")
    if len(scene.objects) != 1:
        raise ValueError(f"the scene has {len(scene.objects)} objects; the judge reads clips of one")
    size = (frames.shape[1], frames.shape[2])
    truths = {style: render_style(scene, style, len(frames), size) for style in STYLES}
    errors = {style: float(np.sqrt(((frames - truth.astype(float)) ** 2).mean())) for style, truth in truths.items()}
    style = min(errors, key=errors.__getitem__)
    got, wanted = _path(frames), _path(truths[style])
    path = None if got is None or wanted is None else float(np.linalg.norm(got - wanted, axis=-1).mean())
    return StyleJudgement(style, errors[style], path)


def _path(clip: NDArray[np.uint8]) -> NDArray[np.floating] | None:
    """Centroid (f, 2) of what differs from the border's median; None where there is a frame in which nothing does."""
    ground = np.median(border(clip).reshape(-1, 3), axis=0)
    mask = beyond(clip, ground, DISTANCE)
    return centroids(mask) if mask.any((1, 2)).all() else None
