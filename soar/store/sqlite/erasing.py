"""Erasing what the store's file knows of somebody; see `soar.store.erasure`."""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Callable, Sequence

from soar.errors import StoreUnavailableError
from soar.model.base import to_json
from soar.model.entry import Entry
from soar.model.run import FINAL_STATES
from soar.store.erasure import ERASED, FREE, NAMES, TEXTS, Subject, Touched, consider, content_named, without
from soar.store.sqlite.tree import Appender

_CLEAN_ATTEMPTS = 50
_CLEAN_SECONDS = 0.1


def touched(db: sqlite3.Connection, value: str) -> Touched:
    """What `erase` would take; changes nothing."""
    return _found(_ready(db, value))


def erase(
    db: sqlite3.Connection, value: str, tell: Callable[[str], Entry], *, elsewhere: Sequence[Entry] = ()
) -> Touched:
    """Take it all, and tell the journal of each payload; inside the caller's transaction.

    Raises NotFoundError where there is nothing, StateConflictError where a run that has not ended still needs it.
    """
    subject = Subject(value)
    found = _found(_ready(db, value))
    consider(found, elsewhere)
    _unname(db, found.runs)
    db.executemany("DELETE FROM payloads WHERE entry_id = ?", [(each,) for each in found.entries])
    _blank(db, subject)
    journal = Appender(db)
    journal.append([*(tell(each) for each in found.entries), *elsewhere])
    journal.finish()
    return found


def clean(db: sqlite3.Connection) -> None:
    """Let nothing of what was deleted stay in the file or its log: both are written anew.

    Raises StoreUnavailableError while others read the file: the rows are gone then, their bytes not yet.
    """
    db.execute("PRAGMA temp_store = MEMORY")
    db.execute("VACUUM")
    for _ in range(_CLEAN_ATTEMPTS):
        if not db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            return
        time.sleep(_CLEAN_SECONDS)
    raise StoreUnavailableError(
        "the rows are erased, but the file is in use, and their bytes may still stand in it; stop what reads it, then"
        " run the same command again"
    )


def _ready(db: sqlite3.Connection, value: str) -> sqlite3.Connection:
    """The connection, whose SQL knows the subject by `tells(text)` and `record_tells(json)`."""
    subject = Subject(value)
    db.create_function("tells", 1, subject.named_in, deterministic=True)
    db.create_function("record_tells", 1, subject.named_in_record, deterministic=True)
    return db


_RUNS = """
SELECT id, state FROM runs WHERE tells(vars) OR tells(outputs) OR tells(error) OR tells(lock_key)
    OR id IN (SELECT run_id FROM steps WHERE tells(record))
    OR id IN (SELECT run_id FROM attempts WHERE tells(attempt))
    OR id IN (SELECT run_id FROM approvals WHERE tells(approval))
    OR id IN (SELECT run_id FROM payloads JOIN entries ON id = entry_id WHERE run_id IS NOT NULL AND tells(body))
    OR alert_id IN (SELECT alerts.id FROM alerts JOIN payloads USING (entry_id) WHERE tells(body))
ORDER BY id
"""
_ALERTS = """
SELECT alerts.id, coordinates FROM alerts LEFT JOIN payloads USING (entry_id)
WHERE tells(body) OR tells(title) OR tells(uid) OR tells(coordinates) OR tells(rule_id) OR tells(rule_name)
"""
_LETTERS = "record_tells(record) OR tells(reason) OR tells(coordinates)"
_ELSEWHERE = """
SELECT (SELECT count(*) FROM windows WHERE tells(key)) + (SELECT count(*) FROM acted WHERE tells(key))
    + (SELECT count(*) FROM records WHERE tells(coordinates)) + (SELECT count(*) FROM control WHERE tells(value))
"""


def _found(db: sqlite3.Connection) -> Touched:
    def firsts(sql: str) -> tuple[str, ...]:
        return tuple(str(row[0]) for row in db.execute(sql))

    runs = db.execute(_RUNS).fetchall()
    return Touched(
        entries=firsts("SELECT entry_id FROM payloads JOIN entries ON id = entry_id WHERE tells(body) ORDER BY idx"),
        alerts=len(db.execute(_ALERTS).fetchall()),
        runs=tuple(row[0] for row in runs),
        open_runs=tuple(row[0] for row in runs if row[1] not in FINAL_STATES),
        dead_letters=db.execute(f"SELECT count(*) FROM dead_letters WHERE {_LETTERS}").fetchone()[0],  # noqa: S608 - ours
        other=db.execute(_ELSEWHERE).fetchone()[0],
        leaves=firsts("SELECT id FROM entries WHERE tells(leaf)"),
        playbooks=firsts("SELECT DISTINCT file FROM playbooks WHERE tells(text) ORDER BY file"),
    )


def _unname(db: sqlite3.Connection, runs: Sequence[str]) -> None:
    """Take away the names that were made of what goes, by which it could be recognised."""
    for alert_id, coordinates in db.execute(_ALERTS).fetchall():
        new = f"{ERASED} {secrets.token_hex(16)}"
        db.execute("UPDATE alerts SET content = '' WHERE id = ?", (alert_id,))
        db.execute("UPDATE alerts SET uid = ? WHERE id = ? AND uid GLOB 'sha256:*'", (new, alert_id))
        if content_named(coordinates):
            for table in ("alerts", "records", "dead_letters"):
                db.execute(f"UPDATE {table} SET coordinates = ? WHERE coordinates = ?", (new, coordinates))  # noqa: S608
    for run_id in runs:
        db.execute("UPDATE runs SET lock_key = ? WHERE id = ? AND lock_key IS NOT NULL", (ERASED, run_id))
        db.execute("DELETE FROM windows WHERE run_id = ?", (run_id,))


def _blank(db: sqlite3.Connection, subject: Subject) -> None:
    """Blank the working state. The names of tables and columns are our own."""
    for table, column, key, free in FREE:
        rows = db.execute(f"SELECT DISTINCT {key} FROM {table} WHERE tells({column})").fetchall()  # noqa: S608
        for row in rows:
            for (text,) in db.execute(f"SELECT {column} FROM {table} WHERE {key} = ?", (row[0],)).fetchall():  # noqa: S608
                blanked = to_json(without(json.loads(text), free, subject))
                db.execute(f"UPDATE {table} SET {column} = ? WHERE {key} = ? AND {column} = ?", (blanked, row[0], text))  # noqa: S608
    for table, column in TEXTS:
        db.execute(f"UPDATE {table} SET {column} = ? WHERE tells({column})", (ERASED,))  # noqa: S608
    for table, column in NAMES:
        db.execute(
            f"UPDATE {table} SET {column} = ? || ' ' || lower(hex(randomblob(16))) WHERE tells({column})",  # noqa: S608
            (ERASED,),
        )
    db.execute("UPDATE control SET value = ? WHERE tells(value)", (ERASED,))
    db.execute("DELETE FROM windows WHERE tells(key)")
    db.execute("DELETE FROM acted WHERE tells(key)")
    # A record is one piece: what is left of it without them would be another one.
    db.execute("DELETE FROM dead_letters WHERE record_tells(record) OR tells(reason)")
