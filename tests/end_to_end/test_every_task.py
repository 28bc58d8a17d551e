"""Every task that ships, trained a little and generated, through the recipe, the Python call and the command."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from videolm import VideoLM
from videolm.cli import demo
from videolm.cli.main import main
from videolm.data.sources import ShapesWorldData
from videolm.errors import UserError
from videolm.evaluate import recall
from videolm.evaluate.shapes import evaluate_task
from videolm.evaluate.world import World
from videolm.generate.row import Row
from videolm.media import Image, Video, read_audio, read_video, write_audio, write_image, write_video
from videolm.pipeline.folder import find_audio_tokenizer
from videolm.shapes import Format
from videolm.tasks import TASKS
from videolm.tokenizers.audio.soundstream import SoundStream, SoundStreamConfig
from videolm.train import samples

RECIPE = """
base: overfit_every_task
data: {kind: shapesworld, seed: 1, clips: 8, validation_clips: 4, distinct: true}
tokenizer: magvit_v2_tiny
tokenizer_training: {steps: 10, batch: 4, validate_every: 10, validation_clips: 4}
audio_tokenizer: {base: soundstream_tiny, strides: [10, 40]}
audio_training: {steps: 5, batch: 2, validation_sounds: 4}
text: {d_model: 32, num_layers: 1, num_heads: 2, d_ff: 64}
lm: tiny
lm_training: {steps: 30, tokens: 1000, validate_every: 100, validation_rows: 4}
"""
SHAPE = Format(17, 32, 32)
SHORT = Video(np.zeros((9, 32, 32, 3), np.uint8), 8.0)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("every_task")
    (folder / "recipe.yaml").write_text(RECIPE)
    assert main(["train", str(folder / "recipe.yaml"), "--out", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def model(run: Path) -> VideoLM:
    return VideoLM.from_pretrained(run / "model")


@pytest.fixture(scope="module")
def world() -> World:
    return World(ShapesWorldData(seed=9, clips=4), SHAPE, 8.0)


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_the_recipe_has_every_task(model: VideoLM) -> None:
    assert {task.name for task in model.tasks.tasks} == set(TASKS)


@pytest.mark.parametrize("name", list(TASKS))
def test_each_is_generated_from_what_it_is_given(model: VideoLM, world: World, name: str) -> None:
    variant = model.tasks.find(name)
    out = model(
        task=name, **world.inputs(variant, [0, 1]), generator=generators(0, 1)[: 2 if variant.task.inputs else 1]
    )
    count, task = 2 if variant.task.inputs else 1, variant.task
    if task.visual is not None:
        assert out.frames.shape == (count, variant.format.frames, 32, 32, 3)
    if task.audio is not None:
        assert out.audio is not None and out.audio.shape == (count, 1, 17_000)  # 17 frames at 8 a second, 8 kHz
        assert out.audio_sampling_rate == 8000
    else:
        assert out.audio is None
    judged = world.scores(task, range(count), out.videos, out.sounds)
    assert 0 <= judged["all_right"] <= 1


@pytest.mark.parametrize("name", [name for name in TASKS if TASKS.get(name).inputs])
def test_true_outputs_are_judged_right(world: World, name: str) -> None:
    """What the judge says of the clips and sounds that each task should make; at 64x64, where he sees shapes."""
    world = World(ShapesWorldData(seed=9, clips=12), Format(17, 64, 64), 8.0)
    task, indices = TASKS.get(name), range(12)
    visual = [] if task.visual is None else [world.source(task.visual.stream)[index].media for index in indices]
    sounds = [] if task.audio is None else [world.source("audio")[index].media for index in indices]
    assert world.scores(task, indices, visual, sounds)["all_right"] >= 11 / 12


def test_given_frames_and_pixels_stay_as_they_are(model: VideoLM, world: World) -> None:
    clip = world.source("video")[2].media
    first = model(task="image_to_video", image=Image(clip.frames[0])).videos[0]
    assert np.array_equal(first.frames[0], clip.frames[0])
    for name in ("inpainting_central", "outpainting_central"):
        made = model(task=name, video=clip).videos[0].frames
        middle = np.s_[:, 8:24, 8:24]
        outside = np.ones((32, 32), bool)
        outside[8:24, 8:24] = False
        kept, changed = (made[:, outside], made[middle]) if name[0] == "i" else (made[middle], made[:, outside])
        true, other = (
            (clip.frames[:, outside], clip.frames[middle])
            if name[0] == "i"
            else (
                clip.frames[middle],
                clip.frames[:, outside],
            )
        )
        assert np.array_equal(kept, true) and not np.array_equal(changed, other)


def test_a_mask_of_ones_own_says_what_is_made_anew(model: VideoLM, world: World) -> None:
    clip = world.source("video")[2].media
    made = model(video=clip, mask=(0, 0, 0.5, 1)).videos[0].frames
    assert np.array_equal(made[:, :, 16:], clip.frames[:, :, 16:])
    assert not np.array_equal(made[:, :, :16], clip.frames[:, :, :16])
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:, :32] = 255
    again = model(task="inpainting_central", video=clip, mask=picture).videos[0].frames
    assert np.array_equal(made, again)


def test_sound_is_for_the_clip_that_is_given(model: VideoLM, world: World, tmp_path: Path) -> None:
    clip = world.source("video")[1].media
    out = model(task="video_to_audio", video=clip)
    assert out.kind == "audio" and np.array_equal(out.videos[0].frames, clip.frames)
    (path,) = out.save(tmp_path / "with_sound.mp4")
    assert len(read_video(path)) == 17 and read_audio(path).duration > 2
    (path,) = out.save(tmp_path / "sound.wav")
    assert read_audio(path, rate=8000).samples.shape == (1, 17_000)
    with pytest.raises(UserError, match="video_to_audio writes .wav or .flac or .mp4"):
        out.save(tmp_path / "sound.gif")


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"task": "frame_interpolation", "image": "x"}, "frame_interpolation needs a last image"),
        ({"task": "stylization", "prompt": "x"}, "stylization needs a structure clip"),
        ({"task": "audio_to_video"}, "audio_to_video needs a sound"),
        ({"task": "text_to_video", "prompt": "x", "mask": (0, 0, 1, 1)}, "text_to_video takes no mask"),
        ({"task": "inpainting_central", "video": "short"}, "needs 17 frames at 8 a second, the video has 9"),
        ({"task": "inpainting_central", "video": "whole", "mask": (1, 0, 0, 1)}, "the box .* is none"),
        ({"audio": "none.wav"}, "none.wav does not exist"),
        ({"mask": (0, 0, 1, 1)}, "no task of this model takes mask alone"),
    ],
)
def test_inputs_that_do_not_fit_are_said(model: VideoLM, world: World, inputs: dict[str, object], said: str) -> None:
    clip = world.source("video")[0].media
    clips = {"short": Video(clip.frames[:9], 8.0), "whole": clip, "x": clip.frames[0]}
    with pytest.raises(UserError, match=said) as error:
        model(**{k: clips.get(v, v) if k in ("video", "image") else v for k, v in inputs.items()})  # type: ignore[call-overload]
    assert "\n" not in str(error.value)


def test_the_command_takes_and_writes_all_of_it(
    run: Path, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip, sound = world.source("video")[0].media, world.source("audio")[0].media
    write_video(clip, tmp_path / "clip.mp4")
    write_video(world.source("structure")[0].media, tmp_path / "structure.mp4")
    write_audio(sound, tmp_path / "sound.wav")
    for index, name in ((0, "first"), (-1, "last")):
        write_image(Image(clip.frames[index]), tmp_path / f"{name}.png")
    calls = [
        "frame_interpolation --image first.png --last-image last.png --out a.mp4",
        "audio_to_video --audio sound.wav --out b.mp4",
        "video_to_audio --video clip.mp4 --out c.wav",
        "text_to_video_with_audio --prompt star --out d.mp4",
        "audio_video_continuation --image first.png --audio sound.wav --out e.mp4",
        "stylization --prompt star --structure structure.mp4 --image first.png --out f.mp4",
        "inpainting_dynamic --video clip.mp4 --mask 0,0,1,0.5 --out g.mp4",
        "story_continuation --prompt star --video clip.mp4 --out h.mp4",
    ]
    for call in calls:
        words = [str(tmp_path / word) if "." in word and "," not in word else word for word in call.split()]
        assert main(["generate", *words, "--json", "--model", str(run / "model")]) == 0, call
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["task"] for record in records] == [call.split()[0] for call in calls]
    heard = [Path(record["audio_path"]).name for record in records if record["audio_path"]]
    assert heard == ["c.wav", "d.mp4", "e.mp4"]
    for name in heard:
        assert abs(read_audio(tmp_path / name).duration - 17 / 8) < 0.1
    assert "psnr" in records[-1] and "psnr" not in records[-2]
    assert main(["generate", "text_to_video", "--prompt", "x", "--mask", "0,1", "--model", str(run / "model")]) == 2
    assert "a box is LEFT,TOP,RIGHT,BOTTOM" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["stylization", "story_continuation", "video_to_audio", "class_to_video"])
def test_the_judge_looks_at_more_than_clips_from_text(model: VideoLM, name: str) -> None:
    scores = evaluate_task(model, name, 2)
    expected = {
        "stylization": {"style", "path"},
        "story_continuation": {"colour", "motion"},
        "video_to_audio": {"pitch", "course", "bursts"},
        "class_to_video": {"shape", "motion"},
    }
    assert expected[name] <= scores.keys() and scores["samples"] == 2


def test_recall_counts_the_codes_that_come_back(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["evaluate", "recall", str(run), "--examples", "4", "--json"]) == 0
    rows = {row["variant"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert len(rows) == 24 and rows["text_to_video 17x32x32"]["examples"] == 4
    assert rows["unconditional_video 17x32x32"]["examples"] == 1
    assert all(0 < row["tokens"] < 0.9 for row in rows.values())

    drawn = recall.Mixture.rows

    def remembered(mixture: recall.Mixture, layout: object, *rest: object) -> object:
        rows = drawn(mixture, layout, *rest)  # type: ignore[arg-type]
        known.append(rows.ids)
        return rows

    def right(model: object, rows: list[Row]) -> object:
        assert all(row.known < len(row.ids) and not row.drawn for row in rows)  # the decoder is not shown the answer
        return known[-1]

    known: list[torch.Tensor] = []
    monkeypatch.setattr(recall.Mixture, "rows", remembered)
    monkeypatch.setattr(samples, "decode", right)
    assert main(["evaluate", "recall", str(run), "--examples", "2", "--json"]) == 0
    assert all(json.loads(line)["tokens"] == 1 for line in capsys.readouterr().out.splitlines())
    assert main(["evaluate", "recall", str(run / "model")]) == 2
    assert "holds no finished run" in capsys.readouterr().err


def test_sounds_become_tokens_and_come_back(
    run: Path, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_audio(world.source("audio")[0].media, tmp_path / "sound.wav")
    write_video(world.source("video")[0].media, tmp_path / "film.mp4", audio=world.source("audio")[0].media)
    out, model = tmp_path / "tokens", ["--model", str(run / "model")]
    assert main(["tokenize", str(tmp_path / "sound.wav"), "--out", str(out), "--json", *model]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["grid"] == [2, 43] and record["samples"] == 17_000 and record["sample_rate"] == 8000
    assert main(["tokenize", str(tmp_path / "film.mp4"), "--sound", "--out", str(out), *model]) == 0
    names = [str(out / "sound.safetensors"), str(out / "film.safetensors")]
    assert main(["detokenize", *names, "--out", str(tmp_path / "back"), *model]) == 0
    sound = read_audio(tmp_path / "back" / "sound.wav", rate=8000)
    assert sound.samples.shape == (1, 17_000)
    codec = find_audio_tokenizer(run / "model")
    whole = read_audio(tmp_path / "sound.wav", rate=8000).fitted(43 * 400).to_tensor()
    expected = codec.decode(codec.encode(whole))[:, :17_000].clamp(-1, 1).detach().numpy()
    assert np.allclose(sound.samples, expected, atol=1e-3)
    capsys.readouterr()
    mistakes = {
        "films and sounds are tokenised by two": ["tokenize", str(tmp_path / "film.mp4"), str(tmp_path / "sound.wav")],
        "--fps and --size are for films": ["tokenize", str(tmp_path / "sound.wav"), "--fps", "8"],
        "was made with another tokenizer": ["detokenize", names[0]],
    }
    other = tmp_path / "other"
    settings = SoundStreamConfig(sample_rate=8000, widths=(1, 8), strides=(400,), dilations=())
    SoundStream(settings).save_pretrained(other)
    for said, words in mistakes.items():
        chosen = ["--model", str(other)] if words[0] == "detokenize" else model
        assert main([*words, "--out", str(tmp_path / "none"), *chosen]) == 2
        printed = capsys.readouterr().err
        assert said in printed and printed.count("\n") == 1


def structure(clip: Video) -> Video:
    """What stands in for flow and depth where there is no estimator."""
    return Video(255 - clip.frames, clip.fps)


def test_tasks_one_after_the_other_are_calls_one_after_the_other(model: VideoLM, world: World) -> None:
    first = Image(world.source("video")[0].media.frames[0])
    names = ["image_to_video", "outpainting_central", "stylization"]
    box = (0.0, 0.0, 1.0, 0.5)
    given = {"image": first, "mask": box, "structure": structure, "num_videos_per_prompt": 2}
    out = model("a star", task=names, generator=generators(0, 1), **given)
    seeds = generators(0, 1)
    clips = model("a star", task=names[0], image=first, num_videos_per_prompt=2, generator=seeds).videos
    painted = model(["a star"] * 2, task=names[1], video=clips, mask=box, generator=seeds).videos
    shown = [structure(clip) for clip in painted]
    styled = model(["a star"] * 2, task=names[2], structure=shown, generator=seeds)
    assert np.array_equal(out.frames, styled.frames) and out.variant == styled.variant


def test_what_a_chain_made_goes_on(model: VideoLM) -> None:
    heard = model("a star", task=["text_to_video", "video_to_audio"], generator=generators(1))
    (clip,) = model("a star", task="text_to_video", generator=generators(1)).videos
    assert np.array_equal(heard.videos[0].frames, clip.frames) and heard.audio is not None
    pictured = model("a star", task=["text_to_image", "image_to_video"], generator=generators(1))
    (picture,) = model("a star", task="text_to_image", generator=generators(1)).videos
    assert np.array_equal(pictured.videos[0].frames[0], picture.frames[0])
    loud = model("a star", task=["text_to_video_with_audio", "inpainting_central"], generator=generators(1))
    both = model("a star", task="text_to_video_with_audio", generator=generators(1))
    assert loud.audio is not None and np.array_equal(loud.audio, both.audio)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            {"task": ["text_to_image", "video_to_audio"]},
            "in text_to_image.video_to_audio .* needs a video, and nothing",
        ),
        ({"task": ["text_to_video", "stylization"]}, "stylization needs a structure clip"),
        ({"task": ["text_to_video", "video_to_audio"], "mask": (0, 0, 1, 1)}, "no task of .* takes a mask"),
        ({"task": ["text_to_video", "video_to_sound"]}, "unknown task 'video_to_sound'"),
        ({"task": ["stylization"], "structure": structure}, "stylization needs a video"),
        ({"task": ["text_to_video", "video_to_audio"], "stream": True}, "several tasks are not streamed"),
    ],
)
def test_a_chain_that_breaks_is_refused_before_it_begins(model: VideoLM, call: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        model("a star", callback_on_step_end=lambda *_: pytest.fail("it began"), **call)  # type: ignore[call-overload]


def test_the_demo_shows_what_a_model_can_do(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demo"
    assert main(["demo", "--model", str(run / "model"), "--out", str(out), "--json"]) == 0
    made = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    counts = Counter(each["task"] for each in made)
    assert counts.pop("text_to_video") == len(demo.PROMPTS) and counts.pop("story") == 1
    assert counts == dict.fromkeys(demo.GIVEN, 2)
    page = (out / "index.html").read_text()
    assert all(f'src="{path.name}"' in page for path in out.iterdir() if path.suffix in (".mp4", ".wav"))
    assert len(read_video(out / "story.mp4")) == 17 + 2 * 16
    assert read_audio(out / "video_to_audio-0.mp4").samples.shape[1] > 0


def test_a_story_changes_its_scene_on_the_frame(model: VideoLM, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []
    plain = VideoLM.job
    monkeypatch.setattr(VideoLM, "job", lambda self, **asked: calls.append(asked) or plain(self, **asked))
    scenes = [("a star", 2.5), ("a circle", 1.0), ("a square", 1.75)]
    chunks = list(model.story(scenes, generator=torch.Generator().manual_seed(0)))
    assert [(chunk.scene, chunk.start) for chunk in chunks] == [(0, 0), (0, 17), (1, 20), (2, 28), (2, 40)]
    assert [len(chunk.videos[0]) for chunk in chunks] == [17, 3, 8, 12, 2]
    names = ["text_to_video", "frame_prediction", *["story_continuation"] * 3]
    assert [chunk.variant.task.name for chunk in chunks] == names
    assert [call["prompt"] for call in calls] == ["a star", ["a star"], ["a circle"], ["a square"], ["a square"]]
    told = np.concatenate([chunk.videos[0].frames for chunk in chunks])
    for call, chunk in list(zip(calls, chunks, strict=True))[1:]:  # each goes on from the true last frames
        assert np.array_equal(call["video"][0].frames, told[chunk.start - chunk.variant.prefix : chunk.start])
    assert chunks[0].colour_distance == 0 and chunks[0].sharpness == 1
    again = model.story(scenes, generator=torch.Generator().manual_seed(0))
    assert np.array_equal(told, np.concatenate([chunk.videos[0].frames for chunk in again]))


def test_a_story_goes_on_with_its_sound(model: VideoLM, world: World) -> None:
    options = {"task": "text_to_video_with_audio", "generator": torch.Generator().manual_seed(0)}
    chunks = list(model.story([("a star", 4.0)], **options))
    assert [chunk.variant.task.name for chunk in chunks] == ["text_to_video_with_audio", "audio_video_continuation"]
    heard = np.concatenate([chunk.sounds[0].samples for chunk in chunks], 1)
    assert heard.shape == (1, 4 * 8000)
    at = len(chunks[0].sounds[0])
    assert abs(heard[0, at] - heard[0, at - 1]) <= np.abs(np.diff(heard[0])).max()  # no click where they meet
    clip, sound = world.source("video")[0].media, world.source("audio")[0].media
    (after,) = model.story([(None, 1.0)], video=clip, audio=sound)
    assert len(after.videos[0]) == 8 and len(after.sounds[0]) == 8000


def test_several_stories_are_told_at_once(model: VideoLM) -> None:
    pair = [(["a star", "a circle"], 2.5), (["a circle", "a star"], 1.0)]
    both = list(model.story(pair, generator=generators(3, 4), num_videos_per_prompt=1))
    for index in range(2):
        alone = list(model.story([(p[index], s) for p, s in pair], generator=generators(3 + index)))
        for one, chunk in zip(alone, both, strict=True):
            assert np.array_equal(one.videos[0].frames, chunk.videos[index].frames)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ({"scenes": []}, "a story has scenes, each of more than 0 seconds"),
        ({"scenes": [("a star", 0.0)]}, "a story has scenes, each of more than 0 seconds"),
        (
            {"scenes": [("a star", 3.0)], "overlap": 7},
            "no task of this model goes on from the end of 7 frames of a clip",
        ),
        ({"scenes": [("a star", 3.0)], "task": "text_to_image"}, "text_to_image makes no clip to go on from"),
        (
            {"scenes": [("a star", 3.0)], "video": Video(np.zeros((9, 32, 32, 3), np.uint8), 8.0), "task": "x"},
            "no task",
        ),
    ],
)
def test_a_story_that_cannot_be_told_is_said(model: VideoLM, call: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        list(model.story(**call))
