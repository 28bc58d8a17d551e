"""A model that makes what is true, to see that it gets full marks."""

from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from videolm import shapesworld
from videolm.data.sources import ShapesWorldData
from videolm.errors import UserError
from videolm.evaluate.shapes import SEED
from videolm.evaluate.stories import still_scenes, stories
from videolm.evaluate.world import World
from videolm.media import Audio, Video
from videolm.pipeline.video_lm import NO_STAGES
from videolm.shapes import Format
from videolm.tasks import TASKS
from videolm.tasks.task_set import TaskSet

SHAPE = Format(17, 64, 64)


class Oracle:
    """Called as `VideoLM` is. Which sample is asked for it knows by the seeds; of what world by the prompt.

    Attributes:
        worlds: of the scenes that are evaluated.
        spoil: what is done to each clip before it is given back, and to each sound.
        calls: what it was given.
    """

    def __init__(self) -> None:
        self.tasks = TaskSet(tasks=tuple(TASKS.get(name) for name in TASKS), formats=(SHAPE,))
        self.text = SimpleNamespace(tokenize=lambda texts: [text.split() for text in texts])
        self.worlds: list[World] = []
        self.spoil: Callable[[Any], Any] = lambda made: made
        self.calls: list[dict[str, Any]] = []

    def knows(self, scenes: Sequence[shapesworld.Scene]) -> World:
        self.worlds.append(World(ShapesWorldData(seed=SEED, clips=len(scenes)), SHAPE, 8.0, scenes))
        return self.worlds[-1]

    def stages(self, factor: int) -> None:
        raise UserError(NO_STAGES)

    def __call__(self, *, task: str, generator: list[Any], **given: Any) -> Any:
        self.calls.append({"task": task, **given})
        found, variant = self.tasks.get(task), self.tasks.find(task)
        videos, sounds = list[Video](), list[Audio]()
        for place, each in enumerate(generator):
            sample = each.initial_seed() - SEED
            asked = given["prompt"][place] if "prompt" in given else None
            fitting = [w for w in self.worlds if asked in (None, w.inputs(variant, [sample]).get("prompt", [None])[0])]
            if found.visual is not None:
                videos.append(self.spoil(fitting[0].source(found.visual.stream)[sample].media))
            if found.audio is not None:
                sounds.append(self.spoil(fitting[0].source("audio")[sample].media))
        return SimpleNamespace(videos=videos, sounds=sounds)

    def story(self, scenes: Sequence[Any], *, generator: list[Any], **given: Any) -> Iterator[Any]:
        self.calls.append({"scenes": scenes, **given})
        places = [each.initial_seed() - SEED for each in generator]
        if len(scenes) == 3:
            told = stories(max(places) + 1)
            films = [shapesworld.render_story(told[place]) for place in places]
        else:
            still = still_scenes(max(places) + 1)
            films = [shapesworld.render(still[place]).repeat(20, 0)[: round(scenes[0][1] * 8)] for place in places]
        videos = [self.spoil(Video(film, 8.0)) for film in films]
        for start, stop in [(0, 17), *((end, end + 12) for end in range(17, len(films[0]), 12))]:
            yield SimpleNamespace(videos=[Video(video.frames[start:stop], 8.0) for video in videos])


@pytest.fixture
def oracle() -> Oracle:
    return Oracle()
