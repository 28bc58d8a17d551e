"""Token shards: what is in them, and that none of it is lost, doubled or taken for another's."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from videolm.data import prepare
from videolm.data.example import Example, Source
from videolm.data.prepare import Preparation, Stream, Texts, encode, signature
from videolm.data.shards import Shard, TokenData, embedded
from videolm.data.sources import ShapesWorldData
from videolm.errors import UserError
from videolm.shapes import Format
from videolm.tokenizers.text.t5 import T5Settings, TextEncoder
from videolm.tokenizers.video.magvit_v2 import MagvitV2, MagvitV2Config
from videolm.train.recipe import load_recipe

DATA = ShapesWorldData(clips=10)


@pytest.fixture(scope="module")
def tokenizer() -> MagvitV2:
    torch.manual_seed(0)
    return MagvitV2(load_recipe("shapesworld/tiny").tokenizer).eval()


@pytest.fixture(scope="module")
def source() -> Source:
    return DATA.open("video", Format(5, 32, 32), 8.0, "train")


@pytest.fixture(scope="module")
def text(source: Source) -> TextEncoder:
    torch.manual_seed(0)
    settings = T5Settings(d_model=16, num_heads=2, num_layers=1, d_ff=16)
    return TextEncoder.from_captions(settings, source.captions()).eval()


class Make:
    """Token shards of ten clips, three to a part, in a folder."""

    def __init__(self, folder: Path, source: Source, tokenizer: MagvitV2, text: TextEncoder):
        self.folder, self.source, self.tokenizer, self.text = folder, source, tokenizer, text

    def __call__(self, *sources: str, **changes: Any) -> Preparation:
        stream = Stream(
            self.folder,
            changes.get("source", self.source),
            changes.get("tokenizer", self.tokenizer),
            sources or ("video",),
            signature(changes.get("data", DATA)),
        )
        texts = Texts(self.text, changes.get("length", 64), changes.get("embed", False))
        return Preparation([stream], texts, changes.get("part", 3))

    def shard(self, name: str = "video") -> Shard:
        return Shard(self.folder / name)


@pytest.fixture
def make(tmp_path: Path, source: Source, tokenizer: MagvitV2, text: TextEncoder) -> Make:
    return Make(tmp_path / "tokens", source, tokenizer, text)


def finish(work: Preparation) -> None:
    work.make()
    assert work.finish() == 0


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_shards_hold_the_codes_and_captions_of_their_examples(make: Make) -> None:
    finish(make("video", "video.inpainting_central"))
    shard = make.shard()
    assert list(shard.examples) == list(range(10)) and not list(make.folder.rglob(".*"))
    batch = shard.read(np.array([4, 1]))
    clips = [make.source[number].media.to_tensor() for number in (4, 1)]
    assert torch.equal(batch.codes, encode(clips, make.tokenizer))
    assert [list(map(int, ids)) for ids in batch.captions[1]] == make.text.tokenize(make.source[1].captions)
    masked = prepare.VIEWS.get("inpainting_central")
    seen = encode([masked(clip, False) for clip in clips], make.tokenizer)
    assert torch.equal(make.shard("video.inpainting_central").read(np.array([4, 1])).codes, seen)


def test_what_is_made_is_read_and_not_made_again(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    finish(make())
    before = files(make.folder)
    monkeypatch.setattr(prepare, "encode", None)
    finish(make())
    assert files(make.folder) == before


def test_processes_share_the_parts_and_leave_what_one_alone_would(
    make: Make, tmp_path: Path, source: Source, tokenizer: MagvitV2, text: TextEncoder
) -> None:
    finish(make())
    other = Make(tmp_path / "shared", source, tokenizer, text)
    told: list[int] = []
    for rank in (2, 0):
        other().make(rank, 3, told.append)
        assert other().finish() == {2: 3, 0: 1}[rank]  # parts that others have yet to make
        with pytest.raises(UserError, match="are not finished: go on with `videolm prepare`"):
            other.shard()
    other().make(1, 3, told.append)
    assert other().finish() == 0 and sum(told) == 10
    assert files(other.folder) == files(make.folder)


class Broken:
    """A source whose fourth clip cannot be read, and that left out a file when it was opened."""

    unreadable: Sequence[tuple[str, str]] = (("clips/empty.mp4", "it has no frame"),)

    def __init__(self, source: Source):
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Example[Any]:
        if index == 4:
            raise UserError("frame 3 is damaged")
        return self.source[index]

    def name(self, index: int) -> str:
        return f"clips/{index}.mp4"


def test_what_cannot_be_read_is_left_out_and_listed(make: Make) -> None:
    finish(make(source=Broken(make.source)))
    shard = make.shard()
    assert list(shard.examples) == [0, 1, 2, 3, 5, 6, 7, 8, 9] and shard.manifest["skipped"] == 2
    listed = [json.loads(line) for line in (make.folder / "video" / "skipped.jsonl").read_text().splitlines()]
    assert listed == [
        {"file": "clips/empty.mp4", "reason": "it has no frame"},
        {"example": 4, "file": "clips/4.mp4", "reason": "frame 3 is damaged"},
    ]
    assert torch.equal(
        shard.read(np.array([5])).codes[0], encode([make.source[5].media.to_tensor()], make.tokenizer)[0]
    )


def test_a_task_learns_from_the_examples_that_all_its_sources_have(make: Make) -> None:
    finish(make(source=Broken(make.source)))
    finish(make("whole"))
    data = TokenData({name: make.shard(name) for name in ("video", "whole")})
    assert list(data.examples(["whole"])) == list(range(10))
    both = data.examples(["whole", "video"])
    assert list(both) == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    one, other = (data.shards[name].read(both) for name in ("whole", "video"))
    assert torch.equal(one.codes, other.codes) and one.captions == other.captions


@pytest.mark.parametrize(
    ("what", "changes"),
    [
        ("tokenizer", {"tokenizer": MagvitV2(load_recipe("shapesworld/tiny").tokenizer)}),
        ("text_length", {"length": 7}),
        ("text", {"embed": True}),
        ("data", {"data": ShapesWorldData(clips=10, seed=2)}),
        ("part", {"part": 4}),
    ],
)
def test_shards_that_were_made_otherwise_are_refused(make: Make, what: str, changes: dict[str, Any]) -> None:
    finish(make())
    with pytest.raises(UserError, match=f"were made with another {what}: remove that folder"):
        make(**changes).make()


def test_long_captions_are_cut_and_counted(make: Make) -> None:
    finish(make(length=3))
    shard = make.shard()
    assert shard.manifest["captions_cut"] == 30
    assert all(len(ids) == 3 for row in shard.read(np.arange(10)).captions for ids in row)


def test_embeddings_are_stored_for_an_encoder_that_stays_as_it_is(make: Make) -> None:
    finish(make(embed=True))
    shard = make.shard()
    batch = shard.read(np.array([0, 7]))
    assert shard.text_width == 16 and batch.embeddings is not None
    for at in range(2):
        captions = [list(map(int, ids)) for ids in batch.captions[at]]
        wanted, mask = make.text(captions)
        stored, there = embedded(batch.embeddings[at][: len(captions)], 16)
        assert torch.equal(there, mask)
        assert torch.allclose(stored[there], wanted[mask].detach(), atol=2e-3)


def test_a_truncated_part_is_named_and_made_again(make: Make) -> None:
    finish(make())
    before = files(make.folder)
    part = make.folder / "video" / "part-00001.arrow"
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"part-00001.arrow has \d+ bytes in place of \d+: make it again"):
        make.shard()
    finish(make())
    assert files(make.folder) == before


def test_a_damaged_part_is_found_by_its_hash_and_made_again(make: Make) -> None:
    finish(make())
    before = files(make.folder)
    part = make.folder / "video" / "part-00002.arrow"
    damaged = bytearray(part.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    part.write_bytes(damaged)
    assert make().drop_damaged() == [part]
    finish(make())
    assert files(make.folder) == before


LAUNCHED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
KILLED = """
import sys
from videolm.train.recipe import load_recipe
from videolm.train.run import Run
Run(load_recipe("shapesworld/tiny", {"out": sys.argv[1], "data.clips": "120", "part": "4"}), resume=None).prepare()
"""


@pytest.mark.slow
def test_a_preparation_that_is_killed_goes_on_with_nothing_lost_or_doubled(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path / "run")]
    # without what a training in the tests' own process has said of itself
    env = {name: value for name, value in os.environ.items() if name not in LAUNCHED} | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=env)
    tokens, began = tmp_path / "run" / "tokens" / "data" / "train" / "video", time.monotonic()
    while len(list(tokens.glob("part-*.json"))) < 5:
        assert process.poll() is None and time.monotonic() - began < 120
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tokens / "manifest.json").exists()
    kept = {
        path.name: path.stat().st_mtime_ns for path in tokens.glob("part-*.arrow") if path.with_suffix(".json").exists()
    }
    assert subprocess.run(command, env=env).returncode == 0
    assert list(Shard(tokens).examples) == list(range(120))
    assert all((tokens / name).stat().st_mtime_ns == when for name, when in kept.items())


def test_fingerprints_tell_weights_apart(tokenizer: MagvitV2) -> None:
    copy = MagvitV2(tokenizer.config)
    copy.load_state_dict(tokenizer.state_dict())
    assert copy.fingerprint() == tokenizer.fingerprint()
    with torch.no_grad():
        next(copy.parameters()).view(-1)[0] += 1e-6
    assert copy.fingerprint() != tokenizer.fingerprint()
    assert isinstance(copy.config, MagvitV2Config)
