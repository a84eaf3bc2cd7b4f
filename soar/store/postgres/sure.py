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
from soar.model.action import Attempt
from soar.model.base import to_rfc3339
from soar.model.run import RunState
from soar.store import port
from soar.store.postgres.batch import Batch
from soar.store.postgres.connect import Db, RefusedError
from soar.store.postgres.database import Database
from soar.store.postgres.rows import RunRow, array, columns
from soar.store.postgres.sheet import Chain, Held
from soar.store.postgres.sql import statements
from soar.store.postgres.tip import Tip
from soar.store.turns import hold_key

_WIDTHS = {"steps": 5, "attempts": 6, "payloads": 3, "runs": 7}


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
    checked = [
        *columns(list(epochs.items())),
        *assumed.columns(),
        *columns([(run_id, chain.length - 1, bytes.fromhex(chain.last)) for run_id, chain in chains.items()]),
    ]
    written = _written(batch)

    async def statement(db: Db) -> bool:
        await tip.take(db)
        if tip.known is None:
            return False
        grown = batch.grown(tip.known)
        values = (*checked, *grown["grow"], *grown["append_grown"], *written)
        if not await db.fetchval(statements("sure.sql")["write"], *values):
            tip.found(*tip.known, alone=False)
            return False
        tip.found(grown["grow"][0], grown["grow"][1])
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
            return write.record.run_id == run_id
        case port.InsertAttempt():
            return write.attempt.run_id == run_id and write.turn is None and not write.counted and not write.ceilings
        case port.MoveAttempt():
            return write.attempt.run_id == run_id and not write.attempt.limited
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
        """The parameters `$3` to `$10`."""
        attempts = [(*key, state) for key, state in self.attempts.items()]
        return [
            array(self.switches),
            to_rfc3339(self.earliest) if self.earliest else "",
            *_columns(list(self.steps), 2),
            *_columns(attempts, 4),
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


def _written(batch: Batch) -> list[list[Any]]:
    sheet = batch.sheet
    rows: dict[str, list[Any]] = {
        "payloads": [(e.id, s.salt, s.payload) for e, _, s in batch.sealed if s.payload is not None],
        "steps": [held.values for held in sheet.written("steps")],
        "attempts": [held.values for held in sheet.written("attempts")],
        "runs": [
            (run.id, run.state, run.wake_at, run.locked, run.outputs, run.error, run.finished_at)
            for run in sheet.written("runs")
        ],
    }
    return [column for name, of in rows.items() for column in _columns(of, _WIDTHS[name])]


def _columns(rows: Sequence[Sequence[Any]], width: int) -> list[list[Any]]:
    return columns(rows) if rows else [[] for _ in range(width)]
