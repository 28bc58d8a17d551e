"""`videolm batch`: the same clips whatever the processes, and nothing done twice or lost."""

import json
from pathlib import Path

import numpy as np
import pytest

from videolm import VideoLM
from videolm.cli.main import main
from videolm.generate.sampling import generators
from videolm.media import Image, read_video, write_image
from videolm.pipeline import batch


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    """Five calls of several tasks, one of which cannot be made."""
    write_image(Image(np.full((40, 40, 3), 90, np.uint8)), tmp_path / "first.png")
    lines = [
        "a star",
        json.dumps({"prompt": "a circle", "seed": 7}),
        json.dumps({"image": "first.png", "num_videos_per_prompt": 2}),
        json.dumps({"image": "none.png"}),
        json.dumps({"prompt": "a square", "task": "text_to_image", "guidance_scale": 3}),
    ]
    (tmp_path / "calls.jsonl").write_text("\n".join(lines) + "\n\n")
    return tmp_path / "calls.jsonl"


def made(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_what_is_made_does_not_depend_on_who_makes_it(
    tiny_model: Path, calls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["batch", str(calls), "--model", str(tiny_model)]
    assert main([*command, "--out", str(tmp_path / "one"), "--json"]) == 2
    told = capsys.readouterr()
    assert "1 calls failed" in told.err and "none.png does not exist" in told.err
    records = [json.loads(line) for line in told.out.splitlines()]
    assert [record.get("task") for record in records] == [
        "text_to_video",
        "text_to_video",
        "image_to_video",
        None,
        "text_to_image",
    ]
    assert records[2]["paths"] == ["00002-0.mp4", "00002-1.mp4"] and records[4]["paths"] == ["00004.png"]
    for rank in (1, 0):
        assert main([*command, "--out", str(tmp_path / "two"), "--rank", str(rank), "--world", "2"]) == 2
    assert made(tmp_path / "two") == made(tmp_path / "one")
    with batch._one_thread():
        VideoLM.from_pretrained(tiny_model)("a circle", generator=generators(7, 1)).save(tmp_path / "alone.mp4")
    assert (tmp_path / "alone.mp4").read_bytes() == (tmp_path / "one" / "00001.mp4").read_bytes()
    assert len(read_video(tmp_path / "one" / "00000.mp4")) == 17


def test_a_stopped_batch_goes_on(
    tiny_model: Path, calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["batch", str(calls), "--model", str(tiny_model)]
    assert main([*command, "--out", str(tmp_path / "one")]) == 2
    plain, wrote = batch.Batch._write, []

    def write(self: batch.Batch, index: int, *rest: object) -> None:
        if len(wrote) == 2:
            raise KeyboardInterrupt
        plain(self, index, *rest)  # type: ignore[arg-type]
        wrote.append(index)

    monkeypatch.setattr(batch, "TOGETHER", 2)
    monkeypatch.setattr(batch.Batch, "_write", write)
    assert main([*command, "--out", str(tmp_path / "two")]) == 130
    monkeypatch.setattr(
        batch.Batch, "_write", lambda self, index, *rest: wrote.append(index) or plain(self, index, *rest)
    )
    assert main([*command, "--out", str(tmp_path / "two")]) == 2
    assert sorted(wrote) == [0, 1, 2, 3, 4]
    assert made(tmp_path / "two") == made(tmp_path / "one")
    write_image(Image(np.full((40, 40, 3), 9, np.uint8)), tmp_path / "none.png")
    calls.write_text(calls.read_text().replace("none.png", "first.png"))  # a call that failed may be mended
    assert main([*command, "--out", str(tmp_path / "two")]) == 0
    calls.write_text(calls.read_text().replace("a star", "a cross"))
    capsys.readouterr()
    assert main([*command, "--out", str(tmp_path / "two")]) == 2
    assert "00000.json is of another call or model" in capsys.readouterr().err


@pytest.mark.slow
def test_workers_of_datatrove_share_a_batch(tiny_model: Path, calls: Path, tmp_path: Path) -> None:
    command = ["batch", str(calls), "--model", str(tiny_model)]
    assert main([*command, "--out", str(tmp_path / "one")]) == 2
    assert main([*command, "--out", str(tmp_path / "two"), "--workers", "2"]) == 2
    assert made(tmp_path / "two") == made(tmp_path / "one")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no calls"),
        ('{"promt": "a star"}', "call 1: unknown argument 'promt'; did you mean 'prompt'"),
        ('a star\n{"prompt": "x"', "call 2: "),
        ('{"prompt": ["a", "b"]}', "a call has one prompt"),
        ('{"seed": "x"}', "a whole number as its seed"),
    ],
)
def test_a_file_that_is_none_is_said(tmp_path: Path, text: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "calls.txt").write_text(text)
    assert main(["batch", str(tmp_path / "calls.txt"), "--out", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err
