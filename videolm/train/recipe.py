"""A recipe: one YAML that says what `videolm prepare` and `videolm train` do, from raw clips to a model folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, SerializeAsAny, Tag, model_validator

from videolm.config import Config, merge, nearest, parse, read_yaml
from videolm.data.sources import DataConfig, ShapesWorldData
from videolm.errors import UserError
from videolm.generate.sampling import Sampling
from videolm.model.config import LMConfig
from videolm.model.llama import llama_settings
from videolm.pipeline import folder as model_folders
from videolm.registry import Registry
from videolm.shapes import Format
from videolm.superres.decode import MaskedSampling
from videolm.superres.model import MaskedConfig
from videolm.tasks import TASKS, Task
from videolm.tasks.file import load_tasks
from videolm.tasks.task_set import TaskSet
from videolm.tokenizers.audio.protocol import AUDIO_TOKENIZERS
from videolm.tokenizers.protocol import VIDEO_TOKENIZERS
from videolm.tokenizers.text.t5 import T5Settings
from videolm.train.adapters import LoRA
from videolm.train.audio_tokenizer import AudioTraining
from videolm.train.engine import EngineConfig
from videolm.train.language_model import LMTraining
from videolm.train.super_resolution import MaskedTraining
from videolm.train.tokenizer import DecoderTraining, ImageTraining, TokenizerTraining

PRESET_SECTIONS = ("tokenizer", "audio_tokenizer", "lm", "super_resolution")


class Pretrained(Config):
    """A tokenizer that is trained already, in place of one to train."""

    pretrained: str
    """Its folder, that of a model that has it, a hub name, or `shipped`."""


def _settings_of(registry: Registry[Any]) -> BeforeValidator:
    """The settings of the registered tokenizer that `name` says, or where a trained one lies."""

    def settings(value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        if "pretrained" in value:
            return parse(Pretrained, value)
        if "name" not in value:
            raise ValueError(f"name must be given: one of {', '.join(registry)}; or pretrained, the folder of one")
        return parse(registry.get(str(value["name"])).Settings, value)

    return BeforeValidator(settings)


TokenizerConfig = Annotated[SerializeAsAny[Config], _settings_of(VIDEO_TOKENIZERS)]
"""The config of any tokenizer in `VIDEO_TOKENIZERS`, or a trained one."""
AudioTokenizerConfig = Annotated[SerializeAsAny[Config], _settings_of(AUDIO_TOKENIZERS)]
"""The config of any tokenizer in `AUDIO_TOKENIZERS`, or a trained one."""


def _those_with_a_share(tasks: dict[str, float]) -> dict[str, float]:
    return {name: share for name, share in tasks.items() if share}


def _one_or_many(value: Any) -> str:
    return "@one" if isinstance(value, Config) or (isinstance(value, Mapping) and "kind" in value) else "@many"


Data = Annotated[
    Annotated[DataConfig, Tag("@one")] | Annotated[dict[str, DataConfig], Tag("@many")], Discriminator(_one_or_many)
]
"""A data set, or several by names of your own."""
ONLY = "data"
"""What a data set is called that has no name."""
REPLAY = "replay"
"""The data set of `replay_data`."""


class Recipe(Config):
    """What `videolm train` runs. `configs/recipe/` holds those that ship."""

    summary: str
    """One line: what this makes, from what, and how long it takes."""
    out: str
    """The run folder."""
    seed: int = 0
    data: Data
    """A data set, or several by name, each with its `weight` and the `tasks` that learn from it."""
    tokens: str = ""
    """The folder of token shards, which recipes may share; by default in the run folder."""
    part: Annotated[int, Field(ge=1)] = 256
    """Examples in one file of token shards: what a process does at a time, and does again when it was stopped."""
    formats: tuple[Format, ...] = (Format(17, 64, 64),)
    """(frames, height, width) of the clips."""
    fps: Annotated[float, Field(gt=0)] = 8.0
    text_length: Annotated[int, Field(ge=1)] = 64
    tasks: Annotated[dict[str, Annotated[float, Field(ge=0)]], AfterValidator(_those_with_a_share)] = {}
    """Tasks of the language model by name, with their share of its training steps; 0 leaves one of the base's out."""
    task_file: str = ""
    """A Python file that declares tasks of your own."""
    start: str = ""
    """The model to go on from (`--from`): a folder, a hub name or `shipped`. Its tokenizers, formats, text encoder and
    language model are then taken in place of the recipe's; one without sound may be given an audio tokenizer."""
    replay: Annotated[float, Field(ge=0, lt=1)] = 0.25
    """Share of the steps in which that model's own tasks are trained on, so that they are not forgotten."""
    replay_data: DataConfig | None = None
    """What they are trained on, where that is not `data`."""
    lora: LoRA | None = None
    """Adapt the language model by low-rank matrices alone."""
    tokenizer: TokenizerConfig | None = None
    tokenizer_data: DataConfig | None = None
    """What the tokenizer learns from, where that is not `data`."""
    tokenizer_formats: tuple[Format, ...] = ()
    """Sizes of its clips, a batch of one in turn; by default the first of `formats`."""
    tokenizer_streams: Annotated[tuple[str, ...], Field(min_length=1)] = ("video",)
    """The streams of it that the tokenizer sees in turn: clips as they are, "styled", "structure", "story"."""
    image_training: ImageTraining | None = None
    """A first stage on pictures, from which the tokenizer of clips is inflated."""
    tokenizer_training: TokenizerTraining = TokenizerTraining()
    decoder_training: DecoderTraining | None = None
    """A last stage in which the codes stay what they are and the tokenizer's decoder learns alone; of a trained
    tokenizer it is the only one."""
    decoder_formats: tuple[Format, ...] = ()
    """Sizes of the clips in it, where they are not the tokenizer's: those that super-resolution makes too."""
    audio_tokenizer: AudioTokenizerConfig | None = None
    """The codec of sound, where one is wanted."""
    audio_data: DataConfig | None = None
    """What the codec learns from, where that is not `data`."""
    audio_training: AudioTraining = AudioTraining()
    text: T5Settings = T5Settings()
    lm: LMConfig | None = None
    """Without one the recipe makes a tokenizer alone."""
    backbone: str = ""
    """The folder of a Llama-family checkpoint whose layers the language model begins with; `lm` then has its sizes."""
    lm_training: LMTraining = LMTraining()
    super_resolution: MaskedConfig | None = None
    """The model that doubles a clip's height and width. With `start` and no tasks it is all that is trained, and the
    model to start from is given it."""
    super_resolution_data: DataConfig | None = None
    """What it learns from, where that is not `data`."""
    super_resolution_training: MaskedTraining = MaskedTraining()
    super_resolution_sampling: MaskedSampling = MaskedSampling()
    """What the finished model fills codes in with unless told otherwise."""
    engine: EngineConfig = EngineConfig()
    sampling: Sampling = Sampling()
    """What the finished model samples with unless told otherwise."""
    evaluation_samples: Annotated[int, Field(ge=0)] = 0
    """Captions that the finished model is judged on (ShapesWorld only); the scores go into its model card."""

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        named = {**self.tasks, **self.lm_training.examples, **dict.fromkeys(self.lm_training.without_text, 1.0)}
        named |= {name: 1.0 for stage in self.lm_training.schedule for name in (*stage.tasks, *stage.only)}
        for name in [*named, *(task for data in self._named.values() for task in data.tasks)]:
            if name not in self.known_tasks:
                raise ValueError(f"unknown task '{name}'; {nearest(name, self.known_tasks)}")
        if self.super_resolution is not None and self.tokenizer is None:
            raise ValueError("super-resolution needs a tokenizer")
        if self.super_resolution is not None and self.lm is None and not self.text.pretrained:
            raise ValueError(
                "super-resolution needs a trained text encoder: give text.pretrained, an lm, or --from MODEL"
            )
        if self.tokenizer is None and self.audio_tokenizer is None:
            raise ValueError("there is nothing to make: give a tokenizer or an audio_tokenizer")
        if self.lm is not None and self.tokenizer is None:
            raise ValueError("a language model needs a tokenizer")
        sounding = [name for name in self.weights if "audio" in self.known_tasks[name].sources]
        if sounding and self.audio_tokenizer is None:
            raise ValueError(f"{sounding[0]} has sound: give an audio_tokenizer")
        if bool(self.weights) != (self.lm is not None):
            raise ValueError("a language model needs tasks, and tasks a language model: give both lm and tasks")
        if self.evaluation_samples and self.lm is None and not (self.start and self.super_resolution):
            raise ValueError("evaluation_samples needs a language model: `videolm evaluate tokenizer` measures without")
        if (self.lora or self.replay_data) and not self.start:
            raise ValueError("lora and replay_data are for going on from a model: name it with --from")
        if sum(stage.steps for stage in self.lm_training.schedule) > 1 + 1e-9:
            raise ValueError(
                "the stages of lm_training.schedule are more than all steps: their shares add up to over 1"
            )
        trained = self.weights
        if trained and not all(
            any(weight for name, weight in stage.weights(trained).items() if name in trained)
            for stage in self.lm_training.schedule
        ):
            raise ValueError("a stage of lm_training.schedule leaves no task: name one that the recipe trains")
        for name in self.weights:
            if not any(self.serves(each, name) for each in self._named):
                raise ValueError(f"no data set serves {name}: add it to the tasks of one")
        if self.weights:
            _ = self.task_set  # which may look alike
        return self

    @cached_property
    def base(self) -> TaskSet | None:
        """What the model to start from knows."""
        return model_folders.load_tasks(model_folders.model_folder(self.start)) if self.start else None

    @cached_property
    def known_tasks(self) -> dict[str, Task]:
        """The tasks that ship, those of the model to start from and those of `task_file`."""
        known = {name: TASKS.get(name) for name in TASKS}
        known |= {task.name: task for task in self.base.tasks} if self.base else {}
        for task in load_tasks(self.task_file) if self.task_file else ():
            if known.setdefault(task.name, task) != task:
                raise UserError(
                    f"{self.task_file}: there is a task '{task.name}' already; choose another name for yours"
                )
        return known

    @property
    def weights(self) -> dict[str, float]:
        """The share of every task that is trained: `tasks`, and with `replay` those that the model knew already.

        Without `tasks` these alone. Of what the model knew, only what the data have.
        """
        old = [name for name in self._known_before if any(self.serves(each, name) for each in self._named)]
        if self.base and not self.tasks:
            return {} if self.lm is None else dict.fromkeys(old, 1.0)
        if not old or not self.replay:
            return self.tasks
        new = sum(self.tasks.values())
        kept = {name: self.replay / len(old) for name in old}
        return {name: (1 - self.replay) * weight / new for name, weight in self.tasks.items()} | kept

    @property
    def left_out(self) -> list[str]:
        """Tasks that the model to start from knew and that are not trained further: no data set has their streams."""
        gone_on = self.lm is not None and (self.replay or not self.tasks)
        return [name for name in self._known_before if name not in self.weights] if gone_on else []

    @property
    def _known_before(self) -> list[str]:
        return [task.name for task in self.base.tasks if task.name not in self.tasks] if self.base else []

    @property
    def _named(self) -> dict[str, DataConfig]:
        found = dict(self.data) if isinstance(self.data, dict) else {ONLY: self.data}
        return found if self.replay_data is None else {**found, REPLAY: self.replay_data}

    def serves(self, dataset: str, task: str) -> bool:
        """Whether a task learns from a data set: one that was named from each that does not name others, one that the
        model knew where its streams are had too."""
        data, named = self._named[dataset], task in self.tasks
        if self.replay_data is not None and named == (dataset == REPLAY):
            return False
        if named or (data.tasks and task not in data.tasks):
            return not data.tasks or task in data.tasks
        others = (self.known_tasks[name] for name in self.tasks if self.serves(dataset, name))
        asked = {stream for other in others for stream in other.sources}
        return all(stream in asked or data.gives(stream) for stream in self.known_tasks[task].sources)

    def sources(self, dataset: str) -> tuple[str, ...]:
        """Token shards that are made of a data set."""
        served = [task for task in self.weights if self.serves(dataset, task)]
        return tuple(dict.fromkeys(source for task in served for source in self.known_tasks[task].sources))

    def shards_of(self, dataset: str, shape: Format) -> str:
        """The folder of a data set's token shards in a format."""
        return dataset if shape == self.formats[0] else f"{dataset}-{shape}"

    @property
    def datasets(self) -> dict[str, DataConfig]:
        """The data sets of the language model by name. Where a task has sound, films are those that have some, so that
        both are at one index."""
        return {
            name: data.model_copy(update={"sound": True})
            if "audio" in self.sources(name) and not isinstance(data, ShapesWorldData)
            else data
            for name, data in self._named.items()
        }

    @property
    def large_formats(self) -> tuple[Format, ...]:
        """Those of the clips that super-resolution makes."""
        scale = 2**self.super_resolution_training.stage
        clips = [shape for shape in self.formats if shape.frames > 1] or self.formats
        return tuple(Format(shape.frames, scale * shape.height, scale * shape.width) for shape in clips)

    @property
    def frozen_text(self) -> bool:
        """Whether the text encoder stays as it is; token shards then hold its embeddings."""
        return self.text.frozen or self.lora is not None

    @property
    def task_set(self) -> TaskSet:
        tasks = tuple(self.known_tasks[name] for name in self.tasks)
        if self.base is not None:
            return self.base.with_tasks(tasks)
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
    data = _read(name)
    if start := changes.get("start", data.get("start")):
        brought = _parts_of(str(start))
        for key in changes:
            if key.partition(".")[0] in brought.keys() - {"sampling"}:
                raise UserError(f"{key} comes with the model that training goes on from: leave it out")
        data |= {**brought, "sampling": {**brought["sampling"], **data.get("sampling", {})}}
        if not (changes.get("tasks") or data.get("tasks")) and (
            data.get("super_resolution") or changes.get("super_resolution")
        ):
            data.pop("lm")  # which stays as it is
    if backbone := changes.get("backbone", data.get("backbone")):
        data["lm"] = {**(data.get("lm") or {}), **llama_settings(str(backbone))}
    return parse(Recipe, data, changes, source=name)


def _parts_of(start: str) -> dict[str, Any]:
    """A model's parts, as a recipe names them."""
    folder = model_folders.model_folder(start)
    tasks, index = model_folders.load_tasks(folder), model_folders.load_index(folder)
    here: dict[str, Any] = {"pretrained": start}
    sound = {"audio_tokenizer": here} if model_folders.AUDIO_TOKENIZER in index else {}
    return {
        "tokenizer": here,
        **sound,
        "lm": model_folders.load_lm_config(folder).architecture,
        "backbone": "",
        "text": {"pretrained": str(folder / model_folders.TEXT)},
        "formats": [list(shape) for shape in tasks.formats],
        "fps": tasks.fps,
        "text_length": tasks.text_length,
        "sampling": index.get("sampling", {}),
    }


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
