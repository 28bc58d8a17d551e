"""What the documents say is so: commands parse, links lead somewhere, the README's Python runs."""

import re
import shlex
from pathlib import Path
from typing import get_args

import pytest
import yaml

from videolm.cli import train
from videolm.cli.main import parse
from videolm.config import parse as parse_config
from videolm.data.sources import DataConfig
from videolm.pipeline.folder import SHIPPED
from videolm.train.recipe import load_recipe

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = [
    (page.relative_to(ROOT).as_posix(), match.group(1).strip())
    for page in PAGES
    if page.name not in ("new-task.md", "fine-tuning.md")  # whose commands are run (end_to_end)
    for match in re.finditer(r"^(?:    )?(videolm [^#`|\n]+)", page.read_text().replace("\\\n", " "), re.MULTILINE)
]
"""A command may go on in the next line, as in a shell."""


def test_commands_were_found() -> None:
    assert len(COMMANDS) >= 8


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_commands_in_the_documents_are_ones_we_have(page: str, command: str) -> None:
    words = shlex.split(command)[1:]
    module, args, rest = parse(words)
    assert module.__name__ == f"videolm.cli.{words[0]}"
    if module is train:
        start = {} if args.start is None else {"start": args.start}
        load_recipe(args.recipe, {**train.overrides(rest), **start})


def test_the_guide_to_data_names_every_kind_as_it_is() -> None:
    text = (ROOT / "docs" / "guides" / "data.md").read_text()
    kinds = set()
    for line in re.findall(r"^data: (\{.*\})$", text, re.MULTILINE):
        kinds.add(parse_config(DataConfig, yaml.safe_load(line)).kind)
    known = {get_args(member.model_fields["kind"].annotation)[0] for member in get_args(get_args(DataConfig)[0])}
    assert kinds == known - {"shapesworld"} and all(f"| `{kind}` |" in text for kind in known)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", ROOT / "docs" / "architecture.md"], ids=["README", "architecture"]
)
def test_the_trees_name_what_is_there(page: Path) -> None:
    blocks = re.findall(r"^```\w*\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    trees = [block for block in blocks if re.search("^tokenizers/", block, re.MULTILINE)]
    assert trees
    inside = ""
    for line in trees[-1].splitlines():
        for name in re.findall(r"^\s*((?:[\w.]+/ ?|[\w]+\.py)+)", line):
            indented = line.startswith("  ")
            for part in name.split():
                assert (ROOT / (inside if indented else "") / part).exists(), part
            if not indented:
                inside = name.split()[0]


@pytest.mark.skipif(not SHIPPED.is_dir(), reason="no model ships with this checkout")
def test_the_python_in_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
    assert names["out"].frames.shape == (2, 17, 64, 64, 3)  # type: ignore[attr-defined]
    assert (tmp_path / "clip-1.mp4").is_file()
