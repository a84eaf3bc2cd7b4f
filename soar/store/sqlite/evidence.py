"""The journal in a store's file as an auditor reads it: without changing the file, and without believing any of it.

The service may be running: everything is read from one moment of the file (a read transaction in WAL mode). What
SQLite cannot read any more is a finding like any other, because a damaged page is what a careless edit leaves.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from soar.errors import JournalError, NotFoundError, StoreUnavailableError
from soar.journal.merkle import Frontier
from soar.journal.note import Verifier
from soar.journal.rotation import first_key
from soar.journal.verify import KEY_ROTATED, Report, StoredEntry, verify_log

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

_MOST = 20  # findings of one kind; the first says it, the rest would scroll it away
_NOT_THE_FILE = frozenset(
    {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_NOMEM}
)
"""Error codes that say that we could not look, not that something is wrong with what is there."""

_ENTRIES = """
SELECT idx, entries.id, type, at, run_id, leaf, leaf_hash, salt, body
FROM entries LEFT JOIN payloads ON entry_id = entries.id
"""

_LEAVES = "SELECT leaf FROM entries"

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
            WHERE run_id IS NOT NULL AND run_id NOT IN (SELECT id FROM runs) GROUP BY run_id""",
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

Watch = Callable[[Iterable[StoredEntry], int], Iterable[StoredEntry]]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong; `index`, `id` and `type` name the first entry it concerns, as far as it concerns one."""

    message: str
    index: int | None = None
    id: str | None = None
    type: str | None = None


@dataclass(frozen=True, slots=True)
class Examination:
    """What the journal proves, and everything wrong with the file that holds it; the lowest entry first."""

    report: Report
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing at all is wrong."""
        return not self.findings

    @property
    def first_bad(self) -> Finding | None:
        """The finding about the lowest entry, None where no entry is known to be bad."""
        return next((each for each in self.findings if each.index is not None), None)


@contextlib.contextmanager
def open_evidence(path: Path) -> Iterator[Evidence]:
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
        yield Evidence(path, db)
    finally:
        db.close()


def _text(raw: bytes) -> str:
    """Text of any bytes: what is no UTF-8 must be seen, not stop the reading."""
    return raw.decode(errors="backslashreplace")


class Evidence:
    """What the file says. `damage` collects what SQLite could not read."""

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        self.path = path
        self.damage: list[str] = []
        self._db = db

    def entries(self) -> Iterator[StoredEntry]:
        """Every entry in tree order, with the columns that repeat a field of its leaf."""
        for row in self._rows("entries", f"{_ENTRIES} ORDER BY idx"):
            yield _stored(row)

    def newest(self, *, limit: int, run_id: str | None = None, kind: str | None = None) -> list[StoredEntry]:
        """The newest so many entries, of one run or type if given, in tree order."""
        wanted = "WHERE (:run IS NULL OR run_id = :run) AND (:type IS NULL OR type = :type)"
        query = f"{_ENTRIES} {wanted} ORDER BY idx DESC LIMIT :limit"
        return [_stored(row) for row in self._rows("entries", query, run=run_id, type=kind, limit=limit)][::-1]

    def entry(self, index: int) -> StoredEntry | None:
        """One entry."""
        rows = self._rows("entries", f"{_ENTRIES} WHERE idx = :idx", idx=index)
        return next((_stored(row) for row in rows), None)

    def checkpoints(self, newest: int = -1) -> list[str]:
        """Signed checkpoints, oldest first; or the `newest` so many."""
        query = "SELECT text FROM checkpoints ORDER BY size DESC LIMIT :newest"
        return [str(row[0]) for row in self._rows("checkpoints", query, newest=newest)][::-1]

    def handovers(self) -> list[bytes]:
        """The leaves that say that a key follows another, oldest first."""
        return [row[0] for row in self._rows("entries", f"{_LEAVES} WHERE type = '{KEY_ROTATED}' ORDER BY idx")]

    def tree(self) -> tuple[int, bytes]:
        """Size and frontier as stored; an empty journal has no row yet."""
        row = next(self._rows("tree", "SELECT size, frontier FROM tree"), None)
        return (row[0], row[1]) if row else (0, Frontier().to_bytes())

    def divergence(self) -> Iterator[str]:
        """Where state and journal tell different stories, which one transaction never writes."""
        for meaning, query in _DIVERGENCE:
            for row in self._rows("state", f"{query} LIMIT {_MOST}"):
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
                raise StoreUnavailableError(f"store {self.path} cannot be read: {failure}") from failure
            message = f"{what} cannot be read any further: {failure}"
            if message not in self.damage:
                self.damage.append(message)


def examine(
    path: Path,
    *,
    origin: str,
    key: Verifier,
    watch: Watch = lambda entries, _: entries,
) -> Examination:
    """Verify the journal in a store's file; raises only where there is no file, or nobody can look into it now.

    `key` is one that signed it: the first, the last, or one between; handovers lead from one to the next.
    `watch` is given the entries and how many are expected, and passes them on: for a progress bar.
    """
    with open_evidence(path) as evidence:
        size, raw = evidence.tree()
        claimed = size if isinstance(size, int) else 0
        report = verify_log(
            watch(evidence.entries(), claimed),
            evidence.checkpoints(),
            origin=origin,
            verifiers=[first_key(evidence.handovers(), key)],
            key=key,
            tree_size=claimed,
        )
        beside = [*_frontier(raw, report), *evidence.divergence(), *evidence.structure()]
        named = [_named(evidence, problem.index, problem.message) for problem in report.problems]
        damage = [_damaged(report.size, message) for message in evidence.damage]
        findings = sorted((*damage, *named, *map(Finding, beside)), key=_position)
        return Examination(report, tuple(findings))


def _frontier(raw: Any, report: Report) -> Iterator[str]:
    try:
        frontier = Frontier.from_bytes(raw)
    except (JournalError, TypeError) as failure:
        yield f"the stored frontier cannot be read: {failure}"
        return
    if (frontier.size, frontier.root()) != (report.size, report.root):
        yield (
            f"the stored frontier has size {frontier.size} and root {frontier.root().hex()},"
            f" the entries give size {report.size} and root {report.root.hex()}"
        )


def _named(evidence: Evidence, index: int | None, message: str) -> Finding:
    entry = None if index is None else evidence.entry(index)
    copies = entry.copies if entry else {}
    return Finding(message, index, *(None if copies.get(key) is None else str(copies[key]) for key in ("id", "type")))


def _damaged(entries: int, message: str) -> Finding:
    return Finding(message, entries if message.startswith("entries ") else None)


def _position(finding: Finding) -> float:
    return float("inf") if finding.index is None else finding.index


def _stored(row: tuple[Any, ...]) -> StoredEntry:
    index, entry_id, kind, at, run_id, leaf, leaf_hash, salt, payload = row
    copies = {"id": entry_id, "type": kind, "at": at, "run": run_id}
    return StoredEntry(index=index, leaf=leaf, leaf_hash=leaf_hash, salt=salt, payload=payload, copies=copies)
