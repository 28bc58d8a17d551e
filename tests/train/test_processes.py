"""Real processes: one that is killed and started again, and several that train together."""

import json
import os
import re
import runpy
import shutil
import signal
import sys
import time
from pathlib import Path
from subprocess import PIPE, Popen

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

TINY = Path(__file__).with_name("tiny.py")
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


def launch(*command: str, processes: int = 1) -> Popen[str]:
    """Python with these arguments, in a process of its own or several."""
    ranks = [] if processes == 1 else ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    # without what a training in the tests' own process has said of itself
    outside = {name: value for name, value in os.environ.items() if name not in LAUNCHED}
    environment = {**outside, "OMP_NUM_THREADS": "1"}
    words = [sys.executable, *ranks, *command]
    return Popen(words, env=environment, stdout=PIPE, stderr=PIPE, text=True, preexec_fn=heed_interrupts)


def heed_interrupts() -> None:
    """What a shell starts in the background ignores Ctrl-C, and so does what that starts: the tests, perhaps."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(folder: Path, *flags: str, processes: int = 1, precision: str = "float32") -> Popen[str]:
    """`videolm train` of a tokenizer whose codes follow averages, in a process of its own, or several."""
    folder.mkdir(exist_ok=True)
    recipe = folder / "tokenizer.yaml"
    recipe.write_text(RECIPE.format(out=folder / "run", precision=precision))
    return launch("-m", "videolm", "train", str(recipe), *flags, processes=processes)


def finish(process: Popen[str]) -> None:
    _, said = process.communicate(timeout=240)
    assert process.returncode == 0, said[-2000:]


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "run" / "video_tokenizer" / "model.safetensors")


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    assert one.keys() == other.keys() and "quantizer.uses" in one
    return all(torch.equal(value, other[name]) for name, value in one.items())


def wait_for_step(folder: Path, process: Popen[str], step: int) -> None:
    checkpoints = folder / "run" / "tokenizer_training" / "checkpoints"
    began = time.monotonic()
    while not any(int(path.name[5:]) >= step for path in checkpoints.glob("step-*")):
        assert process.poll() is None and time.monotonic() - began < 120
        time.sleep(0.005)


@pytest.mark.slow
def test_a_run_that_was_interrupted_ends_as_one_that_was_not(tmp_path: Path) -> None:
    """By Ctrl-C: weights, averages, codebook and data go on from the checkpoint that it writes."""
    finish(start(tmp_path / "whole", precision="bfloat16"))
    process = start(tmp_path / "parts", precision="bfloat16")
    checkpoints = tmp_path / "parts" / "run" / "tokenizer_training" / "checkpoints"
    began = time.monotonic()
    while not list(checkpoints.glob("step-0000000[5-9]")):
        assert process.poll() is None and time.monotonic() - began < 120
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    stopped = re.fullmatch(r"stopped at step (\d+) of 12; go on with --resume", said.splitlines()[-1])
    assert stopped and (checkpoints / f"step-{int(stopped[1]):08d}").is_dir()
    assert not (tmp_path / "parts" / "run" / "video_tokenizer").exists()
    finish(start(tmp_path / "parts", "--resume", precision="bfloat16"))
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


@pytest.mark.slow
def test_a_run_that_is_killed_while_it_writes_a_checkpoint_goes_on_from_the_one_before(tmp_path: Path) -> None:
    tiny, run = runpy.run_path(str(TINY)), tmp_path / "run"
    killed = launch(str(TINY), str(run))
    killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL
    checkpoints = run / "checkpoints"
    assert max(checkpoints.glob("step-*")).name == "step-00000003"
    assert [path.name for path in checkpoints.glob(".*")] == [".step-00000004.tmp"]  # the half of one
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the one that was killed
    ends = [tiny["run"](tmp_path / name, 1) for name in ("run", "whole")]
    torch.set_num_threads(threads)
    assert equal_all(*ends) and not list(checkpoints.glob(".*"))


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


@pytest.mark.slow
def test_two_ranks_go_on_exactly_and_from_and_to_other_numbers_of_ranks_and_stages(tmp_path: Path) -> None:
    """See `tiny.main`, which is started twice: at first a rank's SIGKILL ends all."""
    tiny = runpy.run_path(str(TINY))
    names = ("adamw", "muon")
    whole = {name: tiny["run"](tmp_path / f"whole-{name}", 0, name, dropout=0) for name in names}
    for name in names:
        with pytest.raises(tiny["Stop"]):
            tiny["run"](tmp_path / f"one-{name}", 0, name, dropout=0, stop=3)
        shutil.copytree(tmp_path / f"one-{name}", tmp_path / f"kept-{name}")

    killed = launch(str(TINY), str(tmp_path), processes=2)
    killed.communicate(timeout=120)
    assert killed.returncode and not list(tmp_path.glob("found-*"))
    finish(launch(str(TINY), str(tmp_path), processes=2))
    found, other = (json.loads((tmp_path / f"found-{rank}.json").read_text()) for rank in range(2))
    assert found == other
    assert found.pop("stopped") == "stopped at step 3 of 6; go on with --resume"
    assert "cannot write a checkpoint" in found["full"] and "File too large" in found.pop("full")
    assert len(found) == len(tiny["EXACT"]) + 3 and all(found.values()), found

    for name in names:
        before = tiny["contents"](tmp_path / f"kept-{name}", name)
        for stage in range(4):  # one rank's, as two ranks hold it
            assert equal_all(before, tiny["contents"](tmp_path / f"two-{name}-{stage}", name))
        before = tiny["contents"](tmp_path / f"three-{name}", name)
        for stage in range(4):  # two ranks' of stage 3, as one holds it
            tiny["convert"](tmp_path / f"three-{name}", tmp_path / f"back-{name}-{stage}", stage, name)
            assert equal_all(before, tiny["contents"](tmp_path / f"back-{name}-{stage}", name))
        # the ranks' gradients are means of means: equal but for rounding
        ends = [tiny["run"](tmp_path / f"three-{name}", 0, name, dropout=0)]
        ends += [torch.load(tmp_path / f"{rank}-{name}.pt") for rank in range(2)]
        for end in ends:
            assert all(torch.allclose(end[key], value, atol=1e-4) for key, value in whole[name].items())


def equal_all(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())
