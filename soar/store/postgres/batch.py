"""A batch of facts as a unit of work: lock the rows, decide in memory, write each row once.

Everything that a fact can be refused for is known once its runs are locked, so a refused fact is simply left out and
takes no other with it. What memory cannot know (a name that is already there) the database refuses; see `store`.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import starmap
from types import MappingProxyType
from typing import Any, NamedTuple

from asyncpg import Connection

from soar.errors import JournalError, StateConflictError, StoreError
from soar.journal.leaf import Sealed, seal
from soar.journal.merkle import Frontier
from soar.model.entry import Entry
from soar.store import port
from soar.store.postgres.rows import RunOrigin, RunRow, array, columns
from soar.store.postgres.sql import statements

Key = tuple[Any, ...]
"""The table, then the row's primary key."""

HALT_LOCK = "(1936683378, 1)"
"""Shared by those who record intents, exclusive for who sets a switch: once `halt` returned, no intent is recorded."""

_LONG = 100  # entries whose sealing would hold up the event loop for some milliseconds


class Links(NamedTuple):
    """How far a run's chain of entries reaches."""

    length: int = 0
    last: str = ""


class Known(NamedTuple):
    """A row as far as a batch must know it: state, a number (votes), a body."""

    state: str
    number: int = 0
    body: str | None = None


class Batch:
    """What the rows hold after the facts applied so far. `apply` asks and changes it; `flush` writes it."""

    def __init__(self) -> None:
        self.xid = ""
        self.sealed: list[tuple[Entry, Links, Sealed]] = []
        self._rows: dict[Key, Any] = {}
        self._changed: dict[Key, Any] = {}  # None: to be deleted
        self._draft: dict[Key, Any] = {}  # of the fact under way

    def get(self, table: str, *key: Any) -> Any:
        """A row, None where there is none."""
        name = (table, *key)
        if name in self._draft:
            return self._draft[name]
        return self._changed[name] if name in self._changed else self._rows.get(name)

    def put(self, table: str, *key: Any, row: Any) -> None:
        """Insert or replace a row."""
        self._draft[(table, *key)] = row

    def insert(self, table: str, *key: Any, row: Any) -> None:
        """Insert a row; raises StateConflictError where this batch knows one of that name."""
        if self.get(table, *key) is not None:
            raise StateConflictError(f"the store holds {'/'.join(map(str, key))} already (in {table})")
        self.put(table, *key, row=row)

    def delete(self, table: str, *key: Any) -> None:
        """Delete a row."""
        self._draft[(table, *key)] = None

    def run(self, run_id: str) -> RunRow | None:
        """A locked run."""
        run: RunRow | None = self.get("runs", run_id)
        return run

    async def load(self, db: Connection, facts: Sequence[port.Fact]) -> None:
        """Lock the runs that `facts` touch, then read what else they need."""
        wanted = _wanted(facts)
        sql = statements("writes.sql")
        for row in await db.fetch(sql["lock_runs"], array(sorted(wanted["runs"]))):
            run = RunRow(*row)
            self._rows["runs", run.id] = run
        steps, attempts = _columns_of(wanted["steps"], 2), _columns_of(wanted["attempts"], 3)
        rest = [array(wanted[table]) for table in ("approvals", "control", "chains")]
        for what, first, second, number, state, body in await db.fetch(sql["look"], *steps, *attempts, *rest):
            match what:
                case "xid":
                    self.xid = first
                case "chains":
                    self._rows[what, first] = Links(number, second)
                case "attempts":
                    self._rows[what, first, second, number] = Known(state, body=body)
                case "steps":
                    self._rows[what, first, second] = Known(state)
                case _:
                    self._rows[what, first] = Known(state, number)

    async def apply(self, facts: Sequence[port.Fact]) -> list[StoreError | None]:
        """Apply facts in order, each to what those before it left; one result per fact."""
        # `writes` needs Batch as a type; what it does with one is its own affair.
        if sum(len(fact.entries) for fact in facts) > _LONG:
            return await asyncio.to_thread(lambda: [self._apply(fact) for fact in facts])
        return [self._apply(fact) for fact in facts]

    def _apply(self, fact: port.Fact) -> StoreError | None:
        from soar.store.postgres.writes import apply, check_lease

        self._draft = {}
        try:
            if fact.lease is not None:
                check_lease(self, fact.lease)
            for write in fact.writes:
                apply(write, self)
            sealed = [self._seal(entry) for entry in fact.entries]
        except StoreError as refusal:
            return refusal
        except JournalError as failure:
            return StoreError(f"the journal cannot hold this: {failure}")
        except (ValueError, TypeError, OverflowError, RecursionError) as failure:
            return StoreError(f"a value cannot be stored: {type(failure).__name__}: {failure}")
        finally:
            draft, self._draft = self._draft, {}
        self._changed |= draft
        self.sealed += sealed
        return None
