"""The registry: lazy, closed to duplicates, and helpful about names."""

import sys
from pathlib import Path

import pytest

from videolm.errors import UserError
from videolm.registry import Registry
from videolm.tasks import TASKS, Task
from videolm.tokenizers.protocol import VIDEO_TOKENIZERS, VideoTokenizer


def test_an_entry_is_imported_when_first_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "planted_colours.py").write_text("red = object()\n")
    monkeypatch.syspath_prepend(tmp_path)
    colours: Registry[object] = Registry("colour", {"red": "planted_colours:red", "lost": "no_such_module:x"})
    assert list(colours) == ["red", "lost"] and "red" in colours
    assert "planted_colours" not in sys.modules
    red = colours.get("red")
    assert sys.modules["planted_colours"].red is red and colours.get("red") is red
    monkeypatch.delitem(sys.modules, "planted_colours")


def test_a_users_own_thing_stands_beside_the_shipped_ones() -> None:
    colours: Registry[int] = Registry("colour", {"pi": "math:pi"})
    colours.register("mine", 7)
    assert colours.get("mine") == 7 and set(colours) == {"pi", "mine"}


def test_a_taken_name_is_refused_and_keeps_its_thing() -> None:
    colours: Registry[int] = Registry("colour")
    colours.register("red", 1)
    with pytest.raises(UserError, match="the colour 'red' is registered already"):
        colours.register("red", 2)
    assert colours.get("red") == 1


@pytest.mark.parametrize(("name", "said"), [("rde", "did you mean 'red'"), ("zzz", "known: blue, red")])
def test_an_unknown_name_gets_the_nearest_one(name: str, said: str) -> None:
    with pytest.raises(UserError, match=f"unknown colour '{name}'; {said}"):
        Registry("colour", {"red": "x:y", "blue": "x:y"}).get(name)


def test_registries_do_not_share_entries() -> None:
    entries = {"pi": "math:pi"}
    one: Registry[float] = Registry("number", entries)
    one.register("tau", 6.28)
    assert entries == {"pi": "math:pi"} and "tau" not in Registry("number", entries)


def test_every_shipped_entry_is_what_its_registry_says() -> None:
    assert all(isinstance(TASKS.get(name), Task) and TASKS.get(name).name == name for name in TASKS)
    for name in VIDEO_TOKENIZERS:
        kind = VIDEO_TOKENIZERS.get(name)
        assert issubclass(kind, VideoTokenizer) and kind.Settings.model_fields["name"].default == name
