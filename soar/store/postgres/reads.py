"""Queries as the vocabulary: rows in, words out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import asyncpg
from asyncpg import Record as Row

from soar.model.run import StepRecord
from soar.model.suppression import Suppression
from soar.store import port
from soar.store.postgres.connect import Db, OvertakenError
from soar.store.postgres.rows import array, columns, digest_of, entry_of, window_of
from soar.store.postgres.sql import statements
from soar.store.seen import Counts, EntryRow
from soar.store.suppressions import BEHIND, PREFIX, read_all


async def known(db: Db, keys: port.AdmissionKeys) -> tuple[port.Known, str]:
    """What an admission must know, read while it holds its claims; and the transaction's name."""
    sql = statements("reads.sql")
    found: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for row in await db.fetch(sql["known_names"], [digest_of(each) for each in keys.coordinates], PREFIX, BEHIND):
        found[row["what"]].append((row["key"], row["value"]))
    names = columns(list(keys.uids))
    alerts = await db.fetch(sql["known_alerts"], *names, keys.uids_since) if names else []
    awaited = sorted(keys.awaited([field for _, field in found["field"]]))
    waits = [row["record"] for row in await db.fetch(sql["awaiting"], array(awaited))] if awaited else []
    windows = await db.fetch(sql["known_windows"], array(keys.windows), keys.now) if keys.windows else []
    known = port.Known(
        coordinates=frozenset(value for _, value in found["coordinates"]),
        uids={(row["source"], row["uid"]): row["first_id"] for row in alerts},
        repeats={(row["source"], row["uid"], row["content"]): row["same_id"] for row in alerts if row["same_id"]},
        windows={row["key"]: window_of(row) for row in windows},
        waits=[StepRecord.model_validate_json(record) for record in (*(each for _, each in found["wait"]), *waits)],
        suppressions=read_all(value for _, value in sorted(found["suppression"])),
    )
    return known, found["xid"][0][1]


async def suppressions(db: Db) -> list[Suppression]:
    """What people have alerts held back for."""
    rows = await db.fetch(statements("reads.sql")["suppressions"], PREFIX, BEHIND)
    return read_all(row["value"] for row in rows)


async def lease(db: Db, owner: str, until: datetime, limit: int) -> list[Row]:
    """Runs taken; raises OvertakenError where another worker took a lock at the same moment."""
    try:
        rows: list[Row] = await db.fetch(statements("writes.sql")["lease"], owner, until, limit)
    except asyncpg.UniqueViolationError as failure:
        raise OvertakenError(str(failure)) from failure
    return rows


async def newest(db: Db, table: str, filters: Mapping[str, str | None], limit: int) -> list[Row]:
    """Rows of a table, newest first, where the given columns have the given values."""
    given = {column: value for column, value in filters.items() if value is not None}
    where = " AND ".join(f"{column} = ${place}" for place, column in enumerate(given, start=2)) or "TRUE"
    sql = f"SELECT * FROM {table} WHERE {where} ORDER BY id DESC LIMIT $1"  # noqa: S608 - our own names
    rows: list[Row] = await db.fetch(sql, limit, *given.values())
    return rows


async def counts(db: Db) -> Counts:
    """How much of everything there is, at one moment."""
    found: dict[str, dict[str, int]] = {"alerts": {}, "runs": {}, "actions": {}, "approvals": {}, "entries": {}}
    for what, word, number in await db.fetch(statements("reads.sql")["counts"]):
        found[what][word] = number
    entries = found.pop("entries")
    return Counts(**found, entries=entries.get("", 0))


async def entries(db: Db, start: int, run_id: str | None, limit: int) -> list[EntryRow]:
    """A page of entries from `start` on."""
    of_run: tuple[str, tuple[Any, ...]] = ("entries", ()) if run_id is None else ("entries_of_run", (run_id,))
    name, more = of_run
    return [entry_of(row) for row in await db.fetch(statements("reads.sql")[name], start, limit, *more)]
