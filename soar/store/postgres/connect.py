"""Connections: how they are set up, what a server must promise, and what its errors mean to us."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import asyncpg
from asyncpg.exceptions._base import DataError as UnsendableError

from soar.errors import StateConflictError, StoreError, StoreUnavailableError
from soar.store.postgres.rows import from_text, to_text

Db: TypeAlias = asyncpg.Connection
"""A connection, or a pool's stand-in for one."""

OLDEST_VERSION = 13  # pg_current_xact_id

_SETTINGS = MappingProxyType(
    {
        "application_name": "soar",
        "timezone": "UTC",
        # Who stops in the middle of a transaction (SIGSTOP, a lost network) must not hold its locks for long.
        "idle_in_transaction_session_timeout": "5s",
        "lock_timeout": "5s",
        # Planned once and kept, mostly while the tables are still empty: each of our statements has its index.
        "plan_cache_mode": "force_generic_plan",
        "enable_seqscan": "off",
        "enable_hashjoin": "off",
        "enable_mergejoin": "off",
        "jit": "off",
    }
)
_CONNECT_SECONDS = 10.0
_COMMAND_SECONDS = 30.0  # a server that does not answer at all

_PROMISES = (
    (
        "synchronous_commit",
        {"on", "remote_apply"},
        "a commit that returned could be lost in a crash. Run: ALTER ROLE <soar's role> SET synchronous_commit = on",
    ),
    (
        "fsync",
        {"on"},
        "a commit that returned could be lost in a power cut. Set fsync = on in postgresql.conf and restart it",
    ),
    ("server_encoding", {"UTF8"}, "alerts hold any character. Make the database with ENCODING 'UTF8'"),
)


class OvertakenError(Exception):
    """Another transaction changed what this one had read."""


AGAIN = (
    OvertakenError,
    asyncpg.TransactionRollbackError,  # deadlock, serialization
    asyncpg.LockNotAvailableError,
)
"""The transaction lost to another one; the same again may succeed."""

AWAY = (
    OSError,  # TimeoutError among them
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shut down, killed, starting up
    asyncpg.InsufficientResourcesError,  # disk full, too many connections
    asyncpg.PostgresSystemError,  # input/output errors
    asyncpg.InternalClientError,  # killed between two messages
    asyncpg.InvalidTransactionStateError,  # a standby is read-only; we sat idle in a transaction too long
)
"""The server is not there, or cannot do it now. Nothing was written, unless it happened to a COMMIT."""

_NEVER = (asyncpg.DataError, asyncpg.ProgramLimitExceededError, UnsendableError, OverflowError)


class RefusedError(Exception):
    """The database said no to a value or a name; `refusal` is what the fact's owner is told."""

    def __init__(self, refusal: StoreError) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Raise RefusedError for what the database will never take, however often it is asked."""
    try:
        yield
    except asyncpg.IntegrityConstraintViolationError as failure:
        told = StateConflictError(f"the store holds it already, or may not hold it: {failure}")
        raise RefusedError(told) from failure
    except _NEVER as failure:
        raise RefusedError(StoreError(f"a value cannot be stored: {type(failure).__name__}: {failure}")) from failure


def where(dsn: str) -> str:
    """A DSN as people may read it: without user and password."""
    parts = urlsplit(dsn)
    return f"postgresql://{parts.hostname or ''}:{parts.port or 5432}{parts.path}"


async def connect(dsn: str, *, command_seconds: float | None = _COMMAND_SECONDS) -> Db:
    """A connection outside the pool, for what takes long."""
    db = await asyncpg.connect(dsn, **options() | {"command_timeout": command_seconds})
    try:
        await prepare(db)
    except BaseException:
        await db.close()
        raise
    return db


async def connect_to_read(dsn: str) -> Db:
    """A connection for long reading alone; it asks the server for no promise, as it writes nothing."""
    settings = {"application_name": "soar audit", "timezone": "UTC"}
    db = await asyncpg.connect(dsn, server_settings=settings, timeout=_CONNECT_SECONDS)
    await _set_codec(db)
    return db


async def _set_codec(db: Db) -> None:
    await db.set_type_codec("text", schema="pg_catalog", encoder=to_text, decoder=from_text, format="binary")


def options() -> dict[str, Any]:
    """What every connection is made with."""
    return {"server_settings": dict(_SETTINGS), "command_timeout": _COMMAND_SECONDS, "timeout": _CONNECT_SECONDS}


async def prepare(db: Db) -> None:
    """Set up a new connection; raises StoreUnavailableError where the server does not promise what we promise."""
    await _set_codec(db)
    names = ("synchronous_commit", "fsync", "server_encoding", "server_version_num")
    found = await db.fetchrow("SELECT " + ", ".join(f"current_setting('{name}') AS {name}" for name in names))
    for name, accepted, remedy in _PROMISES:
        if found[name] not in accepted:
            raise StoreUnavailableError(f"PostgreSQL has {name} = {found[name]}; {remedy}")
    if int(found["server_version_num"]) < OLDEST_VERSION * 10_000:
        raise StoreUnavailableError(
            f"PostgreSQL {found['server_version_num']} is too old; soar needs {OLDEST_VERSION} or newer"
        )
