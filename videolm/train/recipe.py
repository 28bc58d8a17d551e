"""A recipe: one YAML that runs from raw clips to a model folder, in resumable stages.

    data ──► [image tokenizer ──►] tokenizer [──► its decoder] [──► token shards ──► text encoder + LM ──► model folder]

Every stage leaves its result in the run folder by rename; `--resume` goes on with the first one that is missing. A
recipe without a language model ends with the tokenizer. Several processes train together under `torchrun` or the
`deepspeed` launcher; what one can do alone, the first one does.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from videolm.config import Config, dump_yaml, merge, nearest, parse, read_yaml
from videolm.data.example import InTurn, Source
from videolm.data.shards import Shard, tokenize
from videolm.data.sources import DataConfig, ShapesWorldData
from videolm.errors import UserError
from videolm.files import atomic_path
from videolm.generate.sampling import Sampling
from videolm.model.config import LMConfig, PrefixLMConfig
from videolm.model.prefix_lm import PrefixLM
from videolm.pipeline.folder import AUDIO_TOKENIZER, TOKENIZER, Parts, save_model
from videolm.registry import Registry
from videolm.sequence import lay_out
from videolm.shapes import Format
from videolm.tasks import TASKS, Task
from videolm.tasks.file import load_tasks
from videolm.tasks.task_set import TaskSet
from videolm.tasks.views import VIEWS
from videolm.tokenizers.audio.protocol import AUDIO_TOKENIZERS, AudioTokenizer
from videolm.tokenizers.protocol import VIDEO_TOKENIZERS, VideoTokenizer
from videolm.tokenizers.text.t5 import T5Settings, TextEncoder
from videolm.train.audio_tokenizer import AudioTraining, train_audio_tokenizer
from videolm.train.engine import EngineConfig, device, rank, wait_for_all
from videolm.train.language_model import LMTraining, train_language_model
from videolm.train.tokenizer import DecoderTraining, ImageTraining, TokenizerTraining, train_tokenizer
from videolm.vocabulary import Vocabulary

PRESET_SECTIONS = ("tokenizer", "audio_tokenizer", "lm")


def _settings_of(registry: Registry[Any]) -> BeforeValidator:
    """The settings of the registered tokenizer that `name` says."""

    def settings(value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        if "name" not in value:
            raise ValueError(f"name must be given: one of {', '.join(registry)}")
        return parse(registry.get(str(value["name"])).Settings, value)

    return BeforeValidator(settings)


TokenizerConfig = Annotated[SerializeAsAny[Config], _settings_of(VIDEO_TOKENIZERS)]
"""The config of any tokenizer in `VIDEO_TOKENIZERS`."""
AudioTokenizerConfig = Annotated[SerializeAsAny[Config], _settings_of(AUDIO_TOKENIZERS)]
"""The config of any tokenizer in `AUDIO_TOKENIZERS`."""


class Recipe(Config):
    """What `videolm train` runs. `configs/recipe/` holds those that ship."""

    summary: str
    """One line: what this makes, from what, and how long it takes."""
    out: str
    """The run folder."""
    seed: int = 0
    data: DataConfig
    formats: tuple[Format, ...] = (Format(17, 64, 64),)
    """(frames, height, width) of the clips."""
    fps: Annotated[float, Field(gt=0)] = 8.0
    text_length: Annotated[int, Field(ge=1)] = 64
    tasks: dict[str, Annotated[float, Field(gt=0)]] = {}
    """Tasks of the language model by name, with their share of its training steps."""
    task_file: str = ""
    """A Python file that declares tasks of your own."""
    tokenizer: TokenizerConfig | None = None
    tokenizer_data: DataConfig | None = None
    """What the tokenizer learns from, where that is not `data`."""
    tokenizer_streams: Annotated[tuple[str, ...], Field(min_length=1)] = ("video",)
    """The streams of it that the tokenizer sees in turn: clips as they are, "styled", "structure", "story"."""
    image_training: ImageTraining | None = None
    """A first stage on pictures, from which the tokenizer of clips is inflated."""
    tokenizer_training: TokenizerTraining = TokenizerTraining()
    decoder_training: DecoderTraining | None = None
    """A last stage in which the codes stay what they are and the tokenizer's decoder learns alone."""
    audio_tokenizer: AudioTokenizerConfig | None = None
    """The codec of sound, where one is wanted."""
    audio_data: DataConfig | None = None
    """What the codec learns from, where that is not `data`."""
    audio_training: AudioTraining = AudioTraining()
    text: T5Settings = T5Settings()
    lm: LMConfig | None = None
    """Without one the recipe makes a tokenizer alone."""
    lm_training: LMTraining = LMTraining()
    engine: EngineConfig = EngineConfig()
    sampling: Sampling = Sampling()
    """What the finished model samples with unless told otherwise."""
    evaluation_samples: Annotated[int, Field(ge=0)] = 0
    """Captions that the finished model is judged on (ShapesWorld only); the scores go into its model card."""

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        for name in {**self.tasks, **self.lm_training.examples}:
            if name not in self.known_tasks:
                raise ValueError(f"unknown task '{name}'; {nearest(name, self.known_tasks)}")
        if self.tokenizer is None and self.audio_tokenizer is None:
            raise ValueError("there is nothing to make: give a tokenizer or an audio_tokenizer")
        if self.lm is not None and self.tokenizer is None:
            raise ValueError("a language model needs a tokenizer")
        sounding = [name for name in self.tasks if "audio" in self.known_tasks[name].sources]
        if sounding and self.audio_tokenizer is None:
            raise ValueError(f"{sounding[0]} has sound: give an audio_tokenizer")
        if bool(self.tasks) != (self.lm is not None):
            raise ValueError("a language model needs tasks, and tasks a language model: give both lm and tasks")
        if self.evaluation_samples and self.lm is None:
            raise ValueError("evaluation_samples needs a language model: `videolm evaluate tokenizer` measures without")
        if self.lm_training.first_stage and len({self.known_tasks[name].makes_pictures for name in self.tasks}) < 2:
            raise ValueError("lm_training.first_stage needs tasks that make pictures and tasks that make clips")
        if self.tasks:
            _ = self.task_set  # which may look alike
        return self

    @cached_property
    def known_tasks(self) -> dict[str, Task]:
        """The tasks that ship and those of `task_file`."""
        known = {name: TASKS.get(name) for name in TASKS}
        for task in load_tasks(self.task_file) if self.task_file else ():
            if known.setdefault(task.name, task) != task:
                raise UserError(f"{self.task_file}: a task '{task.name}' ships; choose another name for yours")
        return known

    @property
    def token_sources(self) -> tuple[str, ...]:
        """Token streams that the tasks are trained on."""
        return tuple(dict.fromkeys(name for task in self.tasks for name in self.known_tasks[task].sources))

    @property
    def token_data(self) -> DataConfig:
        """What they are made from: where a task has sound, films that have some, so that both are at one index."""
        if "audio" not in self.token_sources or isinstance(self.data, ShapesWorldData):
            return self.data
        return self.data.model_copy(update={"sound": True})

    @property
    def task_set(self) -> TaskSet:
        tasks = tuple(self.known_tasks[name] for name in self.tasks)
        settings = {"tasks": tasks, "formats": self.formats, "fps": self.fps, "text_length": self.text_length}
        return parse(TaskSet, settings)


def recipe_names() -> list[str]:
    """Names of the recipes that ship, as `videolm train` takes them."""
    return sorted(_names(_configs() / "recipe"))


def load_recipe(name: str, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """A recipe by the name of one that ships or the path of a YAML file, with dotted overrides.

    A `tokenizer` or `lm` section given as a string, or its `base:`, names a preset in `configs/` or a YAML file, and
    the recipe's own `base:` a recipe to start from.
    Raises `UserError` for an unknown recipe, preset, key or value.
    """
    changes = {key: _chosen(key, value) for key, value in (overrides or {}).items()}
    return parse(Recipe, _read(name), changes, source=name)


def _chosen(key: str, value: Any) -> Any:
    """An override; the name of a preset is what it says."""
    is_name = key in PRESET_SECTIONS and isinstance(value, str) and re.fullmatch(r"[\w/.-]+", value)
    return _section(key, value) if is_name and value != "null" else value


def _section(section: str, name: str) -> dict[str, Any]:
    return read_yaml(name) if name.endswith((".yaml", ".yml")) else _preset(section, name)


def _read(name: str) -> dict[str, Any]:
    data = _section("recipe", name)
    base = _read(data.pop("base")) if "base" in data else {}
    for section in PRESET_SECTIONS:
        value = data.get(section)
        if isinstance(value, dict) and "base" in value:
            preset = _section(section, value.pop("base"))
            data[section] = merge(preset, value)
        elif isinstance(value, str):
            data[section] = _section(section, value)
        else:
            continue
        base.pop(section, None)  # a preset is whole
    return merge(base, data)


def _preset(section: str, name: str) -> dict[str, Any]:
    folder = _configs() / section
    path = folder / f"{name}.yaml"
    if not path.is_file():
        hint = nearest(name, _names(folder))
        raise UserError(f"unknown {section} '{name}'; {hint}; or give the path of a .yaml file")
    return read_yaml(path)


def _names(folder: Path) -> list[str]:
    return [path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml")]


def _configs() -> Path:
    return Path(str(files("videolm.configs")))


class Run:
    """A recipe at work in its run folder."""

    def __init__(self, recipe: Recipe, resume: bool = False):
        """Make the run folder, or enter it when `resume`.

        Raises `UserError` when the folder exists and `resume` is not set, or holds the run of another recipe.
        """
        self.recipe, self.folder = recipe, Path(recipe.out)
        if rank() == 0:
            self._enter(resume)
        wait_for_all()
        torch.manual_seed(recipe.seed)

    def _enter(self, resume: bool) -> None:
        recipe = self.recipe
        written = self.folder / "recipe.yaml"
        if written.exists():
            if not resume:
                raise UserError(f"{self.folder} holds a run already: go on with --resume, or choose another --out")
            before = parse(Recipe, read_yaml(written), source=str(written))
            changed = [k for k in Recipe.model_fields if getattr(before, k) != getattr(recipe, k)]
            if changed:
                raise UserError(
                    f"{written} differs from this recipe in '{changed[0]}': resume with the same settings, "
                    "or choose another --out"
                )
        elif resume:
            raise UserError(f"there is no run in {self.folder} to resume; leave --resume out")
        elif self.folder.exists() and any(self.folder.iterdir()):
            raise UserError(f"{self.folder} is not empty: choose another --out")
        if not written.exists():
            self._open_all()  # what is wrong with the data is said before anything is written
        self.folder.mkdir(parents=True, exist_ok=True)
        if not written.exists():
            with atomic_path(written) as path:
                path.write_text(dump_yaml(recipe))

    def train(self) -> Path:
        """Run every stage that is not done; returns the folder of the model, or of the tokenizer where it is all."""
        recipe, model = self.recipe, self.folder / "model"
        if model.exists():
            return model
        audio = None if recipe.audio_tokenizer is None else self.audio_tokenizer()
        if recipe.tokenizer is None:
            return self.folder / AUDIO_TOKENIZER
        tokenizer = self.tokenizer()
        if recipe.lm is None:
            return self.folder / TOKENIZER
        text, lm = self.language_model(tokenizer, audio)
        tasks, vocabulary = recipe.task_set, self.vocabulary(tokenizer, audio)
        if rank() == 0:
            parts = Parts(tokenizer, text, lm, vocabulary, tasks, recipe.sampling, audio)
            save_model(model, parts, dtype=torch.float16)
            shutil.rmtree(self.folder / "lm_training" / "checkpoints")
        wait_for_all()
        return model

    def _open_all(self) -> None:
        """Open every source that a stage will read."""
        recipe = self.recipe
        for split in ("train", "validation"):
            if recipe.tokenizer is not None:
                for stream in recipe.tokenizer_streams:
                    self.source(stream, split, recipe.tokenizer_data)
            if recipe.audio_tokenizer is not None:
                self.source("audio", split, recipe.audio_data)
            for name in recipe.token_sources:
                self.source(name.partition(".")[0], split, recipe.token_data)

    def source(self, stream: str, split: Any, data: DataConfig | None = None) -> Source[Any]:
        """Examples of a stream, from `data` or else the recipe's own."""
        shape = self.recipe.formats[0]
        shape = Format(1, shape.height, shape.width) if stream == "image" else shape
        return (data or self.recipe.data).open(stream, shape, self.recipe.fps, split)

    def vocabulary(self, tokenizer: VideoTokenizer, audio: AudioTokenizer | None = None) -> Vocabulary:
        sizes = {"visual_size": tokenizer.codebook_size, "audio_levels": 0}
        if audio is not None:
            sizes |= {"audio_levels": audio.levels, "audio_size": audio.codebook_size}
        return Vocabulary(**sizes).with_specials(self.recipe.task_set.specials)

    def tokenizer(self) -> VideoTokenizer:
        """The trained video tokenizer: read when its stages are done, else trained."""
        recipe = self.recipe
        if recipe.tokenizer is None:
            raise UserError("the recipe has no tokenizer section, so there is no video tokenizer to train")
        kind = VIDEO_TOKENIZERS.get(recipe.tokenizer.name)  # type: ignore[attr-defined]  # each has one
        done, start, pictures = (self.folder / name for name in (TOKENIZER, TOKENIZER + "_start", "image_tokenizer"))
        if done.exists():
            return kind.from_pretrained(done).to(device())
        torch.manual_seed(recipe.seed)
        fresh = kind(recipe.tokenizer)
        for shape in recipe.formats:
            fresh.grid(*shape)  # a format that does not fit is said before training
        if recipe.lm is not None and not fresh.first_frame_alone:
            raise UserError(
                f"{fresh.config.name} does not code a first frame alone, which a language model's tasks need: "
                "leave lm and tasks out, or take another tokenizer"
            )
        if recipe.image_training is not None:
            if not pictures.exists():
                image = kind(fresh.config.image()).to(device())
                self._train_tokenizer(image, recipe.image_training, pictures)
            fresh.inflate(kind.from_pretrained(pictures))
        if recipe.decoder_training is None:
            self._train_tokenizer(fresh.to(device()), recipe.tokenizer_training, done)
        else:
            if not start.exists():
                self._train_tokenizer(fresh.to(device()), recipe.tokenizer_training, start)
            self._train_tokenizer(kind.from_pretrained(start).to(device()), recipe.decoder_training, done)
        return kind.from_pretrained(done).to(device())

    def _train_tokenizer(self, tokenizer: VideoTokenizer, config: DecoderTraining, done: Path) -> None:
        recipe, work = self.recipe, self.folder / f"{config.trains}_training"
        streams = ("image",) if config.trains == "image_tokenizer" else recipe.tokenizer_streams
        train_tokenizer(
            tokenizer,
            InTurn([self.source(stream, "train", recipe.tokenizer_data) for stream in streams]),
            self.source(streams[0], "validation", recipe.tokenizer_data),
            config,
            recipe.engine,
            folder=work,
            seed=recipe.seed,
            fps=recipe.fps,
        )
        _finish(done, tokenizer.save_pretrained, work)

    def audio_tokenizer(self) -> AudioTokenizer:
        """The trained audio tokenizer: read when its stage is done, else trained."""
        recipe, done = self.recipe, self.folder / AUDIO_TOKENIZER
        if recipe.audio_tokenizer is None:
            raise UserError("the recipe has no audio_tokenizer section, so there is no audio tokenizer to train")
        kind = AUDIO_TOKENIZERS.get(recipe.audio_tokenizer.name)  # type: ignore[attr-defined]  # each has one
        if not done.exists():
            torch.manual_seed(recipe.seed)
            work = self.folder / "audio_training"
            tokenizer = kind(recipe.audio_tokenizer).to(device())
            train_audio_tokenizer(
                tokenizer,
                self.source("audio", "train", recipe.audio_data),
                self.source("audio", "validation", recipe.audio_data),
                recipe.audio_training,
                recipe.engine,
                folder=work,
                seed=recipe.seed,
            )
            _finish(done, tokenizer.save_pretrained, work)
        return kind.from_pretrained(done).to(device())

    def language_model(
        self, tokenizer: VideoTokenizer, audio: AudioTokenizer | None = None
    ) -> tuple[TextEncoder, PrefixLM]:
        """The trained text encoder and language model; token shards are made where they are missing."""
        recipe, tasks = self.recipe, self.recipe.task_set
        if recipe.lm is None:
            raise UserError("the recipe has no lm section, so there is no language model to train")
        vocabulary = self.vocabulary(tokenizer, audio)
        torch.manual_seed(recipe.seed)
        text = self.text_encoder()
        shards, held = (self.shards(tokenizer, audio, text, split) for split in ("train", "validation"))
        sizes = ("special_size", "visual_size", "audio_levels", "audio_size")
        config = PrefixLMConfig(recipe.lm, **{name: getattr(vocabulary, name) for name in sizes}, text_size=text.width)
        lm = PrefixLM(config)
        work = self.folder / "lm_training"
        sound = None if audio is None else audio.grid
        layouts = [lay_out(variant, tasks, vocabulary, tokenizer.grid, sound) for variant in tasks.variants()]
        train_language_model(
            lm.to(device()),
            text.to(device()),
            layouts,
            recipe.tasks,
            shards,
            held,
            recipe.lm_training,
            recipe.engine,
            frozen_text=recipe.text.frozen,
            folder=work,
            seed=recipe.seed,
        )
        return text, lm

    def text_encoder(self) -> TextEncoder:
        """The encoder before training: the pretrained one, or a new one whose pieces are kept in the run folder."""
        settings = self.recipe.text
        if settings.pretrained:
            return TextEncoder.from_pretrained(settings.pretrained)
        start = self.folder / "text_encoder_start"
        if not start.exists():
            captions = self.source("video", "train").captions()
            _finish(start, TextEncoder.from_captions(settings, captions or ["a clip"]).save_pretrained)
        return TextEncoder.from_pretrained(start)

    def shards(
        self, tokenizer: VideoTokenizer, audio: AudioTokenizer | None, text: TextEncoder, split: str
    ) -> dict[str, Shard]:
        """Token shards of every source that the tasks need."""
        made = {}
        for name in self.recipe.token_sources:
            stream, _, view = name.partition(".")
            source = self.source(stream, split, self.recipe.token_data)
            if split == "validation" and not len(source):
                made[name] = Shard(self.folder / "tokens" / "train" / name)
                continue
            folder = self.folder / "tokens" / split / name
            if rank() == 0:
                coder = audio if stream == "audio" and audio is not None else tokenizer
                seen_by = VIEWS.get(view) if view else None
                tokenize(source, coder, text, folder, text_length=self.recipe.text_length, view=seen_by)
            wait_for_all()
            made[name] = Shard(folder)
        return made


def _finish(folder: Path, save: Callable[[Path], object], work: Path | None = None) -> None:
    """Save a stage's result by rename, then drop the checkpoints that led to it; on the first process alone."""
    if rank() == 0:
        temporary = folder.with_name(f".{folder.name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        save(temporary)
        temporary.rename(folder)
        if work is not None:
            shutil.rmtree(work / "checkpoints", ignore_errors=True)
    wait_for_all()
