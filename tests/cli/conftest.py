"""Homes for the tests of the commands of the day."""

import shutil
from pathlib import Path

import pytest

from soar.journal.note import Signer

from .operate_home import ALERTS, NOT_JSON, ORIGIN, PLAYBOOKS, TOKEN, Home, as_bytes


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home in which every alert of `ALERTS` has been answered as far as it goes. Look, do not touch."""
    home = Home(tmp_path_factory.mktemp("home"))
    (home.folder / "playbooks").mkdir()
    (home.folder / "mappings").mkdir()
    for name, text in PLAYBOOKS.items():
        (home.folder / "playbooks" / f"{name}.yaml").write_text(text)
    for name, secret in (("journal.key", Signer.generate(ORIGIN).to_text()), ("token", TOKEN)):
        (home.folder / name).write_text(secret)
        (home.folder / name).chmod(0o600)
    home.work({name: as_bytes(alert) for name, alert in ALERTS.items()} | {"letter": NOT_JSON})
    return home


@pytest.fixture
def copy(filled: Home, tmp_path: Path) -> Home:
    """The filled home, to do with as one likes."""
    shutil.copytree(filled.folder, tmp_path / "home")
    return Home(tmp_path / "home", dict(filled.admitted))
