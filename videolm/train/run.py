"""A recipe at work, from raw clips to a model folder, in resumable stages.

    data ──► [image tokenizer ──►] tokenizer [──► its decoder] [──► token shards ──► text encoder + LM]
             [──► token shards of pairs ──► super-resolution] ──► model folder

Every stage leaves its result in the run folder by rename; `--resume` goes on with the first one that is missing. A
recipe ends with what it names last. Several processes train together under `torchrun` or the
`deepspeed` launcher, and share the making of token shards; what one can do alone, the first one does.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from videolm.component import read_json
from videolm.config import dump_yaml, parse, read_yaml
from videolm.data.example import InTurn, Source
from videolm.data.prepare import Preparation, Stream, Texts, signature
from videolm.data.shards import MANIFEST, Shard, TokenData
from videolm.data.sources import DataConfig
from videolm.errors import UserError
from videolm.files import atomic_path
from videolm.model.config import PrefixLMConfig
from videolm.model.llama import load_llama
from videolm.model.prefix_lm import PrefixLM
from videolm.pipeline.folder import (
    AUDIO_TOKENIZER,
    SUPER_RESOLUTION,
    TOKENIZER,
    Parts,
    find_audio_tokenizer,
    find_tokenizer,
    load_model,
    load_vocabulary,
    model_folder,
    save_model,
)
from videolm.progress import progress
from videolm.sequence import Layout, lay_out
from videolm.shapes import Format
from videolm.superres.decode import Stage
from videolm.superres.enlarge import Enlarge
from videolm.superres.model import MaskedModel, MaskedModelConfig
from videolm.tokenizers.audio.protocol import AUDIO_TOKENIZERS, AudioTokenizer
from videolm.tokenizers.protocol import VIDEO_TOKENIZERS, VideoTokenizer
from videolm.tokenizers.text.t5 import TextEncoder
from videolm.train.adapters import merged, with_adapters
from videolm.train.audio_tokenizer import train_audio_tokenizer
from videolm.train.engine import device, rank, wait_for_all, world_size
from videolm.train.language_model import train_language_model
from videolm.train.recipe import Pretrained, Recipe
from videolm.train.super_resolution import PAIR, redrawn_by, train_super_resolution
from videolm.train.tokenizer import DecoderTraining, train_tokenizer
from videolm.vocabulary import Vocabulary

MAY_CHANGE = ("engine",)
"""Settings that a resumed run may have other than before."""
PATIENCE = 600
"""Seconds that a process of `prepare` waits for the first one to make the text encoder."""


class Run:
    """A recipe at work in its run folder."""

    def __init__(self, recipe: Recipe, resume: bool | None = False):
        """Make the run folder, or enter it when `resume`; with None do whichever fits.

        Raises `UserError` when the folder exists and `resume` is not set, or holds the run of another recipe.
        """
        self.recipe, self.folder = recipe, Path(recipe.out)
        if rank() == 0:
            self._enter(resume)
        wait_for_all()
        torch.manual_seed(recipe.seed)

    def _enter(self, resume: bool | None) -> None:
        recipe = self.recipe
        written = self.folder / "recipe.yaml"
        if written.exists():
            if resume is False:
                raise UserError(f"{self.folder} holds a run already: go on with --resume, or choose another --out")
            before = parse(Recipe, read_yaml(written), source=str(written))
            changed = [
                key
                for key in Recipe.model_fields
                if key not in MAY_CHANGE and getattr(before, key) != getattr(recipe, key)
            ]
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
        if recipe.lm is None and recipe.super_resolution is None:
            return self.folder / TOKENIZER
        parts = None if recipe.lm is None else self.language_model(tokenizer, audio)
        if recipe.super_resolution is not None:
            if parts is None and recipe.start:
                parts = load_model(model_folder(recipe.start))._replace(tokenizer=tokenizer)
            text = self.text_encoder() if parts is None else parts.text
            stage = self.super_resolution(tokenizer, text.to(device()), parts)
            if parts is None:
                return self.folder / SUPER_RESOLUTION
            before = parts.stages[: recipe.super_resolution_training.stage - 1]
            parts = parts._replace(stages=(*before, stage))
        assert parts is not None
        self._save(parts, model)
        if rank() == 0:
            shutil.rmtree(self.folder / "lm_training" / "checkpoints", ignore_errors=True)
        wait_for_all()
        return model

    def export(self, folder: Path) -> int:
        """Write the model that the newest checkpoint of the language model holds; returns the step it is of.

        Raises `UserError` where there is no checkpoint.
        """
        found = sorted((self.folder / "lm_training" / "checkpoints").glob("step-*"))
        if not found:
            done = self.folder / "model"
            said = f"the run is finished: its model is {done}" if done.exists() else "its language model has none yet"
            raise UserError(f"there is no checkpoint in {self.folder} to export; {said}")
        step = int(found[-1].name.removeprefix("step-"))
        audio = None if self.recipe.audio_tokenizer is None else self.audio_tokenizer()
        self._save(self.language_model(self.tokenizer(), audio, steps=step), folder)
        return step

    def _save(self, parts: Parts, folder: Path) -> None:
        if rank() == 0:
            save_model(folder, parts, dtype=torch.float16)
        wait_for_all()

    def _open_all(self) -> None:
        """Open every source that a stage will read."""
        recipe = self.recipe
        for split in ("train", "validation"):
            for stream, data in self._learnt_from():
                self.source(stream, split, data)
            for name, data in recipe.datasets.items():
                for source, shape in product(recipe.sources(name), recipe.formats):
                    self.source(source.partition(".")[0], split, data, shape)

    def _learnt_from(self) -> list[tuple[str, DataConfig]]:
        """Streams and data that tokenizers to be trained learn from."""
        recipe, found = self.recipe, []
        trained = not isinstance(recipe.tokenizer, Pretrained) or recipe.decoder_training is not None
        if recipe.tokenizer is not None and trained:
            found += [
                (stream, data) for stream in recipe.tokenizer_streams for data in self._data(recipe.tokenizer_data)
            ]
        if recipe.audio_tokenizer is not None and not isinstance(recipe.audio_tokenizer, Pretrained):
            found += [("audio", data) for data in self._data(recipe.audio_data)]
        return found

    def _data(self, data: DataConfig | None) -> list[DataConfig]:
        """A tokenizer's own data, or all the recipe's."""
        return [data] if data is not None else list(self.recipe.datasets.values())

    def source(
        self, stream: str, split: Any, data: DataConfig | None = None, shape: Format | None = None
    ) -> Source[Any]:
        """Examples of a stream, by default of the recipe's first data set and in its first format."""
        data = data or next(iter(self.recipe.datasets.values()))
        shape = shape or self.recipe.formats[0]
        shape = Format(1, shape.height, shape.width) if stream == "image" else shape
        return data.open(stream, shape, self.recipe.fps, split)

    def _sources(
        self, streams: tuple[str, ...], split: Any, data: DataConfig | None, shape: Format | None = None
    ) -> Source[Any]:
        """What a tokenizer learns from: examples of every stream and data set in turn."""
        found = [self.source(stream, split, each, shape) for each in self._data(data) for stream in streams]
        return InTurn([source for source in found if len(source)] or found)

    def tokenizer(self) -> VideoTokenizer:
        """The trained video tokenizer: read when its stages are done, else trained."""
        recipe = self.recipe
        if recipe.tokenizer is None:
            raise UserError("the recipe has no tokenizer section, so there is no video tokenizer to train")
        done, start, pictures = (self.folder / name for name in (TOKENIZER, TOKENIZER + "_start", "image_tokenizer"))
        if isinstance(recipe.tokenizer, Pretrained):
            given = find_tokenizer(recipe.tokenizer.pretrained).to(device())
            self._check_pictures(type(given))
            if recipe.decoder_training is None:
                return given
            given.check_trainable()
            if not done.exists():
                recipe.decoder_training.check_files()
                self._train_tokenizer(given, recipe.decoder_training, done)
            return type(given).from_pretrained(done).to(device())
        kind = VIDEO_TOKENIZERS.get(recipe.tokenizer.name)  # type: ignore[attr-defined]  # each has one
        kind.check_trainable()
        self._check_pictures(kind)
        if done.exists():
            return kind.from_pretrained(done).to(device())
        for stage in (recipe.image_training, recipe.tokenizer_training, recipe.decoder_training):
            if stage is not None:
                stage.check_files()  # of a later stage too, before hours of the first
        torch.manual_seed(recipe.seed)
        fresh = kind(recipe.tokenizer)
        for shape in recipe.formats:
            fresh.grid(*shape)  # a format that does not fit is said before training
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

    def _check_pictures(self, kind: type[VideoTokenizer]) -> None:
        """Raise `UserError` for a tokenizer that the recipe's language model cannot use."""
        if self.recipe.lm is not None and not kind.first_frame_alone:
            raise UserError(
                f"{kind.registered_name()} does not code a first frame alone, which a language model's tasks need: "
                "leave lm and tasks out, or take another tokenizer"
            )

    def _train_tokenizer(self, tokenizer: VideoTokenizer, config: DecoderTraining, done: Path) -> None:
        recipe, work = self.recipe, self.folder / f"{config.trains}_training"
        streams = ("image",) if config.trains == "image_tokenizer" else recipe.tokenizer_streams
        own = recipe.decoder_formats if config.trains == "decoder" else ()
        shapes = own or recipe.tokenizer_formats or recipe.formats[:1]
        train_tokenizer(
            tokenizer,
            [self._sources(streams, "train", recipe.tokenizer_data, shape) for shape in shapes],
            [self._sources(streams[:1], "validation", recipe.tokenizer_data, shape) for shape in shapes],
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
        if isinstance(recipe.audio_tokenizer, Pretrained):
            return find_audio_tokenizer(recipe.audio_tokenizer.pretrained).to(device())
        kind = AUDIO_TOKENIZERS.get(recipe.audio_tokenizer.name)  # type: ignore[attr-defined]  # each has one
        if not done.exists():
            torch.manual_seed(recipe.seed)
            work = self.folder / "audio_training"
            tokenizer = kind(recipe.audio_tokenizer).to(device())
            train_audio_tokenizer(
                tokenizer,
                self._sources(("audio",), "train", recipe.audio_data),
                self._sources(("audio",), "validation", recipe.audio_data),
                recipe.audio_training,
                recipe.engine,
                folder=work,
                seed=recipe.seed,
            )
            _finish(done, tokenizer.save_pretrained, work)
        return kind.from_pretrained(done).to(device())

    def language_model(
        self, tokenizer: VideoTokenizer, audio: AudioTokenizer | None = None, steps: int | None = None
    ) -> Parts:
        """The trained language model and text encoder with what belongs to them; token shards are made where they are
        missing.

        Args:
            steps: to stop after, in place of the recipe's.
        """
        recipe, tasks = self.recipe, self.recipe.task_set
        if recipe.lm is None:
            raise UserError("the recipe has no lm section, so there is no language model to train")
        vocabulary = vocabulary_of(recipe, tokenizer, audio)
        torch.manual_seed(recipe.seed)
        text = self.text_encoder()
        train, held = (self.shards(tokenizer, audio, text, split) for split in ("train", "validation"))
        lm = self._fresh(vocabulary, text)
        if recipe.engine.checkpoint_activations:
            lm.gradient_checkpointing_enable()
        adapted = None if recipe.lora is None else with_adapters(lm, recipe.lora)
        config = recipe.lm_training if steps is None else recipe.lm_training.model_copy(update={"steps": steps})
        work = self.folder / "lm_training"
        train_language_model(
            (lm if adapted is None else adapted).to(device()),
            text.to(device()),
            tokenizer,
            layouts_of(recipe, vocabulary, tokenizer, audio),
            recipe.weights,
            train,
            held,
            config,
            recipe.engine,
            frozen_text=recipe.frozen_text,
            sampling=recipe.sampling,
            fps=recipe.fps,
            folder=work,
            seed=recipe.seed,
        )
        if adapted is not None:
            lm = merged(adapted, work / "adapters")
        return Parts(tokenizer, text, lm, vocabulary, tasks, recipe.sampling, audio)

    def _fresh(self, vocabulary: Vocabulary, text: TextEncoder) -> PrefixLM:
        """The language model before training: new, or that of the model to start from, with the new ids."""
        lm = PrefixLM(lm_config(self.recipe, vocabulary, text.width))
        if self.recipe.backbone:
            load_llama(lm, self.recipe.backbone)
        if self.recipe.start:
            known = load_model(model_folder(self.recipe.start)).lm.state_dict()
            with torch.no_grad():
                for name, value in lm.state_dict().items():
                    if name in known:  # ids of sound, which a model may be without, come after all others
                        value[: len(known[name])] = known[name]
        return lm

    def super_resolution(self, tokenizer: VideoTokenizer, text: TextEncoder, parts: Parts | None) -> Stage:
        """The trained stage of super-resolution: read when it is done, else trained.

        Args:
            parts: the model that it will belong to, if any.
        """
        recipe, done, config = self.recipe, self.folder / SUPER_RESOLUTION, self.recipe.super_resolution_training
        if recipe.super_resolution is None:
            raise UserError("the recipe has no super_resolution section, so there is no super-resolution to train")
        if parts is None and config.real:
            raise UserError("real codes are drawn by a language model: set real to 0, or give --from MODEL")
        if parts is not None and config.stage > len(parts.stages) + 1:
            raise UserError(f"stage {config.stage} of super-resolution goes on from one that the model lacks")
        if not done.exists():
            train, held = (self.pairs(tokenizer, text, split) for split in ("train", "validation"))
            torch.manual_seed(recipe.seed)
            model = MaskedModel(masked_config(recipe, tokenizer, text.width)).to(device())
            model.transformer.checkpointing = recipe.engine.checkpoint_activations
            work = self.folder / "super_resolution_training"
            train_super_resolution(
                model,
                tokenizer,
                train,
                held,
                config,
                recipe.engine,
                sampling=recipe.super_resolution_sampling,
                fps=recipe.fps,
                folder=work,
                seed=recipe.seed,
                redraw=None if parts is None or not config.real else redrawn_by(parts),
            )
            _finish(done, model.save_pretrained, work)
        return Stage(MaskedModel.from_pretrained(done).to(device()), recipe.super_resolution_sampling)

    def text_encoder(self) -> TextEncoder:
        """The encoder before training: the pretrained one, or a new one whose pieces are kept in the run folder."""
        settings = self.recipe.text
        if settings.pretrained:
            return TextEncoder.from_pretrained(settings.pretrained)
        start = self.folder / "text_encoder_start"
        if not start.exists():
            captions = [text for name in self.recipe.datasets for text in self._captions(name)]
            _finish(start, TextEncoder.from_captions(settings, captions or ["a clip"]).save_pretrained)
        return TextEncoder.from_pretrained(start)

    def _captions(self, dataset: str) -> list[str]:
        """What is said of a data set's clips, in every task that learns from it."""
        recipe = self.recipe
        tasks = [recipe.known_tasks[name] for name in recipe.weights if recipe.serves(dataset, name)]
        streams = dict.fromkeys(task.sources[0].partition(".")[0] for task in tasks if task.text is not None)
        data = recipe.datasets[dataset]
        return [text for stream in streams for text in self.source(stream, "train", data).captions()]

    def streams(self, tokenizer: VideoTokenizer, audio: AudioTokenizer | None, split: Any) -> dict[str, list[Stream]]:
        """What token shards are made of, by data set, in every format. One that has nothing to validate on
        has no streams there."""
        recipe = self.recipe
        found: dict[str, list[Stream]] = {name: [] for name in recipe.datasets}
        for (name, data), shape in product(recipe.datasets.items(), recipe.formats):
            stored = recipe.sources(name)
            folder = self.tokens / recipe.shards_of(name, shape) / split
            for stream in dict.fromkeys(source.partition(".")[0] for source in stored):
                source = self.source(stream, split, data, shape)
                if len(source) or split == "train":
                    coder = audio if stream == "audio" and audio is not None else tokenizer
                    mine = tuple(each for each in stored if each.partition(".")[0] == stream)
                    told = signature(data, stream, shape, recipe.fps, split)
                    found[name].append(Stream(folder, source, coder, mine, told))
        return found

    def preparation(
        self, tokenizer: VideoTokenizer, audio: AudioTokenizer | None, text: TextEncoder, split: Any
    ) -> Preparation:
        """The token shards of a split in the making."""
        streams = [each for found in self.streams(tokenizer, audio, split).values() for each in found]
        texts = Texts(text, self.recipe.text_length, self.recipe.frozen_text)
        return Preparation(streams, texts, self.recipe.part)

    def shards(
        self, tokenizer: VideoTokenizer, audio: AudioTokenizer | None, text: TextEncoder, split: str
    ) -> list[TokenData]:
        """Token shards of every source that the tasks need, made by all processes together where they are missing."""
        self._make(self.preparation(tokenizer, audio, text.to(device()), split))
        found = []
        for (name, data), shape in product(self.recipe.datasets.items(), self.recipe.formats):
            place = self.tokens / self.recipe.shards_of(name, shape)
            of = {source: place / split / source for source in self.recipe.sources(name)}
            of = {source: folder if folder.exists() else place / "train" / source for source, folder in of.items()}
            if of:
                tasks = tuple(task for task in self.recipe.weights if self.recipe.serves(name, task))
                shards = {source: Shard(folder) for source, folder in of.items()}
                found.append(TokenData(shards, data.weight, tasks, shape))
        return found

    def pairs(self, tokenizer: VideoTokenizer, text: TextEncoder, split: str) -> list[TokenData]:
        """Token shards that super-resolution learns from, made as those of `shards` are."""
        self._make(self._pairs(tokenizer, text, split))
        found = []
        for name, data, shape in self._paired():
            place = self.tokens / self.recipe.shards_of(name, shape)
            place = place / split if (place / split).exists() else place / "train"
            found.append(TokenData({source: Shard(place / source) for source in PAIR}, data.weight, format=shape))
        return found

    def _pairs(self, tokenizer: VideoTokenizer, text: TextEncoder, split: Any) -> Preparation:
        """The token shards of pairs in the making, with embeddings of their texts."""
        recipe, streams = self.recipe, list[Stream]()
        for name, data, shape in self._paired():
            source = self.source("video", split, data, shape)
            if len(source) or split == "train":
                told = signature(data, "video", shape, recipe.fps, split)
                streams.append(
                    Stream(self.tokens / recipe.shards_of(name, shape) / split, source, tokenizer, PAIR, told)
                )
        return Preparation(streams, Texts(text, recipe.text_length, True), recipe.part)

    def _paired(self) -> list[tuple[str, DataConfig, Format]]:
        """Names of data sets, the sets, and the formats of the larger clips that super-resolution learns from."""
        recipe, own = self.recipe, self.recipe.super_resolution_data
        named = recipe.datasets if own is None else {SUPER_RESOLUTION: own}
        return [(name, data, shape) for (name, data), shape in product(named.items(), recipe.large_formats)]

    def _make(self, work: Preparation) -> None:
        """Make token shards by all processes together."""
        make_parts(work, rank(), world_size(), enabled=rank() == 0)
        wait_for_all()
        if rank() == 0 and (missing := work.finish()):
            raise UserError(f"{missing} parts of the token shards are missing: go on with `videolm prepare`")
        wait_for_all()

    @property
    def tokens(self) -> Path:
        """The folder of token shards."""
        return Path(self.recipe.tokens or self.folder / "tokens")

    def prepare(self, rank: int = 0, world: int = 1, *, verify: bool = False, quiet: bool = False) -> int:
        """Make this process's parts of all token shards; returns how many parts are left to others.

        Tokenizers and the text encoder must be there, or this is the first process, which makes them.

        Args:
            rank, world: which process this is, of how many; each may run on its own, whenever.
            verify: compare every part with its hash first, and make damaged ones again.
            quiet: show no progress.
        """
        left = 0
        for work in self.preparations(*self.ready(rank)):
            if verify and rank == 0:
                for path in work.drop_damaged():
                    tqdm.write(f"damaged, to be made again: {path}", file=sys.stderr)
            make_parts(work, rank, world, enabled=rank == 0 and not quiet)
            left += work.finish()
        return left

    def preparations(
        self, tokenizer: VideoTokenizer, audio: AudioTokenizer | None, text: TextEncoder
    ) -> list[Preparation]:
        """The token shards of both splits in the making."""
        splits = ("train", "validation")
        found = [] if self.recipe.lm is None else [self.preparation(tokenizer, audio, text, split) for split in splits]
        if self.recipe.super_resolution is not None and self.recipe.text.pretrained:  # else it is still to be trained
            found += [self._pairs(tokenizer, text, split) for split in splits]
        return found

    def prepared(self) -> dict[str, int]:
        """What finished token shards hold: rows, clips left out, captions cut."""
        manifests = [read_json(path) for path in sorted(self.tokens.glob(f"*/*/*/{MANIFEST}"))]
        return {key: sum(manifest[key] for manifest in manifests) for key in ("rows", "skipped", "captions_cut")}

    def ready(self, rank: int = 0) -> tuple[VideoTokenizer, AudioTokenizer | None, TextEncoder]:
        """What clips, sounds and captions are coded with; trained or made where it is missing, by the first process."""
        recipe = self.recipe
        if recipe.lm is None and recipe.super_resolution is None:
            raise UserError("the recipe has no language model, so there are no token shards to make")
        if rank and world_size() == 1:
            self._wait_for_first()
        audio = None if recipe.audio_tokenizer is None else self.audio_tokenizer()
        tokenizer = self.tokenizer()
        torch.manual_seed(recipe.seed)
        return tokenizer, audio, self.text_encoder().to(device())

    def _wait_for_first(self) -> None:
        """Wait until the first process has made what this one needs."""
        recipe, begun = self.recipe, time.monotonic()
        needs = [] if isinstance(recipe.tokenizer, Pretrained) else [TOKENIZER]
        if recipe.audio_tokenizer is not None and not isinstance(recipe.audio_tokenizer, Pretrained):
            needs.append(AUDIO_TOKENIZER)
        needs += [] if recipe.text.pretrained else ["text_encoder_start"]
        while missing := [name for name in needs if not (self.folder / name).exists()]:
            if time.monotonic() - begun > PATIENCE:
                raise UserError(f"{self.folder} has no {missing[0]}: start the first process (rank 0), which makes it")
            time.sleep(1)


def vocabulary_of(recipe: Recipe, tokenizer: VideoTokenizer, audio: AudioTokenizer | None = None) -> Vocabulary:
    """The ids of a recipe's language model: those of the model that it starts from stay what they are."""
    sizes = {"visual_size": tokenizer.codebook_size, "audio_levels": 0}
    found = load_vocabulary(model_folder(recipe.start)) if recipe.start else Vocabulary(**sizes)
    sounding = any("audio" in recipe.known_tasks[name].sources for name in recipe.weights)
    if audio is not None and not found.audio_levels and (sounding or not recipe.start):
        found = found.model_copy(update={"audio_levels": audio.levels, "audio_size": audio.codebook_size})
    return found.with_specials(recipe.task_set.specials)


def layouts_of(
    recipe: Recipe, vocabulary: Vocabulary, tokenizer: VideoTokenizer, audio: AudioTokenizer | None = None
) -> list[Layout]:
    """The rows that a recipe's language model is trained on."""
    tasks, sound = recipe.task_set, None if audio is None else audio.grid
    variants = [variant for variant in tasks.variants() if variant.task.name in recipe.weights]
    return [lay_out(variant, tasks, vocabulary, tokenizer.grid, sound) for variant in variants]


def masked_config(recipe: Recipe, tokenizer: VideoTokenizer, text_width: int) -> MaskedModelConfig:
    """A recipe's model of super-resolution without its weights."""
    assert recipe.super_resolution is not None
    grid = tokenizer.grid(*recipe.large_formats[0])
    sizes = {"codebook_size": tokenizer.codebook_size, "text_size": text_width, "grid": grid}
    sizes |= {"enlarged_size": Enlarge.size(tokenizer)} if recipe.super_resolution.enlarged else {}
    return parse(MaskedModelConfig, {**recipe.super_resolution.model_dump(), **sizes})


def lm_config(recipe: Recipe, vocabulary: Vocabulary, text_width: int) -> PrefixLMConfig:
    """A recipe's language model without its weights."""
    sizes = vocabulary.model_dump(include={"special_size", "visual_size", "audio_levels", "audio_size"})
    return PrefixLMConfig(recipe.lm, **sizes, text_size=text_width)


def make_parts(work: Preparation, rank: int, world: int, *, enabled: bool) -> None:
    """Make a process's parts under a progress bar."""
    with progress(work.total(rank, world), "token shards", "clip", enabled=enabled) as bar:
        work.make(rank, world, bar.update)


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
