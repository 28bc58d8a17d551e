"""`VideoLM`: prompts, pictures, clips and sounds in, clips and sounds out, by whichever task fits.

prompt, frames, samples ──► ids ──► engine ──► ids ──► codes ──► pixels, samples
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from videolm import media
from videolm.config import parse
from videolm.errors import UserError
from videolm.files import check_writable
from videolm.generate.engine import AS_IS, Decoding, decode
from videolm.generate.row import Plan, TextInput
from videolm.generate.sampling import Sampling
from videolm.media import Image, Video, write_audio, write_image, write_video
from videolm.pipeline.folder import Parts, load_model, model_folder, save_model
from videolm.pipeline.inputs import AudioInput, ImageInput, Inputs, MaskInput, VideoInput, asked_for, misfit
from videolm.sequence import Layout, lay_out
from videolm.tasks import Audio, Task, Text, Variant, Visual
from videolm.tokenizers.audio.protocol import AudioTokenizer
from videolm.tokenizers.protocol import VideoTokenizer

SUFFIXES = {"video": (".mp4", ".gif"), "image": (".png", ".jpg", ".jpeg"), "audio": (".wav", ".flac", ".mp4")}
"""What a task's output may be written as, the first by default. An .mp4 of a sound shows the clip that it is for."""

OutputType = Literal["np", "pt", "pil"]


@dataclass(frozen=True)
class VideoLMOutput:
    """Generated clips and sounds.

    Attributes:
        frames: "np": (B, T, H, W, C) float32 in [0, 1]; "pt": (B, T, C, H, W); "pil": a list of pictures a clip.
        audio: (B, 1, samples) float32 in [-1, 1], or None for a task without sound.
        audio_sampling_rate: samples a second of `audio`.
        videos: the same clips as `media.Video`; where a task makes sound alone, the clips that it is for.
        sounds: the same sounds as `media.Audio`; none without sound.
        tokens: ids drawn for each clip.
        fps: frames a second.
        variant: the task and format made.
        given: frames at the start of each clip that were given.
    """

    frames: Any
    audio: np.ndarray | None
    audio_sampling_rate: int | None
    videos: list[Video]
    sounds: list[media.Audio]
    tokens: int
    fps: float
    variant: Variant
    given: int

    @property
    def kind(self) -> str:
        """ "video", "image" or "audio": what the task makes; clips may have sound."""
        return kind_of(self.variant.task)

    def save(self, path: str | Path, overwrite: bool = False) -> list[Path]:
        """Write what was made: `clip.mp4`, or `clip-0.mp4`, `clip-1.mp4` … when there are several.

        Raises `UserError` for a suffix that the task does not write.
        """
        path, count = Path(path), max(len(self.videos), len(self.sounds))
        names = [path] if count == 1 else [path.with_stem(f"{path.stem}-{index}") for index in range(count)]
        for name in names:
            check_writable(name, overwrite)
        for index, name in enumerate(names):
            self.write(index, name, overwrite)
        return names

    def write(self, index: int, path: Path, overwrite: bool = False) -> None:
        """Write one of them. A .gif leaves the sound out."""
        suffix = path.suffix.lower()
        if suffix not in SUFFIXES[self.kind]:
            raise UserError(f"cannot write {path}: {self.variant.task.name} writes {' or '.join(SUFFIXES[self.kind])}")
        sound = self.sounds[index] if self.sounds else None
        if self.kind == "image":
            write_image(Image(self.videos[index].frames[0]), path, overwrite=overwrite)
        elif suffix in (".mp4", ".gif"):
            if not self.videos:
                raise UserError(f"cannot write {path}: there is no clip to show; write a .wav")
            write_video(self.videos[index], path, audio=None if suffix == ".gif" else sound, overwrite=overwrite)
        else:
            assert sound is not None
            write_audio(sound, path, overwrite=overwrite)


class VideoLM:
    """A model directory at work.

    >>> model = VideoLM.from_pretrained()  # doctest: +SKIP
    >>> model("a small red circle moves right on a blue background").save("clip.mp4")  # doctest: +SKIP
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
        for part in (self.tokenizer, self.text, self.lm, self.audio):
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

    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        task: str | None = None,
        image: ImageInput | Sequence[ImageInput] | None = None,
        last_image: ImageInput | Sequence[ImageInput] | None = None,
        video: VideoInput | Sequence[Video] | None = None,
        mask: MaskInput | None = None,
        structure: VideoInput | Sequence[Video] | None = None,
        audio: AudioInput | Sequence[AudioInput] | None = None,
        negative_prompt: str | None = None,
        height: int | None = None,
        width: int | None = None,
        num_frames: int | None = None,
        num_videos_per_prompt: int = 1,
        guidance_scale: float | None = None,
        guide_by: Literal["text", "all"] | None = None,
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
            prompt: one or several; `num_videos_per_prompt` clips are made of each, in order. Without any, of each of
                the pictures, clips or sounds given.
            task: by default the one that the inputs given call for.
            image: the first frame: a picture, an array (H, W, 3) or a file, cut and resized to the model's size; or a
                list of them, one for each prompt.
            last_image: the last frame, likewise.
            video: a clip, an array (f, H, W, 3) at the model's rate, a list of pictures or a file; or a list of clips,
                one for each prompt. Frames beyond those that the task takes are not used.
            mask: what to make anew in the video, in place of the task's own: a picture, white there, or a box (left,
                top, right, bottom) in shares of the picture.
            structure: flow and depth as one clip (`videolm.data.conditions.StructureMaker`).
            audio: a sound, or a file; likewise.
            negative_prompt: what guidance leads away from; by default no text.
            height, width, num_frames: of a format the model was trained on; by default its first.
            guidance_scale, guide_by, temperature, top_k, top_p: see `Sampling`; by default the model's own.
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
        values: dict[str, Any] = {
            "text": prompts or None,
            "image": image,
            "last_image": last_image,
            "video": video,
            "mask": mask,
        }
        values |= {"structure": structure, "audio": audio}
        values = {name: value for name, value in values.items() if value is not None}
        variant = self.choose(values, task, num_frames=num_frames, height=height, width=width)
        shape = variant.format
        prompts = prompts or [""] * asked_for(prompts, values)
        inputs = Inputs(
            variant.task,
            values,
            len(prompts),
            fps=self.tasks.fps,
            size=(shape.height, shape.width),
            frames=shape.frames,
            rate=None if self.audio is None else self.audio.sample_rate,
        )
        variant = inputs.fitting(variant)
        changes = {"guidance_scale": guidance_scale, "guide_by": guide_by, "temperature": temperature}
        changes |= {"top_k": top_k, "top_p": top_p}
        changes = {name: value for name, value in changes.items() if value is not None}
        sampling = parse(Sampling, self.sampling.model_dump(), changes)
        prompts = [text for text in prompts for _ in range(num_videos_per_prompt)]
        codes, tokens = self._generate(
            self.layout(variant),
            prompts,
            negative_prompt,
            inputs,
            sampling,
            _generators(generator, len(prompts)),
            callback_on_step_end,
        )
        out = self._output(codes, variant, inputs, tokens, output_type)
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
        """The variant that a call runs: see `__call__`. `given` names the inputs: "text", "image", "video", ..."""
        if (height is None) != (width is None):
            raise UserError("height and width go together")
        chosen = self.tasks.get(task) if task else self._task_for(given)
        if said := misfit(chosen, given):
            raise UserError(said)
        size = (height, width) if height is not None and width is not None else None
        return self.tasks.find(chosen.name, frames=num_frames, size=size)

    def _task_for(self, given: Collection[str]) -> Task:
        """The first task that takes exactly the inputs given, those that make clips before those that make pictures."""
        tasks = sorted(self.tasks.tasks, key=lambda task: task.makes_pictures)
        for task in tasks:
            if not misfit(task, given):
                return task
        what = " and ".join(sorted(given)) or "no input"
        raise UserError(f"no task of this model takes {what} alone; name one: {', '.join(t.name for t in tasks)}")

    @torch.inference_mode()
    def _generate(
        self,
        layout: Layout,
        prompts: list[str],
        negative_prompt: str | None,
        inputs: Inputs,
        sampling: Sampling,
        generators: list[torch.Generator],
        callback: Callable[[VideoLM, int, int, dict[str, Any]], Any] | None,
    ) -> tuple[dict[str, Tensor], int]:
        """The codes of what was made by source, and how many ids were drawn for each."""
        streams: dict[str, Tensor] = {}
        for part in layout.variant.inputs:
            if isinstance(part, Text):
                continue
            given = inputs.of(part, layout.variant).to(self.device, self.lm.dtype)
            codes = self._coder(part).encode(given)
            streams[part.source] = codes.repeat_interleave(len(prompts) // len(codes), 0)
        rows = layout.build(streams).to(self.device)
        if len(rows) != len(prompts):
            rows = rows.expand(len(prompts), -1)
        text = self._embed(prompts, layout)
        negative = self._embed([negative_prompt] * len(prompts), layout) if negative_prompt else None
        if layout.variant not in self._plans:
            self._plans[layout.variant] = Plan.of(layout)
        plan = self._plans[layout.variant]
        rows = decode(
            self.lm,
            plan,
            rows,
            sampling,
            generators,
            text,
            negative,
            layout.without_conditions(rows) if sampling.guide_by == "all" and layout.inputs else None,
            on_step=None if callback is None else lambda done, of: callback(self, done, of, {}),
            decoding=self.decoding,
        )
        drawn = sum(out.stop - out.start for out in plan.outputs if len(out.ids) > 1)
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

    def _coder(self, part: Visual | Audio) -> VideoTokenizer | AudioTokenizer:
        """What codes a part."""
        if isinstance(part, Visual):
            return self.tokenizer
        assert self.audio is not None  # or there were no layout
        return self.audio

    @torch.inference_mode()
    def _output(
        self, codes: dict[str, Tensor], variant: Variant, inputs: Inputs, tokens: int, output_type: OutputType
    ) -> VideoLMOutput:
        task, fps = variant.task, self.tasks.fps
        made = {p.kind: self._coder(p).decode(codes[p.source]).float().clamp(-1, 1).cpu() for p in task.outputs}
        clips: list[Video] = []
        if "visual" in made:
            clips = [Video.from_tensor(clip, fps) for clip in made["visual"]]
            clips = self._as_given(clips, variant, inputs)
        elif shown := next(iter(inputs.clips.values()), None):
            clips = [Video(clip.frames[: variant.format.frames], fps) for clip in _repeated(shown, len(made["audio"]))]
        sounds: list[media.Audio] = []
        rate = None
        if "audio" in made and self.audio is not None:
            rate = self.audio.sample_rate
            samples = round(variant.format.frames / fps * rate)
            sounds = [media.Audio(sound[None].numpy(), rate).fitted(samples) for sound in made["audio"]]
        frames: Any = None
        if clips:
            frames = np.stack([clip.frames for clip in clips]).astype(np.float32) / 255
            if output_type == "pt":
                frames = torch.from_numpy(frames).movedim(-1, 2)
            elif output_type == "pil":
                frames = [[PIL.Image.fromarray(frame) for frame in clip.frames] for clip in clips]
        audio = np.stack([sound.samples for sound in sounds]) if sounds else None
        return VideoLMOutput(frames, audio, rate, clips, sounds, tokens, fps, variant, variant.prefix)

    def _as_given(self, clips: list[Video], variant: Variant, inputs: Inputs) -> list[Video]:
        """The clips with the frames and pixels that were given as they were."""
        frames = np.stack([clip.frames for clip in clips])
        part = next((p for p in variant.inputs if isinstance(p, Visual) and p.frames == "prefix"), None)
        if part is not None:
            first = np.stack([clip.frames[: variant.prefix] for clip in inputs.clips[variant.task.given_as(part)]])
            frames[:, : variant.prefix] = first.repeat(len(frames) // len(first), 0)
        if shown := inputs.shown(variant):
            whole, mask = np.stack([clip.frames[: frames.shape[1]] for clip in shown[0]]), shown[1].numpy()
            frames = np.where(mask[..., None], whole.repeat(len(frames) // len(whole), 0), frames)
        return [Video(np.ascontiguousarray(each), self.tasks.fps) for each in frames]


def kind_of(task: Task) -> str:
    """ "video", "image" or "audio": what a task makes; clips may have sound."""
    return "audio" if task.visual is None else "image" if task.makes_pictures else "video"


def _repeated(values: list[Video], count: int) -> list[Video]:
    return [value for value in values for _ in range(count // len(values))]


def _generators(given: torch.Generator | Sequence[torch.Generator] | None, count: int) -> list[torch.Generator]:
    """One generator a clip: those given, or new ones seeded from the one given."""
    if isinstance(given, Sequence):
        if len(given) != count:
            raise UserError(f"{len(given)} generators were given for {count} clips")
        return list(given)
    seeds = torch.randint(2**62, (count,), generator=given)
    return [torch.Generator().manual_seed(int(seed)) for seed in seeds]
