"""Each Write as SQL. Every function runs inside the caller's transaction and raises StoreError to undo it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cache, singledispatch
from typing import Any

from soar.errors import (
    LeaseLostError,
    RecountError,
    RunCancelledError,
    RunPausedError,
    StateConflictError,
    StoreError,
)
from soar.model.action import ATTEMPT_MOVES, AttemptState
from soar.model.approval import APPROVAL_MOVES, ApprovalState
from soar.model.base import to_json, to_rfc3339
from soar.model.run import FINAL_STATES, RUN_MOVES, RunKind, RunState, StepState
from soar.store import port, queueing
from soar.store.sqlite import turns
from soar.store.sqlite.reads import action_counts
from soar.store.sqlite.rows import matches_text, run_values, when


def check_lease(db: sqlite3.Connection, lease: port.Lease) -> tuple[int, str]:
    """The end of the run's chain of entries; raises LeaseLostError unless it is still running under this epoch."""
    sql = "SELECT entry_seq, entry_hash FROM runs "
    row = db.execute(f"{sql}WHERE id = ? AND epoch = ? AND state = 'running'", (lease.run_id, lease.epoch)).fetchone()
    if row is None:
        raise LeaseLostError(f"run {lease.run_id} is no longer ours (epoch {lease.epoch}); nothing was written")
    return row["entry_seq"], row["entry_hash"]


def _one(cursor: sqlite3.Cursor, refusal: Callable[[], StoreError]) -> None:
    if cursor.rowcount != 1:
        raise refusal()


def _conflict(text: str) -> Callable[[], StoreError]:
    return lambda: StateConflictError(text)


def apply_all(writes: Sequence[port.Write], db: sqlite3.Connection) -> None:
    """Carry out a fact's writes. The rows of records and alerts, which no other write looks at, go in together."""
    records: list[tuple[str, str]] = []
    alerts: list[tuple[Any, ...]] = []
    spell = cache(to_rfc3339)  # a batch has few different times
    for write in writes:
        if isinstance(write, port.InsertRecord):
            records.append((write.coordinates, spell(write.at)))
        elif isinstance(write, port.InsertAlert):
            alerts.append(_alert_values(write, spell))
        else:
            _how(type(write))(write, db)
    if records:
        db.executemany("INSERT INTO records (coordinates, at) VALUES (?, ?)", records)
    if alerts:
        db.executemany("INSERT INTO alerts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", alerts)


def _alert_values(write: port.InsertAlert, spell: Callable[[datetime], str]) -> tuple[Any, ...]:
    alert = write.alert.body
    return (
        alert["id"],
        alert["uid"],
        alert["source"],
        write.coordinates,
        write.content,
        alert["title"],
        alert["severity"],
        alert["rule"]["id"],
        alert["rule"]["name"],
        write.outcome.value,
        matches_text(write.matches),
        spell(write.alert.time),
        spell(write.alert.received_at),
        write.entry_id,
    )


@singledispatch
def apply(write: object, _db: sqlite3.Connection) -> None:
    """Carry out one write."""
    raise TypeError(f"no SQL for {type(write).__name__}")


_how: Callable[[object], Callable[[object, sqlite3.Connection], None]] = cache(apply.dispatch)


@apply.register
def _(write: port.InsertDeadLetter, db: sqlite3.Connection) -> None:
    letter = write.letter
    db.execute(
        "INSERT INTO dead_letters (id, coordinates, code, reason, at, record) VALUES (?, ?, ?, ?, ?, ?)",
        (
            letter.id,
            letter.record.coordinates,
            letter.code,
            letter.reason,
            to_rfc3339(letter.at),
            letter.record.model_dump_json(),
        ),
    )


@apply.register
def _(write: port.PutWindow, db: sqlite3.Connection) -> None:
    window = write.window
    db.execute(
        "INSERT INTO windows VALUES (?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET started_at = excluded.started_at, "
        "until = excluded.until, count = excluded.count, run_id = excluded.run_id",
        (window.key, to_rfc3339(window.started_at), to_rfc3339(window.until), window.count, window.run_id),
    )


@apply.register
def _(write: port.InsertRun, db: sqlite3.Connection) -> None:
    if write.run.kind is RunKind.CALL and write.run.parent_run_id is not None:
        _check_not_paused(db, write.run.parent_run_id)
    values = run_values(write.run)
    columns = ", ".join(values)
    marks = ", ".join(f":{name}" for name in values)
    db.execute(f"INSERT INTO runs ({columns}) VALUES ({marks})", values)  # noqa: S608 - names are our own


@apply.register
def _(write: port.ParkRun, db: sqlite3.Connection) -> None:
    # A signal that came while the run was running must not be slept through.
    _one(
        db.execute(
            "UPDATE runs SET state = CASE WHEN signalled OR cancel_requested THEN 'ready' ELSE 'waiting' END, "
            "wake_at = ?, owner = NULL, lease_until = NULL, signalled = 0 WHERE id = ? AND state = 'running'",
            (when(write.wake_at), write.run_id),
        ),
        _conflict(f"run {write.run_id} is not running, so it cannot be parked"),
    )


@apply.register
def _(write: port.ReleaseRun, db: sqlite3.Connection) -> None:
    expired = "9999" if write.expired_before is None else to_rfc3339(write.expired_before)
    _one(
        db.execute(
            "UPDATE runs SET state = 'ready', owner = NULL, lease_until = NULL "
            "WHERE id = ? AND state = 'running' AND lease_until < ?",
            (write.run_id, expired),
        ),
        _conflict(f"run {write.run_id} is not running, or its lease was renewed"),
    )


@apply.register
def _(write: port.SignalRun, db: sqlite3.Connection) -> None:
    db.execute(
        "UPDATE runs SET signalled = 1, state = CASE state WHEN 'waiting' THEN 'ready' ELSE state END "
        "WHERE id = ? AND state IN ('waiting', 'running', 'ready')",
        (write.run_id,),
    )


@apply.register
def _(write: port.FinishRun, db: sqlite3.Connection) -> None:
    if write.state not in FINAL_STATES and write.state is not RunState.NEEDS_REVIEW:
        raise StateConflictError(f"run {write.run_id} cannot finish as {write.state}")
    _one(
        db.execute(
            "UPDATE runs SET state = ?, outputs = ?, error = ?, finished_at = ?, owner = NULL, lease_until = NULL, "
            "wake_at = NULL, locked = locked AND ?, paused = paused AND ? WHERE id = ? AND state = 'running'",
            (
                write.state,
                to_json(write.outputs),
                write.error,
                to_rfc3339(write.at),
                write.state not in FINAL_STATES,
                write.state not in FINAL_STATES,
                write.run_id,
            ),
        ),
        _conflict(f"run {write.run_id} is not running, so it cannot finish"),
    )


@apply.register
def _(write: port.RequestCancel, db: sqlite3.Connection) -> None:
    _one(
        db.execute(
            "UPDATE runs SET cancel_requested = 1, paused = 0, "
            "state = CASE state WHEN 'running' THEN 'running' ELSE 'ready' END "
            "WHERE id = ? AND state IN ('ready', 'running', 'waiting', 'needs_review')",
            (write.run_id,),
        ),
        _conflict(f"run {write.run_id} does not exist or has already ended, so it cannot be cancelled"),
    )


@apply.register
def _(write: port.SetPaused, db: sqlite3.Connection) -> None:
    if write.paused:
        sql = (
            "UPDATE runs SET paused = 1 "
            "WHERE id = ? AND NOT paused AND state IN ('ready', 'running', 'waiting', 'needs_review')"
        )
        why = "does not exist, has ended, or is paused already"
    else:
        # Signalled: what it parked without a time when it met the pause, it takes up again.
        sql = (
            "UPDATE runs SET paused = 0, signalled = 1, state = CASE state WHEN 'waiting' THEN 'ready' ELSE state END "
            "WHERE id = ? AND paused"
        )
        why = "is not paused"
    _one(db.execute(sql, (write.run_id,)), _conflict(f"run {write.run_id} {why}"))


def _check_not_paused(db: sqlite3.Connection, run_id: str) -> None:
    if db.execute("SELECT 1 FROM runs WHERE id = ? AND paused", (run_id,)).fetchone() is not None:
        raise RunPausedError(f"run {run_id} is paused; `soar runs resume` lets it go on")


@apply.register
def _(write: port.ReopenRun, db: sqlite3.Connection) -> None:
    if RunState.READY not in RUN_MOVES.get(write.expect, frozenset()):
        raise StateConflictError(f"a {write.expect} run cannot be retried")
    _one(
        db.execute(
            "UPDATE runs SET state = 'ready', error = NULL, finished_at = NULL, "
            "cancel_requested = cancel_requested AND ? WHERE id = ? AND state = ?",
            (write.expect not in FINAL_STATES, write.run_id, write.expect),
        ),
        _conflict(f"run {write.run_id} is not {write.expect}, so it cannot be retried"),
    )
    db.executemany("DELETE FROM steps WHERE run_id = ? AND path = ?", [(write.run_id, path) for path in write.forget])


@apply.register
def _(write: port.PutStep, db: sqlite3.Connection) -> None:
    record = write.record
    awaits = record.state is StepState.WAITING and "trigger" in record.data
    _one(
        db.execute(
            "INSERT INTO steps VALUES (?, ?, ?, ?, ?) ON CONFLICT (run_id, path) DO UPDATE SET state = excluded.state, "
            "record = excluded.record, awaits_alert = excluded.awaits_alert "
            "WHERE steps.state IN ('waiting', 'unknown')",
            (record.run_id, record.path, record.state, record.model_dump_json(), awaits),
        ),
        _conflict(f"step {record.path} of run {record.run_id} has already ended"),
    )


@apply.register
def _(write: port.InsertAttempt, db: sqlite3.Connection) -> None:
    attempt, request = write.attempt, write.attempt.request
    turns.check_switches(db, request.instance, attempt.intended_at)
    sql = "SELECT cancel_requested FROM runs WHERE id = ? AND (cancel_requested OR paused)"
    if stopped := db.execute(sql, (attempt.run_id,)).fetchone():
        if stopped["cancel_requested"]:
            raise RunCancelledError(f"run {attempt.run_id} was cancelled")
        _check_not_paused(db, attempt.run_id)
    _check_ceilings(db, write)
    if write.turn is not None:
        turns.take(db, write, write.turn)
    values = (attempt.run_id, attempt.path, attempt.number, attempt.state, request.effect, attempt.text())
    try:
        db.execute("INSERT INTO attempts VALUES (?, ?, ?, ?, ?, ?)", values)
    except sqlite3.IntegrityError as failure:
        raise StateConflictError(f"attempt {attempt.number} of {attempt.path} was already intended") from failure
    if counted := write.counted:
        at = to_rfc3339(attempt.intended_at)
        rows = [(key, at, attempt.run_id, attempt.path, attempt.number) for key in counted]
        db.executemany("INSERT INTO acted VALUES (?, ?, ?, ?, ?)", rows)


def _check_ceilings(db: sqlite3.Connection, write: port.InsertAttempt) -> None:
    """Nobody else writes meanwhile, so what is counted here is what there is."""
    itself = (write.attempt.run_id, write.attempt.path)
    for ceiling in write.ceilings:
        if action_counts(db, [ceiling.key], ceiling.since, itself)[ceiling.key] > ceiling.most:
            raise RecountError(f"more was done under {ceiling.key} than the {ceiling.most} that the decision knew of")


@apply.register
def _(write: port.MoveAttempt, db: sqlite3.Connection) -> None:
    attempt = write.attempt
    if attempt.state not in ATTEMPT_MOVES.get(write.expect, frozenset()):
        raise StateConflictError(f"an attempt cannot go from {write.expect} to {attempt.state}")
    _one(
        db.execute(
            "UPDATE attempts SET state = ?, attempt = ? WHERE run_id = ? AND path = ? AND number = ? AND state = ?",
            (attempt.state, attempt.text(), attempt.run_id, attempt.path, attempt.number, write.expect),
        ),
        _conflict(f"attempt {attempt.number} of {attempt.path} is not {write.expect}"),
    )
    if attempt.limited and write.expect is AttemptState.INTENDED:
        turns.free(db, attempt.run_id, attempt.path)


@apply.register
def _(write: queueing.JoinQueue, db: sqlite3.Connection) -> None:
    turns.join(db, write)


@apply.register
def _(write: queueing.CallTurn, db: sqlite3.Connection) -> None:
    turns.call(db, write)


@apply.register
def _(write: queueing.HoldInstance, db: sqlite3.Connection) -> None:
    turns.hold(db, write)


@apply.register
def _(write: queueing.SweepTurns, db: sqlite3.Connection) -> None:
    turns.sweep(db, write.before)


@apply.register
def _(write: port.InsertApproval, db: sqlite3.Connection) -> None:
    approval = write.approval
    db.execute(
        "INSERT INTO approvals VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            approval.id,
            approval.run_id,
            approval.path,
            approval.state,
            len(approval.votes),
            to_rfc3339(approval.decide_by),
            when(approval.execute_by),
            approval.model_dump_json(),
        ),
    )


@apply.register
def _(write: port.UpdateApproval, db: sqlite3.Connection) -> None:
    approval = write.approval
    votes_only = approval.state is write.expect is ApprovalState.PENDING
    if not votes_only and approval.state not in APPROVAL_MOVES.get(write.expect, frozenset()):
        raise StateConflictError(f"an approval cannot go from {write.expect} to {approval.state}")
    _one(
        db.execute(
            "UPDATE approvals SET state = ?, votes = ?, execute_by = ?, approval = ? "
            "WHERE id = ? AND state = ? AND votes = ?",
            (
                approval.state,
                len(approval.votes),
                when(approval.execute_by),
                approval.model_dump_json(),
                approval.id,
                write.expect,
                write.expect_votes,
            ),
        ),
        _conflict(f"approval {approval.id} has changed meanwhile; look at it again"),
    )


@apply.register
def _(write: port.InsertPlaybook, db: sqlite3.Connection) -> None:
    db.execute(
        "INSERT INTO playbooks VALUES (?, ?, ?, ?) ON CONFLICT (digest) DO NOTHING",
        (write.digest, write.playbook_id, write.file, write.text),
    )


@apply.register
def _(write: port.SetControl, db: sqlite3.Connection) -> None:
    if write.value is None:
        db.execute("DELETE FROM control WHERE key = ?", (write.key,))
    else:
        db.execute("INSERT OR REPLACE INTO control VALUES (?, ?)", (write.key, write.value))
