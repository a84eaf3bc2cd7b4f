"""Erasing what the store knows of somebody: payloads go whole, working state keeps everything but them.

The journal's leaves stay, and every proof with them: a leaf holds only a salted hash, and the salt goes too.
"""

from __future__ import annotations

import base64
import json
import sqlite3
import time
from collections.abc import Callable, Iterable
from typing import Any

from soar.errors import NotFoundError, StateConflictError, StoreUnavailableError
from soar.model.entry import Entry
from soar.model.run import FINAL_STATES
from soar.store.erasure import Touched
from soar.store.sqlite.rows import to_json
from soar.store.sqlite.tree import Appender

ERASED = "(erased)"
_NAMED_RUNS = 5
_CLEAN_ATTEMPTS = 50
_CLEAN_SECONDS = 0.1

# JSON columns, and what in them is free text; all else there is of our own making, and must stay as it is.
_FREE: tuple[tuple[str, str, str, tuple[tuple[str, ...], ...]], ...] = (
    ("runs", "vars", "id", ((),)),
    ("runs", "outputs", "id", ((),)),
    ("steps", "record", "run_id", (("result",), ("error",), ("data",))),
    ("attempts", "attempt", "run_id", (("request", "params"), ("request", "targets"), ("error",))),
    ("approvals", "approval", "run_id", (("binding",), ("votes", "reason"), ("votes", "answer"))),
)
_TEXTS = (("runs", "lock_key"), ("runs", "error"), ("alerts", "title"), ("alerts", "rule_id"), ("alerts", "rule_name"))
# Names that must stay apart from each other: whoever sends the same thing again is not known by them any more.
_NAMES = (("alerts", "uid"), ("alerts", "coordinates"), ("records", "coordinates"), ("dead_letters", "coordinates"))


class Subject:
    """Somebody's name as text holds it: in any case, and escaped as JSON within JSON escapes it."""

    def __init__(self, value: str) -> None:
        spellings = {value}
        for _ in range(3):
            spellings |= {json.dumps(each, ensure_ascii=plain)[1:-1] for each in spellings for plain in (True, False)}
        self._spellings = tuple(each.casefold() for each in spellings)

    def named_in(self, text: str | bytes | None) -> bool:
        """Whether this text tells of them."""
        if text is None:
            return False
        folded = (text.decode(errors="replace") if isinstance(text, bytes) else text).casefold()
        return any(each in folded for each in self._spellings)

    def named_in_record(self, record: str) -> bool:
        """Whether a record as it came in, whose bytes are base64 in its JSON, tells of them."""
        fields = json.loads(record)
        raw = (base64.urlsafe_b64decode(fields[name] or "") for name in ("value", "key"))
        return self.named_in(record) or any(map(self.named_in, raw))

    def without(self, value: Any) -> Any:
        """A JSON value with every text that tells of them blanked, names included."""
        if isinstance(value, str):
            return ERASED if self.named_in(value) else value
        if isinstance(value, dict):
            return {self.without(name): self.without(child) for name, child in value.items()}
        if isinstance(value, list):
            return [self.without(child) for child in value]
        return ERASED if isinstance(value, int | float) and self.named_in(json.dumps(value)) else value


def touched(db: sqlite3.Connection, value: str) -> Touched:
    """What `erase` would take; changes nothing."""
    return _found(_ready(db, value))


def erase(db: sqlite3.Connection, value: str, tell: Callable[[str], Entry]) -> Touched:
    """Take it all, and tell the journal of each payload; inside the caller's transaction.

    Raises NotFoundError where there is nothing, StateConflictError where a run that has not ended still needs it.
    """
    subject = Subject(value)
    found = _found(_ready(db, value))
    if not found.anything:
        raise NotFoundError("nothing in the store tells of this subject; is it spelled as the alerts spell it?")
    if found.open_runs:
        more = len(found.open_runs) - _NAMED_RUNS
        named = ", ".join(found.open_runs[:_NAMED_RUNS]) + (f" and {more} more" if more > 0 else "")
        raise StateConflictError(
            f"{named} still need it and have not ended; let them end, or end them: soar runs cancel RUN --reason ..."
        )
    db.executemany("DELETE FROM payloads WHERE entry_id = ?", [(each,) for each in found.entries])
    _blank(db, subject)
    journal = Appender(db)
    journal.append([tell(each) for each in found.entries])
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
SELECT count(*) FROM alerts LEFT JOIN payloads USING (entry_id)
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
        alerts=db.execute(_ALERTS).fetchone()[0],
        runs=tuple(row[0] for row in runs),
        open_runs=tuple(row[0] for row in runs if row[1] not in FINAL_STATES),
        dead_letters=db.execute(f"SELECT count(*) FROM dead_letters WHERE {_LETTERS}").fetchone()[0],  # noqa: S608 - ours
        other=db.execute(_ELSEWHERE).fetchone()[0],
        leaves=firsts("SELECT id FROM entries WHERE tells(leaf)"),
        playbooks=firsts("SELECT DISTINCT file FROM playbooks WHERE tells(text) ORDER BY file"),
    )


def _blank(db: sqlite3.Connection, subject: Subject) -> None:
    """Blank the working state. The names of tables and columns are our own."""
    for table, column, key, free in _FREE:
        rows = db.execute(f"SELECT DISTINCT {key} FROM {table} WHERE tells({column})").fetchall()  # noqa: S608
        for row in rows:
            for (text,) in db.execute(f"SELECT {column} FROM {table} WHERE {key} = ?", (row[0],)).fetchall():  # noqa: S608
                blanked = to_json(_without(json.loads(text), free, subject))
                db.execute(f"UPDATE {table} SET {column} = ? WHERE {key} = ? AND {column} = ?", (blanked, row[0], text))  # noqa: S608
    for table, column in _TEXTS:
        db.execute(f"UPDATE {table} SET {column} = ? WHERE tells({column})", (ERASED,))  # noqa: S608
    for table, column in _NAMES:
        db.execute(
            f"UPDATE {table} SET {column} = ? || ' ' || lower(hex(randomblob(16))) WHERE tells({column})",  # noqa: S608
            (ERASED,),
        )
    db.execute("UPDATE control SET value = ? WHERE tells(value)", (ERASED,))
    db.execute("DELETE FROM windows WHERE tells(key)")
    db.execute("DELETE FROM acted WHERE tells(key)")
    # A record is one piece: what is left of it without them would be another one.
    db.execute("DELETE FROM dead_letters WHERE record_tells(record) OR tells(reason)")


def _without(document: Any, free: Iterable[tuple[str, ...]], subject: Subject) -> Any:
    for path in free:
        document = _at(document, path, subject)
    return document


def _at(value: Any, path: tuple[str, ...], subject: Subject) -> Any:
    """The value with what stands at `path` blanked; a list on the way means each of its items."""
    if isinstance(value, list) and path:
        return [_at(child, path, subject) for child in value]
    if not path:
        return subject.without(value)
    head, *rest = path
    return value | {head: _at(value[head], tuple(rest), subject)} if value and value.get(head) is not None else value
