"""Homes whose store is a database."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg

from .operate_home import Home


def told(dsn: str, script: str) -> Any:
    """What this gives where it is a question; else it is done."""

    async def tell() -> Any:
        db = await asyncpg.connect(dsn)
        try:
            if script.startswith("SELECT"):
                return [tuple(row) for row in await db.fetch(script)]
            return await db.execute(script)
        finally:
            await db.close()

    return asyncio.run(tell())


def lodge(folder: Path, dsn: str) -> Home:
    """A home whose store is this database."""
    (folder / "database").write_text(dsn)
    (folder / "database").chmod(0o600)
    return Home(folder)


@contextmanager
def schema(server: str) -> Iterator[str]:
    """The DSN of an empty schema."""
    name = f"test_{secrets.token_hex(6)}"
    told(server, f"CREATE SCHEMA {name}")
    try:
        yield f"{server}?search_path={name}"
    finally:
        told(server, f"DROP SCHEMA {name} CASCADE")
