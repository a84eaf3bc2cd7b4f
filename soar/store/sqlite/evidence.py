"""The journal in a store's file as an auditor reads it: without changing the file, and without believing any of it.

The service may be running: everything is read from one moment of the file (a read transaction in WAL mode). What
SQLite cannot read any more is a finding like any other, because a damaged page is what a careless edit leaves.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from soar.errors import NotFoundError, StoreUnavailableError
from soar.journal.merkle import Frontier
from soar.journal.verify import StoredEntry
from soar.store.evidence import FINDINGS_MAX, STATE_FORGOTTEN, forgotten_before

TABLES = ("entries", "payloads", "tree", "checkpoints")
GUARDS = frozenset(
    {
        "entries_are_new",
        "entries_are_final",
        "entries_stay",
        "checkpoints_are_final",
        "checkpoints_stay",
        "payloads_are_final",
    }
)
"""The triggers that refuse changes; the tree is the proof, they only make an accident loud."""

_NOT_THE_FILE = frozenset(
    {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_NOMEM}
)
"""Error codes that say that we could not look, not that something is wrong with what is there."""

_ENTRIES = """
SELECT idx, entries.id, type, at, run_id, leaf, leaf_hash, salt, body
FROM entries LEFT JOIN payloads ON entry_id = entries.id
"""

_WANTED = (
    ("start", "idx >= :start"),
    ("end", "idx < :end"),
    ("run", "run_id = :run"),
    ("type", "type = :type"),
    ("text", "instr(leaf, :text) > 0"),
)

# What state says against what the journal says: (what a row of the answer means, query).
_DIVERGENCE = (
    (
        "alert {} names the entry {}, which the journal does not have",
        "SELECT alerts.id, entry_id FROM alerts LEFT JOIN entries ON entries.id = entry_id WHERE entries.id IS NULL",
    ),
    (
        "a payload is kept for the entry {}, which the journal does not have",
        "SELECT entry_id FROM payloads LEFT JOIN entries ON entries.id = entry_id WHERE entries.id IS NULL",
    ),
    (
        "the journal says that the payload of {} was erased, but it is there",
        """SELECT entry_id FROM payloads WHERE entry_id IN (SELECT CASE WHEN json_valid(CAST(leaf AS TEXT))
            THEN json_extract(CAST(leaf AS TEXT), '$.subject') END FROM entries WHERE type = 'payload.erased')""",
    ),
    (
        "run {} has entries in the journal from {} on, but is not among the runs",
        """SELECT run_id, min(idx) FROM entries
            WHERE run_id IS NOT NULL AND run_id NOT IN (SELECT id FROM runs)
            GROUP BY run_id HAVING max(at) >= :forgotten""",
    ),
    (
        "run {} holds {} as the hash of its last entry, the journal {}",
        """SELECT id, entry_hash, last FROM (SELECT id, entry_hash, coalesce((SELECT lower(hex(leaf_hash))
            FROM entries WHERE run_id = runs.id ORDER BY idx DESC LIMIT 1), '') AS last FROM runs)
            WHERE entry_hash IS NOT last""",
    ),
    (
        "the checkpoint kept under size {} speaks of another size",
        "SELECT size FROM checkpoints WHERE instr(text, char(10) || size || char(10)) = 0",
    ),
)


@contextlib.contextmanager
def open_evidence(path: Path) -> Iterator[SqliteEvidence]:
    """The file at one moment, read-only; raises NotFoundError and StoreUnavailableError."""
    if not path.is_file():
        raise NotFoundError(f"there is no store at {path}; `soar run` makes one at its first start")
    try:
        db = sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True, isolation_level=None, timeout=10)
    except sqlite3.Error as failure:
        raise StoreUnavailableError(f"store {path} cannot be opened: {failure}") from failure
    try:
        db.text_factory = _text
        db.execute("BEGIN")
        yield SqliteEvidence(path, db)
    finally:
        db.close()


def _text(raw: bytes) -> str:
    """Text of any bytes: what is no UTF-8 must be seen, not stop the reading."""
    return raw.decode(errors="backslashreplace")


class SqliteEvidence:
    """What the file says. `damage` collects what SQLite could not read."""

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        self.where = str(path)
        self.damage: list[str] = []
        self._db = db

    def entries(
        self,
        *,
        start: int = 0,
        end: int | None = None,
        run_id: str | None = None,
        kind: str | None = None,
        mentions: str | None = None,
        newest_first: bool = False,
    ) -> Iterator[StoredEntry]:
        """Entries in tree order or against it, with the columns that repeat a field of their leaf."""
        given = {"start": start, "end": end, "run": run_id, "type": kind, "text": mentions and mentions.encode()}
        wanted = " AND ".join(condition for name, condition in _WANTED if given[name] is not None)
        order = "idx DESC" if newest_first else "idx"
        query = f"{_ENTRIES} WHERE {wanted or 'TRUE'} ORDER BY {order}"
        for row in self._rows("entries", query, **given):
            yield _stored(row)

    def of_runs(self, run_ids: Collection[str], kinds: Collection[str]) -> Iterator[StoredEntry]:
        """Entries of these types of these runs, in tree order."""
        wanted = "run_id IN (SELECT value FROM json_each(:runs)) AND type IN (SELECT value FROM json_each(:types))"
        values = {"runs": json.dumps(list(run_ids)), "types": json.dumps(list(kinds))}
        for row in self._rows("entries", f"{_ENTRIES} WHERE {wanted} ORDER BY idx", **values):
            yield _stored(row)

    def leaves(self, kind: str) -> list[bytes]:
        """The leaves of this type, oldest first."""
        query = "SELECT leaf FROM entries WHERE type = :type ORDER BY idx"
        return [row[0] for row in self._rows("entries", query, type=kind)]

    def checkpoints(self, newest: int | None = None) -> list[str]:
        """Signed checkpoints, oldest first; or the `newest` so many."""
        query = "SELECT text FROM checkpoints ORDER BY size DESC LIMIT :newest"
        return [str(row[0]) for row in self._rows("checkpoints", query, newest=-1 if newest is None else newest)][::-1]

    def cosigned(self) -> str | None:
        """The newest checkpoint that carries the lines of witnesses."""
        rows = self._rows("checkpoints", "SELECT text FROM cosigned ORDER BY size DESC LIMIT 1")
        return next((str(row[0]) for row in rows), None)

    def tree(self) -> tuple[int, bytes]:
        """Size and frontier as stored; an empty journal has no row yet."""
        row = next(self._rows("tree", "SELECT size, frontier FROM tree"), None)
        return (row[0], row[1]) if row else (0, Frontier().to_bytes())

    def divergence(self) -> Iterator[str]:
        """Where state and journal tell different stories, which one transaction never writes."""
        forgotten = forgotten_before(self.leaves(STATE_FORGOTTEN))
        for meaning, query in _DIVERGENCE:
            for row in self._rows("state", f"{query} LIMIT {FINDINGS_MAX}", forgotten=forgotten):
                yield meaning.format(*row)

    def structure(self) -> Iterator[str]:
        """What SQLite itself finds wrong with the journal's tables and their indexes."""
        for table in TABLES:
            for row in self._rows(table, f"PRAGMA integrity_check({table})"):
                if row[0] != "ok":
                    yield f"SQLite on table {table}: {' '.join(str(row[0]).split())}"

    def guards(self) -> frozenset[str]:
        """The triggers that are there."""
        return frozenset(
            str(row[0]) for row in self._rows("schema", "SELECT name FROM sqlite_master WHERE type = 'trigger'")
        )

    def pragma(self, name: str) -> Any:
        """One of the file's own settings, None where it cannot be read."""
        return next((row[0] for row in self._rows("header", f"PRAGMA {name}")), None)

    def _rows(self, what: str, query: str, **values: Any) -> Iterator[tuple[Any, ...]]:
        try:
            yield from self._db.execute(query, values)
        except sqlite3.Error as failure:
            if getattr(failure, "sqlite_errorcode", 0) & 0xFF in _NOT_THE_FILE:
                raise StoreUnavailableError(f"store {self.where} cannot be read: {failure}") from failure
            message = f"{what} cannot be read any further: {failure}"
            if message not in self.damage:
                self.damage.append(message)


def _stored(row: tuple[Any, ...]) -> StoredEntry:
    index, entry_id, kind, at, run_id, leaf, leaf_hash, salt, payload = row
    copies = {"id": entry_id, "type": kind, "at": at, "run": run_id}
    return StoredEntry(index=index, leaf=leaf, leaf_hash=leaf_hash, salt=salt, payload=payload, copies=copies)
