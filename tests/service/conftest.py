"""What several tests of the service ask for by name."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import asyncpg
import pytest


@pytest.fixture
async def database(postgres: str) -> AsyncIterator[str]:
    """URL of an empty schema."""
    name = f"test_{secrets.token_hex(6)}"
    db = await asyncpg.connect(postgres)
    await db.execute(f"CREATE SCHEMA {name}")
    yield f"{postgres}?search_path={name}"
    await db.execute(f"DROP SCHEMA {name} CASCADE")
    await db.close()
