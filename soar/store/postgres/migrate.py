"""Schema versions."""

from __future__ import annotations

from soar.errors import StoreUnavailableError
from soar.store.postgres.connect import Db
from soar.store.postgres.sql import migrations

SCHEMA_VERSION = 7
_LOCK = "(1936683378, 0)"


async def migrate(db: Db) -> None:
    """Apply the migrations that are missing, one process at a time.

    A role that may not change the schema can still use one that is up to date. Raises StoreUnavailableError for a
    schema that is newer than this soar.
    """
    if await schema_version(db) == SCHEMA_VERSION:
        return
    async with db.transaction():
        await db.execute(f"SELECT pg_advisory_xact_lock{_LOCK}")
        await db.execute(
            "CREATE TABLE IF NOT EXISTS schema_versions (version INTEGER PRIMARY KEY, at TIMESTAMPTZ NOT NULL)"
        )
        version = await schema_version(db)
        if version > SCHEMA_VERSION:
            raise StoreUnavailableError(
                f"the store has schema {version}, this soar knows {SCHEMA_VERSION};"
                " run a newer soar, or restore a backup"
            )
        for number, sql in migrations():
            if number > version:
                await db.execute(sql)
                await db.execute("INSERT INTO schema_versions VALUES ($1, now())", number)


async def schema_version(db: Db) -> int:
    """The version of the schema that is there; 0 where there is none."""
    if await db.fetchval("SELECT to_regclass('schema_versions')") is None:
        return 0
    version: int = await db.fetchval("SELECT coalesce(max(version), 0) FROM schema_versions")
    return version
