"""Each Write as a decision over the rows held; raises the StoreError that refuses the fact."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache, singledispatch
from typing import Any

from soar.errors import LeaseLostError, RunCancelledError, RunPausedError, StateConflictError
from soar.model.action import ATTEMPT_MOVES, AttemptState
from soar.model.approval import APPROVAL_MOVES, ApprovalState
from soar.model.base import to_json
from soar.model.run import FINAL_STATES, RUN_MOVES, RunKind, RunState, StepState
from soar.store import port, queueing
from soar.store.postgres import ceilings, turns
from soar.store.postgres.rows import RunRow, alert_values, attempt_values, digest_of, letter_values, run_rows
from soar.store.postgres.sheet import Held, Sheet

_PARKED = frozenset({RunState.READY, RunState.WAITING, RunState.NEEDS_REVIEW})


def check_lease(sheet: Sheet, lease: port.Lease) -> None:
    """Raise LeaseLostError unless the run is still running under this epoch."""
    run = sheet.run(lease.run_id)
    if run is None or run.epoch != lease.epoch or run.state != RunState.RUNNING:
        raise LeaseLostError(f"run {lease.run_id} is no longer ours (epoch {lease.epoch}); nothing was written")


def _move(sheet: Sheet, run: RunRow, **changes: Any) -> None:
    sheet.put("runs", run.id, row=run._replace(**changes))


def _running(sheet: Sheet, run_id: str, refused: str) -> RunRow:
    run = sheet.run(run_id)
    if run is None or run.state != RunState.RUNNING:
        raise StateConflictError(f"run {run_id} is not running, {refused}")
    return run


def carry_out(writes: Iterable[port.Write], sheet: Sheet) -> None:
    """Carry out a fact's writes on the sheet, in order."""
    for write in writes:
        _how(type(write))(write, sheet)


@singledispatch
def apply(write: object, _sheet: Sheet) -> None:
    """Carry out one write on the sheet."""
    raise TypeError(f"no rows for {type(write).__name__}")


_how: Callable[[object], Callable[[object, Sheet], None]] = cache(
    apply.dispatch
)  # its own way of remembering costs more than most writes do


@apply.register
def _(write: port.InsertRecord, sheet: Sheet) -> None:
    digest = digest_of(write.coordinates)
    sheet.insert("records", digest, row=(digest, write.coordinates, write.at))


@apply.register
def _(write: port.InsertAlert, sheet: Sheet) -> None:
    sheet.insert("alerts", write.alert.body["id"], row=alert_values(write))


@apply.register
def _(write: port.InsertDeadLetter, sheet: Sheet) -> None:
    sheet.insert("dead_letters", write.letter.id, row=letter_values(write.letter))


@apply.register
def _(write: port.PutWindow, sheet: Sheet) -> None:
    window = write.window
    row = (window.key, window.started_at, window.until, window.count, window.run_id)
    sheet.put("windows", window.key, row=row)


@apply.register
def _(write: port.InsertRun, sheet: Sheet) -> None:
    if write.run.kind is RunKind.CALL and write.run.parent_run_id is not None:
        _check_not_paused(sheet, write.run.parent_run_id)
    moving, origin = run_rows(write.run)
    sheet.insert("runs", write.run.id, row=moving)
    sheet.put("origins", write.run.id, row=origin)


@apply.register
def _(write: port.ParkRun, sheet: Sheet) -> None:
    run = _running(sheet, write.run_id, "so it cannot be parked")
    # A signal that came while the run was running must not be slept through.
    state = RunState.READY if run.signalled or run.cancel_requested else RunState.WAITING
    _move(sheet, run, state=state, wake_at=write.wake_at, owner=None, lease_until=None, signalled=False)


@apply.register
def _(write: port.ReleaseRun, sheet: Sheet) -> None:
    run = _running(sheet, write.run_id, "so it cannot be released")
    before = write.expired_before
    if before is not None and (run.lease_until is None or run.lease_until >= before):
        raise StateConflictError(f"run {write.run_id} is not running, or its lease was renewed")
    _move(sheet, run, state=RunState.READY, owner=None, lease_until=None)


@apply.register
def _(write: port.SignalRun, sheet: Sheet) -> None:
    run = sheet.run(write.run_id)
    if run is None or run.state not in {RunState.WAITING, RunState.RUNNING, RunState.READY}:
        return
    state = RunState.READY if run.state == RunState.WAITING else run.state
    _move(sheet, run, state=state, signalled=True)


@apply.register
def _(write: port.FinishRun, sheet: Sheet) -> None:
    if write.state not in FINAL_STATES and write.state is not RunState.NEEDS_REVIEW:
        raise StateConflictError(f"run {write.run_id} cannot finish as {write.state}")
    run = _running(sheet, write.run_id, "so it cannot finish")
    _move(
        sheet,
        run,
        state=write.state,
        outputs=to_json(write.outputs),
        error=write.error,
        finished_at=write.at,
        owner=None,
        lease_until=None,
        wake_at=None,
        locked=run.locked and write.state not in FINAL_STATES,
        paused=run.paused and write.state not in FINAL_STATES,
    )


@apply.register
def _(write: port.RequestCancel, sheet: Sheet) -> None:
    run = sheet.run(write.run_id)
    if run is None or run.state not in {*_PARKED, RunState.RUNNING}:
        raise StateConflictError(f"run {write.run_id} does not exist or has already ended, so it cannot be cancelled")
    state = RunState.READY if run.state in _PARKED else run.state
    _move(sheet, run, state=state, cancel_requested=True, paused=False)


@apply.register
def _(write: port.SetPaused, sheet: Sheet) -> None:
    run = sheet.run(write.run_id)
    if write.paused:
        if run is None or run.paused or run.state not in {*_PARKED, RunState.RUNNING}:
            raise StateConflictError(f"run {write.run_id} does not exist, has ended, or is paused already")
        _move(sheet, run, paused=True)
        return
    if run is None or not run.paused:
        raise StateConflictError(f"run {write.run_id} is not paused")
    # Signalled: what it parked without a time when it met the pause, it takes up again.
    state = RunState.READY if run.state == RunState.WAITING else run.state
    _move(sheet, run, state=state, paused=False, signalled=True)


def _check_not_paused(sheet: Sheet, run_id: str) -> None:
    run = sheet.run(run_id)
    if run is not None and run.paused:
        raise RunPausedError(f"run {run_id} is paused; `soar runs resume` lets it go on")


@apply.register
def _(write: port.ReopenRun, sheet: Sheet) -> None:
    if RunState.READY not in RUN_MOVES.get(write.expect, frozenset()):
        raise StateConflictError(f"a {write.expect} run cannot be retried")
    run = sheet.run(write.run_id)
    if run is None or run.state != write.expect:
        raise StateConflictError(f"run {write.run_id} is not {write.expect}, so it cannot be retried")
    cancelled = run.cancel_requested and write.expect not in FINAL_STATES
    _move(sheet, run, state=RunState.READY, error=None, finished_at=None, cancel_requested=cancelled)
    for path in write.forget:
        sheet.delete("steps", write.run_id, path)


@apply.register
def _(write: port.PutStep, sheet: Sheet) -> None:
    record = write.record
    held: Held | None = sheet.get("steps", record.run_id, record.path)
    if held is not None and held.state not in {StepState.WAITING, StepState.UNKNOWN}:
        raise StateConflictError(f"step {record.path} of run {record.run_id} has already ended")
    awaits = record.state is StepState.WAITING and "trigger" in record.data
    values = (record.run_id, record.path, record.state, record.model_dump_json(), awaits)
    sheet.put("steps", record.run_id, record.path, row=Held(record.state, values=values))


@apply.register
def _(write: port.InsertAttempt, sheet: Sheet) -> None:
    attempt, request = write.attempt, write.attempt.request
    turns.check_switches(sheet, request.instance, attempt.intended_at)
    run = sheet.run(attempt.run_id)
    if run is not None and run.cancel_requested:
        raise RunCancelledError(f"run {attempt.run_id} was cancelled")
    _check_not_paused(sheet, attempt.run_id)
    key = (attempt.run_id, attempt.path, attempt.number)
    if sheet.get("attempts", *key) is not None:
        raise StateConflictError(f"attempt {attempt.number} of {attempt.path} was already intended")
    ceilings.check(sheet, write)
    if write.turn is not None:
        turns.take(sheet, write, write.turn)
    sheet.put("attempts", *key, row=Held(attempt.state, values=attempt_values(attempt)))
    for counted in write.counted:
        sheet.put("acted", counted, *key, row=(counted, attempt.intended_at, *key))


@apply.register
def _(write: port.MoveAttempt, sheet: Sheet) -> None:
    attempt = write.attempt
    if attempt.state not in ATTEMPT_MOVES.get(write.expect, frozenset()):
        raise StateConflictError(f"an attempt cannot go from {write.expect} to {attempt.state}")
    key = (attempt.run_id, attempt.path, attempt.number)
    held: Held | None = sheet.get("attempts", *key)
    if held is None or held.state != write.expect:
        raise StateConflictError(f"attempt {attempt.number} of {attempt.path} is not {write.expect}")
    sheet.put("attempts", *key, row=Held(attempt.state, values=attempt_values(attempt)))
    if attempt.limited and write.expect is AttemptState.INTENDED:
        turns.free(sheet, attempt)


@apply.register
def _(write: queueing.JoinQueue, sheet: Sheet) -> None:
    turns.join(sheet, write)


@apply.register
def _(write: queueing.CallTurn, sheet: Sheet) -> None:
    turns.call(sheet, write)


@apply.register
def _(write: queueing.HoldInstance, sheet: Sheet) -> None:
    turns.hold(sheet, write)


@apply.register
def _(_write: queueing.SweepTurns, _sheet: Sheet) -> None:
    """One statement of the flush."""


@apply.register
def _(write: port.InsertApproval, sheet: Sheet) -> None:
    _put_approval(write, sheet.insert)


@apply.register
def _(write: port.UpdateApproval, sheet: Sheet) -> None:
    approval = write.approval
    votes_only = approval.state is write.expect is ApprovalState.PENDING
    if not votes_only and approval.state not in APPROVAL_MOVES.get(write.expect, frozenset()):
        raise StateConflictError(f"an approval cannot go from {write.expect} to {approval.state}")
    held: Held | None = sheet.get("approvals", approval.id)
    if held is None or (held.state, held.number) != (write.expect, write.expect_votes):
        raise StateConflictError(f"approval {approval.id} has changed meanwhile; look at it again")
    _put_approval(write, sheet.put)


def _put_approval(write: port.InsertApproval | port.UpdateApproval, put: Any) -> None:
    approval = write.approval
    votes = len(approval.votes)
    values = (
        approval.id,
        approval.run_id,
        approval.path,
        approval.state,
        votes,
        approval.decide_by,
        approval.execute_by,
        approval.model_dump_json(),
    )
    put("approvals", approval.id, row=Held(approval.state, votes, values=values))


@apply.register
def _(write: port.InsertPlaybook, sheet: Sheet) -> None:
    sheet.put("playbooks", write.digest, row=(write.digest, write.playbook_id, write.file, write.text))


@apply.register
def _(write: port.SetControl, sheet: Sheet) -> None:
    if write.value is None:
        sheet.delete("control", write.key)
    else:
        sheet.put("control", write.key, row=(write.key, write.value))
