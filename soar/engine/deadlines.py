"""The time that a step may take as a whole: a row from its beginning on, and one fact that ends all within it.

The deadline is the instant of the step's beginning, which its row keeps, plus its `timeout`. It outlasts restarts and
replays, and passes while the run sleeps, because who sleeps is woken then. Nothing within begins after it; what has
been sent by then still gets its outcome, or a person must say.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from soar.engine.context import Park, RunContext, Undetermined
from soar.engine.skip import asked_no_more
from soar.engine.steps import end, fresh, in_doubt, tried, until, waiting, without_outcome
from soar.model.action import Attempt, AttemptState, Effect
from soar.model.duration import format_duration
from soar.model.entry import Entry, EntryType
from soar.model.playbook import BaseStep
from soar.model.run import Run, RunState, StepRecord, StepState
from soar.store.port import PutStep, SetPaused, Store, Write

TIMEOUT = "timeout"
"""The code of a step whose time was over."""

BEGUN = "begun"
"""The phase of a step of which nothing is known but since when its time runs."""

REVIEW_PAUSE = timedelta(seconds=5)
"""Between looks whether a person has said what became of a sub-run."""

_IN_DOUBT = frozenset({AttemptState.INTENDED, AttemptState.UNKNOWN})


def begin(context: RunContext, step: BaseStep, path: str) -> datetime:
    """The step's deadline; where it begins now, its row goes with the run's next fact."""
    assert step.timeout is not None
    record = context.records.get(path)
    if record is None:
        new = fresh(context, step, path)
        record = waiting(new, phase=BEGUN, until=until(new.started_at + step.timeout))
        context.note(record)
    return record.started_at + step.timeout


def closed_by(record: StepRecord | None) -> str | None:
    """The path of the step whose deadline ended this one, itself or one around it."""
    return None if record is None else record.data.get("closed")


async def time_out(context: RunContext, store: Store, step: BaseStep, path: str) -> StepRecord:
    """End a step whose time is over, and all that is open within it, in one fact; returns its record.

    Who was asked is asked no more, sub-runs are cancelled, what was queued is not tried. Raises Undetermined first
    where something within was sent whose outcome is not known, and Park where that is so in a sub-run: once a person
    has said, the step ends all the same.
    """
    assert step.timeout is not None
    own = context.records[path]
    await _face_doubts(context, path)
    await _wait_for_reviews(context, store, path)
    why = f"{path} was not done within {format_duration(step.timeout)}"
    writes: list[Write] = []
    entries: list[Entry] = []
    closed: list[StepRecord] = []
    for record in _within(context, path):
        more, told = await asked_no_more(store, context.scribe, record, because="ran out of time")
        writes += more
        entries += told
        if record.path != path:
            ended = _closed(record, path).model_copy(
                update={"state": StepState.FAILED, "error_code": TIMEOUT, "error": why, "finished_at": context.now()}
            )
            closed.append(ended)
            writes.append(PutStep(record=ended))
            entries.append(context.step_entry(ended))
    last = f"; {own.data['why']}" if own.data.get("why") else ""
    record = await end(
        context,
        _closed(own, path),
        StepState.FAILED,
        result=own.result,
        code=TIMEOUT,
        error=f"{why}{last}",
        writes=tuple(writes),
        entries=tuple(entries),
    )
    context.records.update({each.path: each for each in closed})
    return record


def _within(context: RunContext, path: str) -> list[StepRecord]:
    """The open records of a step and of all within it."""
    return [
        record
        for at, record in context.records.items()
        if record.state is StepState.WAITING and (at == path or at.startswith(f"{path}."))
    ]


def _closed(record: StepRecord, by: str) -> StepRecord:
    return record.model_copy(update={"data": {**record.data, "closed": by}})


async def _face_doubts(context: RunContext, path: str) -> None:
    """What was sent and has no known outcome stands as unknown; raises Undetermined where there is such a thing."""
    writes: list[Write] = []
    entries: list[Entry] = []
    doubts: list[StepRecord] = []
    settled: list[Attempt] = []
    for at in [at for at in context.attempts if at == path or at.startswith(f"{path}.")]:
        attempt = context.last_try(at)
        if attempt is None or attempt.state not in _IN_DOUBT:
            continue
        record = context.records.get(at) or tried(attempt)
        if _final(record):
            continue
        why = attempt.error or "no answer came in time"
        if attempt.state is AttemptState.INTENDED:
            attempt, move, told = without_outcome(context.scribe, attempt, why)
            settled.append(attempt)
            writes.append(move)
            entries.append(told)
        if attempt.request.effect is not Effect.READ:
            doubts.append(record if record.state is StepState.UNKNOWN else in_doubt(record, why))
    new = [record for record in doubts if context.records.get(record.path) != record]
    for record in new:
        writes.append(PutStep(record=record))
        entries.append(context.step_entry(record))
    if writes:
        await context.save(*writes, entries=tuple(entries))
        context.records.update({record.path: record for record in new})
        for attempt in settled:
            context.know(attempt)
    if doubts:
        raise Undetermined(doubts[0].path, doubts[0].error or "its outcome is not known")


async def _wait_for_reviews(context: RunContext, store: Store, path: str) -> None:
    """A sub-run of which a person must say what happened is held until they do, not cancelled; raises Park for it."""
    reviewed = await _in_review(store, _within(context, path))
    held = [run for run in reviewed if not run.paused]
    if held:
        payload = {"reason": f"step {path} of run {context.run.id} ran out of time; it ends once somebody has said"}
        told = [context.scribe.entry(EntryType.RUN_PAUSED, run.id, run_id=run.id, payload=payload) for run in held]
        await context.save(*(SetPaused(run_id=run.id, paused=True) for run in held), entries=tuple(told))
    if reviewed:
        raise Park(context.now() + REVIEW_PAUSE)


async def _in_review(store: Store, records: Iterable[StepRecord]) -> list[Run]:
    """The runs that these steps have called, and those have called, that need review."""
    found: list[Run] = []
    for record in records:
        name = record.data.get("run_id") if record.state is StepState.WAITING else None
        run = await store.run(name) if name else None
        if run is not None and run.state is RunState.NEEDS_REVIEW:
            found.append(run)
        elif run is not None and not run.final:
            found += await _in_review(store, (await store.steps(run.id)).values())
    return found


def _final(record: StepRecord) -> bool:
    return record.state not in {StepState.WAITING, StepState.UNKNOWN}
