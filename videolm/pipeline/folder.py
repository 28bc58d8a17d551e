"""A model directory, as diffusers saves a pipeline: an index, a folder a component, the vocabulary and the tasks."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError

from videolm.component import CONFIG_FILE, WEIGHTS_FILE, read_json, require_weights
from videolm.config import parse
from videolm.errors import UserError
from videolm.generate.sampling import Sampling
from videolm.model.config import PrefixLMConfig
from videolm.model.prefix_lm import PrefixLM
from videolm.registry import Registry
from videolm.superres.decode import MaskedSampling, Stage
from videolm.superres.model import MaskedModel
from videolm.tasks.task_set import TaskSet
from videolm.tokenizers.audio.protocol import AUDIO_TOKENIZERS, AudioTokenizer
from videolm.tokenizers.protocol import VIDEO_TOKENIZERS, VideoTokenizer
from videolm.tokenizers.text.t5 import SENTENCEPIECE_FILE, TextEncoder
from videolm.vocabulary import Vocabulary

INDEX, VOCABULARY, TASKS = "model_index.json", "vocabulary.json", "tasks.json"
TOKENIZER, AUDIO_TOKENIZER, TEXT, LM = "video_tokenizer", "audio_tokenizer", "text_encoder", "language_model"
SUPER_RESOLUTION = "super_resolution"
"""Of the first stage; that of the second is `super_resolution_2`, and so on."""
SHIPPED = Path(__file__).parent.parent / "weights" / "shapesworld"


class Parts(NamedTuple):
    """What a model directory holds."""

    tokenizer: VideoTokenizer
    text: TextEncoder
    lm: PrefixLM
    vocabulary: Vocabulary
    tasks: TaskSet
    sampling: Sampling
    audio: AudioTokenizer | None = None
    """Of models with sound."""
    stages: tuple[Stage, ...] = ()
    """Of super-resolution, each to twice the height and width."""


def stage_names() -> Iterator[str]:
    """Folders of the stages of super-resolution.

    >>> from itertools import islice
    >>> list(islice(stage_names(), 3))
    ['super_resolution', 'super_resolution_2', 'super_resolution_3']
    """
    yield SUPER_RESOLUTION
    yield from (f"{SUPER_RESOLUTION}_{number}" for number in count(2))


def save_model(folder: str | Path, parts: Parts, dtype: torch.dtype | None = None) -> None:
    """Write a model directory, by rename. Raises `UserError` when `folder` exists or the parts do not fit."""
    tokenizer, text, lm, vocabulary, tasks, sampling, audio, stages = parts
    _check(vocabulary, tokenizer, audio)
    folder = Path(folder)
    if folder.exists():
        raise UserError(f"{folder} exists already; choose another folder")
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    tokenizer.save_pretrained(temporary / TOKENIZER, dtype)
    text.save_pretrained(temporary / TEXT, dtype)
    weights = {name: value.to(dtype) if dtype else value for name, value in lm.state_dict().items()}
    lm.save_pretrained(temporary / LM, state_dict=weights)
    if audio is not None:
        audio.save_pretrained(temporary / AUDIO_TOKENIZER, dtype)
    index = {
        "_class_name": "VideoLM",
        TOKENIZER: tokenizer.config.name,
        TEXT: "t5",
        LM: lm.config.model_type,
        "sampling": sampling.model_dump(),
    }
    if audio is not None:
        index[AUDIO_TOKENIZER] = audio.config.name
    for name, stage in zip(stage_names(), stages, strict=False):
        stage.model.save_pretrained(temporary / name, dtype)
        index[name] = stage.sampling.model_dump()
    (temporary / INDEX).write_text(json.dumps(index, indent=2) + "\n")
    (temporary / VOCABULARY).write_text(vocabulary.model_dump_json(indent=2) + "\n")
    (temporary / TASKS).write_text(tasks.model_dump_json(indent=2) + "\n")
    temporary.rename(folder)


def load_tasks(folder: Path) -> TaskSet:
    """The tasks of a model directory, without its weights."""
    return parse(TaskSet, read_json(folder / TASKS), source=str(folder / TASKS))


def load_index(folder: Path) -> dict[str, Any]:
    """`model_index.json` of a model directory: which kinds its parts are, and how it samples."""
    index: dict[str, Any] = read_json(folder / INDEX)
    return index


def load_lm_config(folder: Path) -> PrefixLMConfig:
    """The language model's configuration of a model directory, without its weights."""
    read_json(folder / LM / CONFIG_FILE)
    return PrefixLMConfig.from_pretrained(folder / LM)


def load_vocabulary(folder: Path) -> Vocabulary:
    """The vocabulary of a model directory."""
    return parse(Vocabulary, read_json(folder / VOCABULARY), source=str(folder / VOCABULARY))


def load_tokenizer(folder: Path, dtype: torch.dtype = torch.float32) -> VideoTokenizer:
    """The video tokenizer of a model directory."""
    kind = VIDEO_TOKENIZERS.get(str(load_index(folder).get(TOKENIZER)))
    return kind.from_pretrained(folder / TOKENIZER, dtype)


def load_audio_tokenizer(folder: Path, dtype: torch.dtype = torch.float32) -> AudioTokenizer | None:
    """The audio tokenizer of a model directory, if it has one."""
    name = load_index(folder).get(AUDIO_TOKENIZER)
    if name is None:
        return None
    return AUDIO_TOKENIZERS.get(str(name)).from_pretrained(folder / AUDIO_TOKENIZER, dtype)


def load_stages(folder: Path, dtype: torch.dtype = torch.float32) -> tuple[Stage, ...]:
    """The stages of super-resolution of a model directory, those that it has."""
    index, found = load_index(folder), list[Stage]()
    for name in stage_names():
        if name not in index:
            return tuple(found)
        sampling = parse(MaskedSampling, index[name], source=str(folder / INDEX))
        found.append(Stage(MaskedModel.from_pretrained(folder / name, dtype), sampling))
    raise AssertionError  # names have no end


def find_tokenizer(name: str | Path | None, dtype: torch.dtype = torch.float32) -> VideoTokenizer:
    """The video tokenizer of a model (`model_folder` says what may be named), or one whose own folder is named.

    A folder of its own says in `config.json` which tokenizer it holds, by its name in `VIDEO_TOKENIZERS`.
    Raises `UserError` for a folder that holds neither, or a file that is missing, broken or pickled.
    """
    folder = model_folder(name)
    if (folder / INDEX).is_file():
        return load_tokenizer(folder, dtype)
    return VIDEO_TOKENIZERS.get(_named(folder, "video", VIDEO_TOKENIZERS)).from_pretrained(folder, dtype)


def find_audio_tokenizer(name: str | Path | None, dtype: torch.dtype = torch.float32) -> AudioTokenizer:
    """As `find_tokenizer`, of sound. Raises `UserError` for a model without one, too."""
    folder = model_folder(name)
    if (folder / INDEX).is_file():
        found = load_audio_tokenizer(folder, dtype)
        if found is None:
            raise UserError(f"the model {folder} has no audio tokenizer; name one with --model DIR")
        return found
    return AUDIO_TOKENIZERS.get(_named(folder, "audio", AUDIO_TOKENIZERS)).from_pretrained(folder, dtype)


def outline(name: str | Path | None) -> VideoTokenizer:
    """As `find_tokenizer`, without weights: on the meta device, from its configuration alone."""
    return _outline(name, TOKENIZER, "video", VIDEO_TOKENIZERS)


def outline_audio(name: str | Path | None) -> AudioTokenizer:
    """As `find_audio_tokenizer`, without weights."""
    return _outline(name, AUDIO_TOKENIZER, "audio", AUDIO_TOKENIZERS)


def _outline(name: str | Path | None, part: str, kind: str, known: Registry[Any]) -> Any:
    folder = model_folder(name)
    if (folder / INDEX).is_file():
        if part not in load_index(folder):
            raise UserError(f"the model {folder} has no {kind} tokenizer; name one with --model DIR")
        folder = folder / part
    found = known.get(_named(folder, kind, known))
    return found.without_weights(parse(found.Settings, read_json(folder / CONFIG_FILE), source=str(folder)))


def _named(folder: Path, kind: str, known: Iterable[str]) -> str:
    """The name of the tokenizer whose own folder this is."""
    if not (folder / CONFIG_FILE).is_file():
        raise UserError(
            f"{folder} holds neither a model ({INDEX}) nor a tokenizer ({CONFIG_FILE} and {WEIGHTS_FILE} of its own)"
        )
    config = read_json(folder / CONFIG_FILE)
    name = config.get("name") if isinstance(config, dict) else None
    if not isinstance(name, str):
        raise UserError(f"{folder / CONFIG_FILE} names no {kind} tokenizer; known: {', '.join(known)}")
    return name


class Outline(NamedTuple):
    """What a model can do, read without its weights."""

    tasks: TaskSet
    sampling: Sampling
    factors: tuple[int, ...]
    """Of height and width, that super-resolution reaches; 1 is without it."""


def load_outline(folder: Path) -> Outline:
    """What a model directory says that it can do. Raises `UserError` as `load_model` does."""
    index = load_index(folder)
    sampling = parse(Sampling, index.get("sampling", {}), source=str(folder / INDEX))
    stages = next(number for number, name in enumerate(stage_names()) if name not in index)
    return Outline(load_tasks(folder), sampling, tuple(2**number for number in range(stages + 1)))


def load_model(folder: Path, dtype: torch.dtype = torch.float32) -> Parts:
    """Read a model directory.

    Raises `UserError` for a file that is missing, broken or pickled, and for parts that do not fit one another.
    """
    (tasks, sampling, _), vocabulary = load_outline(folder), load_vocabulary(folder)
    tokenizer = load_tokenizer(folder, dtype)
    text = TextEncoder.from_pretrained(folder / TEXT, dtype)
    require_weights(folder / LM)
    try:
        lm = PrefixLM.from_pretrained(folder / LM, use_safetensors=True, dtype=dtype).eval()
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(f"cannot load {folder / LM}: {' '.join(str(error).split())[:300]}") from error
    audio = load_audio_tokenizer(folder, dtype)
    stages = load_stages(folder, dtype)
    _check(vocabulary, tokenizer, audio)
    for name, stage in zip(stage_names(), stages, strict=False):
        if stage.model.config.codebook_size != tokenizer.codebook_size or stage.model.config.text_size != text.width:
            raise UserError(f"{folder / name} is for another tokenizer or text encoder: files of two models are mixed")
    if lm.config.vocab_size != vocabulary.size:
        raise UserError(
            f"{folder / LM} has {lm.config.vocab_size} ids but {folder / VOCABULARY} {vocabulary.size}: "
            "files of two models are mixed"
        )
    return Parts(tokenizer, text, lm, vocabulary, tasks, sampling, audio, stages)


def _check(vocabulary: Vocabulary, tokenizer: VideoTokenizer, audio: AudioTokenizer | None) -> None:
    vocabulary.check_codebook(tokenizer.codebook_size)
    if audio is not None and vocabulary.audio_levels:  # without ids for sound the codec stands alone
        vocabulary.check_audio(audio.levels, audio.codebook_size)


def model_folder(name: str | Path | None) -> Path:
    """The folder of a model given as a path, as a name on the hub, or, by default or as `shipped`, the one that ships.

    Raises `UserError` when there is no such model.
    """
    if name is None or (name == "shipped" and not Path(name).exists()):
        if not (SHIPPED / INDEX).is_file():
            raise UserError("no model ships with this installation; name one with --model DIR")
        return SHIPPED
    if Path(name).is_dir():
        return Path(name)
    if Path(name).exists() or str(name).count("/") != 1 or str(name).startswith((".", "/", "~")):
        raise UserError(f"the model folder {name} does not exist")
    try:
        wanted = ["*.json", "*.safetensors", SENTENCEPIECE_FILE, f"*/{SENTENCEPIECE_FILE}"]
        return Path(snapshot_download(str(name), allow_patterns=wanted))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{name} is neither a folder nor a model that can be fetched: {reason}") from error


def model_hash(folder: Path) -> str:
    """A short hash of all weights in a model directory, to name it in results."""
    digest = hashlib.sha256()
    for path in sorted([*folder.glob(f"*/{WEIGHTS_FILE}"), *folder.glob("*/*.jit")]):  # programs hold weights too
        digest.update(path.parent.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
