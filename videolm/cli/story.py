"""Tell a story: scenes one after the other, each going on from the last frames of the one before, as one film.

The file of prompts has a scene a line: SECONDS<TAB>PROMPT, or PROMPT alone, which is shown as long as one clip of the
model. The story begins with the first prompt, with --image, or where --video ends, which then comes first in the film.

examples:
  videolm story --prompts scenes.txt --out story.mp4
  videolm story --prompts scenes.txt --video clip.mp4 --overlap 9 --out longer.mp4 --json
  videolm story --prompts scenes.txt --upscale 2 --out large.mp4
  videolm story --prompts scenes.txt --stream | mpv -
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from videolm import shapesworld
from videolm.cli.arguments import (
    add_decoding,
    add_force,
    add_model,
    add_sampling,
    add_upscaling,
    check_upscaling,
    decoding_of,
    sampling_of,
)
from videolm.cli.output import emit, say
from videolm.errors import UserError
from videolm.files import check_writable
from videolm.generate.sampling import generators
from videolm.media import Audio, Video, read_audio, stream_frames, video_chunks, write_frames
from videolm.media.clip import Pixels
from videolm.pipeline import VideoLM
from videolm.pipeline.folder import model_folder, model_hash
from videolm.pipeline.story import Chunk, Scene, texts
from videolm.pipeline.upscale import Upscaler
from videolm.progress import progress

OPEN = False

Piece = tuple[Pixels, Audio | None]
"""Frames (f, H, W, 3), and what is heard with them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prompts", metavar="FILE", required=True, help="a scene a line: [SECONDS<TAB>]PROMPT")
    parser.add_argument("--task", metavar="TASK", help="what makes the first clip, for example one with sound")
    parser.add_argument("--image", metavar="FILE", help="the first frame")
    parser.add_argument("--video", metavar="FILE", help="a film that the story goes on from")
    parser.add_argument("--audio", metavar="FILE", help="what is heard with --video; may be the same file")
    parser.add_argument("--seed", metavar="S", type=int, default=0, help="(default: 0)")
    parser.add_argument("--out", metavar="FILE", default="outputs/story.mp4", help="(default: outputs/story.mp4)")
    add_upscaling(parser)
    add_telling(parser)
    add_sampling(parser)
    add_decoding(parser)
    add_model(parser)
    add_force(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a clip on stdout, and one of the film")


def add_telling(parser: argparse.ArgumentParser) -> None:
    """How clips are joined, for a command that makes long ones."""
    group = parser.add_argument_group("long clips")
    group.add_argument("--overlap", metavar="N", type=int, help="frames gone on from (default: the most in a second)")
    group.add_argument("--judge", action="store_true", help="what ShapesWorld's judge sees in each clip, in the JSON")
    group.add_argument("--stream", action="store_true", help="the film to stdout as it is made, for a player")


def run(args: argparse.Namespace) -> None:
    folder = model_folder(args.model)
    model = VideoLM.from_pretrained(folder, decoding=decoding_of(args))
    check_upscaling(args)
    scenes = read_scenes(Path(args.prompts), model.tasks.formats[0].frames / model.tasks.fps)
    options = {"task": args.task, "image": args.image, "generator": generators(args.seed, 1), **sampling_of(args)}
    tell(args, model, scenes, options, Path(args.out), f"{folder.name}@{model_hash(folder)}")


def tell(
    args: argparse.Namespace, model: VideoLM, scenes: list[Scene], options: dict[str, Any], path: Path, name: str
) -> None:
    """Make a story's film.

    Args:
        args: with `video`, `audio`, `force`, `json` and those of `add_upscaling` and `add_telling`.
        options: of the calls, with a `generator`.
        path: of the film, unless it goes to stdout.
        name: of the model, for the JSON.
    """
    if args.judge and not args.json:
        raise UserError("--judge speaks in the JSON: add --json")
    if args.stream and args.json:
        raise UserError("--stream writes the film to stdout, where --json writes: give one")
    if not args.stream and check_writable(path, args.force).suffix.lower() != ".mp4":
        raise UserError(f"cannot write {path}: a long clip is written as .mp4")
    stages = [] if args.upscale is None else model.stages(args.upscale, args.upscale_steps)
    began, fps, (generator,) = time.monotonic(), model.tasks.fps, options["generator"]
    film = _Given(model, args.video, args.audio)
    count = 0

    def pieces() -> Iterator[Piece]:
        nonlocal count
        for piece in film.pieces():
            count += len(piece[0])
            yield piece
        for chunk in model.story(scenes, overlap=args.overlap, **{**options, **film.options()}):
            count += len(chunk.videos[0])
            bar.update(len(chunk.videos[0]))
            if args.json:
                emit(_about(chunk, scenes[chunk.scene], args.judge))
            yield chunk.videos[0].frames, chunk.sounds[0] if chunk.sounds else None

    with progress(round(sum(scene.seconds for scene in scenes) * fps), "story", "frame") as bar:
        frames, audio = _apart(pieces())
        if stages:
            told, seeded = texts(model, scenes), torch.Generator().manual_seed(generator.initial_seed())
            frames = Upscaler(model.tokenizer, stages)(frames, seeded, lambda frame: told(frame - film.frames))
        if args.stream:
            stream_frames(frames, fps, sys.stdout.buffer, audio=audio)
        else:
            write_frames(frames, fps, path, audio=audio, overwrite=args.force)
    seconds = round(time.monotonic() - began, 3)
    if args.json:
        heard = str(path) if audio is not None else None
        record = {"path": str(path), "audio_path": heard, "frames": count, "given": film.frames, "fps": fps}
        emit({**record, "seed": generator.initial_seed(), "seconds": seconds, "model": name})
    elif not args.stream:
        say(f"{path}: {count} frames, {count / fps:.2f} s, made in {seconds:.1f} s")


def read_scenes(path: Path, usual: float) -> list[Scene]:
    """The scenes of a file, `usual` seconds where it does not say. Raises `UserError` for a file that is none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    scenes = []
    for number, line in enumerate(lines, 1):
        seconds, tab, prompt = line.partition("\t")
        if not line.strip():
            continue
        try:
            scenes.append(Scene(prompt.strip(), float(seconds)) if tab else Scene(line.strip(), usual))
        except ValueError as error:
            raise UserError(f"{path}, line {number}: before the tab stand seconds, not {seconds!r}") from error
    if not scenes:
        raise UserError(f"{path} has no scenes: write one a line, SECONDS<TAB>PROMPT")
    return scenes


class _Given:
    """The film that a story goes on from, read as it is written: only its last frames stay.

    Attributes:
        frames: so many were read.
    """

    def __init__(self, model: VideoLM, video: str | None, audio: str | None):
        self.frames, self._video, self._last = 0, video, list[Piece]()
        shape, self._fps = model.tasks.formats[0], model.tasks.fps
        self._size, self._most = (shape.height, shape.width), shape.frames
        self._sound: Audio | None = None
        if audio is not None:
            if video is None:
                raise UserError("--audio is what is heard with --video: give both")
            if model.audio is None:
                raise UserError("this model has no audio tokenizer, so it takes no sound")
            self._sound = read_audio(audio, rate=model.audio.sample_rate, channels=1)

    def pieces(self) -> Iterator[Piece]:
        """All of it, a clip at a time."""
        if self._video is None:
            return
        for clip in video_chunks(self._video, frames=self._most, fps=self._fps, size=self._size):
            piece = clip.frames, self._heard(self.frames, self.frames + len(clip))
            self.frames += len(clip)
            self._last = [*self._last[-1:], piece]
            yield piece

    def options(self) -> dict[str, Any]:
        """What a story is given of it: its last frames."""
        if self._video is None:
            return {}
        last = np.concatenate([frames for frames, _ in self._last])[-self._most :]
        heard = self._heard(self.frames - len(last), self.frames)
        return {"video": Video(last, self._fps), **({} if heard is None else {"audio": heard})}

    def _heard(self, start: int, stop: int) -> Audio | None:
        """What is heard in some of its frames."""
        if self._sound is None:
            return None
        begin, end = (round(frame / self._fps * self._sound.rate) for frame in (start, stop))
        part = self._sound.samples[:, begin:end]
        return Audio(np.pad(part, ((0, 0), (0, end - begin - part.shape[1]))), self._sound.rate)


def _apart(pieces: Iterator[Piece]) -> tuple[Iterator[Pixels], Iterator[Audio] | None]:
    """Frames, and sound if there is any, each to be asked for bit by bit; what is wrong with the first is said now."""
    first = next(pieces)
    pieces = itertools.chain([first], pieces)
    if first[1] is None:
        return (frame for frames, _ in pieces for frame in frames), None
    shown, heard = itertools.tee(pieces)
    return (frame for frames, _ in shown for frame in frames), (sound for _, sound in heard if sound is not None)


def _about(chunk: Chunk, scene: Scene, judge: bool) -> dict[str, Any]:
    """What the JSON says of a clip."""
    record: dict[str, Any] = {
        "scene": chunk.scene,
        "prompt": scene.prompt,
        "task": chunk.variant.task.name,
        "start": chunk.start,
        "frames": len(chunk.videos[0]),
        "given": chunk.variant.prefix,
        "tokens": chunk.tokens,
        "colour_distance": round(chunk.colour_distance, 4),
        "sharpness": round(chunk.sharpness, 4),
    }
    if judge:
        record["attributes"] = asdict(shapesworld.judge(chunk.videos[0].frames, story=chunk.scene > 0))
    return record
