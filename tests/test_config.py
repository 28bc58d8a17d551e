"""Configs: typos are caught with the nearest name, overrides reach anywhere, and what is dumped reads back."""

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from videolm.config import Config, dump_yaml, merge, nearest, parse, read_yaml
from videolm.errors import UserError
from videolm.train.recipe import load_recipe


class Optimizer(Config):
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)


class Drawn(Config):
    kind: Literal["drawn"] = "drawn"
    clips: Annotated[int, Field(ge=1)] = 100


class Filmed(Config):
    kind: Literal["filmed"] = "filmed"
    path: str


class Run(Config):
    out: str = "runs/one"
    optimizer: Optimizer = Optimizer()
    stages: tuple[Optimizer, ...] = ()
    by_name: dict[str, Optimizer] = {}
    data: Annotated[Drawn | Filmed, Field(discriminator="kind")] = Drawn()
    best: Optimizer | None = None


def test_configs_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Run().out = "elsewhere"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"optimiser": {}}, "unknown key 'optimiser'; did you mean 'optimizer'?"),
        ({"optimizer": {"lrr": 1}}, "unknown key 'optimizer.lrr'; did you mean 'lr'?"),
        ({"stages": [{}, {"beta": 1}]}, "unknown key 'stages.1.beta'; did you mean 'betas'?"),
        ({"by_name": {"adam": {"beta": 1}}}, "unknown key 'by_name.adam.beta'; did you mean 'betas'?"),
        ({"best": {"beta": 1}}, "unknown key 'best.beta'; did you mean 'betas'?"),
        ({"data": {"kind": "drawn", "clip": 1}}, "unknown key 'data.clip'; did you mean 'clips'?"),
        ({"data": {"kind": "filmed", "path": "x", "pathh": 1}}, "unknown key 'data.pathh'; did you mean 'path'?"),
        ({"zzzz": 1}, "unknown key 'zzzz'; known: best, by_name, data, optimizer, out, stages"),
    ],
)
def test_an_unknown_key_names_its_place_and_the_nearest_known_one(data: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as error:
        parse(Run, data)
    assert str(error.value) == said


def test_a_key_of_the_other_member_of_a_union_is_not_proposed() -> None:
    with pytest.raises(UserError, match=r"^unknown key 'data.clips'; known: kind, path$"):
        parse(Run, {"data": {"kind": "filmed", "path": "x", "clips": 3}})


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"data": {"kind": "filmed"}}, "data.path: must be given"),
        ({"data": {"kind": "drawn", "clips": 0}}, "data.clips: Input should be greater than or equal to 1 (got 0)"),
        ({"optimizer": {"lr": "fast"}}, "optimizer.lr: Input should be a valid number"),
        ({"data": {"kind": "painted"}}, "'drawn', 'filmed'"),
    ],
)
def test_a_wrong_value_names_its_place_what_was_got_and_what_is_wanted(data: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as error:
        parse(Run, data, source="run.yaml")
    message = str(error.value)
    assert message.startswith("run.yaml: ") and said in message and "\n" not in message


def test_overrides_are_read_as_yaml_and_reach_any_depth() -> None:
    overrides = {
        "out": "runs/two",
        "optimizer.lr": "3e-4",
        "optimizer.betas": "[0.8, 9e-1]",
        "by_name.adam.lr": 0.5,
        "data": "{kind: filmed, path: clips}",
        "best": "null",
    }
    run = parse(Run, {"optimizer": {"lr": 1.0}, "best": {}}, overrides)
    assert run.out == "runs/two" and run.best is None
    assert run.optimizer == Optimizer(lr=3e-4, betas=(0.8, 0.9))
    assert run.by_name == {"adam": Optimizer(lr=0.5)}
    assert run.data == Filmed(path="clips")


def test_an_override_is_laid_over_a_copy() -> None:
    data: dict[str, Any] = {"optimizer": {"lr": 1.0}}
    parse(Run, data, {"optimizer.lr": 2.0})
    assert data == {"optimizer": {"lr": 1.0}}


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"optimizer.lr.peak": "1"}, "--optimizer.lr.peak: 'lr' is a value"),
        ({"optimizer.lr": "{"}, "--optimizer.lr: '{' is not valid YAML"),
        ({"optimizer.rate": "1"}, "unknown key 'optimizer.rate'"),
    ],
)
def test_overrides_that_do_not_fit(overrides: dict[str, str], said: str) -> None:
    with pytest.raises(UserError) as error:
        parse(Run, {"optimizer": {"lr": 1.0}}, overrides)
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [("3e-4", 3e-4), ("1E3", 1e3), ("-2.5e+1", -25.0), (".5e1", 5.0), ("1.e2", 100.0), ("0.1", 0.1), ("7", 7)],
)
def test_numbers_people_write_are_numbers(text: str, value: float, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(f"lr: {text}\nsame: [{text}]\n")
    assert read_yaml(path) == {"lr": value, "same": [value]}


@pytest.mark.parametrize("text", ["e4", "3e", "1e-4b", "v3e4", "'3e-4'", "1.2.3e4"])
def test_what_only_looks_like_a_number_stays_text(text: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(f"name: {text}\n")
    assert read_yaml(path) == {"name": text.strip("'")}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a: [1,\nb: {", "is not valid YAML"),
        (b"- a\n- b\n", "must hold 'key: value' pairs, not a list"),
        (b"just words", "not a str"),
        (b"\xff\xfe\x00binary", "is not valid YAML"),
        (b"a: !!python/object:os.system {}", "is not valid YAML"),
    ],
)
def test_a_broken_file_is_said_in_one_line(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_yaml(path)
    assert "broken.yaml" in str(error.value) and said in str(error.value) and "\n" not in str(error.value)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read the config .*nowhere.yaml: No such file"):
        read_yaml(tmp_path / "nowhere.yaml")
    with pytest.raises(UserError, match="cannot read the config"):
        read_yaml(tmp_path)


def test_an_empty_file_is_an_empty_mapping(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("# only a comment\n")
    assert read_yaml(path) == {}


trees = st.recursive(
    st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=6,
)
mappings = st.dictionaries(st.sampled_from("abcd"), trees, max_size=3)


@settings(max_examples=50)
@given(base=mappings, over=mappings)
def test_merge_lays_one_over_the_other_and_changes_neither(base: dict[str, Any], over: dict[str, Any]) -> None:
    before = repr((base, over))
    merged = merge(base, over)
    assert merged.keys() == base.keys() | over.keys()
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            assert merged[key] == merge(base[key], value)
        else:
            assert merged[key] == value
    assert all(merged[key] == base[key] for key in base.keys() - over.keys())
    scribble(merged)
    assert repr((base, over)) == before


def scribble(tree: Any) -> None:
    """Change all that can be changed."""
    inside = list(tree.values()) if isinstance(tree, dict) else list(tree) if isinstance(tree, list) else []
    for value in inside:
        scribble(value)
    if isinstance(tree, dict):
        tree["scribbled"] = True
    elif isinstance(tree, list):
        tree.append("scribbled")


def test_a_dump_reads_back_equal(tmp_path: Path) -> None:
    run = Run(stages=(Optimizer(lr=3e-4),), by_name={"a": Optimizer(betas=(0.1, 1e-9))}, data=Filmed(path="a: b # c"))
    path = tmp_path / "run.yaml"
    path.write_text(dump_yaml(run))
    assert parse(Run, read_yaml(path)) == run


@pytest.mark.parametrize(
    ("name", "overrides", "said"),
    [
        ("shapesworld/smal", {}, "did you mean 'shapesworld/small'?"),
        ("shapesworld/tiny", {"tasks.text_to_vido": 1}, "did you mean 'text_to_video'?"),
        ("shapesworld/tiny", {"lm.num_layer": 1}, "did you mean 'num_layers'?"),
        ("shapesworld/tiny", {"data.clip": 1}, "unknown key 'data.clip'; did you mean 'clips'?"),
        ("nowhere.yaml", {}, "cannot read the config nowhere.yaml"),
    ],
)
def test_recipe_mistakes_are_one_line(name: str, overrides: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as error:
        load_recipe(name, overrides)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_recipe_of_ones_own_stands_on_another_and_names_presets(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("base: shapesworld/tiny\nlm: small\nlm_training: {steps: 3}\n")
    mine, base = load_recipe(str(path)), load_recipe("shapesworld/tiny")
    assert mine.lm == load_recipe("shapesworld/small").lm != base.lm
    assert mine.lm_training == base.lm_training.model_copy(update={"steps": 3})
    path.write_text("base: shapesworld/tiny\nlm: smal\n")
    with pytest.raises(UserError, match="unknown lm 'smal'; did you mean 'small'"):
        load_recipe(str(path))


def test_nearest_knows_when_nothing_is_near() -> None:
    assert nearest("x", []) == "known: none"
    assert nearest("beta", ["alpha", "betas"]) == "did you mean 'betas'?"
