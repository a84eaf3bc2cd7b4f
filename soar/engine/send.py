"""Intent, call, outcome."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from soar.connector.base import Call
from soar.engine.approvals import swap
from soar.engine.context import Park, RunContext
from soar.engine.deadlines import TIMEOUT
from soar.engine.doubt import REPEATABLE, mark_unknown, undetermined
from soar.engine.leases import LeaseTimes
from soar.engine.redaction import shown
from soar.engine.request import Connectors
from soar.engine.retry import OURS, next_try
from soar.engine.steps import end, ended, moved, until, wait, waiting
from soar.engine.turns import QUEUED, held_by, join_queue, turn_for
from soar.engine.undo import Undo, schedule_undo
from soar.errors import BusyError, ConnectorError, HaltedError, LateIntentError, OutcomeUnknownError
from soar.model.action import ActionRequest, ActionResult, Attempt, AttemptState, Effect
from soar.model.approval import Approval, ApprovalState
from soar.model.entry import Entry, EntryType
from soar.model.playbook import ActionStep
from soar.model.run import StepRecord, StepState
from soar.store.ceilings import Ceiling
from soar.store.port import Fact, InsertAttempt, PutStep, Write

log = structlog.get_logger(__name__)

HALT_PAUSE = timedelta(seconds=5)


@dataclass(frozen=True, kw_only=True)
class Allowed:
    """An action that policy, and people where they were asked, allow."""

    request: ActionRequest
    record: StepRecord
    decided: Entry
    approval: Approval | None
    undo: Undo | None
    ceilings: tuple[Ceiling, ...] = ()
    redacted: tuple[str, ...] = ()
    notices: Fact = field(default_factory=Fact)


@dataclass(frozen=True, kw_only=True)
class Sender:
    """Makes calls. No call without a durable intent; no blind repeat of what may have happened."""

    connectors: Connectors
    times: LeaseTimes
    turned: Callable[[], None] = lambda: None  # a turn came free, or somebody waits for one

    async def intend(self, context: RunContext, allowed: Allowed) -> tuple[Attempt, StepRecord]:
        """Make the intent durable; raises Park while the kill switch is set, or no turn is free at the instance.

        Raises RecountError where other actions came between it and its decision. The approval is consumed and the way
        to take it back is noted in the same fact.
        """
        request, approval, record = allowed.request, allowed.approval, allowed.record
        lasts = self.times.call_within
        turn = turn_for(context, self.connectors.catalogue(), record, instance=request.instance, lasts=lasts)
        attempt = Attempt(
            run_id=context.run.id,
            path=request.path,
            number=len(context.attempts.get(request.path, ())) + 1,
            state=AttemptState.INTENDED,
            request=request,
            epoch=context.run.epoch,
            intended_at=context.now(),
            redacted=allowed.redacted,
            limited=turn is not None,
        )
        intent = InsertAttempt(
            attempt=attempt, playbook_id=context.run.playbook_id, turn=turn, ceilings=allowed.ceilings
        )
        writes: list[Write] = [intent]
        entries = [allowed.decided]
        if approval is not None and approval.state is ApprovalState.GRANTED:
            consumed = approval.model_copy(update={"state": ApprovalState.CONSUMED})
            writes.append(swap(approval, consumed))
            entries.append(
                context.entry(
                    EntryType.APPROVAL_CONSUMED, approval.id, data={"digest": approval.digest, "path": request.path}
                )
            )
        if allowed.undo is not None or record.data.get("phase") == QUEUED:
            undo = {} if allowed.undo is None else {"undo": allowed.undo.as_json()}
            record = waiting(record, phase="sent", **undo)
            writes.append(PutStep(record=record))
        entries += [_intent_entry(context, attempt), *allowed.notices.entries]
        writes += allowed.notices.writes
        try:
            await context.save(*writes, entries=tuple(entries))
        except HaltedError as halted:
            park = await wait(context, allowed.record, phase="halted", pause=HALT_PAUSE, why=str(halted))
            raise park from halted
        except BusyError as busy:
            park = await join_queue(context, allowed.record, intent, busy)
            self.turned()
            raise park from busy
        context.know(attempt)
        context.records[record.path] = record
        return attempt, record

    async def send(
        self,
        context: RunContext,
        step: ActionStep,
        *,
        record: StepRecord,
        attempt: Attempt,
        doubted: ActionRequest | None = None,
    ) -> StepRecord | None:
        """Make the call and record the outcome; None where it is not known and may not be repeated.

        Returns the step's record: final, or waiting in phase `verify`. A read-back of what is `doubted` has as its
        result what that action gives, or None where nothing shows it. Raises Park and Undetermined.
        """
        # If we crash from here on, the intent says that the call may have been made.
        try:
            return await self._make(context, step, record=record, attempt=attempt, doubted=doubted)
        finally:
            if attempt.limited:
                self.turned()

    async def _make(
        self,
        context: RunContext,
        step: ActionStep,
        *,
        record: StepRecord,
        attempt: Attempt,
        doubted: ActionRequest | None,
    ) -> StepRecord | None:
        call = self._call(attempt, step, record)
        try:
            self._check_fresh(context, attempt)
            if doubted is None:
                found: ActionResult | None = await self.connectors.invoke(attempt.request, call)
            else:
                found = await self.connectors.read_back(doubted, call)
        except ConnectorError as failure:
            return await self._failed(context, step, record=record, attempt=attempt, failure=failure)
        result = found.value if found is not None else None
        return await complete(context, step, record=record, attempt=attempt, result=result)

    async def _failed(
        self, context: RunContext, step: ActionStep, *, record: StepRecord, attempt: Attempt, failure: ConnectorError
    ) -> StepRecord | None:
        request, words = attempt.request, str(failure)
        log.info("action.failed", run=context.run.id, path=attempt.path, code=failure.code, error=words)
        unknown = isinstance(failure, OutcomeUnknownError) and request.effect is not Effect.READ
        held = held_by(failure, request, context.now())
        if unknown and request.effect not in REPEATABLE:
            await mark_unknown(context, attempt, words, *held)
            return None
        state = AttemptState.UNKNOWN if unknown else AttemptState.FAILED
        after, move, told = moved(context.scribe, attempt, state, code=failure.code, error=words)
        late = isinstance(failure, LateIntentError)
        retry, tried = OURS if late else step.retry, _tried(context, record, attempt, late=late)
        wake_at = next_try(retry, failure, attempt=attempt, tried=tried, now=context.now())
        if wake_at is not None:
            again = waiting(record, phase="retry", until=until(wake_at), why=words)
            await context.save(move, *held, entries=(told,), record=again)
            context.know(after)
            raise Park(wake_at)
        if unknown:
            await undetermined(context, record, words, writes=(move, *held), entries=(told,))
        out_of_time = step.timeout is not None and context.now() >= record.started_at + step.timeout
        code = TIMEOUT if out_of_time and isinstance(failure, OutcomeUnknownError) else failure.code
        ended = await end(
            context, record, StepState.FAILED, code=code, error=words, writes=(move, *held), entries=(told,)
        )
        context.know(after)
        return ended

    def _check_fresh(self, context: RunContext, attempt: Attempt) -> None:
        late = context.now() - attempt.intended_at
        if late > self.times.send_within:
            raise LateIntentError(f"recording the intent took {late.total_seconds():.0f} s, so nothing was sent")
        if late < timedelta(0):
            raise LateIntentError("the clock went back while the intent was recorded, so nothing was sent")

    def _call(self, attempt: Attempt, step: ActionStep, record: StepRecord) -> Call:
        request = attempt.request
        latest = attempt.intended_at + self.times.call_within
        return Call(
            idempotency_key=request.idempotency_key,
            run_id=request.run_id,
            path=request.path,
            deadline=latest if step.timeout is None else min(latest, record.started_at + step.timeout),
        )


async def complete(
    context: RunContext,
    step: ActionStep,
    *,
    record: StepRecord,
    attempt: Attempt,
    result: dict[str, object] | None,
) -> StepRecord:
    """Record that an action happened, in one fact with the run that will take it back.

    Returns the step's record: final, or waiting in phase `verify`. Its outcome also says that the step has ended.
    """
    writes: tuple[Write, ...] = ()
    entries: tuple[Entry, ...] = ()
    known = attempt.state is AttemptState.SUCCEEDED  # a person said so
    if not known:
        attempt, move, told = moved(context.scribe, attempt, AttemptState.SUCCEEDED, result=result)
        writes, entries = (move,), (told,)
    if "undo" in record.data:
        undo = schedule_undo(context, Undo.from_json(record.data["undo"]), path=attempt.path)
        writes, entries = (*writes, *undo.writes), (*entries, *undo.entries)
    if step.verify is not None:
        deadline = context.now() + step.verify.within
        record = waiting(record, phase="verify", until=until(deadline)).model_copy(update={"result": result})
        await context.save(*writes, entries=entries, record=record)
    elif known:
        record = await end(context, record, StepState.SUCCEEDED, result=result, writes=writes, entries=entries)
    else:
        record = ended(context, record, StepState.SUCCEEDED, result=result)
        context.later(*writes, entries=entries, record=record)
        # What may be done twice needs no commit of its own, unless other branches would keep it waiting, or others
        # wait for its turn.
        if attempt.request.effect not in REPEATABLE or context.lanes > 1 or attempt.limited:
            await context.flush()
    context.know(attempt)
    return record


def _tried(context: RunContext, record: StepRecord, attempt: Attempt, *, late: bool) -> int:
    """Tries of this round alone: a person who retries a step grants it a new one.

    Those whose intent was late count among each other, and not among the others, of which they are none.
    """
    alike = [one for one in context.attempts[attempt.path] if (one.error_code == LateIntentError.code) is late]
    return 1 + sum(one.number != attempt.number and one.intended_at >= record.started_at for one in alike)


def _intent_entry(context: RunContext, attempt: Attempt) -> Entry:
    request = shown(attempt).request
    return context.entry(
        EntryType.ACTION_INTENT,
        request.path,
        payload=b'{"request":' + request.text + b"}",
        data={
            "action": request.action,
            "attempt": attempt.number,
            "key": request.idempotency_key,
            "epoch": context.run.epoch,
        },
    )
