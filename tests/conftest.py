"""What tests may ask for by name: real servers, started before the first test runs, and the folder of real alerts.

A part that cannot be had skips the tests that need it, saying which and why. With CI=true it fails them instead.
"""

import fcntl
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import pytest

from soar import logs

ROOT = Path(__file__).resolve().parents[1]
STACK = ROOT / "scripts" / "stack"
SHARED_DATA = ROOT.parent / "shared" / "data"

# fixture -> (what scripts/stack does for it, with which part)
PARTS = {
    "kafka": ("up", "kafka"),
    "opa": ("up", "opa"),
    "opa_binary": ("get", "opa"),
    "postgres": ("up", "postgres"),
}
# Folders whose few tests take minutes. They begin first, so that in the end no worker is left alone with one.
LONG = ("crash", "simulation")
PROBLEMS = pytest.StashKey[Mapping[str, str]]()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marker and fixture imply each other, so that neither `-m "not kafka"` nor a test can miss one."""
    items.sort(key=lambda item: item.path.parent.name not in LONG)
    for item in (item for item in items if isinstance(item, pytest.Function)):
        for fixture in (*PARTS, "shared_data"):
            marker = PARTS.get(fixture, ("", fixture))[1]
            if fixture in item.fixturenames:
                item.add_marker(marker)
            elif item.get_closest_marker(fixture):
                item.fixturenames = [*item.fixturenames, fixture]  # a list that all parameters of a test share


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start what the selected tests need: at once, in the open, and outside any test's time limit.

    Of several workers of pytest-xdist the first does it; the others find all of it running.
    """
    wanted = {name for item in session.items for name in getattr(item, "fixturenames", ())} & PARTS.keys()
    if session.config.option.collectonly:
        return
    with STACK.open() as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        started = {
            name: subprocess.Popen([sys.executable, STACK, *PARTS[name]], stderr=subprocess.PIPE, text=True)
            for name in sorted(wanted)
        }
        ended = {name: (process.communicate()[1], process.returncode) for name, process in started.items()}
    session.config.stash[PROBLEMS] = {
        name: errors.strip() or f"exit code {code}" for name, (errors, code) in ended.items() if code
    }


@pytest.fixture(autouse=True)
def own_logging() -> None:
    """As the service logs, all of it. A command sets up logging for its whole process: here, for later tests too."""
    logs.configure(level="debug")


def _unavailable(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason} (with CI=true this is a failure)", pytrace=False)
    pytest.skip(reason)


def _variable(request: pytest.FixtureRequest, variable: str) -> str:
    """What `scripts/stack env` says for the part behind this fixture."""
    fixture = str(request.fixturename)
    verb, part = PARTS[fixture]
    problem = request.config.stash[PROBLEMS].get(fixture)
    if problem:
        _unavailable(f"`scripts/stack {verb} {part}` failed: {problem}")
    printed = subprocess.run([sys.executable, STACK, "env", part], capture_output=True, text=True, check=True).stdout
    return dict(line.split("=", 1) for line in printed.splitlines())[variable]


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest) -> str:
    """Bootstrap servers of a real Apache Kafka."""
    return _variable(request, "SOAR_STACK_KAFKA")


@pytest.fixture(scope="session")
def opa(request: pytest.FixtureRequest) -> str:
    """Base URL of a real OPA without policies."""
    return _variable(request, "SOAR_STACK_OPA")


@pytest.fixture(scope="session")
def opa_binary(request: pytest.FixtureRequest) -> Path:
    """The `opa` program."""
    return Path(_variable(request, "SOAR_STACK_OPA_BINARY"))


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> str:
    """DSN of a real PostgreSQL, as the owner of its database `soar`."""
    return _variable(request, "SOAR_STACK_POSTGRES")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real alerts, ../shared/data beside the checkout."""
    if not SHARED_DATA.is_dir():
        _unavailable(f"the real alerts are not there: {SHARED_DATA} is no folder")
    return SHARED_DATA
