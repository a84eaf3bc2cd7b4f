"""How a leased run is given back: parked, or ended with everything that belongs to its end in one fact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from soar.engine.approvals import closing
from soar.engine.context import RunContext, StepFailed, Stopped, Undetermined
from soar.engine.scribe import Scribe
from soar.engine.steps import in_doubt, tried, without_outcome
from soar.errors import RunCancelledError
from soar.model.action import Attempt, AttemptState
from soar.model.approval import OPEN, ApprovalState
from soar.model.entry import Entry, EntryType
from soar.model.run import Run, RunKind, RunState, StepRecord, StepState
from soar.store.port import (
    Fact,
    FinishRun,
    Lease,
    PutStep,
    RequestCancel,
    SignalRun,
    Store,
    Write,
)


@dataclass(frozen=True, kw_only=True)
class End:
    """The state in which a run rests."""

    state: RunState
    error: str | None = None
    outputs: Mapping[str, Any] | None = None


CANCELLED = End(state=RunState.CANCELLED, error="cancelled by a person")


def end_of(way: Exception) -> End:
    """How a run ends that did not reach the end of its playbook."""
    match way:
        case Stopped():
            return End(state=RunState.SUCCEEDED if way.succeeded else RunState.FAILED, error=way.message)
        case Undetermined():
            return End(state=RunState.NEEDS_REVIEW, error=f"{way.path}: {way}")
        case StepFailed():
            denied = way.record.state is StepState.DENIED
            state = RunState.DENIED if denied else RunState.FAILED
            return End(state=state, error=f"{way.record.path}: {way}")
        case RunCancelledError():
            return CANCELLED
        case _:
            return End(state=RunState.FAILED, error=f"outputs: {way}")


def end_of_bug(bug: Exception) -> End:
    """A bug ends one run where people see it; recovery would only meet it again."""
    words = f"internal error, please report it: {type(bug).__name__}: {bug}"
    return End(state=RunState.FAILED, error=words.encode(errors="replace").decode())


async def ending(store: Store, scribe: Scribe, run: Run, end: End, context: RunContext | None) -> Fact:
    """The fact that ends a run, by what its context knows, where it came as far as having one.

    What it sent without an answer is called unknown and left to a person; nobody is asked any more for what will
    not be done; a cancelled run's sub-runs are cancelled with it; who called it is woken.
    """
    now = scribe.clock.now()
    writes: list[Write] = []
    entries: list[Entry] = []
    if context is None:
        attempts, steps = await store.attempts(run.id), await store.steps(run.id)
    else:
        attempts, steps = [each for tries in context.attempts.values() for each in tries], context.records
    doubts = _call_unknown(scribe, attempts, steps, writes, entries)
    if doubts and end.state is not RunState.CANCELLED:
        end = End(state=RunState.NEEDS_REVIEW, error=f"{', '.join(doubts)}: outcome unknown; then: {end.error}")
    asked = context is None or not context.first or any("approval_id" in step.data for step in steps.values())
    if asked and end.state is not RunState.NEEDS_REVIEW:
        await _close_approvals(store, scribe, run, writes, entries)
    if end.state is RunState.CANCELLED:
        await _cancel_called(store, scribe, steps, writes, entries)
    if run.kind is RunKind.CALL and run.parent_run_id is not None:
        writes.append(SignalRun(run_id=run.parent_run_id))
    outputs = dict(end.outputs or {})
    writes.append(FinishRun(run_id=run.id, state=end.state, outputs=outputs, error=end.error, at=now))
    payload = {key: value for key, value in (("outputs", outputs), ("error", end.error)) if value}
    entries.append(
        scribe.entry(
            EntryType.RUN_FINISHED, run.id, run_id=run.id, payload=payload or None, data={"state": end.state.value}
        )
    )
    return Fact(writes=tuple(writes), entries=tuple(entries), lease=Lease(run_id=run.id, epoch=run.epoch))


def _call_unknown(
    scribe: Scribe,
    attempts: Sequence[Attempt],
    steps: Mapping[str, StepRecord],
    writes: list[Write],
    entries: list[Entry],
) -> list[str]:
    """An intent without an outcome does not end with its run; returns the paths."""
    paths = []
    for attempt in attempts:
        if attempt.state is not AttemptState.INTENDED:
            continue
        why = "the run ended between intent and outcome"
        _, move, told = without_outcome(scribe, attempt, why)
        writes.append(move)
        entries.append(told)
        writes.append(PutStep(record=in_doubt(steps.get(attempt.path) or tried(attempt), why)))
        paths.append(attempt.path)
    return paths


async def _close_approvals(store: Store, scribe: Scribe, run: Run, writes: list[Write], entries: list[Entry]) -> None:
    for approval in await store.approvals(run_id=run.id, limit=10_000):
        if approval.state in OPEN:
            write, told = closing(scribe, approval, ApprovalState.CANCELLED)
            writes.append(write)
            entries.append(told)


async def _cancel_called(
    store: Store, scribe: Scribe, steps: Mapping[str, StepRecord], writes: list[Write], entries: list[Entry]
) -> None:
    for step in steps.values():
        name = step.data.get("run_id") if step.state is StepState.WAITING else None
        called = await store.run(name) if name else None
        if called is not None and not called.final:
            writes.append(RequestCancel(run_id=called.id))
            entries.append(
                scribe.entry(
                    EntryType.RUN_CANCEL_REQUESTED,
                    called.id,
                    run_id=called.id,
                    payload={"reason": f"run {step.run_id}, which called it, was cancelled"},
                )
            )
