"""A house for each test: see `house.py`."""

import contextlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from soar.lab import LabServer

from .crew import TICKET, Crew
from .house import TOKEN, House, fill_home, open_house


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """A whole house, not started: a test puts playbooks in and calls `start`."""
    async with open_house(tmp_path) as house:
        yield house


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def either_house(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[House]:
    """The same house on either store."""
    if request.param == "sqlite":
        async with open_house(tmp_path) as house:
            yield house
        return
    server, name = request.getfixturevalue("postgres"), f"test_{secrets.token_hex(6)}"
    db = await asyncpg.connect(server)
    await db.execute(f"CREATE SCHEMA {name}")
    try:
        async with open_house(tmp_path) as house:
            house.environ = {"SOAR_STORE__URL": "secret://env/DATABASE", "DATABASE": f"{server}?search_path={name}"}
            yield house
    finally:
        await db.execute(f"DROP SCHEMA {name} CASCADE")
        await db.close()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def crew(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Crew]:
    """Not started; on its own store."""
    lab = LabServer(port=0, log_path=tmp_path / "lab.jsonl", token=TOKEN)
    await lab.start()
    home = tmp_path / "home"
    fill_home(home, lab.url)
    (home / "playbooks" / "it.yaml").write_text(TICKET)
    environ = {}
    async with contextlib.AsyncExitStack() as stack:
        if request.param == "postgres":
            server = request.getfixturevalue("postgres")
            name = f"test_{secrets.token_hex(6)}"
            db = await asyncpg.connect(server)
            stack.push_async_callback(db.close)
            await db.execute(f"CREATE SCHEMA {name}")
            stack.push_async_callback(db.execute, f"DROP SCHEMA {name} CASCADE")
            environ = {"SOAR_STORE__URL": "secret://env/DATABASE", "DATABASE": f"{server}?search_path={name}"}
        crew = Crew(home, lab, environ)
        stack.push_async_callback(crew.stop)
        yield crew
