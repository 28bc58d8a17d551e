"""What several rooms' tests share: a small trained model, and the folder of real clips."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

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
