"""Homes for the tests of the commands of the day."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .operate_home import Home, fill

STACK = Path(__file__).parents[2] / "scripts" / "stack"


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home in which every alert of `ALERTS` has been answered as far as it goes. Look, do not touch."""
    return fill(Home(tmp_path_factory.mktemp("home")))


@pytest.fixture
def copy(filled: Home, tmp_path: Path) -> Home:
    """The filled home, to do with as one likes."""
    shutil.copytree(filled.folder, tmp_path / "home")
    return Home(tmp_path / "home", dict(filled.admitted))


@pytest.fixture(scope="session")
def server(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL that nobody else uses: the DSN of its superuser. Where there is one, there is another."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {"SOAR_STACK_HOME": str(tmp_path_factory.mktemp("server")), "SOAR_STACK_POSTGRES_PORT": str(port)}
    assert str(port) not in postgres

    def stack(verb: str) -> str:
        command = [sys.executable, str(STACK), verb, "postgres"]
        environ = {**os.environ, **own, "SOAR_STACK_DOCKER": "0"}
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout

    stack("up")
    try:
        yield dict(line.split("=", 1) for line in stack("env").splitlines())["SOAR_STACK_POSTGRES"]
    finally:
        stack("wipe")
