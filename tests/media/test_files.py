import os
import stat

import pytest

from videolm.errors import UserError
from videolm.files import atomic_path, check_writable


def test_the_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "new" / "folder" / "a.json"
    with atomic_path(path) as temporary:
        assert temporary.parent == path.parent and temporary.suffix == ".json"
        temporary.write_text("{}")
        assert not path.exists()
    assert path.read_text() == "{}" and os.listdir(path.parent) == ["a.json"]


def test_the_file_stays_as_it_was_when_the_block_fails(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.json"]


def test_permissions_are_those_of_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    with atomic_path(tmp_path / "ours") as temporary:
        temporary.touch()
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "ours")}
    assert len(modes) == 1


def test_long_names(tmp_path):
    name = "a" * 240 + ".json"
    with atomic_path(tmp_path / name) as temporary:
        temporary.touch()
    assert os.listdir(tmp_path) == [name]


def test_check_writable(tmp_path):
    existing = tmp_path / "a.txt"
    existing.touch()
    assert check_writable(str(tmp_path / "new" / "b.txt")) == tmp_path / "new" / "b.txt"
    assert check_writable(existing, overwrite=True) == existing
    for path, said in (
        (existing, "exists already"),
        (tmp_path, "is a folder"),
        (existing / "b.txt", "is a file where"),
    ):
        with pytest.raises(UserError, match=said):
            check_writable(path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="no permission"):
        check_writable(tmp_path / "a.txt")
