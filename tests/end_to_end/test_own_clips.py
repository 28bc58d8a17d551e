"""The documented path for a user's own footage, on two real clips, with fewer steps than a user would take."""

import json
from pathlib import Path

import pytest

from videolm.cli.main import main
from videolm.media import read_video


def test_real_clips_become_a_model_that_continues_them(
    real_clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    few = "--tokenizer_training.steps 4 --lm_training.steps 4 --tokenizer_training.validation_clips 4"
    few += " --lm_training.validation_rows 2 --lm.num_layers 1 --lm_training.tokens 800 --tokenizer.base_channels 32"
    assert main(["train", "own_clips", "--data.path", str(real_clips), "--out", str(run), *few.split()]) == 0
    capsys.readouterr()
    clip, out = real_clips / "bikes.mp4", tmp_path / "next.mp4"
    words = ["generate", "frame_prediction", "--video", str(clip), "--model", str(run / "model"), "--out", str(out)]
    assert main([*words, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert 0 < record["psnr_repeat_last"] < 60
    assert 0 < record["psnr"] < 60
    given, made = read_video(clip, fps=8, size=(64, 64), max_frames=9), read_video(out)
    difference = abs(given.frames.astype(int) - made.frames[:9].astype(int))
    assert len(made) == 17
    assert difference.mean() < 3  # the frames given, but for the loss of mp4
