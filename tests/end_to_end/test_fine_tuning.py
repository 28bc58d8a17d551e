"""The guide to fine-tuning runs as it stands, in fewer steps; what a model knew stays in its place."""

import json
import re
import shlex
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from videolm import VideoLM, shapesworld
from videolm.cli.main import main
from videolm.media import Video, read_video, write_video
from videolm.tasks.views import VIEWS

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "fine-tuning.md").read_text()
FEW = "--lm_training.steps 2 --lm_training.tokens 800 --lm_training.validation_rows 1 --lm_training.samples 1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the guide has been followed: its files, a folder of clips, and what its commands made."""
    folder = tmp_path_factory.mktemp("fine-tuning")
    (folder / "my_clips").mkdir()
    for index in range(4):
        scene = shapesworld.draw_scene(5, index)
        write_video(Video(shapesworld.render(scene, 17, (64, 64)), 8.0), folder / "my_clips" / f"{index}.mp4")
        (folder / "my_clips" / f"{index}.txt").write_text(shapesworld.caption(scene))
    (name, text), _ = re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", GUIDE, re.DOTALL)
    (folder / name).write_text(text)
    commands = re.findall(r"^    videolm (.+)$", GUIDE, re.MULTILINE)
    assert len(commands) == 4
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(VIEWS, "_entries", dict(VIEWS._entries))
        for command in commands:
            command = command.replace("clips: 2000", "clips: 4, validation_clips: 1")
            assert main(shlex.split(command) + shlex.split(FEW) * command.startswith("train")) == 0, command
    return folder


@pytest.mark.slow
def test_a_new_task_takes_a_free_id_and_the_old_ones_stay(folder: Path) -> None:
    before, after = VideoLM.from_pretrained(), VideoLM.from_pretrained(folder / "runs" / "reverse" / "model")
    assert after.vocabulary.specials == (*before.vocabulary.specials, "<task:reverse_clip>")
    assert [task.name for task in after.tasks.tasks] == [*(t.name for t in before.tasks.tasks), "reverse_clip"]
    assert len(read_video(folder / "backwards.mp4")) == 17
    steps = [json.loads(row) for row in (folder / "runs/reverse/lm_training/metrics.jsonl").read_text().splitlines()]
    validated = {key for row in steps for key in row if key.startswith("validation/")}
    needed = {f"validation/{task.name}": {*task.sources} for task in after.tasks.tasks}
    silent = {name for name, streams in needed.items() if not streams & {"audio", "structure"}}
    assert validated == silent  # the old tasks are learnt on too, those that clips without sound can teach


@pytest.mark.slow
def test_replayed_tasks_have_data_of_their_own(folder: Path) -> None:
    tokens = folder / "runs" / "reverse-and-keep" / "tokens"
    stored = {path.parent.relative_to(tokens).as_posix() for path in tokens.rglob("manifest.json")}
    old = {stream for task in VideoLM.from_pretrained().tasks.tasks for stream in task.sources}
    assert {"video", "image", "audio", "structure"} <= old
    replayed = {f"replay/{split}/{stream}" for split in ("train", "validation") for stream in old}
    assert stored == {"data/train/video", "data/train/video.backwards"} | replayed


@pytest.mark.slow
def test_adapters_change_the_trunks_maps_and_special_ids_alone(folder: Path) -> None:
    run = folder / "runs" / "reverse-lora"
    shipped = VideoLM.from_pretrained().lm.state_dict()
    made = VideoLM.from_pretrained(run / "model").lm.state_dict()
    changed = {name for name, value in made.items() if not torch.equal(value, shipped[name])}
    assert any("q_proj" in name for name in changed)
    assert all("_proj" in name or "special" in name for name in changed)
    names = load_file(run / "lm_training" / "adapters" / "adapter_model.safetensors").keys()
    assert all("lora_" in name or "special" in name for name in names)


def test_a_model_without_sound_learns_to_hear(tmp_path: Path, tiny_model: Path) -> None:
    words = ["train", "finetune", "--from", str(tiny_model), "--out", str(tmp_path / "run"), *shlex.split(FEW)]
    words += ["--tasks", "{video_to_audio: 1}", "--audio_tokenizer", "{pretrained: shipped}"]
    assert main([*words, "--data", "{kind: shapesworld, clips: 4, validation_clips: 1}"]) == 0
    before, after = VideoLM.from_pretrained(tiny_model), VideoLM.from_pretrained(tmp_path / "run" / "model")
    assert after.vocabulary.specials[: len(before.vocabulary.specials)] == before.vocabulary.specials
    assert after.vocabulary.visual == before.vocabulary.visual
    assert before.vocabulary.audio_levels == 0 and after.audio is not None
    after.vocabulary.check_audio(after.audio.levels, after.audio.codebook_size)
    scene = shapesworld.draw_scene(5, 0)
    clip = Video(shapesworld.render(scene, 17, (32, 32)), 8.0)
    (sound,) = after(task="video_to_audio", video=clip).sounds
    assert sound.rate == after.audio.sample_rate
    assert len(sound) == round(17 / 8 * sound.rate)
