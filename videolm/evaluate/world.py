"""ShapesWorld's side of a task: what goes in for each scene, and what the judge says of what came out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from videolm import shapesworld
from videolm.data.sources import GIVEN, ShapesWorldData, ShapesWorldSource
from videolm.evaluate.row import Floats
from videolm.media import Audio, Image, Video
from videolm.media.clip import Pixels
from videolm.metrics import psnr
from videolm.pipeline.inputs import mask_of
from videolm.shapes import Format
from videolm.shapesworld import Attributes, Judgement, Scene
from videolm.shapesworld.judge import ATTRIBUTES
from videolm.shapesworld.sound import CONTACTS
from videolm.tasks import Audio as AudioPart
from videolm.tasks import Task, Text, Variant, Visual
from videolm.tasks.views import VIEWS, Masked

STRAY = 0.05
"""Frame widths that the object of a styled clip may be off its true place, on average."""
LOST = 1.0
"""Frame widths that an object counts as off where it is missing."""
SEMITONE = 2 ** (1 / 12)


class World:
    """Scenes by index, as the training data has them.

    Args:
        data: where scenes are drawn from.
        shape, fps: of clips.
        scenes: in place of those drawn (not of stories).
    """

    def __init__(self, data: ShapesWorldData, shape: Format, fps: float, scenes: Sequence[Scene] | None = None):
        self.data, self.shape, self.fps, self.given = data, shape, fps, scenes
        self._sources: dict[str, ShapesWorldSource] = {}

    def source(self, stream: str) -> ShapesWorldSource:
        if stream not in self._sources:
            source = self.data.open(stream, self.shape, self.fps, "train")
            source.scenes = self.given if self.given is not None else source.scenes
            self._sources[stream] = source
        return self._sources[stream]

    def inputs(self, variant: Variant, indices: Sequence[int]) -> dict[str, Any]:
        """What a call of `VideoLM` is given, a list for each: true media, and canonical captions."""
        task = variant.task
        found: dict[str, Any] = {}
        for part in variant.inputs:
            if isinstance(part, Text):
                about = [self.source(task.sources[0].partition(".")[0])[index] for index in indices]
                by_class = part.content == "class"
                found["prompt"] = [example.label if by_class else example.captions[0] for example in about]
                continue
            stream = part.stream if isinstance(part, Visual) else "audio"
            media = [self.source(stream)[index].media for index in indices]
            name = task.given_as(part)
            if name == "image":
                media = [Image(clip.frames[0]) for clip in media]
            elif name == "last_image":
                media = [Image(clip.frames[-1]) for clip in media]
            elif not isinstance(part, Visual) or part.frames == "all":
                pass
            else:
                media = [Video(clip.frames[: variant.prefix], clip.fps) for clip in media]
            found[name] = media
        return found

    def scores(
        self, task: Task, indices: Sequence[int], videos: Sequence[Video], sounds: Sequence[Audio]
    ) -> dict[str, float]:
        """Means of `measures`, of those samples that state them."""
        measured = self.measures(task, indices, videos, sounds)
        return {name: float(np.nanmean(values)) for name, values in measured.items()}

    def measures(
        self,
        task: Task,
        indices: Sequence[int],
        videos: Sequence[Video],
        sounds: Sequence[Audio],
        *,
        prompted: bool = True,
    ) -> dict[str, Floats]:
        """What each of n outputs has right, and by how much it is off: arrays (n,), NaN where one does not state it.

        - Clips and pictures: the attributes that follow from what went in (`stated`), 1 or 0; of two objects both.
          "path_error", where a clip goes on from several frames: frame widths, in its last frame, from the object's
          centroid to that in the true clip. "psnr_hole", where pixels were hidden: dB over these alone. "bounces",
          where a whole sound went in and the object bounces: the clip's object is lowest, in each half, within a frame
          of when the true one is.
        - Styled clips: "style", and "path", within 0.05 frame widths of the true one on average.
        - Sounds, against the true one as the judge hears it: "pitch", within a semitone; "course", the same motion;
          "bursts", as many, each within a frame.
        - "all_right": everything that the caption asks for at once, seen and heard.

        Args:
            prompted: whether prompts were given.
        """
        found: list[dict[str, float]] = []
        for place, index in enumerate(indices):
            kinds = []
            if task.visual is not None:
                kinds.append(self._shown(task, index, videos[place], prompted))
            if task.audio is not None:
                kinds.append(self._heard(index, sounds[place]))
            all_right = min(kind["all_right"] for kind in kinds)
            found.append({name: value for kind in kinds for name, value in kind.items()} | {"all_right": all_right})
        names = dict.fromkeys(name for each in found for name in each)
        return {name: np.array([each.get(name, np.nan) for each in found]) for name in names}

    def told(self, task: Task, index: int, video: Video | None, sound: Audio | None) -> str:
        """What the judge says of an output, in words."""
        said = []
        if task.visual is not None and video is not None:
            if task.visual.stream == "styled":
                said.append(shapesworld.judge_style(video.frames, self.source("styled").scene(index)).words)
            else:
                said += [seen.words for seen in self._seen(task, index, video)]
        if task.audio is not None and sound is not None:
            said.append(shapesworld.judge_sound(sound.samples[0], sound.rate).words)
        return "; ".join(said)

    def _shown(self, task: Task, index: int, clip: Video, prompted: bool) -> dict[str, float]:
        assert task.visual is not None
        if task.visual.stream == "styled":
            return self._styled(index, clip)
        wanted = self._wanted(task, index, stated(task, prompted))
        marked = shapesworld.marks(self._seen(task, index, clip), wanted)
        found = {name: float(values.min()) for name, values in marked.items() if not np.isnan(values).any()}
        if task.visual.stream != "video":
            return found
        true = self.source("video")[index].media.frames
        if min(task.prefixes) > 1:
            found["path_error"] = path_error(clip.frames[-1:], true[-1:])
        if (hidden := hidden_of(task, self.shape)) is not None:
            found["psnr_hole"] = psnr_of(clip.frames, true, hidden)
        motions = {thing.motion for thing in self.source("video").scene(index).objects}
        if AudioPart() in task.inputs and motions == {"bounces"}:
            found["bounces"] = float(bounces(clip.frames))
        return found

    def _seen(self, task: Task, index: int, clip: Video) -> list[Judgement]:
        """What a clip shows of each object of its scene."""
        assert task.visual is not None
        if task.visual.stream == "story":
            frames, span = self.scene_of(index)
            return [shapesworld.judge(clip.frames[frames], story=True, span=span)]
        scene = self.source("video").scene(index)
        if len(scene.objects) == 2:
            return list(shapesworld.in_order(shapesworld.judge_pair(clip.frames), scene))
        return [shapesworld.judge(clip.frames)]

    def scene_of(self, index: int) -> tuple[slice, tuple[float, float]]:
        """Which frames of a story's window are of the scene that its caption is of, and the times of the first and the
        last of them."""
        step, late = self.shape.frames - 1, self.source("story").window(index).late - (GIVEN - 1)
        first, last = max(0, -late), min(step, step - late)
        return slice(first, last + 1), ((first + late) / step, (last + late) / step)

    def _wanted(self, task: Task, index: int, names: frozenset[str]) -> list[Attributes]:
        """What it should show of each, less the attributes that nothing told."""
        assert task.visual is not None
        if task.visual.stream == "story":
            return list(shapesworld.parse_caption(self.source("story")[index].captions[0]))
        scene = self.source("video").scene(index)
        text = (shapesworld.image_caption if task.makes_pictures else shapesworld.caption)(scene)
        objects = shapesworld.parse_caption(text) if len(scene.objects) <= 2 else scene.attributes[:1]
        return [
            Attributes(**{name: getattr(one, name) if name in names else None for name in ATTRIBUTES})
            for one in objects
        ]

    def _styled(self, index: int, clip: Video) -> dict[str, float]:
        source = self.source("styled")
        found = shapesworld.judge_style(clip.frames, source.scene(index))
        style = found.style == source.style(index)
        path = found.path_error is not None and found.path_error < STRAY
        return {"style": float(style), "path": float(path), "all_right": float(style and path)}

    def _heard(self, index: int, sound: Audio) -> dict[str, float]:
        true = shapesworld.judge_sound(self.source("audio")[index].media.samples[0])
        heard = shapesworld.judge_sound(sound.samples[0], sound.rate)
        assert true.pitch is not None
        pitch = heard.pitch is not None and 1 / SEMITONE <= heard.pitch / true.pitch <= SEMITONE
        course, near = heard.motion == true.motion, zip(heard.bursts, true.bursts, strict=False)
        bursts = len(heard.bursts) == len(true.bursts) and all(abs(one - other) <= 1 / self.fps for one, other in near)
        right = {"pitch": pitch, "course": course, "bursts": bursts, "all_right": pitch and course and bursts}
        return {name: float(value) for name, value in right.items()}


def stated(task: Task, prompted: bool = True) -> frozenset[str]:
    """The attributes that follow from what goes in: with nothing going in all of those that a training clip has.

    >>> from videolm.tasks import TASKS
    >>> sorted(stated(TASKS.get("audio_to_video"), prompted=False)), len(stated(TASKS.get("audio_to_video")))
    (['motion', 'shape'], 5)
    """
    known: set[str] = set() if task.inputs else set(ATTRIBUTES)
    for part in task.inputs:
        if isinstance(part, Text):
            known |= ({"shape", "motion"} if part.content == "class" else set(ATTRIBUTES)) if prompted else set()
        elif isinstance(part, AudioPart):
            known |= {"shape", "motion"} if part.frames == "all" else {"shape"}
        elif part.frames == "all" or (part.frames == "prefix" and max(task.prefixes) > 1):
            known |= set(ATTRIBUTES)
        else:  # one frame: how it goes on, and what size it then is, is not to be seen
            known |= {"background", "colour", "shape"}
    return frozenset(known)


def hidden_of(task: Task, shape: Format) -> np.ndarray | None:
    """Which pixels (f, H, W) a task hides of a clip that goes in, if it does."""
    part = mask_of(task)
    if part is None:
        return None
    view = VIEWS.get(str(part.view))
    assert isinstance(view, Masked)
    return view.mask(*shape, False).expand(*shape).numpy()


def path_error(frames: Pixels, true: Pixels) -> float:
    """Distance in frame widths, in the last frame, between the objects of two clips (f, H, W, 3); 1 where one is
    missing."""
    made, wanted = (shapesworld.track(clip).centre[-1] for clip in (frames, true))
    distance = float(np.linalg.norm(made - wanted))
    return LOST if np.isnan(distance) else distance


def psnr_of(frames: Pixels, true: Pixels, where: np.ndarray) -> float:
    """PSNR in dB over the pixels `where` (f, H, W) of two clips (f, H, W, 3), uint8; at most 100."""
    one, other = (torch.from_numpy(clip[where]).float()[None] / 127.5 for clip in (frames, true))
    return float(psnr(one, other))


def bounces(frames: Pixels) -> bool:
    """Whether the object of a clip (f, H, W, 3) is lowest, in either half, within a frame of when it should bounce."""
    y, last = shapesworld.track(frames).centre[:, 1], len(frames) - 1
    if np.isnan(y).any():
        return False
    lowest = (int(y[: last // 2 + 1].argmax()), last // 2 + int(y[last // 2 :].argmax()))
    return all(abs(frame - contact * last) <= 1 for frame, contact in zip(lowest, CONTACTS, strict=True))
