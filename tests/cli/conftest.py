"""Homes for the tests of the commands of the day."""

import shutil
from pathlib import Path

import pytest

from .operate_home import Home, fill


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home in which every alert of `ALERTS` has been answered as far as it goes. Look, do not touch."""
    return fill(Home(tmp_path_factory.mktemp("home")))


@pytest.fixture
def copy(filled: Home, tmp_path: Path) -> Home:
    """The filled home, to do with as one likes."""
    shutil.copytree(filled.folder, tmp_path / "home")
    return Home(tmp_path / "home", dict(filled.admitted))
