"""The whole benchmark: which rows a model has, the command's JSON, the card, and the report."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from videolm import VideoLM
from videolm.cli.main import main
from videolm.errors import UserError
from videolm.evaluate import stories
from videolm.evaluate.card import card, evaluate_and_describe
from videolm.evaluate.estimate import Estimate
from videolm.evaluate.pictures import masked, waveform
from videolm.evaluate.report import slug, write_report
from videolm.evaluate.row import AMOUNTS, Case, Row, Summary
from videolm.evaluate.shapes import scenes_for, task_rows
from videolm.evaluate.shapesbench import able, evaluate_shapes, read_scores, write_scores
from videolm.evaluate.super_resolution import STAGE_ROWS
from videolm.evaluate.tables import GROUPS, tables
from videolm.media import Audio, Video
from videolm.tasks import TASKS, Task, Text, Visual
from videolm.train.recipe import load_recipe

PROMPTS = ["text_to_video", "text_to_video, held out", "text_to_video, two objects"]
GIVEN = ["image_to_video", "frame_prediction, 5 frames given", "frame_prediction, 9 frames given"]


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> VideoLM:
    return VideoLM.from_pretrained(tiny_model)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stories, "EXTENSIONS", 2)


def test_the_rows_are_those_that_the_model_can_do(model: VideoLM, short: None) -> None:
    rows = evaluate_shapes(model, 2, seed=3)
    assert list(rows) == ["reconstruction", *PROMPTS, *GIVEN, "text_to_image", "story", "long_video"]
    assert {row.group for row in rows.values()} == GROUPS.keys() - {"sound", "super_resolution"}
    assert all(len(row) == 2 for row in rows.values())
    shown = {name for group in GROUPS.values() for name in group.columns} | {"found"}
    for row in rows.values():
        assert row.measures.keys() | row.whole.keys() <= shown
        assert all(0 <= v <= 1 for name, values in row.measures.items() if name not in AMOUNTS for v in values)


def test_every_task_that_ships_has_a_table(oracle: Any) -> None:
    names = [name for name in TASKS if TASKS.get(name).inputs]
    assert able(oracle) == ["reconstruction", *names, "story", "long_video"]


def test_tasks_that_the_judge_has_no_truth_for_are_left_out(oracle: Any) -> None:
    own = [
        Task(name="mirrored", summary="", prompt="mirrored", inputs=(Text(),), outputs=(Visual(view="half"),)),
        Task(name="infrared", summary="", prompt="infrared", inputs=(Text(),), outputs=(Visual(stream="infrared"),)),
    ]
    oracle.tasks = oracle.tasks.with_tasks(own)
    assert not {"mirrored", "infrared"} & set(able(oracle))
    oracle.tasks = oracle.tasks.model_copy(update={"fps": 6.0})
    assert "video_to_audio" not in able(oracle) and "text_to_video" in able(oracle)


def test_rows_of_super_resolution(upscaling_model: Path) -> None:
    model = VideoLM.from_pretrained(upscaling_model)
    assert able(model)[-1] == "super_resolution"
    rows, again = (evaluate_shapes(model, 2, ["super_resolution"], batch=batch, shown=1) for batch in (2, 1))
    assert tuple(rows) == STAGE_ROWS
    for name, row in rows.items():
        assert ("psnr" in row.measures) == name.endswith("true") and {"sharpness", "shape"} <= row.measures.keys()
        assert all(np.array_equal(values, again[name].measures[key]) for key, values in row.measures.items())
        assert [label for label, _ in row.cases[0].case.strips][1:] == ["true"] * name.endswith("true")
    scores = {name: row.summary() for name, row in rows.items()}
    about = {"seed": 1000, "sampling": {}}
    text = card(model, upscaling_model, load_recipe("shapesworld/upscale_tiny"), "x", (about, scores))
    assert "of the way from bicubic to the ceiling" in text and "| ours, of made | " in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tasks", "text_to_vide"], "did you mean 'text_to_video'"),
        (["--tasks", "text_to_image,unconditional_video"], "takes nothing"),
        (["--tasks", "super_resolution"], "this model has no super-resolution"),
        (["--samples", "0"], "--samples is 0, and must be at least 1"),
        (["--long-samples", "0"], "--long-samples is 0, and must be at least 1"),
        (["--seed", "-1"], "--seed is -1, and must be at least 0"),
        (["--temperature", "cold"], "temperature"),
    ],
)
def test_mistakes_are_said_in_a_line(
    tiny_model: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(["evaluate", "shapes", "--model", str(tiny_model), "--samples", "2", *words]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("videolm: ")]
    assert len(lines) == 1 and said in lines[0]


class Page(HTMLParser):
    """What a page shows."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open += [tag] if tag not in ("meta", "img") else []

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_command_writes_rows_and_a_report(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], short: None
) -> None:
    out, report = tmp_path / "scores.json", tmp_path / "report"
    chosen = ["--tasks", "reconstruction,text_to_video,frame_prediction,story,long_video"]
    words = ["evaluate", "shapes", "--model", str(tiny_model), "--samples", "3", *chosen]
    more = ["--temperature", "0.5", "--long-samples", "2", "--out", str(out), "--report", str(report)]
    assert main([*words, *more, "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    names = ["reconstruction", *PROMPTS, *GIVEN[1:], "story", "long_video"]
    assert [line["row"] for line in lines] == names
    assert [line["samples"] for line in lines] == [3] * (len(names) - 1) + [2]
    written = json.loads(out.read_text())
    assert written["seed"] == 1000 and written["sampling"]["temperature"] == 0.5 and written["precision"] == "float32"
    assert re.fullmatch(r"tiny@[0-9a-f]{12}", written["model"])
    for line in lines:
        row = written["rows"][line.pop("row")]
        assert {**row, **{key: written[key] for key in ("model", "seed", "sampling", "precision")}} == line
        for found in row["measures"].values():
            assert found.keys() == {"mean", "low", "high", "samples"}
            assert found["low"] is None or found["low"] <= found["mean"] <= found["high"]
    assert main([*words, "--out", str(out)]) == 2 and main([*words, "--report", str(report)]) == 2

    text = (report / "index.html").read_text()
    page = Page(text)
    assert not page.open[1:]  # all is closed but <html>'s own
    pictures = [str(attributes["src"]) for tag, attributes in page.tags if tag == "img"]
    assert sorted(pictures) == sorted(path.name for path in report.glob("*.png"))
    assert len(pictures) == 3 * (len(names) - 1) + 2 and not re.search(r"https?://|<script|<link", text)
    for name in pictures:
        assert PIL.Image.open(report / name).width >= 320
    assert written["model"] in text and "videolm evaluate shapes" in text and "--temperature 0.5" in text
    links = [str(attributes["href"])[1:] for tag, attributes in page.tags if tag == "a"]
    assert links == [slug(name) for name in names] == [str(a["id"]) for tag, a in page.tags if tag == "h3"]

    before = {path.name: path.read_bytes() for path in report.iterdir()}
    capsys.readouterr()
    assert main([*words, *more, "--batch", "2", "--force"]) == 0  # the same from batches of another size
    assert {path.name: path.read_bytes() for path in report.iterdir()} == before
    assert "Stories\n" in capsys.readouterr().out


def test_a_report_of_sounds_and_masks(oracle: Any, tmp_path: Path) -> None:
    names = ["video_to_audio", "audio_to_video", "text_to_video_with_audio", "inpainting_central", "stylization"]
    rows: dict[str, Row] = {}
    for name in names:
        oracle.worlds.clear()
        oracle.knows(scenes_for(TASKS.get(name), oracle.tasks.formats[0], 4))
        rows |= task_rows(oracle, name, 4, shown=1)
    labels = {name: [label.partition(":")[0] for label, _ in row.cases[0].case.strips] for name, row in rows.items()}
    assert labels["video_to_audio"] == ["given", "made", "true"]
    assert labels["audio_to_video, without prompt"] == ["given", "made", "true"]
    assert labels["text_to_video_with_audio"] == ["made", "true", "made", "true"]
    assert labels["stylization, 1 frame given"] == ["given", "given", "made", "true"]
    hidden = dict(rows["inpainting_central"].cases[0].case.strips)["given: video"]
    assert (hidden.frames[:, 24:40, 24:40] == 128).all()
    write_report(tmp_path, {"model": "<oracle>"}, rows)
    text = (tmp_path / "index.html").read_text()
    assert "&lt;oracle&gt;" in text and "<oracle>" not in text
    assert "Hz" in text and len(list(tmp_path.glob("*.png"))) == 2 * len(rows)


def test_the_page_tells_what_is_wrong(tmp_path: Path) -> None:
    row = Row("prompts", 1)
    clip = Video(np.zeros((3, 32, 32, 3), np.uint8), 8.0)
    measures = {"shape": np.array([1.0, 0.0]), "all_right": np.array([1.0, 0.0])}
    row.add(measures, lambda place: Case(f"a <star> {place}", [("made: a circle", clip), ("true", clip)]))
    write_report(tmp_path, {"model": "m", "sampling": {"top_k": 3}}, {"text_to_video": row})
    text = (tmp_path / "index.html").read_text()
    assert '<b>worst</b>, sample 1: a &lt;star&gt; 1; <span class="wrong">wrong: shape</span>' in text
    assert "<b>best</b>, sample 0: a &lt;star&gt; 0; nothing wrong" in text and "top_k 3" in text


def test_pictures_of_sounds_and_of_hidden_pixels() -> None:
    wave = np.sin(np.linspace(0, 5000, 34000)) * np.linspace(0, 1, 34000)
    frames = waveform(Audio(wave[None].astype(np.float32), 16000)).frames
    inked = (frames[0, :, :, 0] != 255).sum(0)
    assert frames.shape == (1, 64, 600, 3) and inked.min() >= 1 and inked[-60:].max() > 2 * inked[:60].max()
    clip = Video(np.zeros((2, 4, 4, 3), np.uint8), 8.0)
    hidden = np.zeros((2, 4, 4), bool)
    hidden[1, 2] = True
    assert np.array_equal(masked(clip, hidden).frames[..., 0] == 128, hidden)


def summary(group: str, **measures: Estimate) -> Summary:
    return Summary(group, 256, measures)


def test_columns_that_no_row_states_are_left_out() -> None:
    share = Estimate(0.5, 0.44, 0.56, 256)
    rows = {
        "text_to_video": summary("prompts", shape=share, found=share),
        "text_to_image": summary("prompts", colour=share),
    }
    assert tables(rows) == {
        "prompts": [
            ["", "colour", "shape", "samples"],
            ["text_to_video", "–", "50.0% (44–56)", "256"],
            ["text_to_image", "50.0% (44–56)", "–", "256"],
        ]
    }


def test_the_card_states_scores_samples_and_the_command(model: VideoLM, tiny_model: Path) -> None:
    psnr, codes = Estimate(31.5, 31.2, 31.8, 256), Estimate(77.0, None, None, 256)
    rows = {
        "reconstruction": summary("tokenizer", psnr=psnr, codes_used=codes),
        "text_to_video": summary("prompts", all_right=Estimate(0.25, 0.2, 0.307, 256)),
    }
    about = {"seed": 1000, "sampling": {"temperature": 0.9}}
    text = card(model, tiny_model, load_recipe("shapesworld/tiny"), "shapesworld/tiny", (about, rows))
    stated = ("videolm train shapesworld/tiny", "# tiny\n", "--samples 256", "temperature 0.9", "seed 1000")
    for each in (*stated, "| reconstruction | 31.50 ± 0.30 | 77 | 256 |", "| text_to_video | 25.0% (20–31) | 256 |"):
        assert each in text
    assert "## Scores" not in card(model, tiny_model, load_recipe("shapesworld/tiny"), "shapesworld/tiny")


def test_scores_of_another_form_are_measured_anew(
    model: VideoLM, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    (folder / "scores.json").write_text(json.dumps({"text_to_video": {"all_right": 0.7, "samples": 256}}))
    assert read_scores(folder / "scores.json") is None and read_scores(folder / "none.json") is None
    VideoLM.from_pretrained(folder)  # which does not read it
    recipe = load_recipe("shapesworld/tiny")
    assert evaluate_and_describe(folder, recipe, "x") == {} and "## Scores" not in (folder / "README.md").read_text()
    asked: list[int] = []

    def found(model: VideoLM, samples: int) -> dict[str, Row]:
        asked.append(samples)
        row = Row("prompts")
        row.add({"shape": np.ones(samples)}, lambda place: pytest.fail("no picture is asked for"))
        return {"text_to_video": row}

    monkeypatch.setattr("videolm.evaluate.card.evaluate_shapes", found)
    recipe = load_recipe("shapesworld/tiny", {"evaluation_samples": 4})
    for _ in range(2):  # the second time they are read
        rows = evaluate_and_describe(folder, recipe, "x")
        assert rows["text_to_video"]["measures"]["shape"]["mean"] == 1 and asked == [4]
        assert "| text_to_video | 100.0% (51–100) | 4 |" in (folder / "README.md").read_text()
    read = read_scores(folder / "scores.json")
    assert read is not None and read[0]["seed"] == 1000 and read[1]["text_to_video"].samples == 4
    write_scores(tmp_path / "again.json", *read)
    assert read_scores(tmp_path / "again.json") == read


def test_a_task_that_cannot_be_judged_is_said_before_others_are_made(model: VideoLM) -> None:
    with pytest.raises(UserError, match="unknown task 'nonsense'"):
        evaluate_shapes(model, 10**9, ["text_to_video", "nonsense"])
