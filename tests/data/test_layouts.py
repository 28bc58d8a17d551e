"""Data sets as they come: three clips in the exact layout of each."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from videolm.data.clips import ClipData, ClipSource
from videolm.data.layouts.folder import FolderData
from videolm.data.layouts.huggingface import HuggingFaceData
from videolm.data.layouts.kinetics import KineticsData
from videolm.data.layouts.msr_vtt import MsrVttData
from videolm.data.layouts.ssv2 import SomethingData
from videolm.data.layouts.table import TableData
from videolm.data.layouts.ucf101 import Ucf101Data
from videolm.errors import UserError
from videolm.media import Video, write_video
from videolm.shapes import Format

Number = Callable[[np.ndarray], int]
SHAPE = Format(5, 32, 32)


@pytest.fixture
def film(tmp_path: Path, numbered: Callable[[int], Video]) -> Callable[..., Path]:
    """Write a film of so many numbered frames where it is wanted."""

    def film(name: str, frames: int = 5) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_video(numbered(frames), path.with_suffix(".mp4")).rename(path)

    return film


def opened(data: ClipData, split: Any = "train", stream: str = "video") -> ClipSource:
    return data.open(stream, SHAPE, 8.0, split)


def told(source: ClipSource) -> list[tuple[tuple[str, ...], str]]:
    return [(example.captions, example.label) for example in source]


def test_msr_vtt(tmp_path: Path, film: Callable[..., Path]) -> None:
    videos = [
        {"video_id": f"video{i}", "start time": 137.7, "end time": 149.4, "split": split, "category": 9, "url": "x"}
        for i, split in enumerate(["train", "validate", "test", "train"])
    ]
    sentences = [{"video_id": f"video{i % 3}", "caption": f"sentence {i}", "sen_id": i} for i in range(6)]
    table = {"info": {"year": "2016"}, "videos": videos, "sentences": sentences}
    (tmp_path / "train_val_videodatainfo.json").write_text(json.dumps(table))
    for index in range(3):
        film(f"TrainValVideo/video{index}.mp4")
    data = MsrVttData(path=str(tmp_path))
    source = opened(data)
    assert told(source) == [(("sentence 0", "sentence 3"), "")]
    assert told(opened(data, "validation")) == [(("sentence 1", "sentence 4"), "")]
    assert source.unreadable == [("video3", "the film is not there")]
    assert source.name(0).endswith("video0.mp4 from 0 s")


def test_ucf101(tmp_path: Path, film: Callable[..., Path]) -> None:
    names = ["v_ApplyEyeMakeup_g08_c01.avi", "v_ApplyEyeMakeup_g01_c01.avi", "v_YoYo_g09_c01.avi"]
    for name in names:
        film(f"UCF-101/{name.split('_')[1]}/{name}")
    lists = tmp_path / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "trainlist01.txt").write_text(f"ApplyEyeMakeup/{names[0]} 1\nYoYo/{names[2]} 101\n")
    (lists / "testlist01.txt").write_text(f"ApplyEyeMakeup/{names[1]}\n")
    data = Ucf101Data(path=str(tmp_path))
    assert told(opened(data)) == [((), "apply eye makeup"), ((), "yo yo")]
    assert told(opened(data, "validation")) == [((), "apply eye makeup")]


def test_ucf101_without_lists_keeps_the_clips_of_a_film_together(tmp_path: Path, film: Callable[..., Path]) -> None:
    for group in range(6):
        for clip in range(2):
            film(f"YoYo/v_YoYo_g{group:02d}_c{clip:02d}.avi")
    data = Ucf101Data(path=str(tmp_path), validation_share=0.5)
    groups = [{source.name(i).split("_g")[1][:2] for i in range(len(source))} for source in map(opened, [data])]
    held = opened(data, "validation")
    assert groups[0] and not groups[0] & {held.name(i).split("_g")[1][:2] for i in range(len(held))}


def test_kinetics(tmp_path: Path, film: Callable[..., Path], number: Number) -> None:
    (tmp_path / "annotations").mkdir()
    head = "label,youtube_id,time_start,time_end,split\n"
    rows = ["riding a bike,AbCdEfGhIjK,10,20,train\n", "yoga,whole_film_1,1,2,train\n", "yoga,gone,0,10,train\n"]
    (tmp_path / "annotations" / "train.csv").write_text(head + "".join(rows))
    (tmp_path / "annotations" / "validate.csv").write_text(head + "yoga,ZbCdEfGhIjK,5,15,validate\n")
    film("train/riding a bike/AbCdEfGhIjK_000010_000020.mp4")
    film("train/whole_film_1.mp4", 24)
    film("val/yoga/ZbCdEfGhIjK_000005_000015.mp4")
    data = KineticsData(path=str(tmp_path), stride=1)
    source = opened(data)
    assert told(source)[0] == ((), "riding a bike") and len(source) == 1 + 4  # 8 frames cut out: 4 windows
    assert [number(frame) for frame in source[1].media.frames] == [8, 9, 10, 11, 12]
    assert [number(frame) for frame in source[4].media.frames] == [11, 12, 13, 14, 15]
    assert told(opened(data, "validation")) == [((), "yoga")]
    assert source.unreadable == [("gone_000000_000010", "the film is not there")]


def test_something_something(tmp_path: Path, film: Callable[..., Path]) -> None:
    def row(name: str, what: str) -> dict[str, Any]:
        template = "Pushing [something] so that it falls"
        return {"id": name, "label": f"pushing {what}", "template": template, "placeholders": [what]}

    (tmp_path / "something-something-v2-train.json").write_text(json.dumps([row("1", "a cup"), row("2", "a pen")]))
    (tmp_path / "something-something-v2-validation.json").write_text(json.dumps([row("3", "a box"), row("4", "x")]))
    for index in (1, 2, 3):
        film(f"20bn-something-something-v2/{index}.webm")
    data = SomethingData(path=str(tmp_path))
    label = "Pushing something so that it falls"
    assert told(opened(data)) == [(("pushing a cup",), label), (("pushing a pen",), label)]
    assert told(opened(data, "validation")) == [(("pushing a box",), label)]


@pytest.mark.parametrize(
    ("head", "rows", "files"),
    [
        ("path,text", ["a/1.mp4,one", "a/2.mp4,two", "3.mp4,three"], ["a/1.mp4", "a/2.mp4"]),
        (
            "videoid,contentUrl,duration,page_dir,name",
            ["1,http://x,PT1S,000001_000050,one", "2,http://x,PT1S,000001_000050,two", "3,http://x,PT1S,0,three"],
            ["000001_000050/1.mp4", "000001_000050/2.mp4"],
        ),
    ],
    ids=["Open-Sora", "WebVid"],
)
def test_tables(tmp_path: Path, film: Callable[..., Path], head: str, rows: list[str], files: list[str]) -> None:
    (tmp_path / "table.csv").write_text("\n".join([head, *rows]) + "\n")
    for name in files:
        film(name)
    source = opened(TableData(path=str(tmp_path / "table.csv"), validation_share=0))
    assert told(source) == [(("one",), ""), (("two",), "")]
    assert [reason for _, reason in source.unreadable] == ["the film is not there"]
    elsewhere = TableData(path=str((tmp_path / "table.csv").rename(tmp_path / "a.csv")), folder=str(tmp_path / "no"))
    with pytest.raises(UserError, match="not one can be read; .*the film is not there"):
        opened(elsewhere)


def test_hugging_face_folders_and_tables(
    tmp_path: Path, film: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, number: Number
) -> None:
    from datasets import Dataset

    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    for index in range(3):
        film(f"clips/{index}.mp4", 5 + index)
    lines = [json.dumps({"file_name": f"{index}.mp4", "caption": f"number {index}"}) for index in range(3)]
    (tmp_path / "clips" / "metadata.jsonl").write_text("\n".join(lines))
    folder = HuggingFaceData(path=str(tmp_path / "clips"), validation_share=0)
    assert told(opened(folder)) == [((f"number {index}",), "") for index in range(3)]
    rows = {
        "video": [{"bytes": (tmp_path / "clips" / f"{i}.mp4").read_bytes(), "path": f"{i}.mp4"} for i in range(2)],
        "text": [["a", "b"], ["c"], ["d"]],
        "kind": ["grey", "grey", ""],
    }
    rows["video"].append({"bytes": b"", "path": None})
    (tmp_path / "tables").mkdir()
    Dataset.from_dict(rows).to_parquet(str(tmp_path / "tables" / "train-00000-of-00001.parquet"))
    tables = HuggingFaceData(path=str(tmp_path / "tables"), validation_share=0, label="kind")
    source = opened(tables)
    assert told(source) == [(("a", "b"), "grey"), (("c",), "grey")]
    assert number(source[1].media.frames[4]) == 4
    assert source.unreadable == [("row 2 of train", "its video is empty or not there")]
    with pytest.raises(UserError, match="has the columns .*: say which holds the films"):
        opened(tables.model_copy(update={"media": "film"}))
    with pytest.raises(UserError, match="cannot open the data set"):
        opened(HuggingFaceData(path=str(tmp_path / "nowhere")))


def test_broken_files_are_left_out_and_listed(tmp_path: Path, film: Callable[..., Path]) -> None:
    film("good.mp4")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no film at all")
    source = opened(FolderData(path=str(tmp_path)))
    assert len(source) == 1
    assert sorted(Path(name).name for name, _ in source.unreadable) == ["empty.mp4", "text.mp4"]


@pytest.mark.parametrize(
    ("kind", "files", "said"),
    [
        (MsrVttData, {"a.json": "{"}, "a.json cannot be read as JSON"),
        (MsrVttData, {"a.json": '{"videos": [{}], "sentences": []}'}, "a.json is not as MSR-VTT has it"),
        (MsrVttData, {"a.json": "[]"}, "holds no JSON with 'videos' and 'sentences'"),
        (KineticsData, {}, "holds no CSV of Kinetics"),
        (KineticsData, {"a.csv": "label,youtube_id\nx,y\n"}, "a.csv has no column 'time_start'"),
        (SomethingData, {}, "holds no something-something-v2-train.json"),
        (SomethingData, {"something-something-v2-train.json": "[1]"}, "is not as Something-Something has it"),
        (Ucf101Data, {}, "no training clips in"),
    ],
)
def test_what_is_wrong_with_a_layout_is_said(
    tmp_path: Path, kind: type[ClipData], files: dict[str, str], said: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=said) as error:
        opened(kind(path=str(tmp_path)))
    assert "\n" not in str(error.value)
