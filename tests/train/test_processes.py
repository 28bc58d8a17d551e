"""Real processes: one that is killed and started again, and several that train together."""

import json
import os
import signal
import sys
import time
from pathlib import Path
from subprocess import PIPE, Popen

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

LAUNCHED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
RECIPE = """\
base: shapesworld/tokenizer_tiny
out: {out}
tokenizer: {{name: c_vivit, hidden_size: 32, num_heads: 2, mlp_size: 64, spatial_layers: 1, temporal_layers: 1,
            quantizer: {{name: vq, codebook_size: 64, dim: 8}}}}
image_training: null
tokenizer_training: {{steps: 12, checkpoint_minutes: 0, validate_every: 10}}
decoder_training: null
engine: {{precision: {precision}, accumulate: 2}}
"""


def start(folder: Path, *flags: str, processes: int = 1, precision: str = "float32") -> Popen[str]:
    """`videolm train` of a tokenizer whose codes follow averages, in a process of its own, or several."""
    folder.mkdir(exist_ok=True)
    recipe = folder / "tokenizer.yaml"
    recipe.write_text(RECIPE.format(out=folder / "run", precision=precision))
    launch = [] if processes == 1 else ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    command = [sys.executable, *launch, "-m", "videolm", "train", str(recipe), *flags]
    # without what a training in the tests' own process has said of itself
    outside = {name: value for name, value in os.environ.items() if name not in LAUNCHED}
    return Popen(command, env={**outside, "OMP_NUM_THREADS": "1"}, stdout=PIPE, stderr=PIPE, text=True)


def finish(process: Popen[str]) -> None:
    _, said = process.communicate(timeout=240)
    assert process.returncode == 0, said[-2000:]


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "run" / "video_tokenizer" / "model.safetensors")


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    assert one.keys() == other.keys() and "quantizer.uses" in one
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.slow
def test_a_run_that_was_killed_ends_as_one_that_was_not(tmp_path: Path) -> None:
    """By SIGKILL, wherever it is: weights, averages, codebook and data go on from the last checkpoint."""
    finish(start(tmp_path / "whole", precision="bfloat16"))
    process = start(tmp_path / "parts", precision="bfloat16")
    checkpoints = tmp_path / "parts" / "run" / "tokenizer_training" / "checkpoints"
    began = time.monotonic()
    while not list(checkpoints.glob("step-0000000[5-9]")):
        assert process.poll() is None and time.monotonic() - began < 120
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "parts" / "run" / "video_tokenizer").exists()
    finish(start(tmp_path / "parts", "--resume", precision="bfloat16"))
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


@pytest.mark.slow
def test_two_processes_train_one_tokenizer(tmp_path: Path) -> None:
    """Each sees clips of its own, both have one codebook, and the first alone writes."""
    for name, processes in (("two", 2), ("one", 1)):
        finish(start(tmp_path / name, processes=processes))
    run = tmp_path / "two" / "run"
    rows = [json.loads(row) for row in (run / "tokenizer_training" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [10, 10, 12, 12] and not list(run.glob("**/.*"))
    two, one = (weights(tmp_path / name) for name in ("two", "one"))
    assert not equal(two, one) and int(two["quantizer.passes"]) == int(one["quantizer.passes"]) == 24
    # the average use is of twice as many latents a pass
    assert float(two["quantizer.uses"].sum()) > 1.3 * float(one["quantizer.uses"].sum())
