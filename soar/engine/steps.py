"""How a step's standing is written down."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from soar.engine.context import Park, RunContext
from soar.engine.scribe import Data, Scribe
from soar.model.action import Attempt, AttemptState
from soar.model.base import from_rfc3339, to_rfc3339
from soar.model.entry import Entry, EntryType
from soar.model.playbook import BaseStep
from soar.model.run import StepRecord, StepState
from soar.store.port import MoveAttempt, Write

_KEPT = ("approval_id", "undo")
"""What a step's notes keep through all phases: who was asked, and how what it does is taken back."""

HAPPENED = "happened"
"""The phase of a step of which a person said that it happened: it is sent no more, only finished."""


OUTCOME_UNKNOWN = "outcome_unknown"
"""The code of what may or may not have happened."""


def fresh(context: RunContext, step: BaseStep, path: str) -> StepRecord:
    """A step that begins now."""
    return StepRecord(
        run_id=context.run.id,
        path=path,
        step_id=step.id,
        kind=step.kind,
        state=StepState.WAITING,
        started_at=context.now(),
    )


def waiting(record: StepRecord, *, phase: str, **data: Any) -> StepRecord:
    """The record of a step that waits: for what, and the interpreter's own notes."""
    kept = {key: record.data[key] for key in _KEPT if key in record.data}
    return record.model_copy(update={"state": StepState.WAITING, "data": {**kept, "phase": phase, **data}})


def until_of(record: StepRecord) -> datetime | None:
    """The instant that a waiting step waits for, if it waits for one."""
    text = record.data.get("until")
    return from_rfc3339(text) if text else None


def until(moment: datetime) -> str:
    """How that instant is noted."""
    return to_rfc3339(moment)


def hold(context: RunContext, record: StepRecord, *phases: str) -> None:
    """Raise Park while a step's time has not come: another branch may have woken the run."""
    moment = until_of(record)
    if record.data.get("phase") in phases and moment is not None and context.now() < moment:
        raise Park(moment)


async def wait(context: RunContext, record: StepRecord, *, phase: str, pause: timedelta, why: str) -> Park:
    """Note that a step waits for better times; returns the Park to raise. Noted once, not at every try."""
    if record.data.get("phase") != phase or record.path not in context.records:
        await context.save(record=waiting(record, phase=phase, why=why))
    return Park(context.now() + pause)


async def end(  # noqa: PLR0913 - all by keyword
    context: RunContext,
    record: StepRecord,
    state: StepState,
    *,
    result: Any = None,
    code: str | None = None,
    error: str | None = None,
    writes: tuple[Write, ...] = (),
    entries: tuple[Entry, ...] = (),
) -> StepRecord:
    """Record a step's end, with whatever belongs to the same fact."""
    final = ended(context, record, state, result=result, code=code, error=error)
    await context.save(*writes, entries=entries, record=final)
    return final


def ended(
    context: RunContext,
    record: StepRecord,
    state: StepState,
    *,
    result: Any = None,
    code: str | None = None,
    error: str | None = None,
) -> StepRecord:
    """The record of a step that ends now."""
    update = {"state": state, "result": result, "error_code": code, "error": error, "finished_at": context.now()}
    return record.model_copy(update=update)


def moved(
    scribe: Scribe,
    attempt: Attempt,
    state: AttemptState,
    *,
    result: dict[str, Any] | None = None,
    code: str | None = None,
    error: str | None = None,
) -> tuple[Attempt, MoveAttempt, Entry]:
    """An attempt's outcome: as it stands then, as write and as entry."""
    now = scribe.clock.now()
    after = attempt.model_copy(update={"state": state, "finished_at": now, "error_code": code, "error": error})
    move = MoveAttempt(attempt=after, expect=attempt.state)
    payload = {key: value for key, value in (("result", result), ("error", error)) if value is not None}
    data: Data = {
        "action": attempt.request.action,
        "attempt": attempt.number,
        "state": state.value,
    }
    if code:
        data["code"] = code
    told = scribe.entry(
        EntryType.ACTION_OUTCOME, attempt.path, run_id=attempt.run_id, payload=payload or None, data=data
    )
    return after, move, told


def without_outcome(scribe: Scribe, attempt: Attempt, why: str) -> tuple[Attempt, MoveAttempt, Entry]:
    """An attempt of which nobody knows whether it took effect, told as `moved` tells an outcome."""
    return moved(scribe, attempt, AttemptState.UNKNOWN, code=OUTCOME_UNKNOWN, error=why)


def in_doubt(record: StepRecord, why: str) -> StepRecord:
    """The record of a step whose action has no known outcome."""
    return record.model_copy(update={"state": StepState.UNKNOWN, "error_code": OUTCOME_UNKNOWN, "error": why})


def tried(attempt: Attempt) -> StepRecord:
    """The record of an action that was intended before anything was noted of its step."""
    return StepRecord(
        run_id=attempt.run_id, path=attempt.path, kind="use", state=StepState.WAITING, started_at=attempt.intended_at
    )
