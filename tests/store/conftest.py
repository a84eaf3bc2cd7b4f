"""Stores to hold to their promises: every one that soar has joins here, and passes the same tests."""

import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest

from soar.store.port import Store
from soar.store.postgres import PostgresStore
from soar.store.sqlite import SqliteStore

Open = Callable[[], Awaitable[Store]]
"""Opens one more store on the same data, as another process would."""


@contextlib.asynccontextmanager
async def schema(server: str) -> AsyncIterator[str]:
    """DSN of a new, empty schema, dropped at the end."""
    name = f"test_{secrets.token_hex(6)}"
    db = await asyncpg.connect(server)
    await db.execute(f"CREATE SCHEMA {name}")
    try:
        yield f"{server}?search_path={name}"
    finally:
        await db.execute(f"DROP SCHEMA {name} CASCADE")
        await db.close()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Open]:
    async with contextlib.AsyncExitStack() as stack:
        home = str(tmp_path / "soar.db")
        if request.param == "postgres":
            home = await stack.enter_async_context(schema(request.getfixturevalue("postgres")))

        async def open_one() -> Store:
            store = PostgresStore(home) if request.param == "postgres" else SqliteStore(Path(home))
            stack.push_async_callback(store.close)
            await store.open()
            return store

        yield open_one


@pytest.fixture
async def postgres_home(postgres: str) -> AsyncIterator[str]:
    """DSN of an empty schema of a real PostgreSQL."""
    async with schema(postgres) as home:
        yield home


@pytest.fixture
async def store(open_store: Open) -> Store:
    return await open_store()
