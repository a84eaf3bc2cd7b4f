"""The embedded store: one SQLite file in WAL mode, one thread that writes, one that reads."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from soar.errors import StateConflictError, StoreError, StoreUnavailableError
from soar.model.action import Attempt
from soar.model.alert import Alert, DeadLetter, Outcome
from soar.model.approval import Approval, ApprovalState
from soar.model.base import to_rfc3339
from soar.model.entry import Entry
from soar.model.run import Run, RunState, StepRecord
from soar.model.suppression import Suppression
from soar.store import port, queueing
from soar.store.aging import Forgotten, OldPayloads
from soar.store.erasure import Touched
from soar.store.matches import Namesake
from soar.store.outbox import Unsent
from soar.store.seen import Counts, EntryRow
from soar.store.sqlite import aging, erasing, outbox, reads, tree, turns
from soar.store.sqlite.rows import run_of
from soar.store.sqlite.tree import Appender
from soar.store.sqlite.writes import apply_all, check_lease

SCHEMA_VERSION = 7
_PAGE = 1000

P = ParamSpec("P")
T = TypeVar("T")


class SqliteStore:
    """A `Store` in one file. Several processes may open it; SQLite's write lock orders them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="store-write")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="store-read")
        self._write_db: sqlite3.Connection | None = None
        self._read_db: sqlite3.Connection | None = None
        self._closed = False

    async def open(self) -> None:
        """Connect and bring the schema up to date; raises `StoreUnavailableError`."""
        loop = asyncio.get_running_loop()
        self._write_db = await loop.run_in_executor(self._writer, self._connect, True)
        self._read_db = await loop.run_in_executor(self._reader, self._connect, False)

    def _connect(self, migrate: bool) -> sqlite3.Connection:  # noqa: FBT001 - a thread's positional argument
        try:
            db = sqlite3.connect(self.path, isolation_level=None, timeout=10)
            db.row_factory = sqlite3.Row
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")  # a commit that returned survives a power cut
            if migrate:
                _migrate(db)
        except sqlite3.Error as failure:
            raise StoreUnavailableError(f"store {self.path} cannot be opened: {failure}") from failure
        return db

    async def close(self) -> None:
        """Finish what is under way and disconnect."""
        loop = asyncio.get_running_loop()
        self._closed = True
        for pool, db in ((self._writer, self._write_db), (self._reader, self._read_db)):
            if db is not None:
                await loop.run_in_executor(pool, db.close)
            pool.shutdown(wait=True)
        self._write_db = self._read_db = None

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def in_thread() -> T:
            with _transaction(self._opened(self._write_db)) as db:
                done = work(db)
                # Ended on another thread, it would reset a statement that this one may be using again.
                assert not isinstance(done, sqlite3.Cursor), "a cursor never leaves its thread"
                return done

        return await self._in(self._writer, in_thread)

    async def _read(
        self, query: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        def in_thread() -> T:
            db = self._opened(self._read_db)
            try:
                return query(db, *args, **kwargs)
            except sqlite3.Error as failure:
                raise StoreUnavailableError(f"store {self.path} cannot be read: {failure}") from failure

        return await self._in(self._reader, in_thread)

    async def _in(self, pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        """Run it on its thread to its end. Who is cancelled meanwhile does not learn whether it was written."""
        if self._closed:
            raise StoreUnavailableError(f"store {self.path} is closed; nothing was written")
        return await asyncio.get_running_loop().run_in_executor(pool, work)

    def _opened(self, db: sqlite3.Connection | None) -> sqlite3.Connection:
        if db is None:
            raise StoreUnavailableError(f"store {self.path} is not open; nothing was written")
        return db

    async def now(self) -> datetime | None:
        """One machine has one clock."""
        return None

    async def listen(self, _woken: Callable[[], None]) -> None:
        """SQLite tells nobody; the worker polls."""
        await asyncio.Event().wait()

    async def commit(self, facts: Sequence[port.Fact]) -> list[StoreError | None]:
        """Make facts durable in one transaction, without those that are refused."""

        def work(db: sqlite3.Connection) -> list[StoreError | None]:
            if _taken(db, facts):
                return [None] * len(facts)
            journal = Appender(db)
            refusals = [_refusal(db, fact, journal) for fact in facts]
            journal.finish()
            return refusals

        return await self._write(work)

    async def admit(self, keys: port.AdmissionKeys, decide: Callable[[port.Known], port.Fact]) -> port.Fact:
        """Read, decide, write: one transaction."""

        def work(db: sqlite3.Connection) -> port.Fact:
            fact = decide(reads.known(db, keys))
            journal = Appender(db)
            _apply(db, fact, journal)
            journal.finish()
            return fact

        return await self._write(work)

    async def lease(self, *, owner: str, until: datetime, limit: int) -> list[Run]:
        """Take up to `limit` ready runs, most urgent first."""
        if not await self._read(reads.any_ready):
            return []  # an idle worker takes no write lock

        def work(db: sqlite3.Connection) -> list[Run]:
            return [run_of(row) for row in db.execute(reads.LEASE, (owner, to_rfc3339(until), limit))]

        runs = await self._write(work)
        return sorted(runs, key=lambda run: (-run.priority, run.id))

    async def renew(self, *, owner: str, leases: Sequence[port.Lease], until: datetime) -> list[port.Lease]:
        """Extend leases; returns those that are lost."""

        def work(db: sqlite3.Connection) -> list[port.Lease]:
            sql = "UPDATE runs SET lease_until = ? WHERE id = ? AND epoch = ? AND owner = ? AND state = 'running'"
            held = to_rfc3339(until)
            return [x for x in leases if db.execute(sql, (held, x.run_id, x.epoch, owner)).rowcount != 1]

        return await self._write(work) if leases else []

    async def due(self, now: datetime, limit: int) -> list[Run]:
        """Waiting runs whose time has come."""
        return await self._read(reads.due, now, limit)

    async def expired_leases(self, now: datetime, limit: int, *, beyond: datetime | None = None) -> list[Run]:
        """Running runs whose lease ended before `now`, or ends after `beyond`."""
        return await self._read(reads.expired_leases, now, limit, beyond)

    async def due_approvals(self, now: datetime, limit: int) -> list[Approval]:
        """Pending ones past `decide_by` and granted ones past `execute_by`."""
        return await self._read(reads.due_approvals, now, limit)

    async def run(self, run_id: str) -> Run | None:
        """One run."""
        return await self._read(reads.run, run_id)

    async def runs(
        self,
        *,
        state: RunState | None = None,
        alert_id: str | None = None,
        parent: tuple[str, str] | None = None,
        playbook_id: str | None = None,
        limit: int = 100,
    ) -> list[Run]:
        """Runs, newest first."""
        filters = {"state": state, "alert_id": alert_id, "playbook_id": playbook_id}
        if parent is not None:
            filters |= {"parent_run_id": parent[0], "parent_path": parent[1]}
        return [run_of(row) for row in await self._read(reads.newest, "runs", filters, limit)]

    async def steps(self, run_id: str) -> dict[str, StepRecord]:
        """What is recorded of a run's steps, by path."""
        return await self._read(reads.steps, run_id)

    async def attempts(self, run_id: str) -> list[Attempt]:
        """A run's attempts in order."""
        return await self._read(reads.attempts, run_id)

    async def approval(self, approval_id: str) -> Approval | None:
        """One approval."""
        return await self._read(reads.approval, approval_id)

    async def approvals(
        self, *, state: ApprovalState | None = None, run_id: str | None = None, limit: int = 100
    ) -> list[Approval]:
        """Approvals, newest first."""
        rows = await self._read(reads.newest, "approvals", {"state": state, "run_id": run_id}, limit)
        return [Approval.model_validate_json(row["approval"]) for row in rows]

    async def alert(self, alert_id: str) -> Alert | None:
        """One alert's body; None where it does not exist or was erased."""
        found = await self._read(reads.alert_documents, [alert_id])
        return Alert.model_validate(found[alert_id]) if found else None

    async def alert_documents(self, alert_ids: Collection[str]) -> dict[str, dict[str, Any]]:
        """The bodies of alerts as they were admitted."""
        return await self._read(reads.alert_documents, alert_ids) if alert_ids else {}

    async def namesakes(self, alert_id: str, limit: int = 20) -> list[Namesake]:
        """Alerts of the same source and uid that came before."""
        return await self._read(reads.namesakes, alert_id, limit)

    async def joined(self, run_id: str, *, since: datetime, until: datetime, limit: int = 100) -> list[str]:
        """Alerts that joined a run."""
        return await self._read(reads.joined, run_id, (since, until), limit)

    async def alert_row(self, alert_id: str) -> port.AlertRow | None:
        """One alert with its outcome."""
        return await self._read(reads.alert_row, alert_id)

    async def alerts(
        self, *, outcome: Outcome | None = None, source: str | None = None, limit: int = 100
    ) -> list[port.AlertRow]:
        """Alerts, newest first."""
        return await self._read(reads.alerts, {"outcome": outcome, "source": source}, limit)

    async def dead_letters(self, limit: int = 100, *, before: str | None = None) -> list[DeadLetter]:
        """Records that could not become alerts, newest first."""
        return await self._read(reads.dead_letters, limit, before)

    async def playbook_text(self, digest: str) -> tuple[str, str] | None:
        """(file, text) of a pinned playbook."""
        return await self._read(reads.playbook_text, digest)

    async def naming_key(self) -> str:
        """The key of names."""
        return await self._read(reads.naming_key)

    async def control(self, key: str) -> str | None:
        """A switch's value."""
        return await self._read(reads.control, key)

    async def suppressions(self) -> list[Suppression]:
        """Those in force and to come, and the lately over, oldest first."""
        return await self._read(reads.suppressions)

    async def action_counts(
        self, keys: Sequence[str], since: datetime, *, besides: tuple[str, str] | None = None
    ) -> dict[str, int]:
        """How many actions each key saw since."""
        return await self._read(reads.action_counts, keys, since, besides)

    async def targets_acted_on(self, kind: str, since: datetime, *, besides: Collection[str]) -> int:
        """How many targets of a type actions had since."""
        return await self._read(reads.targets_acted_on, kind, since, besides)

    async def calls(self, now: datetime) -> queueing.Calls:
        """Who waits for a turn that is free."""
        return await self._read(turns.calls, now)

    async def before(self, run_id: str, path: str) -> int | None:
        """How many wait before this step for a turn."""
        return await self._read(turns.before, run_id, path)

    async def traffic(self, now: datetime) -> list[queueing.Traffic]:
        """What goes on at instances with limits."""
        return await self._read(turns.traffic, now)

    async def counts(self) -> Counts:
        """How much of everything there is."""
        return await self._read(reads.counts)

    async def tree(self) -> tuple[int, bytes]:
        """Size and frontier of the journal's tree."""
        return await self._read(tree.read_tree)

    async def entries(
        self, *, start: int = 0, run_id: str | None = None, newest: int | None = None
    ) -> AsyncIterator[EntryRow]:
        """Entries in tree order, a page at a time."""
        if newest is not None:
            start = max(start, (await self.tree())[0] - newest)
        while page := await self._read(reads.entries, start, run_id, _PAGE):
            for entry in page:
                yield entry
            start = page[-1].index + 1

    async def checkpoints(self, *, newest: int | None = None) -> list[str]:
        """Signed checkpoints, oldest first."""
        return await self._read(reads.checkpoints, newest)

    async def add_checkpoint(self, size: int, text: str) -> None:
        """Keep a signed checkpoint; one that is already there for this size stays."""
        await self._write(lambda db: _put(db, "INSERT OR IGNORE INTO checkpoints VALUES (?, ?)", (size, text)))

    async def add_cosigned(self, size: int, text: str) -> None:
        """Keep the same checkpoint with its witnesses' lines."""
        await self._write(lambda db: _put(db, "INSERT OR REPLACE INTO cosigned VALUES (?, ?)", (size, text)))

    async def cosigned(self) -> str | None:
        """The newest checkpoint that was kept with its witnesses' lines."""
        return await self._read(reads.cosigned)

    async def hashes(self, level: int, start: int, count: int) -> list[bytes]:
        """Nodes of the journal's tree."""
        return await self._read(reads.hashes, level, start, count)

    async def add_hashes(self, nodes: Mapping[tuple[int, int], bytes]) -> None:
        """Keep nodes above the leaves."""
        rows = [(*place, each) for place, each in nodes.items()]
        await self._write(lambda db: _put(db, "INSERT OR IGNORE INTO subtrees VALUES (?, ?, ?)", *rows))

    async def touched(self, subject: str) -> Touched:
        """What tells of somebody."""
        return await self._read(erasing.touched, subject)

    async def erase(self, subject: str, tell: Callable[[str], Entry], *, elsewhere: Sequence[Entry] = ()) -> Touched:
        """Forget them, and tell the journal; their bytes stay in the file until `scrub`."""
        return await self._write(lambda db: erasing.erase(db, subject, tell, elsewhere=elsewhere))

    async def scrub(self) -> tuple[str, ...]:
        """Write the file anew, without what was deleted; the write-ahead log is emptied."""

        def in_thread() -> None:
            try:
                erasing.clean(self._opened(self._write_db))
            except sqlite3.Error as failure:
                raise StoreUnavailableError(f"store {self.path} cannot be written anew: {failure}") from failure

        await self._in(self._writer, in_thread)
        return ()

    async def old_payloads(self, before: datetime, *, after: str, limit: int) -> OldPayloads:
        """Payloads that may leave."""
        return await self._read(aging.old_payloads, before, after, limit)

    async def archive(self, names: Sequence[str], told: Entry) -> None:
        """Delete these payloads, and tell the journal where they are."""
        await self._write(lambda db: aging.archive(db, names, told))

    async def leaves(self, kind: str) -> list[bytes]:
        """The leaves of this type, oldest first."""
        return await self._read(aging.leaves, kind)

    async def forget(self, before: datetime, *, limit: int, tell: Callable[[Forgotten], Entry]) -> Forgotten:
        """Delete what ended before a time, and tell the journal."""
        return await self._write(lambda db: aging.forget(db, before, limit, tell))

    async def hold_outbox(self, name: str, *, owner: str, now: datetime, until: datetime) -> int | None:
        """Take an outbox, or keep it: where to go on, None if it is another's."""
        return await self._write(lambda db: outbox.hold(db, name, owner, now, until))

    async def advance_outbox(self, name: str, *, owner: str, position: int) -> bool:
        """Remember that all entries before `position` were sent."""
        return await self._write(lambda db: outbox.advance(db, name, owner, position))

    async def release_outbox(self, name: str, *, owner: str) -> None:
        """Let others take it at once."""
        await self._write(lambda db: outbox.release(db, name, owner))

    async def unsent_letters(self, limit: int) -> list[DeadLetter]:
        """Dead letters that were not sent yet, oldest first."""
        return await self._read(outbox.unsent_letters, limit)

    async def letters_sent(self, ids: Sequence[str]) -> None:
        """Remember that these were sent."""
        await self._write(lambda db: outbox.letters_sent(db, ids))

    async def unsent(self, name: str) -> Unsent:
        """How much waits, in this outbox."""
        return await self._read(outbox.unsent, name)

    async def consumed(self, coordinates: Collection[str]) -> set[str]:
        """Of these coordinates, those of records that were consumed."""
        return await self._read(outbox.consumed, coordinates)


def _taken(db: sqlite3.Connection, facts: Sequence[port.Fact]) -> bool:
    """Write all facts, or nothing where one of them is refused, which is rare: a savepoint for each costs a third."""
    db.execute("SAVEPOINT facts")
    try:
        journal = Appender(db, at_once=False)
        for fact in facts:
            _apply(db, fact, journal)
        journal.finish()
    except (StoreError, sqlite3.IntegrityError):
        db.execute("ROLLBACK TO facts")
        return False
    finally:
        if db.in_transaction:  # a full disk has rolled back everything
            db.execute("RELEASE facts")
    return True


def _refusal(db: sqlite3.Connection, fact: port.Fact, journal: Appender) -> StoreError | None:
    """Write a fact, or nothing of it and the reason why: a refused fact takes no other with it."""
    db.execute("SAVEPOINT fact")
    try:
        _apply(db, fact, journal)
    except StoreError as refusal:
        db.execute("ROLLBACK TO fact")
        return refusal
    finally:
        if db.in_transaction:  # a full disk has rolled back everything
            db.execute("RELEASE fact")
    return None


def _apply(db: sqlite3.Connection, fact: port.Fact, journal: Appender) -> None:
    """Write a fact, its entries last; raises the StoreError that refuses it, also for values that no column holds."""
    try:
        if fact.lease is not None:
            journal.expect(fact.lease.run_id, check_lease(db, fact.lease))
        apply_all(fact.writes, db)
        journal.append(fact.entries)
    except sqlite3.IntegrityError as failure:
        raise StateConflictError(f"the store holds it already, or may not hold it: {failure}") from failure
    except (ValueError, TypeError, OverflowError, RecursionError, sqlite3.DataError) as failure:
        raise StoreError(f"a value cannot be stored: {type(failure).__name__}: {failure}") from failure


def _put(db: sqlite3.Connection, statement: str, *rows: tuple[Any, ...]) -> None:
    db.executemany(statement, rows)


@contextlib.contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Everything or nothing: if we crash before COMMIT returns, SQLite rolls back at the next open."""
    try:
        _rollback(db)  # of one whose own rollback met the same broken disk
        db.execute("BEGIN IMMEDIATE")
        yield db
        db.execute("COMMIT")
    except BaseException as failure:
        with contextlib.suppress(sqlite3.Error):
            _rollback(db)
        if isinstance(failure, sqlite3.Error):
            raise StoreUnavailableError(f"nothing was written: {failure}") from failure
        raise


def _rollback(db: sqlite3.Connection) -> None:
    if db.in_transaction:  # a full disk rolls back by itself
        db.execute("ROLLBACK")


def _migrate(db: sqlite3.Connection) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise StoreUnavailableError(
            f"the store has schema {version}, this soar knows {SCHEMA_VERSION}; run a newer soar, or restore a backup"
        )
    for number in range(version + 1, SCHEMA_VERSION + 1):
        sql = resources.files(__package__).joinpath(f"{number:03}.sql").read_text()
        try:
            db.executescript(f"BEGIN IMMEDIATE;\n{sql}\nPRAGMA user_version = {number};\nCOMMIT;")
        except sqlite3.Error:
            _rollback(db)
            # Another process may have migrated between our look and our lock.
            if db.execute("PRAGMA user_version").fetchone()[0] < number:
                raise
