"""One job at work: from a stored request to a call of the model, and from what it makes to files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL.Image
import torch

from videolm.files import atomic_path
from videolm.generate.sampling import generators
from videolm.media import Audio, Image, Video, read_video, write_audio, write_image, write_video
from videolm.media.clip import Pixels
from videolm.pipeline.chain import run_chain
from videolm.pipeline.output import VideoLMOutput
from videolm.pipeline.story import Scene, texts
from videolm.pipeline.upscale import Upscaler
from videolm.pipeline.video_lm import VideoLM
from videolm.serve.folders import Folders
from videolm.serve.limits import Limits
from videolm.serve.store import Record
from videolm.superres.decode import Stage

CELLS = 16
"""Pictures of a sprite sheet, at most."""
WHOLE = 0.97
"""Share that is done when all ids are drawn."""
SIDE = 256
"""Pixels of the longer side of a thumbnail and of a cell."""


class Stopped(Exception):
    """A job is to end without a word: whoever stopped it has said why, or it begins again."""


class Progress:
    """How far a job is, written by its thread and read by another.

    Attributes:
        share: of the whole, 0 to 1.
        frames: how many can be seen.
    """

    def __init__(self) -> None:
        self.share, self.frames = 0.0, 0
        self._from, self._by = 0.0, WHOLE
        self._stop: BaseException | None = None

    def part(self, start: float, length: float) -> None:
        """The next call is this part of the whole."""
        self._from, self._by = start * WHOLE, length * WHOLE

    def step(self, drawn: int, of: int) -> None:
        """A call has so many of its ids. Raises what `stop` was given."""
        if self._stop is not None:
            raise self._stop
        self.share = max(self.share, min(WHOLE, self._from + self._by * drawn / of))

    def stop(self, error: BaseException) -> None:
        """End the job at its next step."""
        self._stop = error


def make(model: VideoLM, record: Record, folders: Folders, limits: Limits, progress: Progress) -> dict[str, Any]:
    """Make a job's clip and write it to its folder. Returns what its video object tells of it.

    Raises `UserError` for a request that cannot be met.
    """
    making = _Making(model, record, folders, limits, progress)
    request = record.request
    if request["scenes"]:
        making.long([Scene(*scene) for scene in request["scenes"]])
    elif len(request["tasks"]) > 1:
        making.chain(request["tasks"])
    else:
        making.once(request["tasks"][0])
    return making.finish()


class _Making:
    def __init__(self, model: VideoLM, record: Record, folders: Folders, limits: Limits, progress: Progress):
        self.model, self.record, self.folders, self.limits, self.progress = model, record, folders, limits, progress
        request, self.folder = record.request, folders.of(record.id)
        self.asked: dict[str, Any] = {**request["options"], "prompt": request["prompt"]}
        self.asked |= {name: str(self.folder / file) for name, file in request["given"].items()}
        if request["box"] is not None:
            self.asked["mask"] = tuple(request["box"])
        self.asked["generator"] = generators(request["seed"], 1)
        self.clip: Video | None = None
        self.sound: Audio | None = None
        self.kind, self.tokens = "video", 0

    def once(self, task: str) -> None:
        """A call, whose frames can be seen as they come."""
        self.progress.part(0, 0.5 if self.record.request["factor"] > 1 else 1)
        job = self.model.job(**{**self.asked, "task": task})
        for _ in self.model.steps([job]):
            if (pixels := job.frames()) is not None:
                self._show(pixels[0])
        self._keep(job.output("np"))

    def chain(self, tasks: Sequence[str]) -> None:
        """Calls, each on what the one before made."""

        def call(**asked: Any) -> VideoLMOutput:
            self.progress.part(len(calls) / len(tasks), 1 / len(tasks))
            calls.append(str(asked["task"]))
            return self.model(**asked)

        calls = list[str]()
        self._keep(run_chain(self.model.tasks, tasks, self.asked, call))

    def long(self, scenes: Sequence[Scene]) -> None:
        """Scenes one after the other, or one that is longer or shorter than the model's clips."""
        fps, clips, sounds = self.model.tasks.fps, list[Pixels](), list[Audio]()
        options = {name: value for name, value in self.asked.items() if name != "prompt"}
        factor, steps = options.pop("upscale", 1), options.pop("num_inference_steps", None)
        stages = self.model.stages(factor, steps)
        if self.record.request["extends"]:
            shape, most = self.model.tasks.formats[0], round(self.limits.film_seconds * fps)
            size = (options.pop("height", shape.height), options.pop("width", shape.width))
            options["video"] = read_video(options["video"], fps=fps, size=size, max_frames=most)
            clips.append(options["video"].frames)
        else:
            options["task"] = self.record.request["tasks"][0]
        total = max(1, round(sum(scene.seconds for scene in scenes) * fps))
        whole, done = (0.5 if stages else 1.0), 0
        each = whole * min(1.0, self.model.tasks.formats[0].frames / total)
        self.progress.part(0, each)
        for chunk in self.model.story(scenes, **options):
            self._show(chunk.videos[0].frames)
            clips.append(chunk.videos[0].frames)
            sounds += chunk.sounds
            self.tokens += chunk.tokens
            done += len(chunk.videos[0])
            self.progress.part(whole * done / total, each)
        self.clip = Video(np.concatenate(clips), fps)
        if stages:
            self.clip = self._larger(self.clip, stages, scenes, len(self.clip) - done)
        if sounds:
            self.sound = Audio(np.concatenate([sound.samples for sound in sounds], 1), sounds[0].rate)

    def _larger(self, clip: Video, stages: Sequence[Stage], scenes: Sequence[Scene], given: int) -> Video:
        """A long clip, of which so many frames were given, after super-resolution."""
        done, told = 0, texts(self.model, scenes)

        def on_step() -> None:
            nonlocal done
            done += 1
            self.progress.step(done, of)

        larger = Upscaler(self.model.tokenizer, stages, on_step)
        of = larger.steps(len(clip), clip.height, clip.width)
        self.progress.part(0.5, 0.5)
        seeded = torch.Generator().manual_seed(self.record.request["seed"])
        return Video(np.stack(list(larger(clip.frames, seeded, lambda frame: told(frame - given)))), clip.fps)

    def _keep(self, out: VideoLMOutput) -> None:
        self.clip = out.videos[0] if out.videos else None
        self.sound = out.sounds[0] if out.sounds else None
        self.kind, self.tokens = out.kind, out.tokens

    def _show(self, frames: Pixels) -> None:
        """Let frames (f, H, W, 3) be seen."""
        for frame in frames:
            with atomic_path(self.folders.frame(self.record.id, self.progress.frames)) as temporary:
                PIL.Image.fromarray(frame).save(temporary, quality=80)
            self.progress.frames += 1

    def finish(self) -> dict[str, Any]:
        """Write the files, what is asked for first last."""
        clip, sound, told = self.clip, self.sound, dict(self.record.shown)
        if clip is not None:
            told |= {"seconds": f"{len(clip) / clip.fps:.10g}", "size": f"{clip.width}x{clip.height}"}
            told |= {"frames": len(clip), "fps": clip.fps}
            self._picture("thumbnail.webp", _small(clip.frames[0]))
            self._picture("spritesheet.webp", _sheet(clip.frames))
        if self.kind == "image":
            assert clip is not None
            write_image(Image(clip.frames[0]), self.folder / "made.png", overwrite=True)
        elif clip is not None:
            write_video(clip, self.folder / "made.mp4", audio=sound, overwrite=True)
        else:
            assert sound is not None
            write_audio(sound, self.folder / "made.wav", overwrite=True)
        return {**told, "tokens": self.tokens, "kind": self.kind}

    def _picture(self, name: str, picture: PIL.Image.Image) -> None:
        with atomic_path(self.folder / name) as temporary:
            picture.save(temporary, quality=85)


def _small(frame: Pixels) -> PIL.Image.Image:
    picture = PIL.Image.fromarray(frame)
    picture.thumbnail((SIDE, SIDE))
    return picture


def _sheet(frames: Pixels) -> PIL.Image.Image:
    """Frames of a clip side by side, evenly spaced in time, four a row."""
    chosen = np.linspace(0, len(frames) - 1, min(CELLS, len(frames))).round().astype(int)
    cells = [_small(frames[index]) for index in chosen]
    width, height = cells[0].size
    columns = min(4, len(cells))
    sheet = PIL.Image.new("RGB", (columns * width, -(-len(cells) // columns) * height))
    for index, cell in enumerate(cells):
        sheet.paste(cell, (index % columns * width, index // columns * height))
    return sheet
