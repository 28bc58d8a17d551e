"""The first thing to try of a tokenizer: it learns one real clip by heart, in fewer frames and pixels than usual."""

import re
from pathlib import Path

import pytest

from videolm.cli.main import main


@pytest.mark.parametrize("name", ["bikes", "nasa_13013"])
def test_a_clip_is_learnt_by_heart(
    name: str, real_clips: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    few = (
        "--tokenizer_training.steps 90 --tokenizer_training.validate_every 90 --tokenizer_training.optimizer.warmup 20"
    )
    words = [
        "--data.path",
        str(real_clips / f"{name}.mp4"),
        "--out",
        str(tmp_path / "run"),
        "--formats",
        "[[5, 32, 32]]",
    ]
    assert main(["train", "overfit_one_clip", *words, *few.split()]) == 0
    (told,) = re.findall(r"psnr ([\d.]+)", capfd.readouterr().err)
    assert float(told) > 28
