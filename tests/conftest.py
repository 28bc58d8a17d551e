"""What several rooms' tests share: a small trained model, and the folder of real clips."""

import dataclasses
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from torch import Tensor, nn

from videolm.tokenizers.losses.perceptual import I3D, LPIPS

ROOT = Path(__file__).parent.parent

# The same examples in every run, and no clock: a busy machine is no failure.
settings.register_profile("videolm", deadline=None, derandomize=True)
settings.load_profile("videolm")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder made by the recipe `shapesworld/tiny`: real in every part, and untaught."""
    from videolm.cli.main import main

    out = tmp_path_factory.mktemp("runs") / "tiny"
    assert main(["train", "shapesworld/tiny", "--out", str(out)]) == 0
    return out / "model"


@pytest.fixture(scope="session")
def real_clips() -> Path:
    """The folder of real footage (`VIDEOLM_TEST_CLIPS`), or a skip that says what is missing."""
    folder = Path(os.environ.get("VIDEOLM_TEST_CLIPS", ROOT.parent / "shared" / "clips"))
    if not (folder / "bikes.mp4").is_file():
        pytest.skip(f"no bikes.mp4 in {folder}; set VIDEOLM_TEST_CLIPS to a folder of real clips")
    return folder


@pytest.fixture(scope="session")
def upscaling_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with a stage of super-resolution, as untaught."""
    from videolm.cli.main import main

    out = tmp_path_factory.mktemp("runs") / "upscale"
    assert main(["train", "shapesworld/upscale_tiny", "--from", str(tiny_model), "--out", str(out)]) == 0
    return out / "model"


class SmallI3D(nn.Module):
    """Called as I3D's TorchScript is: mean colours of a clip's quarters in both halves of its time."""

    def forward(self, clips: Tensor, rescale: bool, resize: bool, return_features: bool) -> Tensor:
        assert return_features and not rescale and not resize
        assert clips.shape[1] == 3 and clips.shape[3] == 224 and clips.shape[4] == 224
        return torch.nn.functional.adaptive_avg_pool3d(clips, (2, 2, 2)).flatten(1)


@pytest.fixture
def random_vgg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LPIPS finds random weights where the public ones belong, in a file like torchvision's."""
    torch.manual_seed(0)
    state = {f"features.{name}": value for name, value in LPIPS().features.state_dict().items()}
    state = {name: value * (2.5 if value.ndim > 1 else 1) for name, value in state.items()}  # else all fades away
    _publish(LPIPS, tmp_path, monkeypatch, lambda path: torch.save({**state, "classifier.0.weight": state}, path))


@pytest.fixture
def random_i3d(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """I3D finds a small network in TorchScript where the public one belongs."""
    _publish(I3D, tmp_path, monkeypatch, lambda path: torch.jit.script(SmallI3D()).save(str(path)))


def _publish(
    kind: type[LPIPS | I3D], cache: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], None]
) -> None:
    """Let what `write` writes be the public file of `kind`."""
    monkeypatch.setenv("VIDEOLM_CACHE", str(cache))
    path = cache / "weights" / kind.file.name
    path.parent.mkdir(exist_ok=True)
    write(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(kind, "file", dataclasses.replace(kind.file, sha256=digest))
