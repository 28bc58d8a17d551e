"""What the layout tests look at: the source's modules by name, and a wheel."""

import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Laid into the copy that the wheel is built from, so that new rooms and data are tested before there are any.
PLANTED = (
    "videolm/planted/deep/room.py",
    "videolm/weights/planted/model.safetensors",
    "tokenizers/planted/quantiser.py",
    "configs/planted/deep/tiny.yaml",
)


def _folders() -> dict[str, Path]:
    """Package -> folder, as setup.cfg maps them."""
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = config["options"]["package_dir"].strip().splitlines()
    return {name: ROOT / folder for name, folder in (line.split(" = ") for line in lines)}


def _modules() -> dict[str, Path]:
    """Module name -> file, for all of the source."""
    modules = {}
    for package, folder in _folders().items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            modules[".".join((package, *parts)).removesuffix(".__init__")] = path
    return modules


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes `doctested` runs once for each module with examples in it."""
    if "doctested" in metafunc.fixturenames:
        names = [name for name, path in _modules().items() if ">>> " in path.read_text(encoding="utf-8")]
        metafunc.parametrize("doctested", names)


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def modules() -> dict[str, Path]:
    return _modules()


@pytest.fixture(scope="session")
def source_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a build needs of this checkout, in a folder of its own: builds leave things behind."""
    copy = tmp_path_factory.mktemp("source")
    for folder in _folders().values():
        shutil.copytree(folder, copy / folder.name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    for name in ("setup.cfg", "setup.py", "pyproject.toml", "LICENSE", "README.md"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, copy)
    for name in PLANTED:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).touch()
    return copy


@pytest.fixture(scope="session")
def wheel(source_copy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of `source_copy`; takes two seconds and no network."""
    out = tmp_path_factory.mktemp("wheel")
    pip(["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(out), str(source_copy)])
    (path,) = out.glob("videolm-*.whl")
    return path


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the wheel is installed in; its dependencies are those of this Python."""
    target = tmp_path_factory.mktemp("site")
    pip(["install", "--no-deps", "--no-index", "--target", str(target), str(wheel)])
    return target


def pip(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
