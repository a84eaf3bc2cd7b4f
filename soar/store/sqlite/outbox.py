"""What is still to be sent; see `soar.store.outbox`."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Sequence
from datetime import datetime

from soar.model.alert import DeadLetter
from soar.model.base import to_rfc3339
from soar.store.outbox import Unsent
from soar.store.sqlite.rows import letter_of


def hold(db: sqlite3.Connection, name: str, owner: str, now: datetime, until: datetime) -> int | None:
    """Take it, or keep it."""
    row = db.execute(
        "INSERT INTO outboxes VALUES (?, coalesce((SELECT size FROM tree), 0), ?, ?) ON CONFLICT (name) DO UPDATE "
        "SET owner = excluded.owner, until = excluded.until WHERE owner = excluded.owner OR until < ? "
        "RETURNING position",
        (name, owner, to_rfc3339(until), to_rfc3339(now)),
    ).fetchone()
    return None if row is None else int(row[0])


def advance(db: sqlite3.Connection, name: str, owner: str, position: int) -> bool:
    """Remember what was sent."""
    sql = "UPDATE outboxes SET position = ? WHERE name = ? AND owner = ?"
    return db.execute(sql, (position, name, owner)).rowcount == 1


def release(db: sqlite3.Connection, name: str, owner: str) -> None:
    """Let others take it."""
    db.execute("UPDATE outboxes SET owner = '', until = '' WHERE name = ? AND owner = ?", (name, owner))


def unsent_letters(db: sqlite3.Connection, limit: int) -> list[DeadLetter]:
    """Oldest first."""
    rows = db.execute("SELECT * FROM dead_letters WHERE sent = 0 ORDER BY id LIMIT ?", (limit,))
    return [letter_of(row) for row in rows]


def letters_sent(db: sqlite3.Connection, ids: Sequence[str]) -> None:
    """Remember that these were sent."""
    sql = "UPDATE dead_letters SET sent = 1 WHERE id IN (SELECT value FROM json_each(?))"
    db.execute(sql, (json.dumps(list(ids)),))


def unsent(db: sqlite3.Connection, name: str) -> Unsent:
    """How much waits."""
    letters = db.execute("SELECT count(*) FROM dead_letters WHERE sent = 0").fetchone()[0]
    row = db.execute(
        "SELECT coalesce((SELECT size FROM tree), 0) - position FROM outboxes WHERE name = ?", (name,)
    ).fetchone()
    return Unsent(letters=letters, entries=None if row is None else int(row[0]))


def consumed(db: sqlite3.Connection, coordinates: Collection[str]) -> set[str]:
    """Of these, those that were consumed."""
    sql = "SELECT coordinates FROM records WHERE coordinates IN (SELECT value FROM json_each(?))"
    return {row[0] for row in db.execute(sql, (json.dumps(list(coordinates)),))}
