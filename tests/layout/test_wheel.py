"""The wheel holds the source and its data, whole, and nothing else."""

from pathlib import Path
from zipfile import ZipFile


def test_every_file_of_the_source_is_in_the_wheel(source_copy: Path, wheel: Path) -> None:
    """New folders of Python need no edit; a new kind of data needs a pattern under [options.package_data]."""
    in_source = {
        str(Path(room if room == "videolm" else f"videolm/{room}", path.relative_to(source_copy / room)))
        for room in ("videolm", "tokenizers", "tasks", "configs")
        for path in (source_copy / room).rglob("*")
        if path.is_file()
    }
    in_wheel = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert in_source - in_wheel == set(), "in the source but not in the wheel"
    assert in_wheel - in_source == set(), "in the wheel but not in the source"


def test_metadata(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = archive.read(name).decode().splitlines()
        scripts = archive.read(name.replace("METADATA", "entry_points.txt")).decode()
        assert any(name.endswith("licenses/LICENSE") for name in archive.namelist())
    assert {"Name: videolm", "License-Expression: Apache-2.0", "Requires-Python: >=3.11"} <= set(metadata)
    assert "videolm = videolm.cli.main:main" in scripts
    core = {line for line in metadata if line.startswith("Requires-Dist:") and "extra ==" not in line}
    assert not [line for line in core if "deepspeed" in line or "torchvision" in line or "torchaudio" in line]
