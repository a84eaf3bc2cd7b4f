"""Letting nothing that was deleted stay in the server's files, as far as one connection reaches.

A deleted row stays in its table until nobody can see it any more and the table is written anew; its pages stay in the
write-ahead log until the log's files are used again. (PostgreSQL, "Routine Vacuuming" and "WAL Configuration".)
"""

from __future__ import annotations

import asyncio
from datetime import datetime

import asyncpg

from soar.errors import StoreUnavailableError
from soar.store.postgres.connect import Db, connect
from soar.store.postgres.owner import require_owner

_TABLES = (
    "payloads", "alerts", "records", "dead_letters", "windows", "acted", "runs", "steps", "attempts", "approvals",
    "control",
)  # fmt: skip
_SEEN_ATTEMPTS = 100
_SEEN_SECONDS = 0.1
_ROUNDS = 20
_FILE_TIME_SECONDS = 1.1  # the server tells the times of its files in seconds
_LOCK = "60s"  # an exclusive lock makes everybody behind it wait; soar's own transactions are over in milliseconds

_SEEING = """
SELECT coalesce(string_agg(DISTINCT who, ', '), '') FROM (
    SELECT 'process ' || pid AS who, backend_xmin AS old FROM pg_stat_activity
        WHERE pid <> pg_backend_pid() AND (datname = current_database() OR backend_type = 'walsender')
    UNION ALL SELECT 'process ' || pid, backend_xid FROM pg_stat_activity
        WHERE pid <> pg_backend_pid() AND datname = current_database()
    UNION ALL SELECT 'the prepared transaction ' || gid, transaction FROM pg_prepared_xacts
        WHERE database = current_database()
    UNION ALL SELECT 'the replication slot ' || slot_name, xmin FROM pg_replication_slots
) AS all_of_them WHERE old IS NOT NULL AND age(old) > age($1::text::xid)
"""


async def scrub(dsn: str) -> tuple[str, ...]:
    """Write the tables and the log anew; returns what could not be reached, and the remedy."""
    db = await connect(dsn, command_seconds=None)
    try:
        await require_owner(db, "scrubbing")
        await db.execute(f"SET lock_timeout = '{_LOCK}'")
        await _unseen(db)
        for table in _TABLES:
            await db.execute(f"VACUUM (FULL, ANALYZE) {table}")
        return (*await _statistics(db), *await _others(db), *await _log(db))
    finally:
        await db.close()


async def _unseen(db: Db) -> None:
    """Wait until no transaction sees what is deleted now: for those that do, it would be kept."""
    now = await db.fetchval("SELECT (pg_current_xact_id()::text::bigint % 4294967296)::text")
    for _ in range(_SEEN_ATTEMPTS):
        seeing = await db.fetchval(_SEEING, now)
        if not seeing:
            return
        await asyncio.sleep(_SEEN_SECONDS)
    raise StoreUnavailableError(
        f"the rows are erased, but {seeing} still sees them, so they cannot leave the server's files; end that, then"
        " run the same command again"
    )


async def _statistics(db: Db) -> tuple[str, ...]:
    """The planner keeps the commonest values of each column: ANALYZE has written them anew, the old ones go here."""
    owner = await db.fetchval("SELECT pg_has_role(datdba, 'USAGE') FROM pg_database WHERE datname = current_database()")
    if not owner:
        return ("the planner's statistics may hold old values; the database's owner runs: VACUUM FULL pg_statistic",)
    await db.execute("VACUUM FULL pg_catalog.pg_statistic")
    return ()


async def _others(db: Db) -> tuple[str, ...]:
    if await db.fetchval("SELECT pg_has_role('pg_read_all_stats', 'USAGE')"):
        return ()
    return (
        "whether transactions of other users still see the rows is not known: that takes the role pg_read_all_stats",
    )


async def _log(db: Db) -> tuple[str, ...]:
    """Use every file of the write-ahead log again: what was in it is overwritten."""
    try:
        await _next_file(db)
        await asyncio.sleep(_FILE_TIME_SECONDS)
        began: datetime = await db.fetchval("SELECT clock_timestamp()")  # no file written from here on tells of them
        old = 0
        for _ in range(_ROUNDS):
            await db.execute("CHECKPOINT")  # files from before are free to be used again, under new names
            files, old = await db.fetchrow(
                "SELECT count(*), count(*) FILTER (WHERE modification < $1) FROM pg_ls_waldir()", began
            )
            if not old:
                return ()
            for _ in range(files):
                await _next_file(db)
    except asyncpg.InsufficientPrivilegeError:
        return (
            "the server's write-ahead log keeps them until its files are used again; a superuser can have that now",
        )
    return (f"{old} files of the write-ahead log are kept for an archiver, a replica or by wal_keep_size",)


async def _next_file(db: Db) -> None:
    """Only a file with something in it is left for the next; its rest is filled with nothing."""
    await db.execute("SELECT pg_logical_emit_message(false, 'soar', 'scrub')")
    await db.execute("SELECT pg_switch_wal()")
