"""A dozen scenes and three stories as they were first drawn. Anything that moves them moves every clip of every run.

Where that is meant, make them anew: python tests/shapesworld/test_golden.py
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from videolm.shapesworld import (
    STYLES,
    Scene,
    caption,
    draw_scene,
    draw_story,
    judge,
    judge_sound,
    render,
    render_image,
    render_story,
    render_structure,
    render_style,
    sound,
)

GOLDEN = Path(__file__).parents[1] / "golden"
WORDS, PICTURES = GOLDEN / "shapesworld.json", GOLDEN / "shapesworld.npz"
DRAWS: list[dict[str, Any]] = [
    *({"seed": 0, "index": index, "split": "train"} for index in range(6)),
    *({"seed": 1, "index": 10**9 + index, "split": "held_out"} for index in range(3)),
    *({"seed": 2, "index": index, "split": "all", "two_objects": 1.0} for index in range(3)),
]
STORIES = [{"seed": 0, "index": index} for index in range(3)]
SMALL = (32, 32)


def pictures(scene: Scene) -> np.ndarray:
    """The first, middle and last frame, the image, the last frame's structure and styles: (32, 288, 3)."""
    shown = [*render(scene, size=SMALL)[::8], render_image(scene, SMALL), render_structure(scene, size=SMALL)[-1]]
    return np.concatenate([*shown, *(render_style(scene, style, size=SMALL)[-1] for style in STYLES)], axis=1)


def judged(scene: Scene) -> dict[str, Any] | None:
    """What the judge sees and hears in a scene of one object."""
    if len(scene.objects) > 1:
        return None
    heard = asdict(judge_sound(sound(scene)))
    return {"seen": asdict(judge(render(scene))), "heard": {k: v for k, v in heard.items() if isinstance(v, str)}}


def write() -> None:
    """Make the golden files anew."""
    scenes, stories = [draw_scene(**draw) for draw in DRAWS], [draw_story(**draw) for draw in STORIES]
    records = [
        {"draw": draw, "caption": caption(scene), "scene": asdict(scene), "judged": judged(scene)}
        for draw, scene in zip(DRAWS, scenes, strict=True)
    ]
    told = [{"draw": d, "captions": s.captions, "story": asdict(s)} for d, s in zip(STORIES, stories, strict=True)]
    WORDS.write_text(json.dumps({"scenes": records, "stories": told}, indent=1) + "\n")
    np.savez_compressed(
        PICTURES,
        pictures=np.stack([pictures(scene) for scene in scenes]),
        sounds=np.stack([sound(scene)[::50] for scene in scenes]).astype(np.float16),
        stories=np.stack([render_story(story, 5, SMALL)[:9] for story in stories]),
    )


@pytest.mark.parametrize("number", range(len(DRAWS)))
def test_scene(number: int) -> None:
    record = json.loads(WORDS.read_text())["scenes"][number]
    assert record["draw"] == DRAWS[number]
    scene = draw_scene(**DRAWS[number])
    assert caption(scene) == record["caption"]
    assert scene.background == record["scene"]["background"]
    for thing, expected in zip(scene.objects, record["scene"]["objects"], strict=True):
        assert asdict(thing) == pytest.approx(expected, abs=1e-12)
    assert judged(scene) == record["judged"]
    golden = np.load(PICTURES)
    assert np.abs(pictures(scene).astype(int) - golden["pictures"][number]).max() <= 1
    assert np.abs(sound(scene)[::50] - golden["sounds"][number]).max() <= 1e-3


@pytest.mark.parametrize("number", range(len(STORIES)))
def test_story(number: int) -> None:
    record = json.loads(WORDS.read_text())["stories"][number]
    story = draw_story(**STORIES[number])
    assert list(story.captions) == record["captions"]
    for scene, expected in zip(story.scenes, record["story"]["scenes"], strict=True):
        assert asdict(scene.objects[0]) == pytest.approx(expected["objects"][0], abs=1e-12)
    difference = render_story(story, 5, SMALL)[:9].astype(int) - np.load(PICTURES)["stories"][number]
    assert np.abs(difference).max() <= 1


if __name__ == "__main__":
    write()
