"""The journal in a database as an auditor reads it: in one read-only transaction, with nothing but SELECT.

Neither the schema is brought up to date nor the server asked for its promises: a replica will do, and so will a role
that may only read.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Iterator
from typing import Any, TypeVar

import asyncpg

from soar.errors import NotFoundError, StoreUnavailableError
from soar.journal.merkle import Frontier
from soar.journal.verify import StoredEntry
from soar.model.base import from_rfc3339, to_rfc3339
from soar.store.evidence import FINDINGS_MAX, STATE_FORGOTTEN, forgotten_before
from soar.store.postgres.connect import AWAY, Db, connect_to_read, where
from soar.store.postgres.migrate import schema_version
from soar.store.postgres.rows import array
from soar.store.postgres.sql import statements

_PAGE = 1000
_GUARDS = ("entries_are_final", "checkpoints_are_final", "payloads_are_final")

T = TypeVar("T")


@contextlib.contextmanager
def open_evidence(dsn: str) -> Iterator[PostgresEvidence]:
    """The database at one moment; raises NotFoundError and StoreUnavailableError."""
    with asyncio.Runner() as runner:
        evidence = PostgresEvidence(dsn, runner)
        try:
            evidence.open()
            yield evidence
        finally:
            evidence.close()


class PostgresEvidence:
    """What the database says. `damage` collects what it could not read."""

    def __init__(self, dsn: str, runner: asyncio.Runner) -> None:
        self.where = where(dsn)
        self.damage: list[str] = []
        self._dsn = dsn
        self._runner = runner
        self._sql = statements("evidence.sql")
        self._db: Db | None = None

    def open(self) -> None:
        """Connect, and hold on to this moment."""
        self._db = self._asked(lambda: connect_to_read(self._dsn))
        if not self._asked(lambda: schema_version(self._opened)):
            raise NotFoundError(f"there is no store at {self.where}; `soar run` makes one at its first start")
        self._begin()

    def close(self) -> None:
        """Disconnect."""
        if self._db is not None:
            self._db.terminate()

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
        values: list[Any] = [start]
        wanted = ["idx >= $1"]
        for condition, value in (
            ("idx < ${}", end),
            ("run_id = ${}", run_id),
            ("type = ${}", kind),
            ("position(${}::bytea IN leaf) > 0", None if mentions is None else mentions.encode()),
        ):
            if value is not None:
                values.append(value)
                wanted.append(condition.format(len(values)))
        order = "idx DESC" if newest_first else "idx"
        query = f"{self._sql['entries']} WHERE {' AND '.join(wanted)} ORDER BY {order}"
        for row in self._rows("entries", query, *values):
            yield _stored(row)

    def of_runs(self, run_ids: Collection[str], kinds: Collection[str]) -> Iterator[StoredEntry]:
        """Entries of these types of these runs, in tree order."""
        query = f"{self._sql['entries']} WHERE run_id = ANY ($1::text[]) AND type = ANY ($2::text[]) ORDER BY idx"
        for row in self._rows("entries", query, array(run_ids), array(kinds)):
            yield _stored(row)

    def leaves(self, kind: str) -> list[bytes]:
        """The leaves of this type, oldest first."""
        return [row["leaf"] for row in self._rows("entries", self._sql["leaves"], kind)]

    def checkpoints(self, newest: int | None = None) -> list[str]:
        """Signed checkpoints, oldest first; or the `newest` so many."""
        return [row["text"] for row in self._rows("checkpoints", self._sql["checkpoints"], newest)][::-1]

    def cosigned(self) -> str | None:
        """The newest checkpoint that carries the lines of witnesses."""
        return next((row["text"] for row in self._rows("checkpoints", self._sql["cosigned"])), None)

    def tree(self) -> tuple[int, bytes]:
        """Size and frontier as stored."""
        row = next(self._rows("tree", "SELECT size, frontier FROM tree"), None)
        return (row["size"], row["frontier"]) if row else (0, Frontier().to_bytes())

    def divergence(self) -> Iterator[str]:
        """Where state and journal tell different stories, which one transaction never writes."""
        before = forgotten_before(self.leaves(STATE_FORGOTTEN))
        for name, meaning in (
            ("alerts_without_entry", "alert {} names the entry {}, which the journal does not have"),
            ("payloads_without_entry", "a payload is kept for the entry {}, which the journal does not have"),
            ("erased_payloads", "the journal says that the payload of {} was erased, but it is there"),
            ("checkpoints_of_other_size", "the checkpoint kept under size {} speaks of another size"),
        ):
            for row in self._rows("state", f"{self._sql[name]} LIMIT {FINDINGS_MAX}"):
                yield meaning.format(*row)
        since = from_rfc3339(before) if before else None
        for row in self._rows("state", f"{self._sql['runs_without_row']} LIMIT {FINDINGS_MAX}", since):
            yield "run {} has entries in the journal from {} on, but is not among the runs".format(*row)

    def structure(self) -> Iterator[str]:
        """The triggers that are missing or switched off; damaged pages show when they are read."""
        there = {row["tgname"] for row in self._rows("schema", self._sql["guards"])}
        for name in _GUARDS:
            if name not in there:
                yield f"the trigger {name} is missing or switched off: nothing refuses changes to the journal"

    def _rows(self, what: str, query: str, *values: Any) -> Iterator[asyncpg.Record]:
        """Rows, a page at a time, from a cursor of the server."""
        try:
            cursor = self._asked(lambda: self._opened.cursor(query, *values))
            while page := self._asked(lambda: cursor.fetch(_PAGE)):
                yield from page
        except (asyncpg.DataError, asyncpg.exceptions.InternalServerError) as failure:
            message = f"{what} cannot be read any further: {failure}"
            if message not in self.damage:
                self.damage.append(message)
            self._begin()  # what failed has ended the transaction; there is no one moment any more to hold on to

    def _begin(self) -> None:
        self._asked(lambda: self._opened.execute("ROLLBACK; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"))

    @property
    def _opened(self) -> Db:
        assert self._db is not None, "not open"
        return self._db

    def _asked(self, ask: Callable[[], Awaitable[T]]) -> T:
        async def asked() -> T:
            return await ask()

        try:
            return self._runner.run(asked())
        except (*AWAY, asyncpg.InvalidAuthorizationSpecificationError, asyncpg.ProgrammingError) as failure:
            raise StoreUnavailableError(f"store {self.where} cannot be read: {failure}") from failure


def _stored(row: asyncpg.Record) -> StoredEntry:
    index, entry_id, kind, at, run_id, leaf, leaf_hash, salt, payload = row
    copies = {"id": entry_id, "type": kind, "at": to_rfc3339(at), "run": run_id}
    return StoredEntry(index=index, leaf=leaf, leaf_hash=leaf_hash, salt=salt, payload=payload, copies=copies)
