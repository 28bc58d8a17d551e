"""A call of `VideoLM` at work: its rows while they are decoded, and what their ids show.

request ──► inputs ──► codes ──► rows ──► (engine) ──► codes ──► frames, sounds
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, TypedDict

import numpy as np
import torch
from torch import Tensor

from videolm.config import nearest
from videolm.errors import UserError
from videolm.generate.choice import likeliest
from videolm.generate.row import Row
from videolm.media import Audio, Video
from videolm.media.clip import Pixels
from videolm.pipeline.folder import Parts
from videolm.pipeline.inputs import AudioInput, ImageInput, Inputs, MaskInput, VideoInput
from videolm.pipeline.output import OutputType, VideoLMOutput, as_type
from videolm.pipeline.upscale import Upscaler
from videolm.sequence import Layout
from videolm.superres.decode import Stage
from videolm.tasks import Visual

Prompt = str | Sequence[str]

LATENTS = 4
"""Latent frames that are decoded at a time."""


class Options(TypedDict, total=False):
    """What a call of `VideoLM` may be given beside a prompt. None is as if it were left out."""

    prompt_embeds: Tensor | None
    """Prompts as `VideoLM.encode_prompt` gives them: (b, m, width)."""
    prompt_attention_mask: Tensor | None
    """(b, m): which of `prompt_embeds` are tokens; by default all."""
    negative_prompt: str | None
    """What guidance leads away from; by default no text."""
    negative_prompt_embeds: Tensor | None
    """The same as embeddings (m, width)."""
    task: str | Sequence[str] | None
    """By default the one that the inputs given call for. Several run one after the other, each on what the one before
    made; what is given goes to the first that takes it, the prompt to all."""
    image: ImageInput | Sequence[ImageInput] | None
    """The first frame: a picture, an array (H, W, 3) or a file, cut and resized to the model's size; or a list of them,
    one for each prompt."""
    last_image: ImageInput | Sequence[ImageInput] | None
    """The last frame, likewise."""
    video: VideoInput | Sequence[Video] | None
    """A clip, an array (f, H, W, 3) at the model's rate, a list of pictures or a file; or a list of clips, one for each
    prompt. Frames beyond those that the task takes are not used."""
    mask: MaskInput | None
    """What to make anew in the video, in place of the task's own: a picture, white there, or a box (left, top, right,
    bottom) in shares of the picture."""
    structure: VideoInput | Sequence[Video] | Callable[[Video], Video] | None
    """Flow and depth as one clip; among several tasks also what makes it of the clip made before
    (`videolm.data.conditions.StructureMaker`)."""
    audio: AudioInput | Sequence[AudioInput] | None
    """A sound, or a file; likewise."""
    height: int | None
    """With `width` and `num_frames` a format that the model was trained on; by default its first."""
    width: int | None
    num_frames: int | None
    num_videos_per_prompt: int
    upscale: int | None
    """Make clips so many times as high and wide by the model's super-resolution: 2, or 4 where it has two stages."""
    num_inference_steps: int | None
    """Of super-resolution; by default the model's own."""
    guidance_scale: float | None
    """This and the next ones: see `Sampling`; by default the model's own."""
    guide_by: Literal["text", "all"] | None
    temperature: float | None
    audio_temperature: float | None
    top_k: int | None
    top_p: float | None
    best_of: int | None
    generator: torch.Generator | Sequence[torch.Generator] | None
    """One for each clip, or one that seeds them all."""


class Request(Options, total=False):
    """A call as data."""

    prompt: Prompt | None


def listed(prompt: Prompt | None) -> list[str]:
    """Prompts, however many were given."""
    return [prompt] if isinstance(prompt, str) else list(prompt or [])


def check_names(request: Request) -> dict[str, Any]:
    """What is asked for, without what is None. Raises `UserError` for a name that means nothing."""
    known = [*Options.__annotations__, "prompt"]
    for name in request:
        if name not in known:
            raise UserError(f"unknown argument '{name}'; {nearest(name, known)}")
    return {name: value for name, value in request.items() if value is not None}


class Job:
    """The rows of one call, of one layout, and what they show as far as they are decoded.

    Args:
        rows: as many for each of the inputs' clips and sounds, in their order; `best_of` one after another for a clip.
        stages: of super-resolution, which clips go through at the end.
        texts: (m, width) for each clip, embeddings of its prompt's tokens, if it has one.
    """

    def __init__(
        self,
        parts: Parts,
        layout: Layout,
        inputs: Inputs,
        rows: Sequence[Row],
        stages: Sequence[Stage] = (),
        texts: Sequence[Tensor] = (),
    ):
        self.parts, self.layout, self.inputs, self.rows = parts, layout, inputs, list(rows)
        self.stages = list(stages)
        self.count = len(self.rows) // self.rows[0].sampling.best_of
        """Clips, or sounds, that come out."""
        self._kept = self.rows if self.count == len(self.rows) else None
        self._texts: Sequence[Tensor | None] = texts or [None] * self.count
        self._made: list[Pixels] = []
        self._decoders = [parts.tokenizer.stream_decoder(LATENTS) for _ in range(self.count)]
        """Of each clip its own: with the size of a batch PyTorch's rounding changes."""
        self._decoded = 0

    @property
    def drawn(self) -> int:
        """Ids drawn in every row."""
        return min(row.drawn for row in self.rows)

    @property
    def of(self) -> int:
        """Ids to draw in each row."""
        return self.rows[0].of

    @torch.inference_mode()
    def frames(self) -> Pixels | None:
        """Frames (B, f, H, W, 3) that every row shows by now and that were not had before; None where none are, and of
        the best of several rows before all are done."""
        part, done = self.layout.variant.task.visual, all(row.done for row in self.rows)
        if part is None or (self._kept is None and not done):
            return None
        ready = self._latents(part)
        found: list[Tensor] = []
        if ready > self._decoded:
            codes = self._codes()[part.source][:, self._decoded : ready]
            found += _whole(decoder.push(own[None]) for decoder, own in zip(self._decoders, codes, strict=True))
            self._decoded = ready
        if done:
            found += _whole(decoder.finish() for decoder in self._decoders)
        if not found:
            return None
        fps = self.parts.tasks.fps
        pixels = np.stack([Video.from_tensor(clip.float(), fps).frames for clip in torch.cat(found, 2)])
        pixels = self._as_given(pixels, sum(made.shape[1] for made in self._made))
        self._made.append(pixels)
        return pixels

    @torch.inference_mode()
    def output(self, to: OutputType) -> VideoLMOutput:
        """All of it, once every row is done."""
        self.frames()
        variant, fps = self.layout.variant, self.parts.tasks.fps
        videos: list[Video] = []
        if self._made:
            videos = [Video(np.ascontiguousarray(clip), fps) for clip in np.concatenate(self._made, 1)]
            videos = self._larger(videos) if self.stages else videos
        elif shown := next(iter(self.inputs.clips.values()), None):
            videos = [Video(clip.frames[: variant.format.frames], fps) for clip in _repeated(shown, self.count)]
        sounds: list[Audio] = []
        if variant.task.audio is not None:
            assert self.parts.audio is not None  # or there were no layout
            rate = self.parts.audio.sample_rate
            samples = round(variant.format.frames / fps * rate)
            for own in self._codes()[variant.task.audio.source]:
                sound = self.parts.audio.decode(own[None]).float().clamp(-1, 1).cpu()
                sounds.append(Audio(sound.numpy(), rate).fitted(samples))
        return VideoLMOutput.of(videos, sounds, self.of, fps, variant, to)

    @property
    def kept(self) -> list[Row]:
        """The row of each clip: of several the likeliest, once all are done."""
        if self._kept is None:
            self._kept = likeliest(self.parts.lm, self.rows, len(self.rows) // self.count)
        return self._kept

    @property
    def codes(self) -> Tensor:
        """(B, t, h, w) of the clips made, once every row is done."""
        assert self.layout.variant.task.visual is not None
        return self._codes()[self.layout.variant.task.visual.source]

    def _larger(self, videos: Sequence[Video]) -> list[Video]:
        """Clips after the stages of super-resolution, each alone, which begin with the codes that were drawn."""
        larger, found = Upscaler(self.parts.tokenizer, self.stages), []
        for video, row, text, codes in zip(videos, self.kept, self._texts, self.codes, strict=True):
            generator = torch.Generator().manual_seed(row.seed)
            found.append(Video(np.stack(list(larger(video.frames, generator, text, codes))), video.fps))
        return found

    def _latents(self, part: Visual) -> int:
        """Latent frames whose codes are all known in every row."""
        known = min(row.known for row in self.kept)
        spans = [span for span in self.layout.spans if span.source == part.source]
        each = spans[0].grid.h * spans[0].grid.w
        return sum(min(span.grid.t, max(0, known - span.start) // each) for span in spans)

    def _codes(self) -> dict[str, Tensor]:
        return self.layout.codes(torch.tensor([row.ids for row in self.kept], device=self.parts.lm.device))

    def _as_given(self, pixels: Pixels, start: int) -> Pixels:
        """The frames from `start` on, with the frames and pixels that were given as they were."""
        variant, inputs, stop = self.layout.variant, self.inputs, start + pixels.shape[1]
        part = next((p for p in variant.inputs if isinstance(p, Visual) and p.frames == "prefix"), None)
        if part is not None and start < variant.prefix:
            clips = _repeated(inputs.clips[variant.task.given_as(part)], len(pixels))
            first = np.stack([clip.frames[start : min(stop, variant.prefix)] for clip in clips])
            pixels[:, : first.shape[1]] = first
        if shown := inputs.shown(variant):
            whole = np.stack([clip.frames[start:stop] for clip in _repeated(shown[0], len(pixels))])
            pixels = np.where(shown[1][start:stop].numpy()[..., None], whole, pixels)
        return pixels


class FrameStream:
    """Frames as they are decoded: an iterator over the next frame of each clip, in the call's `output_type`.

    Args:
        steps: decodes the job, a step each time it is asked for the next.
    """

    def __init__(self, job: Job, steps: Iterator[None], to: OutputType):
        self._job, self._to = job, to
        self._frames = self._decoded(steps)

    def __iter__(self) -> FrameStream:
        return self

    def __next__(self) -> Any:
        """ "np": (B, H, W, C) float32 in [0, 1]; "pt": (B, C, H, W); "pil": a picture for each clip."""
        return as_type(next(self._frames), self._to)

    @property
    def output(self) -> VideoLMOutput:
        """All of it, sound included; frames that were not taken are passed over."""
        for _ in self._frames:
            pass
        return self._job.output(self._to)

    def _decoded(self, steps: Iterator[None]) -> Iterator[Pixels]:
        yield from _each(self._job.frames())  # those given
        for _ in steps:
            yield from _each(self._job.frames())


def _whole(clips: Iterable[Tensor | None]) -> list[Tensor]:
    """Clips as one batch; none where there are none: decoders give some all at once."""
    found = [clip for clip in clips if clip is not None]
    return [torch.cat(found)] if found else []


def _each(pixels: Pixels | None) -> Iterator[Pixels]:
    return iter(()) if pixels is None else iter(pixels.swapaxes(0, 1))


def _repeated(values: Sequence[Video], count: int) -> list[Video]:
    return [value for value in values for _ in range(count // len(values))]
