"""Letting go of what is old; see `soar.store.aging`."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from soar.errors import StateConflictError
from soar.journal.archive import Kept
from soar.model.base import to_rfc3339
from soar.model.clock import earliest
from soar.model.entry import Entry
from soar.store.aging import Forgotten, OldPayloads
from soar.store.sqlite.tree import Appender

# A leaf's subject is asked for only where an alert's entry needs it, and a damaged leaf keeps its payload.
_PAYLOADS = """
SELECT entry_id, idx, salt, body, type LIKE 'journal.%' OR EXISTS (SELECT 1 FROM runs WHERE runs.id = run_id)
    OR (type = 'alert.admitted' AND CASE WHEN json_valid(CAST(leaf AS TEXT))
        THEN EXISTS (SELECT 1 FROM alerts WHERE alerts.id = json_extract(CAST(leaf AS TEXT), '$.subject'))
        ELSE TRUE END)
FROM (SELECT * FROM payloads WHERE entry_id > ? AND entry_id < ? ORDER BY entry_id LIMIT ?)
JOIN entries ON entries.id = entry_id ORDER BY idx
"""
_RUNS = """
WITH ended AS (
    SELECT id, parent_run_id FROM runs
    WHERE id < :name AND state IN ('succeeded', 'failed', 'denied', 'cancelled') AND finished_at < :before
)
SELECT id FROM ended
WHERE (parent_run_id IS NULL OR parent_run_id IN (SELECT id FROM ended)
        OR NOT EXISTS (SELECT 1 FROM runs AS caller WHERE caller.id = ended.parent_run_id))
    AND NOT EXISTS (SELECT 1 FROM runs AS called
        WHERE called.parent_run_id = ended.id AND called.id NOT IN (SELECT id FROM ended))
ORDER BY id LIMIT :limit
"""
_ALERTS = """
SELECT id, coordinates FROM alerts WHERE id < :name AND received_at < :before
    AND NOT EXISTS (SELECT 1 FROM runs WHERE alert_id = alerts.id) ORDER BY id LIMIT :limit
"""
_LETTERS = "SELECT id, coordinates FROM dead_letters WHERE id < :name AND at < :before ORDER BY id LIMIT :limit"


def old_payloads(db: sqlite3.Connection, before: datetime, after: str, limit: int) -> OldPayloads:
    """Payloads that may leave."""
    rows = db.execute(_PAYLOADS, (after, earliest("entry", before), limit)).fetchall()
    payloads = (Kept(id=name, index=idx, salt=salt, payload=body) for name, idx, salt, body, kept in rows if not kept)
    return OldPayloads(payloads=tuple(payloads), after=max(row[0] for row in rows) if len(rows) == limit else None)


def archive(db: sqlite3.Connection, names: Sequence[str], told: Entry) -> None:
    """Delete these payloads, and tell; inside the caller's transaction."""
    gone = db.execute("DELETE FROM payloads WHERE entry_id IN (SELECT value FROM json_each(?))", (json.dumps(names),))
    if gone.rowcount != len(names):
        raise StateConflictError("a payload that was to be archived is gone; nothing was done")
    _tell(db, told)


def leaves(db: sqlite3.Connection, kind: str) -> list[bytes]:
    """The leaves of this type."""
    return [row[0] for row in db.execute("SELECT leaf FROM entries WHERE type = ? ORDER BY idx", (kind,))]


def forget(db: sqlite3.Connection, before: datetime, limit: int, tell: Callable[[Forgotten], Entry]) -> Forgotten:
    """Delete what ended before a time, and tell; inside the caller's transaction."""
    at = to_rfc3339(before)

    def named(kind: str, sql: str) -> list[sqlite3.Row]:
        return db.execute(sql, {"name": earliest(kind, before), "before": at, "limit": limit}).fetchall()

    def drop(table: str, column: str, values: Iterable[str]) -> int:
        listed = json.dumps(list(values))
        sql = f"DELETE FROM {table} WHERE {column} IN (SELECT value FROM json_each(?))"  # noqa: S608 - our own names
        return db.execute(sql, (listed,)).rowcount

    runs = [row[0] for row in named("run", _RUNS)]
    for table in ("steps", "attempts", "approvals"):
        drop(table, "run_id", runs)
    gone = {"runs": drop("runs", "id", runs), "records": 0}
    for table, kind, sql in (("alerts", "alert", _ALERTS), ("dead_letters", "dead", _LETTERS)):
        rows = named(kind, sql)
        gone["records"] += drop("records", "coordinates", {row[1] for row in rows})
        gone[table] = drop(table, "id", [row[0] for row in rows])
    windows = [row[0] for row in db.execute("SELECT key FROM windows WHERE until < ? LIMIT ?", (at, limit))]
    gone["windows"] = drop("windows", "key", windows)
    keys = "(key, at, run_id, path, number)"
    acted = f"DELETE FROM acted WHERE {keys} IN (SELECT key, at, run_id, path, number FROM acted WHERE at < ? LIMIT ?)"  # noqa: S608
    gone["acted"] = db.execute(acted, (at, limit)).rowcount
    forgotten = Forgotten(**gone)
    if forgotten.rows:
        _tell(db, tell(forgotten))
    return forgotten


def _tell(db: sqlite3.Connection, told: Entry) -> None:
    journal = Appender(db)
    journal.append([told])
    journal.finish()
