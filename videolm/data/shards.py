"""Tokenised examples on disk: Arrow files by `datasets`, one folder a stream, with a manifest.

Reading them needs no tokenizer. The manifest names the tokenizer by the hash of its weights, so shards of another one
are refused instead of being trained on.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from videolm.component import read_json
from videolm.data.example import Source
from videolm.errors import UserError
from videolm.media import Audio, Video
from videolm.progress import progress
from videolm.tasks.views import View
from videolm.tokenizers.audio.protocol import AudioTokenizer
from videolm.tokenizers.protocol import VideoTokenizer
from videolm.tokenizers.text.t5 import TextEncoder

MANIFEST = "manifest.json"


class Batch(NamedTuple):
    """Examples of one stream."""

    codes: Tensor  # (b, t, h, w) of clips or (b, q, t) of sounds, int64
    captions: list[list[list[int]]]  # of each example, the token ids of each of its captions
    labels: list[list[int]]  # of each example, the token ids of its class's name, if any


class Shard:
    """Examples of one stream, read by index."""

    def __init__(self, folder: Path):
        from datasets import load_from_disk

        self.manifest = read_json(folder / MANIFEST)
        self.grid = tuple(self.manifest["grid"])
        self._table = load_from_disk(str(folder)).with_format("numpy", columns=["codes"], output_all_columns=True)

    def __len__(self) -> int:
        return len(self._table)

    def read(self, indices: np.ndarray) -> Batch:
        rows: dict[str, Any] = self._table[indices.tolist()]
        codes = torch.from_numpy(np.stack(rows["codes"])).long().unflatten(1, self.grid)
        return Batch(codes, rows["captions"], rows["label"])


def tokenize(
    source: Source[Any],
    tokenizer: VideoTokenizer | AudioTokenizer,
    text: TextEncoder,
    folder: Path,
    *,
    text_length: int,
    view: View | None = None,
    batch: int = 16,
) -> Shard:
    """Write every example of `source` as codes and caption ids into `folder`, once; read it when it is there.

    With a view the clips are seen by it, what moves in it turned round in every other one. Captions over `text_length`
    are cut and counted in the manifest. The folder appears by rename.
    Raises `UserError` when the folder holds shards of another tokenizer, captions or source size.
    """
    from datasets import Dataset, Features, Sequence, Value

    made_with = {
        "tokenizer": tokenizer.fingerprint(),
        "text": hashlib.sha256(text.sentencepiece_model).hexdigest()[:16],
        "examples": len(source),
    }
    if folder.exists():
        shard = Shard(folder)
        differs = [key for key, value in made_with.items() if shard.manifest[key] != value]
        if differs:
            raise UserError(f"the token shards in {folder} were made with another {differs[0]}; remove the folder")
        return shard
    cut = 0

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal cut
        with progress(len(source), f"tokenize {folder.parent.name}/{folder.name}", "clip") as bar:
            for start in range(0, len(source), batch):
                examples = [source[index] for index in range(start, min(start + batch, len(source)))]
                tensors = [prepared(example.media, tokenizer) for example in examples]
                if view is not None:
                    tensors = [view(clip, bool((start + at) % 2)) for at, clip in enumerate(tensors)]
                codes = encode(tensors, tokenizer)
                for example, code in zip(examples, codes, strict=True):
                    *ids, label = text.tokenize((*example.captions, example.label))
                    cut += sum(len(row) > text_length for row in ids)
                    yield {
                        "codes": code.flatten().tolist(),
                        "captions": [row[:text_length] for row in ids],
                        "label": label[:text_length] if example.label else [],
                    }
                bar.update(len(examples))

    ids = Sequence(Value("int32"))
    features = Features({"codes": ids, "captions": Sequence(ids), "label": ids})
    first = prepared(source[0].media, tokenizer)
    grid = encode([first if view is None else view(first, False)], tokenizer).shape[1:]
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    table = Dataset.from_list(list(rows()), features=features)
    table.save_to_disk(str(temporary))
    manifest = {**made_with, "grid": list(grid), "captions_cut": cut}
    (temporary / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    temporary.rename(folder)
    return Shard(folder)


def prepared(media: Video | Audio, tokenizer: VideoTokenizer | AudioTokenizer) -> Tensor:
    """A clip as (c, f, H, W), or a sound as (n,) at the tokenizer's rate."""
    if isinstance(media, Audio):
        assert isinstance(tokenizer, AudioTokenizer)
        return media.converted(tokenizer.sample_rate, 1).to_tensor()[0]
    return media.to_tensor()


@torch.inference_mode()
def encode(media: list[Tensor], tokenizer: VideoTokenizer | AudioTokenizer) -> Tensor:
    """Clips (c, f, H, W) or sounds (n,) of one size to codes (b, t, h, w) or (b, q, t)."""
    device = next(tokenizer.parameters()).device
    return tokenizer.encode(torch.stack(media).to(device)).cpu()
