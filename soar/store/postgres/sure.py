"""The short way of a batch: one statement, which is its whole transaction.

Most facts are written by the worker that holds the run's lease, and this process wrote what came before them. So how
the rows stand need not be read: it follows from the facts, and the statement checks it, under the runs' locks. Where
anything is otherwise it writes nothing, and the batch takes the long way (`soar.store.postgres.batch`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from soar.errors import StoreError
from soar.journal.leaf import SALT_BYTES
from soar.model.action import Attempt
from soar.model.base import to_rfc3339
from soar.model.run import RunState
from soar.store import port
from soar.store.postgres.batch import Batch
from soar.store.postgres.connect import Db, RefusedError
from soar.store.postgres.database import Database
from soar.store.postgres.rows import RunRow, array
from soar.store.postgres.sheet import Chain, Held
from soar.store.postgres.sql import statements
from soar.store.postgres.tip import Tip
from soar.store.turns import hold_key

_BETWEEN = "\x1f"  # in JSON it is always escaped, and names of ours do not hold it
_NO_SALT = bytes(SALT_BYTES)


async def write_surely(database: Database, facts: Sequence[port.Fact], tip: Tip) -> list[StoreError | None] | None:
    """Write a batch; None where nothing was written and it must take the long way."""
    if tip.known is None or not all(_is_plain(fact) for fact in facts):
        return None
    epochs = {fact.lease.run_id: fact.lease.epoch for fact in facts if fact.lease is not None}
    chains = {run_id: tip.chains[run_id] for run_id in epochs if run_id in tip.chains}
    if len(chains) < len(epochs):
        return None
    batch = Batch(facts)
    assumed = _assume(batch, facts, epochs, chains)
    results = await batch.apply()
    if any(results):  # a refusal counts only by what the rows are
        return None
    checked = [*_expected(epochs, chains), *assumed.columns()]
    written = [*_entries(batch), *_rows(batch)]

    async def statement(db: Db) -> bool:
        await tip.take(db)
        if tip.known is None:
            return False
        tree = batch.tree_after(tip.known)
        if not await db.fetchval(statements("sure.sql")["write"], *checked, *tree, *tip.known, *written):
            tip.found(*tip.known, alone=False)
            return False
        tip.found(*tree)
        tip.remember(batch.sheet.changed("chains"))
        return True

    assert batch.entry_id is not None
    try:
        wrote = await database.write_at_once(statement, entry_id=batch.entry_id)
    except RefusedError:
        return None
    return results if wrote else None


def _is_plain(fact: port.Fact) -> bool:
    """Whether a fact is about one leased run and nothing else, so that its lock and the tree are all it needs."""
    if fact.lease is None or not fact.entries or any(entry.run_id != fact.lease.run_id for entry in fact.entries):
        return False
    return all(_is_plain_write(write, fact.lease.run_id) for write in fact.writes)


def _is_plain_write(write: port.Write, run_id: str) -> bool:
    match write:
        case port.PutStep():
            return write.record.run_id == run_id and _BETWEEN not in write.record.path
        case port.InsertAttempt():
            mine = write.attempt.run_id == run_id and _BETWEEN not in write.attempt.path
            return mine and write.turn is None and not write.counted and not write.ceilings
        case port.MoveAttempt():
            mine = write.attempt.run_id == run_id and _BETWEEN not in write.attempt.path
            return mine and not write.attempt.limited
        case port.ParkRun() | port.FinishRun():
            return write.run_id == run_id
    return False


@dataclass(slots=True)
class _Assumed:
    """What the statement must find: switches off, steps not ended, attempts as they should be (None: not there)."""

    switches: set[str] = field(default_factory=set)
    earliest: datetime | None = None  # of the intents
    steps: set[tuple[str, str]] = field(default_factory=set)
    attempts: dict[tuple[str, str, int], str | None] = field(default_factory=dict)

    def intent(self, attempt: Attempt) -> None:
        """An attempt must be new, and nothing may keep it from being made."""
        self.switches |= {"halt", hold_key(attempt.request.instance)}
        self.attempts.setdefault((attempt.run_id, attempt.path, attempt.number), None)
        if self.earliest is None or attempt.intended_at < self.earliest:
            self.earliest = attempt.intended_at

    def columns(self) -> list[Any]:
        """The parameters `$5` to `$12`."""
        steps, paths = _columns(list(self.steps), 2)
        runs, attempted, numbers = _columns(list(self.attempts), 3)
        return [
            array(self.switches),
            to_rfc3339(self.earliest) if self.earliest else "",
            *map(_BETWEEN.join, (steps, paths, runs, attempted)),
            numbers,
            _BETWEEN.join(state or "" for state in self.attempts.values()),
        ]


def _assume(
    batch: Batch, facts: Sequence[port.Fact], epochs: Mapping[str, int], chains: Mapping[str, Chain]
) -> _Assumed:
    """Give a batch the rows as they should be; returns what of that is not in `epochs` and `chains`.

    A run is as `locked` in the statement asks. Whether it holds a lock is not known: the statement only lets go of one.
    """
    for run_id, epoch in epochs.items():
        batch.sheet.hold("runs", run_id, row=RunRow(run_id, RunState.RUNNING, epoch, locked=True))
        batch.sheet.hold("chains", run_id, row=chains[run_id])
    assumed = _Assumed()
    for fact in facts:
        for write in fact.writes:
            if isinstance(write, port.PutStep):
                assumed.steps.add((write.record.run_id, write.record.path))
            elif isinstance(write, port.InsertAttempt):
                assumed.intent(write.attempt)
            elif isinstance(write, port.MoveAttempt):
                key = (write.attempt.run_id, write.attempt.path, write.attempt.number)
                if key not in assumed.attempts:
                    assumed.attempts[key] = write.expect
                    batch.sheet.hold("attempts", *key, row=Held(write.expect))
    return assumed


def _expected(epochs: Mapping[str, int], chains: Mapping[str, Chain]) -> list[Any]:
    """The parameters `$1` to `$4`."""
    ends = [chains[run_id] for run_id in epochs]
    return [
        _BETWEEN.join(epochs),
        list(epochs.values()),
        [chain.length - 1 for chain in ends],
        bytes.fromhex("".join(chain.last for chain in ends)),
    ]


def _entries(batch: Batch) -> list[Any]:
    """The parameters `$17` to `$25`."""
    entries, places, sealed = zip(*batch.sealed, strict=True)
    return [
        _BETWEEN.join([entry.id for entry in entries]),
        _BETWEEN.join([entry.type for entry in entries]),
        [entry.at for entry in entries],
        _BETWEEN.join([entry.run_id for entry in entries]),
        places,
        [each.leaf for each in sealed],
        b"".join([each.leaf_hash for each in sealed]),
        b"".join([each.salt or _NO_SALT for each in sealed]),
        [each.payload for each in sealed],
    ]


def _rows(batch: Batch) -> list[Any]:
    """The parameters `$26` to `$43`."""
    *steps, awaits = _columns([held.values for held in batch.sheet.written("steps")], 5)
    runs, paths, numbers, *attempts = _columns([held.values for held in batch.sheet.written("attempts")], 6)
    ended = [
        (run.id, run.state, run.wake_at, run.locked, run.outputs, run.error, run.finished_at)
        for run in batch.sheet.written("runs")
    ]
    return [
        *map(_BETWEEN.join, steps),
        awaits,
        *map(_BETWEEN.join, (runs, paths)),
        numbers,
        *map(_BETWEEN.join, attempts),
        *map(array, _columns(ended, 7)),
    ]


def _columns(rows: Sequence[Sequence[Any]], width: int) -> list[Sequence[Any]]:
    return list(zip(*rows, strict=True)) if rows else [()] * width
