"""Finds the packages; all else is in setup.cfg, whose own `find:` cannot follow its `package_dir`."""

from configparser import ConfigParser
from pathlib import Path

from setuptools import setup


def packages(name: str, folder: Path) -> list[str]:
    """The package `name` at `folder`, and one for each folder below it that holds Python."""
    below = sorted({file.parent for file in folder.rglob("*.py")} - {folder})
    return [name, *(".".join((name, *path.relative_to(folder).parts)) for path in below)]


config = ConfigParser()
config.read("setup.cfg")
mapping = [line.split(" = ") for line in config["options"]["package_dir"].strip().splitlines()]
setup(packages=[found for name, folder in mapping for found in packages(name, Path(folder))])
