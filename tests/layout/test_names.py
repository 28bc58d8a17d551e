"""From wherever Python is started, `import tokenizers` is Hugging Face's and ours is `videolm.tokenizers`.

A folder of that name lies at the root of the repository, where it could hide what `transformers` needs.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import videolm

PROBE = """
import json, sys
import videolm
light = not {"torch", "transformers", "pydantic"} & set(sys.modules)
import tokenizers
from transformers import PreTrainedTokenizerFast  # imports `tokenizers` itself
import videolm.configs, videolm.tasks, videolm.tokenizers.quantize
folder = lambda package: list(package.__path__)[0]
print(json.dumps({
    "light": light,
    "hugging_face": tokenizers.Tokenizer.__module__ == "tokenizers",
    "videolm": folder(videolm),
    "tokenizers": folder(videolm.tokenizers),
    "quantize": folder(videolm.tokenizers.quantize),
    "tasks": folder(videolm.tasks),
    "configs": folder(videolm.configs),
}))
"""


def probe(start: Path, on_path: Path | None) -> dict[str, object]:
    """What a fresh Python started in `start` imports, with `on_path` searched before site-packages."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    if on_path is not None:
        environment["PYTHONPATH"] = str(on_path)
    command = [sys.executable, "-c", PROBE]
    done = subprocess.run(command, cwd=start, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return result


def checkout(root: Path) -> dict[str, object]:
    return {
        "light": True,
        "hugging_face": True,
        "videolm": str(root / "videolm"),
        "tokenizers": str(root / "tokenizers"),
        "quantize": str(root / "tokenizers" / "quantize"),
        "tasks": str(root / "tasks"),
        "configs": str(root / "configs"),
    }


def test_started_in_the_checkout(root: Path) -> None:
    assert probe(root, None) == checkout(root)


def test_started_elsewhere_with_the_checkout_on_the_path(root: Path, tmp_path: Path) -> None:
    assert probe(tmp_path, root) == checkout(root)


def test_started_elsewhere_with_an_editable_install(root: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec("__editable___videolm_0_1_0_finder") is None:
        pytest.skip("videolm is not installed as `make setup` does it")
    assert probe(tmp_path, None) == checkout(root)


def test_installed_from_a_wheel(installed: Path, tmp_path: Path) -> None:
    package = installed / "videolm"
    assert probe(tmp_path, installed) == {
        "light": True,
        "hugging_face": True,
        "videolm": str(package),
        "tokenizers": str(package / "tokenizers"),
        "quantize": str(package / "tokenizers" / "quantize"),
        "tasks": str(package / "tasks"),
        "configs": str(package / "configs"),
    }


@pytest.mark.parametrize("name", videolm.__all__)
def test_public_names(name: str) -> None:
    assert name in dir(videolm)
    assert getattr(videolm, name) is not None


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Vocabulry'"):
        _ = videolm.Vocabulry


def test_no_package_that_could_hide_another(root: Path) -> None:
    assert not (root / "tokenizers" / "__init__.py").exists(), "it would hide Hugging Face's tokenizers"
    assert not list((root / "tests").rglob("__init__.py")), "with it pytest puts a test folder's parent on sys.path"
