"""What several rooms' tests share: a small trained model, and the folder of real clips."""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
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


LEVELS = (8, 8, 8, 5, 5, 5)
FRAMES, SIDE = 4, 4  # of a patch


class CosmosEncoder(nn.Module):
    """Gives (numbers int32, their vectors, a loss of zero), as NVIDIA's program does."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv3d(3, 6, (FRAMES, SIDE, SIDE), (FRAMES, SIDE, SIDE))
        self.time = nn.Conv3d(6, 6, (2, 3, 3), padding=(0, 1, 1))
        self.register_buffer("levels", torch.tensor(LEVELS))
        self.register_buffer("bases", torch.tensor([1, 8, 64, 512, 2560, 12800]))

    def forward(self, video: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.patch(torch.cat([video[:, :, :1], video[:, :, :1], video[:, :, :1], video], 2))
        x = x + self.time(torch.cat([x[:, :, :1], x], 2))
        half = self.levels // 2
        width = (self.levels - 1) / 2
        z = (4 * x.movedim(1, -1)).tanh() * width - (width - (self.levels - 1 - half))
        digits = z.round()
        numbers = ((digits.to(torch.int64) + half) * self.bases).sum(-1).to(torch.int32)
        vectors = (digits / half).movedim(-1, 1).to(video.dtype)
        return numbers, vectors, torch.zeros(1)


class CosmosDecoder(nn.Module):
    """Takes the numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.time = nn.Conv3d(6, 3 * FRAMES * SIDE * SIDE, (2, 3, 3), padding=(0, 1, 1))
        self.register_buffer("levels", torch.tensor(LEVELS))
        self.register_buffer("bases", torch.tensor([1, 8, 64, 512, 2560, 12800]))

    def forward(self, numbers: Tensor) -> Tensor:
        half = self.levels // 2
        digits = numbers.unsqueeze(-1) // self.bases % self.levels
        x = ((digits - half) / half).movedim(-1, 1).to(self.time.weight.dtype)
        x = self.time(F.pad(x, (0, 0, 0, 0, 1, 0)))
        b, _, t, h, w = x.shape
        x = x.view(b, 3, 4, 4, 4, t, h, w).permute(0, 1, 5, 2, 6, 3, 7, 4)
        return x.reshape(b, 3, t * 4, h * 4, w * 4)[:, :, 3:]


@pytest.fixture(scope="session")
def cosmos_programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., tuple[Path, Path]]]:
    """Writes two TorchScript programs with the interface of NVIDIA's Cosmos tokenizers into a folder.

    Those that tests name are trusted in a folder of the tests, not in the user's.
    """

    def write(folder: Path, dtype: torch.dtype = torch.bfloat16) -> tuple[Path, Path]:
        torch.manual_seed(0)
        paths = (folder / "given_encoder.jit", folder / "given_decoder.jit")
        for module, path in zip((CosmosEncoder(), CosmosDecoder()), paths, strict=True):
            torch.jit.script(module.to(dtype).eval()).save(str(path))
        return paths

    trusted = tmp_path_factory.mktemp("trusted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("videolm.cache.trusted_folder", lambda: trusted)
        yield write
