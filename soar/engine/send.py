"""Intent, call, outcome; and finding out what an unknown outcome was."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn

import structlog

from soar.connector.base import Call
from soar.engine.context import Park, RunContext, Scope, Undetermined
from soar.engine.request import Connectors
from soar.engine.retry import next_try
from soar.engine.steps import end, moved, until, wait, waiting
from soar.engine.undo import schedule_undo, undo_delay
from soar.errors import ConnectorError, HaltedError, OutcomeUnknownError
from soar.model.action import ActionRequest, ActionResult, Attempt, AttemptState, Effect
from soar.model.approval import Approval, ApprovalState
from soar.model.decision import Decision
from soar.model.entry import Entry, EntryType
from soar.model.playbook import ActionStep
from soar.model.run import StepRecord, StepState
from soar.store.port import InsertAttempt, UpdateApproval, Write

log = structlog.get_logger(__name__)

CALL_SECONDS = 30.0
HALT_PAUSE = timedelta(seconds=2)
_REPEATABLE = frozenset({Effect.READ, Effect.IDEMPOTENT, Effect.KEYED})


@dataclass(frozen=True, kw_only=True)
class Allowed:
    """An action that policy, and people where they were asked, allow."""

    step: ActionStep
    request: ActionRequest
    record: StepRecord
    decision: Decision
    decided: Entry
    approval: Approval | None
    scope: Scope


class Sender:
    """Makes calls. No call without a durable intent; no blind repeat of what may have happened."""

    def __init__(self, connectors: Connectors) -> None:
        self._connectors = connectors

    async def send(self, context: RunContext, allowed: Allowed) -> StepRecord:
        """Record the intent, make the call, record the outcome.

        Returns the step's record: final, or waiting in phase `verify`. Raises Park and Undetermined.
        """
        attempt = await self._intend(context, allowed)
        # If we crash from here on, the intent says that the call may have been made.
        try:
            result = await self._connectors.invoke(attempt.request, _call(context, attempt.request, allowed.step))
        except ConnectorError as failure:
            return await self._failed(context, allowed, attempt=attempt, failure=failure)
        return await self._succeeded(context, allowed, attempt=attempt, result=result)

    async def settle_last(self, context: RunContext, step: ActionStep, record: StepRecord) -> StepRecord | None:
        """Look at the last try before making another; None where another may be made.

        An intent without an outcome, found under a new lease, is a call that may have been made.
        """
        tries = context.attempts.get(record.path)
        if not tries or tries[-1].state not in {AttemptState.INTENDED, AttemptState.UNKNOWN}:
            return None
        attempt = tries[-1]
        if attempt.state is AttemptState.INTENDED:
            why = "the worker ended between intent and outcome"
            attempt = await _mark_unknown(context, attempt, why)
        if attempt.request.effect in _REPEATABLE and attempt.number < step.retry.attempts:
            return None
        return await self._find_out(context, record, attempt=attempt)

    async def _intend(self, context: RunContext, allowed: Allowed) -> Attempt:
        """Make the intent durable; raises Park while the kill switch is set."""
        request, approval = allowed.request, allowed.approval
        tries = context.attempts.setdefault(request.path, [])
        attempt = Attempt(
            run_id=context.run.id,
            path=request.path,
            number=len(tries) + 1,
            state=AttemptState.INTENDED,
            request=request,
            epoch=context.run.epoch,
            intended_at=context.now(),
        )
        writes: list[Write] = [InsertAttempt(attempt=attempt, playbook_id=context.run.playbook_id)]
        entries = [allowed.decided]
        if approval is not None and approval.state is ApprovalState.GRANTED:
            consumed = approval.model_copy(update={"state": ApprovalState.CONSUMED})
            writes.append(UpdateApproval(approval=consumed, expect=approval.state, expect_votes=len(approval.votes)))
            entries.append(
                context.entry(
                    EntryType.APPROVAL_CONSUMED, approval.id, data={"digest": approval.digest, "path": request.path}
                )
            )
        entries.append(_intent_entry(context, attempt))
        try:
            await context.save(*writes, entries=tuple(entries))
        except HaltedError as halted:
            park = await wait(context, allowed.record, phase="halted", pause=HALT_PAUSE, why=str(halted))
            raise park from halted
        tries.append(attempt)
        return attempt

    async def _succeeded(
        self, context: RunContext, allowed: Allowed, *, attempt: Attempt, result: ActionResult
    ) -> StepRecord:
        step = allowed.step
        move, told = moved(context, attempt, AttemptState.SUCCEEDED, result=result.value)
        writes: tuple[Write, ...] = (move,)
        entries: tuple[Entry, ...] = (told,)
        after = undo_delay(step, allowed.decision)
        if after is not None:
            undo = schedule_undo(context, step, request=attempt.request, after=after, scope=allowed.scope)
            writes, entries = (*writes, *undo.writes), (*entries, *undo.entries)
        if step.verify is None:
            return await end(
                context, allowed.record, StepState.SUCCEEDED, result=result.value, writes=writes, entries=entries
            )
        deadline = context.now() + step.verify.within
        record = waiting(allowed.record, phase="verify", until=until(deadline))
        record = record.model_copy(update={"result": result.value})
        await context.save(*writes, entries=entries, record=record)
        return record

    async def _failed(
        self, context: RunContext, allowed: Allowed, *, attempt: Attempt, failure: ConnectorError
    ) -> StepRecord:
        log.info("action.failed", run=context.run.id, path=attempt.path, code=failure.code, error=str(failure))
        record = allowed.record
        unknown = isinstance(failure, OutcomeUnknownError)
        if unknown and attempt.request.effect not in _REPEATABLE:
            attempt = await _mark_unknown(context, attempt, str(failure))
            return await self._find_out(context, record, attempt=attempt)
        state = AttemptState.UNKNOWN if unknown else AttemptState.FAILED
        move, told = moved(context, attempt, state, code=failure.code, error=str(failure))
        context.attempts[attempt.path][-1] = attempt.model_copy(update={"state": state})
        wake_at = next_try(allowed.step.retry, failure, attempt=attempt, now=context.now())
        if wake_at is not None:
            again = waiting(record, phase="retry", until=until(wake_at), why=str(failure))
            await context.save(move, entries=(told,), record=again)
            raise Park(wake_at)
        if unknown:
            await context.save(move, entries=(told,))
            await _undetermined(context, record, str(failure))
        return await end(
            context,
            record,
            StepState.FAILED,
            code=failure.code,
            error=str(failure),
            writes=(move,),
            entries=(told,),
        )

    async def _find_out(self, context: RunContext, record: StepRecord, *, attempt: Attempt) -> StepRecord:
        """Read back what can be read back; only a confirmation counts, absence may be a delay."""
        request = attempt.request
        if request.effect is not Effect.VERIFIABLE:
            await _undetermined(context, record, "its outcome is not known and cannot be read back")
        try:
            seen = await self._connectors.read_back(request, _call(context, request, None))
        except ConnectorError as failure:
            await _undetermined(context, record, f"its outcome is not known, and reading back failed: {failure}")
        if seen is None:
            await _undetermined(context, record, "its outcome is not known, and reading back did not find it")
        move, told = moved(context, attempt, AttemptState.SUCCEEDED, result=seen.value)
        return await end(context, record, StepState.SUCCEEDED, result=seen.value, writes=(move,), entries=(told,))


def _call(context: RunContext, request: ActionRequest, step: ActionStep | None) -> Call:
    timeout = step.timeout if step and step.timeout else timedelta(seconds=CALL_SECONDS)
    return Call(
        idempotency_key=request.idempotency_key,
        run_id=context.run.id,
        path=request.path,
        deadline=context.now() + timeout,
    )


def _intent_entry(context: RunContext, attempt: Attempt) -> Entry:
    request = attempt.request
    return context.entry(
        EntryType.ACTION_INTENT,
        request.path,
        payload={"request": request.model_dump(mode="json")},
        data={
            "action": request.action,
            "attempt": attempt.number,
            "request_digest": request.digest,
            "key": request.idempotency_key,
            "epoch": context.run.epoch,
        },
    )


async def _mark_unknown(context: RunContext, attempt: Attempt, why: str) -> Attempt:
    move, told = moved(context, attempt, AttemptState.UNKNOWN, code="outcome_unknown", error=why)
    await context.save(move, entries=(told,))
    attempt = attempt.model_copy(update={"state": AttemptState.UNKNOWN})
    context.attempts[attempt.path][-1] = attempt
    return attempt


async def _undetermined(context: RunContext, record: StepRecord, why: str) -> NoReturn:
    """Unknown is called unknown; raises Undetermined."""
    await context.save(
        record=record.model_copy(update={"state": StepState.UNKNOWN, "error_code": "outcome_unknown", "error": why})
    )
    raise Undetermined(record.path, why)
