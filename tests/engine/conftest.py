"""A house for each test: see `house.py`."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from .house import House, open_house


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
