"""Transactions that end in knowledge: written, or not written."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import asyncpg
import structlog

from soar.errors import StoreAwayError, StoreUnavailableError
from soar.store.postgres.connect import AGAIN, AWAY, Db, connect, options, prepare, refusals, where
from soar.store.postgres.migrate import migrate
from soar.store.postgres.sql import statements

log = structlog.get_logger(__name__)

CONNECTIONS_MAX = 8
READY_CHANNEL = "soar_ready"
_FIRST_PAUSE_SECONDS = 0.01
_LONGEST_PAUSE_SECONDS = 0.5
_RECONNECT_SECONDS = 1.0
_CLOSE_SECONDS = 5.0
_STALLED_SECONDS = 4.0  # less than a lock is waited for

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Done(Generic[T]):
    """What a transaction has come to, before its COMMIT.

    `xid` and `entry_id` are how to ask whether a COMMIT took effect that was never answered. Without `xid` there is
    nothing to commit.
    """

    result: T
    xid: str | None = None
    entry_id: str | None = None
    wakes: bool = False


class _NotWrittenError(Exception):
    """The connection was lost during COMMIT, and it is now known that nothing was written."""


class Database:
    """A pool of connections to one database.

    A server that is away is waited for, `patience_seconds` long, as far as it is certain that nothing was written.
    """

    def __init__(self, dsn: str, *, patience_seconds: float, ended: Callable[[Db], None] = lambda _: None) -> None:
        self.where = where(dsn)
        self._ended = ended  # told when a transaction on a connection is over, however it went
        self._dsn = dsn
        self._patience_seconds = patience_seconds
        self._pool: asyncpg.Pool | None = None
        self._closing = self._closed = False
        self._writes: set[asyncio.Task[Any]] = set()
        self._name = secrets.token_hex(8)
        self._ears: set[Callable[[], None]] = set()

    async def open(self) -> None:
        """Connect, check the server, bring the schema up to date; raises StoreAwayError or StoreUnavailableError."""
        try:
            db = await connect(self._dsn)
            try:
                await migrate(db)
            finally:
                await db.close()
            self._pool = await asyncpg.create_pool(
                self._dsn, min_size=0, max_size=CONNECTIONS_MAX, init=prepare, reset=_left_as_it_is, **options()
            )
        except (*AWAY, asyncpg.PostgresError, ValueError) as failure:
            kind = StoreAwayError if isinstance(failure, AWAY) else StoreUnavailableError
            raise kind(f"store {self.where} cannot be opened: {failure}") from failure

    async def close(self) -> None:
        """Finish what is under way and disconnect."""
        self._closing = True
        if self._writes:
            await asyncio.wait(self._writes, timeout=self._patience_seconds)
        self._closed = True
        if self._pool is not None:
            with contextlib.suppress(TimeoutError):  # what does not end by then is cut off
                await asyncio.wait_for(self._pool.close(), _CLOSE_SECONDS)
            self._pool = None

    async def read(self, query: Callable[[Db], Awaitable[T]]) -> T:
        """Run a query that changes nothing, or one statement that may be done twice."""

        async def attempt() -> T:
            async with self._connection() as db:
                return await query(db)

        return await self._patiently(attempt)

    async def write(self, work: Callable[[Db], Awaitable[Done[T]]], *, begin: str = "BEGIN", ring: bool = True) -> T:
        """Run `work` in a transaction, from the start again if it lost to another; raises RefusedError.

        It goes on to its end even where the caller is cancelled, who then does not learn whether it was written.
        Without `ring` the caller tells those who listen in this process.
        """
        return await self._to_the_end(lambda: self._transaction(work, begin, ring=ring))

    async def write_at_once(self, statement: Callable[[Db], Awaitable[bool]], *, entry_id: str) -> bool:
        """Run one statement, which is a transaction by itself; returns whether it wrote, as it says.

        `entry_id` is an entry that it writes if it writes at all. Raises RefusedError; goes to its end as `write` does.
        """
        return await self._to_the_end(lambda: self._statement(statement, entry_id))

    async def _to_the_end(self, attempt: Callable[[], Awaitable[T]]) -> T:
        if self._closing:
            raise StoreUnavailableError(f"store {self.where} is closed; nothing was written")
        task = asyncio.create_task(self._patiently(attempt))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)
        return await asyncio.shield(task)

    async def _transaction(self, work: Callable[[Db], Awaitable[Done[T]]], begin: str, *, ring: bool) -> T:
        async with self._connection() as db:
            try:
                await db.execute(begin)
                with refusals():
                    done = await work(db)
                if done.xid is None:
                    await db.execute("ROLLBACK")
                    return done.result
                lost = await self._commit(db, done)
            except BaseException:
                await _roll_back(db)
                raise
            finally:
                self._ended(db)
        # From here on the connection is gone. If we crash now, whoever asks next finds either all of it or nothing.
        if lost is not None and not await self._took_effect(lambda db: _status(db, done.xid), done.entry_id):
            raise _NotWrittenError(str(lost)) from lost
        if done.wakes and ring:
            for woken in self._ears:
                woken()
        return done.result

    async def _commit(self, db: Db, done: Done[Any]) -> BaseException | None:
        """Commit. Returns what went wrong where the answer did not come, so that nobody knows."""
        notify = f"NOTIFY {READY_CHANNEL}, '{self._name}'; " if done.wakes else ""
        try:
            answer = await db.execute(f"{notify}COMMIT")
        except (*AWAY, asyncpg.InterfaceError) as failure:
            _hang_up(db)
            return failure
        except BaseException:
            _hang_up(db)  # the server said no; the session is not worth cleaning
            raise
        assert answer == "COMMIT", f"the transaction had failed before: {answer}"
        return None

    async def _statement(self, statement: Callable[[Db], Awaitable[bool]], entry_id: str) -> bool:
        async with self._connection() as db:
            session = db.get_server_pid()
            try:
                with refusals():
                    return await statement(db)
            except (*AWAY, asyncpg.InterfaceError) as failure:
                _hang_up(db)
                lost = failure
            finally:
                self._ended(db)
        if not await self._took_effect(lambda db: _end(db, session), entry_id):
            raise _NotWrittenError(str(lost)) from lost
        return True

    async def _took_effect(self, status_of: Callable[[Db], Awaitable[str | None]], entry_id: str | None) -> bool:
        """Whether a transaction was committed, asked until somebody can say.

        By its status alone we would believe a standby that took over and gave the number to another transaction;
        the entry's name is unique for ever.
        """
        sql = statements("reads.sql")
        while not self._closed:
            try:
                async with self._connection() as db:
                    status = await status_of(db)
                    if status == "in progress":
                        await asyncio.sleep(_FIRST_PAUSE_SECONDS)
                        continue
                    if entry_id is None:
                        return status == "committed"
                    return bool(await db.fetchval(sql["entry_exists"], entry_id))
            except AWAY as failure:
                log.warning("store.commit_unknown", store=self.where, error=str(failure))
            await asyncio.sleep(_LONGEST_PAUSE_SECONDS)
        raise StoreUnavailableError(f"store {self.where} was closed before it could say whether this was written")

    async def _patiently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        loop = asyncio.get_running_loop()
        give_up = loop.time() + self._patience_seconds
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                return await attempt()
            except (_NotWrittenError, *AGAIN, *AWAY) as failure:
                if self._closing or loop.time() + pause > give_up:
                    raise self._unavailable(failure) from failure
                log.debug("store.again", store=self.where, error=f"{type(failure).__name__}: {failure}")
                if isinstance(failure, asyncpg.LockNotAvailableError):
                    await self._end_stalled()
            except asyncpg.PostgresError as failure:
                raise self._unavailable(failure) from failure
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def _end_stalled(self) -> None:
        """End our sessions that hold locks and hear nothing from their process: it was stopped.

        The server ends those that are idle in a transaction by itself. One that was stopped between preparing a
        statement and running it counts as active there, and would block all others until it goes on.
        """
        with contextlib.suppress(*AWAY, asyncpg.PostgresError):
            async with self._connection() as db:
                ended = await db.fetch(statements("writes.sql")["end_stalled"], _STALLED_SECONDS)
            for row in ended:
                log.warning("store.session_ended", store=self.where, pid=row["pid"], why="its process says nothing")

    def _unavailable(self, failure: Exception) -> StoreUnavailableError:
        return StoreUnavailableError(f"store {self.where}: nothing was written: {type(failure).__name__}: {failure}")

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[Db]:
        """One of the pool; a connection that turns out to be closed is an OSError like any other loss."""
        if self._pool is None or self._closed:
            state = "closed" if self._closing else "not open"
            raise StoreUnavailableError(f"store {self.where} is {state}; nothing was written")
        async with self._pool.acquire() as db:
            try:
                yield db
            except asyncpg.InterfaceError as failure:
                if _is_gone(db):
                    raise ConnectionResetError(str(failure)) from failure
                raise
            except AWAY:
                _hang_up(db)
                raise

    async def maintain(self, work: Callable[[str], Awaitable[T]]) -> T:
        """Do something about the database on a connection of its own; it is given the DSN."""
        try:
            return await work(self._dsn)
        except (*AGAIN, *AWAY, asyncpg.PostgresError) as failure:
            raise StoreUnavailableError(f"store {self.where}: {type(failure).__name__}: {failure}") from failure

    async def listen(self, woken: Callable[[], None]) -> None:
        """Call `woken` whenever a run may have become ready, by any process, until cancelled.

        What this process does it hears at once, and not again from the server.
        """
        self._ears.add(woken)
        try:
            while not self._closed:
                try:
                    await self._listen_once(woken)
                except (*AWAY, asyncpg.PostgresError, StoreUnavailableError) as failure:
                    log.warning("store.deaf", store=self.where, error=str(failure))
                await asyncio.sleep(_RECONNECT_SECONDS)
        finally:
            self._ears.discard(woken)

    async def _listen_once(self, woken: Callable[[], None]) -> None:
        db = await connect(self._dsn)
        try:
            gone = asyncio.Event()
            db.add_termination_listener(lambda _: gone.set())

            def hear(_db: Db, _pid: int, _channel: str, name: str) -> None:
                if name != self._name:
                    woken()

            await db.add_listener(READY_CHANNEL, hear)
            woken()  # what happened before we listened
            await gone.wait()
        finally:
            db.terminate()


async def _roll_back(db: Db) -> None:
    if _is_gone(db):
        return
    try:
        await db.execute("ROLLBACK")
    except (*AWAY, asyncpg.PostgresError, asyncpg.InterfaceError):
        _hang_up(db)  # the server rolls back what has lost its connection


def _hang_up(db: Db) -> None:
    if not _is_gone(db):
        db.terminate()


def _is_gone(db: Db) -> bool:
    """Whether a connection is closed; the pool takes such a one back without asking, and then it answers nothing."""
    try:
        return bool(db.is_closed())
    except asyncpg.InterfaceError:
        return True


async def _status(db: Db, xid: str | None) -> str | None:
    try:
        status: str | None = await db.fetchval(statements("reads.sql")["xact_status"], xid)
    except asyncpg.InvalidParameterValueError:
        return None  # a number of the future: another server, which has not come that far
    return status


async def _end(db: Db, session: int) -> str | None:
    """End a session that we have lost, with whatever it has not committed; None once it is no more."""
    ended = await db.fetch(statements("writes.sql")["end_session"], session)
    return "in progress" if ended else None


async def _left_as_it_is(_db: Db) -> None:
    """Our statements leave nothing behind in a session, so giving a connection back costs no round trip."""
