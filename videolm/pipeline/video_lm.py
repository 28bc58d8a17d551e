"""`VideoLM`: prompts, pictures and clips in, clips out, by whichever task fits.

prompt, frames ──► ids ──► engine ──► ids ──► codes ──► pixels
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from videolm.config import parse
from videolm.errors import UserError
from videolm.generate.engine import Output, TextInput, decode
from videolm.generate.sampling import Sampling
from videolm.media import Image, Video, read_image, read_video, write_video
from videolm.media.fit import place
from videolm.pipeline.folder import Parts, load_model, model_folder, save_model
from videolm.sequence import Layout, lay_out
from videolm.tasks import Task, Variant

ImageInput = Image | PIL.Image.Image | np.ndarray | str | os.PathLike[str]
VideoInput = Video | np.ndarray | Sequence[PIL.Image.Image] | str | os.PathLike[str]
OutputType = Literal["np", "pt", "pil"]


@dataclass(frozen=True)
class VideoLMOutput:
    """Generated clips.

    Attributes:
        frames: "np": (B, T, H, W, C) float32 in [0, 1]; "pt": (B, T, C, H, W); "pil": a list of pictures a clip.
        videos: the same clips as `media.Video`.
        tokens: ids drawn for each clip.
        fps: frames a second.
        variant: the task and format made.
        given: frames at the start of each clip that were given.
    """

    frames: Any
    videos: list[Video]
    tokens: int
    fps: float
    variant: Variant
    given: int

    def save(self, path: str | Path, overwrite: bool = False) -> list[Path]:
        """Write the clips: `clip.mp4`, or `clip-0.mp4`, `clip-1.mp4` … when there are several."""
        path = Path(path)
        names = (
            [path]
            if len(self.videos) == 1
            else [path.with_stem(f"{path.stem}-{index}") for index in range(len(self.videos))]
        )
        for video, name in zip(self.videos, names, strict=True):
            write_video(video, name, overwrite=overwrite)
        return names


class VideoLM:
    """A model directory at work.

    >>> model = VideoLM.from_pretrained()  # doctest: +SKIP
    >>> model("a small red circle moves right on a blue background").save("clip.mp4")  # doctest: +SKIP
    """

    def __init__(self, parts: Parts):
        self.parts = parts
        self.tokenizer, self.text, self.lm = parts.tokenizer, parts.text, parts.lm
        self.tasks, self.vocabulary, self.sampling = parts.tasks, parts.vocabulary, parts.sampling
        self._layouts: dict[Variant, Layout] = {}

    @classmethod
    def from_pretrained(
        cls, name: str | Path | None = None, *, dtype: torch.dtype = torch.float32, device: str | None = None
    ) -> Self:
        """Load a model directory, a model on the hub, or, without a name, the one that ships.

        Raises `UserError` for a model that is missing, incomplete or pickled.
        """
        model = cls(load_model(model_folder(name), dtype))
        return model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write a model directory; `folder` must not exist."""
        save_model(folder, *self.parts, dtype=dtype)

    def to(self, device: str | torch.device) -> Self:
        for part in (self.tokenizer, self.text, self.lm):
            part.to(device)
        return self

    @property
    def device(self) -> torch.device:
        return self.lm.device

    def layout(self, variant: Variant) -> Layout:
        """The row of a variant (kept once made)."""
        if variant not in self._layouts:
            self._layouts[variant] = lay_out(variant, self.tasks, self.vocabulary, self.tokenizer.grid)
        return self._layouts[variant]

    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        task: str | None = None,
        image: ImageInput | Sequence[ImageInput] | None = None,
        video: VideoInput | Sequence[Video] | None = None,
        negative_prompt: str | None = None,
        height: int | None = None,
        width: int | None = None,
        num_frames: int | None = None,
        num_videos_per_prompt: int = 1,
        guidance_scale: float | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        output_type: OutputType = "np",
        return_dict: bool = True,
        callback_on_step_end: Callable[[VideoLM, int, int, dict[str, Any]], Any] | None = None,
    ) -> VideoLMOutput:
        """Generate clips.

        Args:
            prompt: one or several; `num_videos_per_prompt` clips are made of each, in order.
            task: by default the one that the inputs given call for.
            image: the first frame: a picture, an array (H, W, 3) or a file, cut and resized to the model's size; or a
                list of them, one for each prompt.
            video: the first frames: a clip, an array (f, H, W, 3) at the model's rate, a list of pictures or a file;
                or a list of clips, one for each prompt. Frames beyond those that the task takes are not used.
            negative_prompt: what guidance leads away from; by default no text.
            height, width, num_frames: of a format the model was trained on; by default its first.
            guidance_scale, temperature, top_k, top_p: see `Sampling`; by default the model's own.
            generator: one for each clip, or one that seeds them all.
            callback_on_step_end: called with (self, ids drawn, ids to draw, {}).
            return_dict: False returns the tuple (frames,) instead, as in diffusers.

        Raises:
            UserError: inputs that do not fit the task, or a size, length or prompt that the model does not have.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt or [])
        if output_type not in get_args(OutputType):
            raise UserError(f"unknown output_type {output_type!r}; one of {', '.join(get_args(OutputType))}")
        if num_videos_per_prompt < 1:
            raise UserError(f"num_videos_per_prompt is {num_videos_per_prompt}, and must be at least 1")
        inputs = {"text": prompts or None, "image": image, "video": video}
        given = {name for name, value in inputs.items() if value is not None}
        variant = self.choose(given, task, num_frames=num_frames, height=height, width=width)
        frames = None
        if variant.prefix:
            values = _one_each(image if video is None else video, len(prompts) or 1)
            clips = [self._clip(value, variant) for value in values]
            variant = self._with_prefix(variant, min(len(clip) for clip in clips))
            given_frames = np.stack([clip.frames[: variant.prefix] for clip in clips])
            frames = np.repeat(given_frames, len(prompts or [""]) * num_videos_per_prompt // len(clips), axis=0)
        changes = {"guidance_scale": guidance_scale, "temperature": temperature, "top_k": top_k, "top_p": top_p}
        changes = {name: value for name, value in changes.items() if value is not None}
        sampling = parse(Sampling, self.sampling.model_dump(), changes)
        prompts = [text for text in prompts or [""] for _ in range(num_videos_per_prompt)]
        codes, tokens = self._generate(
            self.layout(variant),
            prompts,
            negative_prompt,
            frames,
            sampling,
            _generators(generator, len(prompts)),
            callback_on_step_end,
        )
        out = self._output(codes, variant, frames, tokens, output_type)
        return out if return_dict else (out.frames,)  # type: ignore[return-value]  # as diffusers does

    def choose(
        self,
        given: Collection[str],
        task: str | None = None,
        *,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
    ) -> Variant:
        """The variant that a call runs: see `__call__`. `given` names the inputs: "text", "image", "video"."""
        if (height is None) != (width is None):
            raise UserError("height and width go together")
        chosen = self.tasks.get(task) if task else self._task_for(given)
        if misfit := _misfit(chosen, given):
            raise UserError(misfit)
        size = (height, width) if height is not None and width is not None else None
        return self.tasks.find(chosen.name, frames=num_frames, size=size)

    def _with_prefix(self, variant: Variant, available: int) -> Variant:
        """The variant of the same task and format that is given the most of the `available` frames."""
        task, shape, _ = variant
        fitting = [v for v in task.variants([shape]) if v.prefix <= available]
        if not fitting:
            raise UserError(
                f"{task.name} needs at least {min(task.prefixes)} frames at {self.tasks.fps:g} a second, "
                f"the video has {available}"
            )
        return max(fitting, key=lambda v: v.prefix)

    def _task_for(self, given: Collection[str]) -> Task:
        """The first task that takes exactly the inputs given, those that make clips before those that make pictures."""
        tasks = sorted(self.tasks.tasks, key=lambda task: task.output.stream == "image")
        for task in tasks:
            if not _misfit(task, given):
                return task
        what = " and ".join(sorted(given)) or "no input"
        raise UserError(f"no task of this model takes {what} alone; name one: {', '.join(t.name for t in tasks)}")

    def _clip(self, value: ImageInput | VideoInput | None, variant: Variant) -> Video:
        """Frames given, at the model's rate and the variant's size."""
        size, fps = (variant.format.height, variant.format.width), self.tasks.fps
        if variant.task.image_input:
            if isinstance(value, str | os.PathLike):
                value = read_image(value, size=size)
            pixels = value.pixels if isinstance(value, Image) else Image.from_array(np.asarray(value)).pixels
            return Video(place(pixels, size, "crop")[None], fps)
        if isinstance(value, str | os.PathLike):
            return read_video(value, fps=fps, size=size, max_frames=variant.format.frames)
        if isinstance(value, Video):
            if value.fps != fps:
                raise UserError(f"the clip has {value.fps:g} frames a second, this model {fps:g}: read_video resamples")
            video = value
        else:
            array = np.stack([np.asarray(picture) for picture in value]) if isinstance(value, Sequence) else value
            video = Video.from_array(array, fps)  # type: ignore[arg-type]
        return Video(np.stack([place(frame, size, "crop") for frame in video.frames]), fps)

    @torch.inference_mode()
    def _generate(
        self,
        layout: Layout,
        prompts: list[str],
        negative_prompt: str | None,
        frames: np.ndarray | None,
        sampling: Sampling,
        generators: list[torch.Generator],
        callback: Callable[[VideoLM, int, int, dict[str, Any]], Any] | None,
    ) -> tuple[Tensor, int]:
        """The clips' codes (b, t, h, w), and how many ids were drawn for each."""
        streams: dict[str, Tensor] = {}
        if frames is not None:
            clips = torch.stack([Video(each, self.tasks.fps).to_tensor() for each in frames])
            codes = self.tokenizer.encode(clips.to(self.device, self.lm.dtype))
            streams[layout.variant.task.output.stream] = codes
        rows = layout.build(streams).to(self.device)
        if len(rows) != len(prompts):
            rows = rows.expand(len(prompts), -1)
        text = self._embed(prompts, layout)
        negative = self._embed([negative_prompt] * len(prompts), layout) if negative_prompt else None
        outputs = [Output(span.kind, span.start, span.stop, span.ids) for span in layout.outputs]
        drawn = sum(out.stop - out.start for out in outputs if len(out.ids) > 1)
        rows = decode(
            self.lm,
            rows,
            layout.positions.to(self.device),
            layout.prefix,
            outputs,
            sampling,
            generators,
            text,
            negative,
            on_step=None if callback is None else lambda done, of: callback(self, done, of, {}),
        )
        return layout.codes(rows), drawn

    def _embed(self, prompts: list[str], layout: Layout) -> TextInput | None:
        """Prompts as text for the rows of a layout; None for a task without text."""
        if layout.text is None:
            return None
        ids = self.text.tokenize(prompts)
        for prompt, row in zip(prompts, ids, strict=True):
            if len(row) > self.tasks.text_length:
                raise UserError(
                    f"the prompt has {len(row)} tokens and the model takes {self.tasks.text_length}; "
                    f"shorten it: {prompt[:60]!r}…"
                )
        embeddings, mask = self.text(ids)
        return TextInput(embeddings, mask, layout.text.start)

    @torch.inference_mode()
    def _output(
        self, codes: Tensor, variant: Variant, frames: np.ndarray | None, tokens: int, output_type: OutputType
    ) -> VideoLMOutput:
        video = self.tokenizer.decode(codes).float().clamp(-1, 1).cpu()  # b c f H W
        clips = [Video.from_tensor(clip, self.tasks.fps) for clip in video]
        if frames is not None:  # the frames given stand in the clip as they were given
            clips = [
                Video(np.concatenate([first, clip.frames[len(first) :]]), clip.fps)
                for first, clip in zip(frames, clips, strict=True)
            ]
        made: Any = np.stack([clip.frames for clip in clips]).astype(np.float32) / 255
        if output_type == "pt":
            made = torch.from_numpy(made).movedim(-1, 2)
        elif output_type == "pil":
            made = [[PIL.Image.fromarray(frame) for frame in clip.frames] for clip in clips]
        return VideoLMOutput(made, clips, tokens, self.tasks.fps, variant, variant.prefix)


def _one_each(value: Any, prompts: int) -> list[Any]:
    """The inputs of a call: the one given for all prompts, or one for each."""
    several = isinstance(value, list | tuple) and bool(value) and not isinstance(value[0], PIL.Image.Image)
    if several and len(value) != prompts:
        raise UserError(f"{len(value)} inputs were given for {prompts} prompts")
    return list(value) if several else [value]


def _misfit(task: Task, given: Collection[str]) -> str | None:
    """What keeps a task from these inputs, or None when they fit."""
    takes = {"text": task.text is not None, "image": task.image_input, "video": task.video_input}
    needs = {**takes, "text": task.text is not None and not task.text.optional}
    names = {"text": "a prompt", "image": "an image", "video": "a video"}
    missing = [names[name] for name, needed in needs.items() if needed and name not in given]
    if missing:
        return f"{task.name} needs {' and '.join(missing)}"
    surplus = [names[name] for name in sorted(given) if not takes[name]]
    return f"{task.name} takes no {surplus[0].split()[-1]}" if surplus else None


def _generators(given: torch.Generator | Sequence[torch.Generator] | None, count: int) -> list[torch.Generator]:
    """One generator a clip: those given, or new ones seeded from the one given."""
    if isinstance(given, Sequence):
        if len(given) != count:
            raise UserError(f"{len(given)} generators were given for {count} clips")
        return list(given)
    seeds = torch.randint(2**62, (count,), generator=given)
    return [torch.Generator().manual_seed(int(seed)) for seed in seeds]
