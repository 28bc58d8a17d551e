"""`VideoLM`: prompts, pictures, clips and sounds in, clips and sounds out, by whichever task fits.

prompt, frames, samples ──► ids ──► engine ──► ids ──► codes ──► pixels, samples
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Self, Unpack, overload

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from videolm.config import parse
from videolm.errors import UserError
from videolm.generate.engine import AS_IS, Decoder, Decoding, rows_of
from videolm.generate.row import Plan, TextInput
from videolm.generate.sampling import Sampling
from videolm.media import Video
from videolm.pipeline.chain import run_chain
from videolm.pipeline.folder import Parts, load_model, model_folder, save_model
from videolm.pipeline.inputs import MEDIA, Inputs, asked_for, choose
from videolm.pipeline.job import FrameStream, Job, Options, Prompt, Request, check_names, listed
from videolm.pipeline.output import OutputType, VideoLMOutput, check_type
from videolm.pipeline.story import Chunk, Scene, tell
from videolm.pipeline.upscale import Upscaler
from videolm.sequence import Layout, lay_out
from videolm.superres.decode import MaskedSampling, Stage
from videolm.tasks import Audio, Task, Text, Variant, Visual
from videolm.tokenizers.audio.protocol import AudioTokenizer
from videolm.tokenizers.protocol import VideoTokenizer

NO_STAGES = "this model has no super-resolution: train one (videolm train shapesworld/upscale shows how)"
OnStep = Callable[["VideoLM", int, int, dict[str, Any]], Any]


class VideoLM:
    """A model directory at work.

    >>> model = VideoLM.from_pretrained()  # doctest: +SKIP
    >>> model("a small red circle moves right on a white background").save("clip.mp4")  # doctest: +SKIP
    """

    def __init__(self, parts: Parts, decoding: Decoding = AS_IS):
        self.parts, self.decoding = parts, decoding
        self.tokenizer, self.text, self.lm, self.audio = parts.tokenizer, parts.text, parts.lm, parts.audio
        self.tasks, self.vocabulary, self.sampling = parts.tasks, parts.vocabulary, parts.sampling
        self._layouts: dict[Variant, Layout] = {}
        self._plans: dict[Variant, Plan] = {}

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        device: str | None = None,
        decoding: Decoding = AS_IS,
    ) -> Self:
        """Load a model directory, a model on the hub, or, without a name, the one that ships.

        Args:
            decoding: how ids are computed.

        Raises `UserError` for a model that is missing, incomplete or pickled.
        """
        model = cls(load_model(model_folder(name), dtype), decoding)
        return model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write a model directory; `folder` must not exist."""
        save_model(folder, self.parts, dtype)

    def to(self, device: str | torch.device) -> Self:
        for part in (self.tokenizer, self.text, self.lm, self.audio, *(stage.model for stage in self.parts.stages)):
            if part is not None:
                part.to(device)
        return self

    def add_tasks(self, tasks: Sequence[Task]) -> Self:
        """Tasks that the model was not trained with, from now on; their special tokens take reserved ids.

        Raises `UserError` for a task that clashes with one of the model's, or looks like one.
        """
        self.tasks = self.tasks.with_tasks(tasks)
        self.vocabulary = self.vocabulary.with_specials(self.tasks.specials)
        self.parts = self.parts._replace(tasks=self.tasks, vocabulary=self.vocabulary)
        return self

    @property
    def device(self) -> torch.device:
        return self.lm.device

    def layout(self, variant: Variant) -> Layout:
        """The row of a variant (kept once made)."""
        if variant not in self._layouts:
            sound = None if self.audio is None else self.audio.grid
            self._layouts[variant] = lay_out(variant, self.tasks, self.vocabulary, self.tokenizer.grid, sound)
        return self._layouts[variant]

    @overload
    def __call__(
        self,
        prompt: Prompt | None = None,
        *,
        stream: Literal[False] = False,
        output_type: OutputType = "np",
        return_dict: bool = True,
        callback_on_step_end: OnStep | None = None,
        **options: Unpack[Options],
    ) -> VideoLMOutput: ...

    @overload
    def __call__(
        self,
        prompt: Prompt | None = None,
        *,
        stream: Literal[True],
        output_type: OutputType = "np",
        return_dict: bool = True,
        callback_on_step_end: OnStep | None = None,
        **options: Unpack[Options],
    ) -> FrameStream: ...

    def __call__(
        self,
        prompt: Prompt | None = None,
        *,
        stream: bool = False,
        output_type: OutputType = "np",
        return_dict: bool = True,
        callback_on_step_end: OnStep | None = None,
        **options: Unpack[Options],
    ) -> Any:
        """Generate clips: a `VideoLMOutput`.

        Args:
            stream: return a `FrameStream` at once, an iterator over frames as they are decoded; `best_of` is then 1
                unless given.
            output_type: of frames: "np", "pt" or "pil".
            return_dict: False returns the tuple (frames,) instead, as in diffusers.
            callback_on_step_end: called with (self, ids drawn, ids to draw, {}).
            prompt: one or several; `num_videos_per_prompt` clips are made of each, in order. Without any, of each of
                the pictures, clips or sounds given.
            options: task, image, video, num_frames, guidance_scale, generator, ...: see `Options`.

        Raises:
            UserError: inputs that do not fit the task, or a size, length or prompt that the model does not have.
        """
        check_type(output_type)
        task = options.get("task")
        if task is not None and not isinstance(task, str):
            if stream:
                raise UserError("several tasks are not streamed: call the last one alone with stream=True")
            settings = {"output_type": output_type, "callback_on_step_end": callback_on_step_end}
            asked = check_names({"prompt": prompt, **options})
            out = run_chain(self.tasks, task, {**asked, **settings}, self)
            return out if return_dict else (out.frames,)
        if stream and options.get("best_of") is None:
            options["best_of"] = 1
        job = self.job(prompt=prompt, **options)
        steps = self.steps([job], callback_on_step_end)
        if stream:
            if job.stages:
                raise UserError("frames are streamed as they are decoded, before super-resolution: leave upscale out")
            if job.layout.variant.task.visual is None:
                raise UserError(f"{job.layout.variant.task.name} makes no frames, so there are none to stream")
            return FrameStream(job, steps, output_type)
        for _ in steps:
            pass
        out = job.output(output_type)
        return out if return_dict else (out.frames,)

    def story(
        self,
        scenes: Sequence[Scene | tuple[Prompt | None, float]],
        *,
        overlap: int | None = None,
        **options: Unpack[Options],
    ) -> Iterator[Chunk]:
        """Clips of any length: scenes one after the other, each going on from the last frames of the one before.

        >>> scenes = [("a small red circle moves right", 2.0), ("a small red circle moves up", 1.5)]
        >>> frames = [chunk.videos[0].frames for chunk in VideoLM.from_pretrained().story(scenes)]  # doctest: +SKIP

        Args:
            scenes: prompts, and how long each is shown: seconds, rounded to frames. A prompt may be a list, one for
                each of several stories told at once. One scene is a long clip.
            overlap: frames that a clip goes on from; by default the most in a second that a task of the model takes.
            options: `video` (at the model's rate) and its `audio` are what the story goes on from; otherwise the first
                clip is made as by a call, of `image` and so on, with sound if `task` makes sound.

        Yields:
            What each call added, as soon as it is there. Only the last frames are kept.

        Raises:
            UserError: a model that cannot go on from a clip, and as a call does.
        """
        told = [Scene(*scene) for scene in scenes]
        if not told or min(scene.seconds for scene in told) <= 0:
            raise UserError("a story has scenes, each of more than 0 seconds")
        return tell(self, told, overlap, options)

    def batch(self, requests: Sequence[Request], output_type: OutputType = "np") -> list[VideoLMOutput]:
        """Several calls at once, of any tasks; those whose rows have one length are decoded together.

        What comes out of each is what it would have been alone. Raises `UserError` as a call does.
        """
        check_type(output_type)
        jobs = [self.job(**request) for request in requests]
        self.decode(jobs)
        return [job.output(output_type) for job in jobs]

    def decode(self, jobs: Sequence[Job]) -> None:
        """Decode the rows of jobs to their ends, those of one length together."""
        together = defaultdict[int, list[Job]](list)
        for job in jobs:
            together[job.layout.length].append(job)
        for alike in together.values():
            for _ in self.steps(alike):
                pass

    @torch.inference_mode()
    def job(self, **request: Unpack[Request]) -> Job:
        """The rows of a call, to be decoded by a `Decoder`. Raises `UserError` as the call does."""
        asked = check_names(request)
        prompts, embeds = self._prompts(asked)
        each = asked.get("num_videos_per_prompt", 1)
        if each < 1:
            raise UserError(f"num_videos_per_prompt is {each}, and must be at least 1")
        values = {name: asked[name] for name in MEDIA if name in asked}
        if prompts or embeds:
            values["text"] = prompts or embeds
        size = {name: asked.get(name) for name in ("num_frames", "height", "width")}
        if isinstance(asked.get("task"), list | tuple):
            raise UserError("several tasks one after the other are a call of their own")
        variant = self.choose(values, asked.get("task"), **size)
        shape = variant.format
        wanted = asked_for(prompts, values) if embeds is None else len(embeds[0])
        inputs = Inputs(
            variant.task,
            values,
            wanted,
            fps=self.tasks.fps,
            size=(shape.height, shape.width),
            frames=shape.frames,
            rate=None if self.audio is None else self.audio.sample_rate,
        )
        layout = self.layout(inputs.fitting(variant))
        changes = {name: asked[name] for name in Sampling.model_fields if name in asked}
        sampling = self.sampling.with_changes(changes)
        count = wanted * each
        streams: dict[str, Tensor] = {}
        for part in layout.variant.inputs:
            if not isinstance(part, Text):
                given = inputs.of(part, layout.variant).to(self.device, self.lm.dtype)
                codes = torch.cat([self._coder(part).encode(own[None]) for own in given])  # as it is in any batch
                streams[part.source] = codes.repeat_interleave(count // len(codes), 0)
        rows = layout.build(streams).to(self.device)
        rows = rows.expand(count, -1) if len(rows) != count else rows
        text = None
        if layout.text is not None:
            text = self._text(embeds or self.encode_prompt(prompts or [""] * wanted), layout.text.start, each)
        stages = self.stages(asked.get("upscale", 1), asked.get("num_inference_steps"))
        if stages and layout.variant.task.visual is None:
            raise UserError(f"{layout.variant.task.name} makes no clips to upscale")
        bare = layout.without_conditions(rows) if sampling.guide_by == "all" and layout.inputs else None
        seeds = _generators(asked.get("generator"), count)
        negative = None if layout.text is None else self._negative(asked, layout.text.start, count)
        if layout.variant not in self._plans:
            self._plans[layout.variant] = Plan.of(layout)
        plan = self._plans[layout.variant]
        told = [] if text is None else [own[there] for own, there in zip(text.embeddings, text.mask, strict=True)]
        found = rows_of(plan, rows, sampling, seeds, text, negative, bare)
        return Job(self.parts, layout, inputs, found, stages, told)

    def stages(self, factor: int, steps: int | None = None, **changes: Any) -> list[Stage]:
        """The stages of super-resolution that make a clip `factor` times as high and wide.

        Args:
            steps: of each, by default its own.
            changes: of other settings of `MaskedSampling`.

        Raises `UserError` for a factor that the model's stages do not reach.
        """
        count = factor.bit_length() - 1
        if factor < 1 or 2**count != factor:
            raise UserError(f"upscale is {factor}: a stage doubles height and width, so it is 2, 4, ...")
        if count > len(self.parts.stages):
            has = 2 ** len(self.parts.stages)
            raise UserError(f"this model has super-resolution to {has} times, not {factor}" if has > 1 else NO_STAGES)
        changes |= {} if steps is None else {"steps": steps}
        given = self.parts.stages[:count]
        return [stage._replace(sampling=parse(MaskedSampling, stage.sampling.model_dump(), changes)) for stage in given]

    def upscale(
        self,
        video: Video,
        prompt: str | None = None,
        *,
        factor: int = 2,
        num_inference_steps: int | None = None,
        generator: torch.Generator | None = None,
        codes: Tensor | None = None,
        **changes: Any,
    ) -> Video:
        """A clip of any size and length at `factor` times its height and width.

        Args:
            codes: (t, h, w) that the clip shows, if they are known, of a clip no longer than those trained on.
            changes: of other settings of `MaskedSampling`: guidance_scale, low_guidance_scale, temperature, ...

        Raises `UserError` for a factor that the model's stages do not reach.
        """
        larger = Upscaler(self.tokenizer, self.stages(factor, num_inference_steps, **changes))
        (seeded,) = _generators(generator, 1)
        text = None if prompt is None else self.encode_prompt(prompt)[0][0]
        frames = list(larger(video.frames, seeded, text, codes))
        return Video(np.stack(frames), video.fps)

    def encode_prompt(self, prompt: str | Sequence[str]) -> tuple[Tensor, Tensor]:
        """Prompts as embeddings (b, m, width), and which of them are tokens (b, m).

        Raises `UserError` for one with more tokens than the model takes.
        """
        prompts = listed(prompt)
        ids = self.text.tokenize(prompts)
        for each, row in zip(prompts, ids, strict=True):
            if len(row) > self.tasks.text_length:
                raise UserError(
                    f"the prompt has {len(row)} tokens and the model takes {self.tasks.text_length}; "
                    f"shorten it: {each[:60]!r}…"
                )
        with torch.inference_mode():
            alone = [self.text([row]) for row in ids]  # as it is in any batch
        embeddings = pad_sequence([embedding[0] for embedding, _ in alone], batch_first=True)
        return embeddings, pad_sequence([mask[0] for _, mask in alone], batch_first=True)

    def choose(
        self,
        given: Collection[str],
        task: str | None = None,
        *,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
    ) -> Variant:
        """The variant that a call runs: see `Options`. `given` names the inputs: "text", "image", "video", ..."""
        return choose(self.tasks, given, task, num_frames=num_frames, height=height, width=width)

    def steps(self, jobs: Sequence[Job], callback: OnStep | None = None) -> Iterator[None]:
        """Decode jobs whose rows have one length, a step each time the next is asked for."""
        rows = [row for job in jobs for row in job.rows]
        decoder = Decoder(self.lm, len(rows[0].ids), self.decoding)
        decoder.add(rows)
        told = 0
        while decoder.busy:
            decoder.step()
            drawn = min(job.drawn for job in jobs)
            if callback is not None and drawn > told:
                callback(self, told := drawn, jobs[0].of, {})
            yield

    def _prompts(self, asked: dict[str, Any]) -> tuple[list[str], tuple[Tensor, Tensor] | None]:
        """Prompts as text, or as embeddings and their mask; there may be none."""
        prompt, embeds = asked.get("prompt"), asked.get("prompt_embeds")
        if embeds is None:
            if "prompt_attention_mask" in asked:
                raise UserError("prompt_attention_mask goes with prompt_embeds")
            return listed(prompt), None
        if prompt is not None:
            raise UserError("prompt and prompt_embeds are two forms of one thing: give one")
        return [], self._checked(embeds, asked.get("prompt_attention_mask"))

    def _checked(self, embeds: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Embeddings that were given (b, m, width) or (m, width), and which of them are tokens."""
        embeds = embeds[None] if embeds.ndim == 2 else embeds
        width, most = self.lm.config.text_size, self.tasks.text_length
        if embeds.ndim != 3 or embeds.shape[2] != width or not 0 < embeds.shape[1] <= most:
            raise UserError(f"prompt embeddings are (b, m, {width}), m at most {most}, not {tuple(embeds.shape)}")
        mask = torch.ones(embeds.shape[:2], dtype=torch.bool) if mask is None else mask.bool().reshape(embeds.shape[:2])
        return embeds.to(self.device, self.lm.dtype), mask.to(self.device)

    def _text(self, given: tuple[Tensor, Tensor], start: int, each: int) -> TextInput:
        """Prompts in their place in the row, `each` times."""
        return TextInput(given[0].repeat_interleave(each, 0), given[1].repeat_interleave(each, 0), start)

    def _negative(self, asked: dict[str, Any], start: int, count: int) -> TextInput | None:
        if "negative_prompt_embeds" in asked:
            return self._text(self._checked(asked["negative_prompt_embeds"], None), start, count)
        prompt = asked.get("negative_prompt")
        return self._text(self.encode_prompt(prompt), start, count) if prompt else None

    def _coder(self, part: Visual | Audio) -> VideoTokenizer | AudioTokenizer:
        """What codes a part."""
        if isinstance(part, Visual):
            return self.tokenizer
        assert self.audio is not None  # or there were no layout
        return self.audio


def _generators(given: torch.Generator | Sequence[torch.Generator] | None, count: int) -> list[torch.Generator]:
    """One generator a clip: those given, or new ones seeded from the one given."""
    if isinstance(given, Sequence):
        if len(given) != count:
            raise UserError(f"{len(given)} generators were given for {count} clips")
        return list(given)
    seeds = torch.randint(2**62, (count,), generator=given)
    return [torch.Generator().manual_seed(int(seed)) for seed in seeds]
