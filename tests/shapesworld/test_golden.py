"""A dozen scenes as they were first drawn. Anything that moves them moves every clip of every run.

Where that is meant, make them anew: python tests/shapesworld/test_golden.py
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from videolm.shapesworld import Scene, caption, draw_scene, render, render_image

GOLDEN = Path(__file__).parents[1] / "golden"
WORDS, PICTURES = GOLDEN / "shapesworld.json", GOLDEN / "shapesworld.npz"
DRAWS: list[dict[str, Any]] = [
    *({"seed": 0, "index": index, "split": "train"} for index in range(6)),
    *({"seed": 1, "index": 10**9 + index, "split": "held_out"} for index in range(3)),
    *({"seed": 2, "index": index, "split": "all", "two_objects": 1.0} for index in range(3)),
]


def pictures(scene: Scene) -> np.ndarray:
    """The first, middle and last frame and the image, side by side: (32, 128, 3)."""
    return np.concatenate([*render(scene, size=(32, 32))[::8], render_image(scene, (32, 32))], axis=1)


def write() -> None:
    """Make the golden files anew."""
    scenes = [draw_scene(**draw) for draw in DRAWS]
    records = [
        {"draw": draw, "caption": caption(scene), "scene": asdict(scene)}
        for draw, scene in zip(DRAWS, scenes, strict=True)
    ]
    WORDS.write_text(json.dumps(records, indent=1) + "\n")
    np.savez_compressed(PICTURES, pictures=np.stack([pictures(scene) for scene in scenes]))


@pytest.mark.parametrize("number", range(len(DRAWS)))
def test_golden(number: int) -> None:
    record = json.loads(WORDS.read_text())[number]
    assert record["draw"] == DRAWS[number]
    scene = draw_scene(**DRAWS[number])
    assert caption(scene) == record["caption"]
    assert scene.background == record["scene"]["background"]
    for thing, expected in zip(scene.objects, record["scene"]["objects"], strict=True):
        assert asdict(thing) == pytest.approx(expected, abs=1e-12)
    difference = pictures(scene).astype(int) - np.load(PICTURES)["pictures"][number]
    assert np.abs(difference).max() <= 1


if __name__ == "__main__":
    write()
