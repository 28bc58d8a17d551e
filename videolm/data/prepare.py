"""Raw clips to token shards, once, in parts that any number of processes and machines share.

    source ──► parts of some hundred examples ──► part-00003.arrow, then part-00003.json ──► manifest.json

A part's JSON is written last: it says that the part is done, how large it is and what was left out. So a process may be
killed at any point and started again; which part is whose follows from its number alone. Examples that cannot be read
are left out and listed in `skipped.jsonl`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from videolm.component import read_json
from videolm.config import Config
from videolm.data.example import Example, Source
from videolm.data.shards import MANIFEST, SKIPPED, file_hash
from videolm.errors import UserError
from videolm.files import atomic_path
from videolm.media import Audio, Video
from videolm.tasks.views import VIEWS
from videolm.tokenizers.audio.protocol import AudioTokenizer
from videolm.tokenizers.protocol import VideoTokenizer
from videolm.tokenizers.text.t5 import TextEncoder

BATCH = 16
"""Clips that are tokenised together."""
READERS = 4
"""Threads that read clips ahead."""

Tokenizer = VideoTokenizer | AudioTokenizer


class Texts(NamedTuple):
    """What is stored of captions and the names of classes."""

    encoder: TextEncoder
    length: int
    """Tokens that one may have; a longer one is cut and counted."""
    embed: bool = False
    """Whether embeddings are stored too: where the encoder is frozen, so that training goes without it."""

    @property
    def signature(self) -> dict[str, Any]:
        pieces = hashlib.sha256(self.encoder.sentencepiece_model)
        if self.embed:
            for name, value in sorted(self.encoder.state_dict().items()):
                pieces.update(name.encode() + value.cpu().float().numpy().tobytes())
        return {
            "text": pieces.hexdigest()[:16],
            "text_length": self.length,
            "text_width": self.encoder.width if self.embed else 0,
        }


class Stream(NamedTuple):
    """One stream of a data set, and what is stored of it.

    Attributes:
        folder: of this data set and split.
        sources: what is stored, each in a folder of its name: the stream itself, or "video.inpainting_central", ...
        signature: tells data of other settings apart.
    """

    folder: Path
    source: Source[Any]
    tokenizer: Tokenizer
    sources: tuple[str, ...]
    signature: str


class Part(NamedTuple):
    """Examples `first` to `stop` of a stream."""

    stream: Stream
    number: int
    first: int
    stop: int

    def file(self, source: str, suffix: str) -> Path:
        return self.stream.folder / source / f"part-{self.number:05d}{suffix}"


class Preparation:
    """The token shards of some streams in the making.

    Args:
        examples: of one part.
    """

    def __init__(self, streams: Sequence[Stream], texts: Texts, examples: int):
        self.streams, self.texts, self.size = streams, texts, examples
        self._made_with = {id(stream): self._signature(stream) for stream in streams}

    def _signature(self, stream: Stream) -> dict[str, Any]:
        return {
            "tokenizer": stream.tokenizer.fingerprint(),
            **self.texts.signature,
            "data": stream.signature,
            "examples": len(stream.source),
            "part": self.size,
        }

    @property
    def parts(self) -> list[Part]:
        return [
            Part(stream, number, first, min(first + self.size, len(stream.source)))
            for stream in self.streams
            for number, first in enumerate(range(0, len(stream.source), self.size))
        ]

    def left(self, part: Part) -> list[str]:
        """Sources of which a part is still to be made. Raises `UserError` where it was made otherwise."""
        found = []
        for source in part.stream.sources:
            done = part.file(source, ".json")
            if not done.is_file() or not part.file(source, ".arrow").is_file():
                found.append(source)
                continue
            record = read_json(done)
            for key, value in self._made_with[id(part.stream)].items():
                if record["made_with"][key] != value:
                    raise UserError(
                        f"the token shards in {done.parent} were made with another {key}: remove that folder, or "
                        "choose another place for them (tokens)"
                    )
            if part.file(source, ".arrow").stat().st_size != record["bytes"]:
                found.append(source)
        return found

    def make(self, rank: int = 0, world: int = 1, on_clips: Callable[[int], object] = lambda count: None) -> None:
        """Make those of the parts that are this process's and not there yet.

        Args:
            rank, world: which process this is, of how many.
            on_clips: told how many examples were dealt with, those that were there already first.
        """
        for part in self.parts[rank::world]:
            if sources := self.left(part):
                self._make(part, sources, on_clips)
            else:
                on_clips(part.stop - part.first)

    def total(self, rank: int = 0, world: int = 1) -> int:
        """Examples that `make` tells of."""
        return sum(part.stop - part.first for part in self.parts[rank::world])

    def done(self) -> int:
        """How many examples of all parts are made."""
        return sum(part.stop - part.first for part in self.parts if not self.left(part))

    def _make(self, part: Part, sources: Sequence[str], on_clips: Callable[[int], object]) -> None:
        stream, texts = part.stream, self.texts
        rows: dict[str, list[dict[str, Any]]] = {source: [] for source in sources}
        skipped: list[dict[str, Any]] = []
        cut, grids = 0, {}
        for numbers, examples, broken in _read(stream.source, part.first, part.stop):
            skipped += broken
            if examples:
                told, count = _texts(examples, texts)
                cut += count
                tensors = [prepared(example.media, stream.tokenizer) for example in examples]
                for source in sources:
                    view = source.partition(".")[2]
                    seen = tensors
                    if view:
                        seen = [VIEWS.get(view)(clip, bool(n % 2)) for n, clip in zip(numbers, tensors, strict=True)]
                    codes = encode(seen, stream.tokenizer)
                    grids[source] = list(codes.shape[1:])
                    for number, code, text in zip(numbers, codes, told, strict=True):
                        rows[source].append({"example": number, "codes": code.flatten().numpy(), **text})
            on_clips(len(numbers) + len(broken))
        for source in sources:
            self._write(part, source, rows[source], {"grid": grids.get(source), "cut": cut, "skipped": skipped})

    def _write(self, part: Part, source: str, rows: list[dict[str, Any]], record: dict[str, Any]) -> None:
        from datasets import Features, Sequence, Value
        from datasets.arrow_writer import ArrowWriter

        ids = Sequence(Value("int32"))
        features = {"example": Value("int64"), "codes": ids, "captions": Sequence(ids), "label": ids}
        if self.texts.embed:
            features["embeddings"] = Sequence(Value("binary"))
        path = part.file(source, ".arrow")
        with atomic_path(path) as temporary:
            with ArrowWriter(path=str(temporary), features=Features(features)) as writer:
                for row in rows:
                    writer.write(row)
                writer.finalize()
            record |= {"rows": len(rows), "bytes": temporary.stat().st_size, "sha256": file_hash(temporary)}
        record["made_with"] = self._made_with[id(part.stream)]
        with atomic_path(part.file(source, ".json")) as temporary:
            temporary.write_text(json.dumps(record) + "\n")

    def finish(self) -> int:
        """Write the manifests of all whose parts are there; returns how many parts are still to be made."""
        missing = 0
        for stream in self.streams:
            parts = [part for part in self.parts if part.stream is stream]
            for source in stream.sources:
                undone = [part for part in parts if source in self.left(part)]
                missing += len(undone)
                if not undone:
                    self._finish(stream, source, parts)
        return missing

    def _finish(self, stream: Stream, source: str, parts: Sequence[Part]) -> None:
        records = [read_json(part.file(source, ".json")) for part in parts]
        skipped = [{"file": file, "reason": reason} for file, reason in stream.source.unreadable]
        skipped += [each for record in records for each in record["skipped"]]
        manifest = {
            "made_with": self._made_with[id(stream)],
            "grid": next((record["grid"] for record in records if record["grid"]), []),
            "rows": sum(record["rows"] for record in records),
            "captions_cut": sum(record["cut"] for record in records),
            "skipped": len(skipped),
            "parts": [
                {"file": part.file(source, ".arrow").name, **{key: record[key] for key in ("rows", "bytes", "sha256")}}
                for part, record in zip(parts, records, strict=True)
            ],
        }
        folder = stream.folder / source
        with atomic_path(folder / SKIPPED) as path:
            path.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in skipped))
        with atomic_path(folder / MANIFEST) as path:
            path.write_text(json.dumps(manifest, indent=2) + "\n")

    def drop_damaged(self) -> list[Path]:
        """Remove every part whose hash is not that of its record, so that it is made again; returns them."""
        damaged = []
        for part in self.parts:
            for source in set(part.stream.sources) - set(self.left(part)):
                path, done = part.file(source, ".arrow"), part.file(source, ".json")
                if file_hash(path) != read_json(done)["sha256"]:
                    done.unlink()
                    damaged.append(path)
        return damaged


def signature(config: Config, *more: object) -> str:
    """A short hash of a data set's settings, for `Stream.signature`: not of where it lies and who learns from it."""
    settings = config.model_dump(mode="json", exclude={"path", "weight", "tasks"})
    return hashlib.sha256(json.dumps([settings, *map(str, more)], sort_keys=True).encode()).hexdigest()[:16]


def _read(
    source: Source[Any], first: int, stop: int
) -> Iterator[tuple[list[int], list[Example[Any]], list[dict[str, Any]]]]:
    """Examples in batches with their numbers, and records of those that cannot be read; read ahead by threads."""

    def one(number: int) -> Example[Any] | UserError:
        try:
            return source[number]
        except UserError as error:
            return error

    with ThreadPoolExecutor(READERS) as pool:
        batches = [range(start, min(start + BATCH, stop)) for start in range(first, stop, BATCH)]
        coming = [pool.submit(one, number) for number in batches[0]]
        for index, batch in enumerate(batches):
            here = coming
            if index + 1 < len(batches):
                coming = [pool.submit(one, number) for number in batches[index + 1]]
            found = [(number, each.result()) for number, each in zip(batch, here, strict=True)]
            good = [(number, each) for number, each in found if not isinstance(each, UserError)]
            broken = [
                {"example": number, "file": source.name(number), "reason": " ".join(str(each).split())}
                for number, each in found
                if isinstance(each, UserError)
            ]
            yield [number for number, _ in good], [each for _, each in good], broken


def _texts(examples: Sequence[Example[Any]], texts: Texts) -> tuple[list[dict[str, Any]], int]:
    """Ids of each example's captions and of its class's name, their embeddings if wanted, and how many were cut."""
    found, cut = [], 0
    for example in examples:
        *captions, label = texts.encoder.tokenize((*example.captions, example.label))
        cut += sum(len(row) > texts.length for row in captions)
        found.append({"captions": [row[: texts.length] for row in captions], "label": label[: texts.length]})
    if texts.embed:
        _embed(found, texts.encoder)
    return found, cut


@torch.inference_mode()
def _embed(rows: list[dict[str, Any]], encoder: TextEncoder) -> None:
    """Add to each row the embeddings (m, d) of its captions, then of its label, as float16 bytes."""
    ids = [text for row in rows for text in (*row["captions"], row["label"])]
    embeddings, mask = encoder(ids)
    shown = zip(embeddings.to("cpu", torch.float16), mask.cpu(), strict=True)
    each = iter([tokens[there].numpy().tobytes() for tokens, there in shown])
    for row in rows:
        row["embeddings"] = [next(each) for _ in range(len(row["captions"]) + 1)]


def prepared(media: Video | Audio, tokenizer: Tokenizer) -> Tensor:
    """A clip as (c, f, H, W), or a sound as (n,) at the tokenizer's rate."""
    if isinstance(media, Audio):
        assert isinstance(tokenizer, AudioTokenizer)
        return media.converted(tokenizer.sample_rate, 1).to_tensor()[0]
    return media.to_tensor()


@torch.inference_mode()
def encode(media: list[Tensor], tokenizer: Tokenizer) -> Tensor:
    """Clips (c, f, H, W) or sounds (n,) of one size to codes (b, t, h, w) or (b, q, t)."""
    device = next(tokenizer.parameters()).device
    return tokenizer.encode(torch.stack(media).to(device)).cpu()
