"""Token shards: what was encoded is what is read, once, and by the right tokenizer only."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from videolm.data.example import Source
from videolm.data.shards import Shard, encode, tokenize
from videolm.data.sources import ShapesWorldData
from videolm.errors import UserError
from videolm.shapes import Format
from videolm.tokenizers.text.t5 import T5Settings, TextEncoder
from videolm.tokenizers.video.magvit_v2 import MagvitV2, MagvitV2Config
from videolm.train.recipe import load_recipe


@pytest.fixture(scope="module")
def tokenizer() -> MagvitV2:
    torch.manual_seed(0)
    return MagvitV2(load_recipe("shapesworld/tiny").tokenizer).eval()


@pytest.fixture(scope="module")
def source() -> Source:
    return ShapesWorldData(clips=6).open("video", Format(17, 32, 32), 8.0, "train")


@pytest.fixture(scope="module")
def text(source: Source) -> TextEncoder:
    return TextEncoder.from_captions(T5Settings(d_model=16, num_heads=2, num_layers=1, d_ff=16), source.captions())


@pytest.fixture
def shard(tmp_path: Path, source: Source, tokenizer: MagvitV2, text: TextEncoder) -> Shard:
    return tokenize(source, tokenizer, text, tmp_path / "video", text_length=64, batch=4)


def test_shards_hold_the_codes_and_captions_of_their_examples(
    shard: Shard, source: Source, tokenizer: MagvitV2, text: TextEncoder
) -> None:
    assert len(shard) == 6
    batch = shard.read(np.array([4, 1]))
    clips = [source[4].media.to_tensor(), source[1].media.to_tensor()]
    assert torch.equal(batch.codes, encode(clips, tokenizer))
    assert [list(map(int, ids)) for ids in batch.captions[1]] == text.tokenize(source[1].captions)


def test_shards_are_read_and_not_made_again(
    shard: Shard,
    tmp_path: Path,
    source: Source,
    tokenizer: MagvitV2,
    text: TextEncoder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("videolm.data.shards.encode", None)
    again = tokenize(source, tokenizer, text, tmp_path / "video", text_length=64)
    assert torch.equal(again.read(np.arange(6)).codes, shard.read(np.arange(6)).codes)


def test_shards_of_another_tokenizer_are_refused(
    shard: Shard, tmp_path: Path, source: Source, text: TextEncoder
) -> None:
    other = MagvitV2(load_recipe("shapesworld/tiny").tokenizer)
    with pytest.raises(UserError, match="were made with another tokenizer"):
        tokenize(source, other, text, tmp_path / "video", text_length=64)


def test_long_captions_are_cut_and_counted(
    tmp_path: Path, source: Source, tokenizer: MagvitV2, text: TextEncoder
) -> None:
    shard = tokenize(source, tokenizer, text, tmp_path / "cut", text_length=3)
    assert shard.manifest["captions_cut"] == 18
    assert all(len(ids) == 3 for row in shard.read(np.arange(6)).captions for ids in row)


def test_an_interrupted_tokenisation_leaves_nothing_behind_its_name(
    tmp_path: Path, source: Source, tokenizer: MagvitV2, text: TextEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: Iterator[bool] = iter([True, False])

    def failing(videos: list[torch.Tensor], tokenizer: MagvitV2) -> torch.Tensor:
        if next(calls):
            return encode(videos, tokenizer)
        raise KeyboardInterrupt

    monkeypatch.setattr("videolm.data.shards.encode", failing)
    with pytest.raises(KeyboardInterrupt):
        tokenize(source, tokenizer, text, tmp_path / "video", text_length=64, batch=4)
    assert not (tmp_path / "video").exists()


def test_fingerprints_tell_weights_apart(tokenizer: MagvitV2) -> None:
    copy = MagvitV2(tokenizer.config)
    copy.load_state_dict(tokenizer.state_dict())
    assert copy.fingerprint() == tokenizer.fingerprint()
    with torch.no_grad():
        next(copy.parameters()).view(-1)[0] += 1e-6
    assert copy.fingerprint() != tokenizer.fingerprint()
    assert isinstance(copy.config, MagvitV2Config)
