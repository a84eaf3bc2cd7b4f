"""Letting go of what is old; see `soar.store.aging`. It takes the owner of the tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from soar.errors import StateConflictError
from soar.journal.archive import Kept
from soar.model.clock import earliest
from soar.model.entry import Entry
from soar.store.aging import Forgotten, OldPayloads
from soar.store.postgres.connect import Db
from soar.store.postgres.database import Done
from soar.store.postgres.erasing import append
from soar.store.postgres.owner import require_owner
from soar.store.postgres.rows import array, digest_of
from soar.store.postgres.sql import statements

_WHAT = "letting go of what is old"


async def old_payloads(db: Db, before: datetime, after: str, limit: int) -> OldPayloads:
    """Payloads that may leave."""
    await require_owner(db, _WHAT)
    sql = statements("aging.sql")["old_payloads"]
    rows = await db.fetch(sql, after, earliest("entry", before), limit)
    payloads = (Kept(id=name, index=idx, salt=salt, payload=body) for name, idx, salt, body, kept in rows if not kept)
    return OldPayloads(payloads=tuple(payloads), after=max(row[0] for row in rows) if len(rows) == limit else None)


async def archive(db: Db, names: Sequence[str], told: Entry) -> Done[None]:
    """Delete these payloads, and tell; inside the caller's transaction."""
    gone = _number(await db.execute(statements("aging.sql")["archive"], array(names)))
    if gone != len(names):
        raise StateConflictError("a payload that was to be archived is gone; nothing was done")
    return await append(db, [told], None)


async def forget(db: Db, before: datetime, limit: int, tell: Callable[[Forgotten], Entry]) -> Done[Forgotten]:
    """Delete what ended before a time, and tell; inside the caller's transaction."""
    await require_owner(db, _WHAT)
    sql = statements("aging.sql")

    async def drop(name: str, *values: Any) -> int:
        return _number(await db.execute(sql[name], *values))

    runs = array(row["id"] for row in await db.fetch(sql["ended_runs"], earliest("run", before), before, limit))
    for table in ("steps", "attempts", "approvals"):
        await drop(f"forget_{table}", runs)
    gone = {"runs": await drop("forget_runs", runs), "records": 0}
    for table, kind in (("alerts", "alert"), ("dead_letters", "dead")):
        rows = await db.fetch(sql[f"forget_{table}"], earliest(kind, before), before, limit)
        gone[table] = len(rows)
        gone["records"] += await drop("forget_records", [digest_of(row["coordinates"]) for row in rows])
    for table in ("windows", "acted"):
        gone[table] = await drop(f"forget_{table}", before, limit)
    forgotten = Forgotten(**gone)
    return await append(db, [tell(forgotten)], forgotten) if forgotten.rows else Done(result=forgotten)


def _number(answer: str) -> int:
    """How many rows a statement changed, as the server says."""
    return int(answer.rpartition(" ")[2])
