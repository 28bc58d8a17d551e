"""Data sets as they come: three clips in the exact layout of each."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from videolm.data.clips import ClipData, ClipSource, read_headers
from videolm.data.layouts.folder import FolderData
from videolm.data.layouts.huggingface import HuggingFaceData
from videolm.data.layouts.kinetics import KineticsData
from videolm.data.layouts.msr_vtt import MsrVttData
from videolm.data.layouts.ssv2 import SomethingData
from videolm.data.layouts.table import TableData
from videolm.data.layouts.ucf101 import Ucf101Data
from videolm.errors import UserError
from videolm.media import Audio as Sound
from videolm.media import Image as Picture
from videolm.media import Video, write_audio, write_image, write_video
from videolm.shapes import Format

Number = Callable[[np.ndarray], int]
SHAPE = Format(5, 32, 32)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets` keeps its tables here and not in the user's home."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


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
    assert source.unreadable == [
        ("video3", f"video3 is named by {tmp_path}/train_val_videodatainfo.json and is not there")
    ]
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
    (tmp_path / "annotations" / "test.csv").write_text("youtube_id,time_start,time_end,split\nYbCdEfGhIjK,5,15,test\n")
    (tmp_path / "classes.csv").write_text("id,name\n0,yoga\n")
    film("train/riding a bike/AbCdEfGhIjK_000010_000020.mp4")
    film("train/whole_film_1.mp4", 24)
    film("val/yoga/ZbCdEfGhIjK_000005_000015.mp4")
    data = KineticsData(path=str(tmp_path), stride=1)
    source = opened(data)
    assert told(source)[0] == ((), "riding a bike") and len(source) == 1 + 4  # 8 frames cut out: 4 windows
    assert [number(frame) for frame in source[1].media.frames] == [8, 9, 10, 11, 12]
    assert [number(frame) for frame in source[4].media.frames] == [11, 12, 13, 14, 15]
    assert told(opened(data, "validation")) == [((), "yoga")]
    assert [name for name, _ in source.unreadable] == ["gone_000000_000010"]


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
    (left_out,) = source.unreadable
    assert Path(left_out[0]).name == "3.mp4" and "does not exist" in left_out[1]
    elsewhere = TableData(path=str((tmp_path / "table.csv").rename(tmp_path / "a.csv")), folder=str(tmp_path / "no"))
    with pytest.raises(UserError, match="not one can be read; .*1.mp4 does not exist"):
        opened(elsewhere)


def test_a_table_of_other_columns(tmp_path: Path, film: Callable[..., Path]) -> None:
    (tmp_path / "a.tsv").write_text("clip id\twhat\tlabel\n1\tone, two\tx\n\n2\t \ty\n")
    (tmp_path / "b.tsv").write_text("clip id\twhat\n3\tthree\n")
    for index in (1, 2, 3):
        film(f"films/{index}.mp4")
    settings: dict[str, Any] = {"file": "{clip id}.mp4", "caption": "what", "folder": str(tmp_path / "films")}
    data = TableData(path=str(tmp_path / "a.tsv"), validation=str(tmp_path / "b.tsv"), **settings)
    assert told(opened(data)) == [(("one, two",), "x"), ((), "y")]
    assert told(opened(data, "validation")) == [(("three",), "")]
    for wrong, said in (
        ({"caption": "text"}, "a.tsv has no column 'text', but clip id, what, label"),
        ({"file": "{id}.mp4"}, "a.tsv has no column 'id', but clip id, what, label"),
        ({"file": ""}, "a.tsv has the columns clip id, what, label: say which has the files' names"),
        ({"path": str(tmp_path / "c.tsv")}, "c.tsv cannot be read as a table"),
    ):
        with pytest.raises(UserError, match=said):
            opened(data.model_copy(update=wrong))
    (tmp_path / "a.tsv").write_text("clip id\twhat\n1\tone\n2\n")
    read_headers.cache_clear()
    with pytest.raises(UserError, match="a.tsv: line 3 has no 'what': mend it"):
        opened(data)


def test_without_clips_for_validation_some_are_kept_by_their_names(tmp_path: Path, film: Callable[..., Path]) -> None:
    videos = [{"video_id": f"video{i}", "split": "train"} for i in range(20)]
    (tmp_path / "all.json").write_text(json.dumps({"videos": videos, "sentences": []}))
    first = film("video0.mp4")
    for index in range(1, 20):
        (tmp_path / f"video{index}.mp4").write_bytes(first.read_bytes())
    data = MsrVttData(path=str(tmp_path), validation_share=0.4)
    train, held = (
        [source.name(i) for i in range(len(source))] for source in (opened(data), opened(data, "validation"))
    )
    assert 3 <= len(held) <= 13 and not set(train) & set(held) and len(train) + len(held) == 20
    assert len(opened(data.model_copy(update={"validation_share": 0}))) == 20


def test_uncut_msr_vtt(tmp_path: Path, film: Callable[..., Path], number: Number) -> None:
    film("video7.mp4", 24)
    video = {"video_id": "video7", "split": "train", "start time": 1.5, "end time": 2.25}
    (tmp_path / "a.json").write_text(json.dumps({"videos": [video], "sentences": []}))
    source = opened(MsrVttData(path=str(tmp_path), uncut=True, stride=1))
    assert [number(source[index].media.frames[0]) for index in range(len(source))] == [12, 13]
    assert source.name(1).endswith("video7.mp4 from 1.625 s")


@pytest.mark.usefixtures("cache")
def test_hugging_face_folders_and_tables(tmp_path: Path, film: Callable[..., Path], number: Number) -> None:
    from datasets import Dataset

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
    row = f"row 2 of train in {tmp_path}/tables"
    assert source.unreadable == [(row, f"{row} is empty")]
    assert source.name(1) == f"row 1 of train in {tmp_path}/tables (1.mp4) from 0 s"
    with pytest.raises(UserError, match=r"tables has no column 'film' \(data.media\), but kind, text, video"):
        opened(tables.model_copy(update={"media": "film"}))
    Dataset.from_dict({"text": ["a"]}).to_parquet(str(tmp_path / "texts" / "train.parquet"))
    with pytest.raises(UserError, match="texts has the columns text: say which holds the films"):
        opened(HuggingFaceData(path=str(tmp_path / "texts")))
    with pytest.raises(UserError, match="cannot open the data set"):
        opened(HuggingFaceData(path=str(tmp_path / "nowhere")))


@pytest.mark.usefixtures("cache")
def test_hugging_face_formats(tmp_path: Path, film: Callable[..., Path]) -> None:
    """Splits that were saved, a table of names, tars, sounds and pictures."""
    from datasets import Audio, Dataset, DatasetDict, Image

    for index in range(2):
        film(f"films/{index}.mp4")
    rows = [{"path": f"films/{i}.mp4", "caption": caption} for i, caption in enumerate(["zero", "one", None])]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    named = opened(HuggingFaceData(path="json", files=str(tmp_path / "t.jsonl"), validation_share=0))
    assert told(named) == [(("zero",), ""), (("one",), "")] and len(named.unreadable) == 1

    video = [(tmp_path / "films" / f"{i}.mp4").read_bytes() for i in range(2)]
    split = Dataset.from_dict({"clip": video, "cls": ["a", "b"]})
    DatasetDict({"train": split, "validation": split.select([1])}).save_to_disk(tmp_path / "saved")
    saved = HuggingFaceData(path=str(tmp_path / "saved"), media="clip")
    assert [label for _, label in told(opened(saved))] == ["a", "b"]
    assert [label for _, label in told(opened(saved, "validation"))] == ["b"]

    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for name, data in {"x.mp4": video[0], "x.json": b'{"caption": "in json"}'}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    tars = HuggingFaceData(path="webdataset", files=str(tmp_path / "0.tar"), validation_share=0)
    assert told(opened(tars)) == [(("in json",), "")]

    write_audio(Sound.from_array(np.full(16000, 0.5), 16000), tmp_path / "a.wav")
    write_image(Picture(np.full((32, 32, 3), 80, np.uint8)), tmp_path / "a.png")
    for kind, name, stream in ((Audio(), "a.wav", "audio"), (Image(), "a.png", "image")):
        folder = tmp_path / name.replace(".", "-")
        cell = {"bytes": (tmp_path / name).read_bytes(), "path": name}
        Dataset.from_dict({"media": [cell], "text": ["t"]}).cast_column("media", kind).save_to_disk(folder)
        source = opened(HuggingFaceData(path=str(folder), validation_share=0), stream=stream)
        level = source[0].media.samples if stream == "audio" else source[0].media.frames / 160
        assert len(source) == 1 and np.allclose(level, 0.5, atol=0.01)


def test_broken_files_are_left_out_and_listed(tmp_path: Path, film: Callable[..., Path]) -> None:
    film("good.mp4")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no film at all")
    (tmp_path / "good.txt").write_bytes(b"\xff\xfe")
    source = opened(FolderData(path=str(tmp_path)))
    assert len(source) == 1
    assert sorted(Path(name).name for name, _ in source.unreadable) == ["empty.mp4", "good.txt", "text.mp4"]


@pytest.mark.parametrize(
    ("kind", "files", "said"),
    [
        (MsrVttData, {"a.json": "{"}, "a.json cannot be read as JSON"),
        (MsrVttData, {"a.json": '{"videos": [{}], "sentences": []}'}, "a.json is not as MSR-VTT has it"),
        (MsrVttData, {"a.json": "[]"}, "no clips in .*: wanted a JSON with 'videos' and 'sentences'"),
        (KineticsData, {}, "no clips in .*: wanted a CSV with label, youtube_id"),
        (KineticsData, {"a.csv": "youtube_id,time_start,time_end,split\nx,0,1,train\n"}, "a.csv has no column 'label'"),
        (KineticsData, {"a.csv": "label,youtube_id,time_start,time_end,split\na,x,0,b,val\n"}, "times of x are no num"),
        (KineticsData, {"a.csv": "label,youtube_id\nx,y\n"}, "a.csv has no column 'time_start'"),
        (SomethingData, {}, "no clips in .*: wanted something-something-v2-train.json"),
        (SomethingData, {"something-something-v2-train.json": "[1]"}, "is not as Something-Something has it"),
        (Ucf101Data, {}, "no clips in .*: wanted a folder a class"),
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
