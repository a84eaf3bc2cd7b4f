"""Steps that wait: for a time, an alert, an answer, a sub-run. A waiting run is rows, not memory."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from soar.engine.admission import run_created
from soar.engine.awaited import key_of
from soar.engine.context import Park, RunContext, Scope
from soar.engine.deadlines import BEGUN
from soar.engine.programs import Programs
from soar.engine.steps import end, fresh, hold, until, waiting
from soar.expr.compile import compile_expression
from soar.expr.render import compile_template
from soar.model.approval import Approval, ApprovalState, Requirement
from soar.model.base import from_rfc3339, to_rfc3339
from soar.model.entry import EntryType
from soar.model.playbook import AskStep, CallStep, Trigger, WaitStep
from soar.model.run import Run, RunKind, RunState, StepRecord, StepState
from soar.store.port import InsertApproval, InsertRun, Store

MAX_DEPTH = 5
ALERT_WITHIN = timedelta(hours=1)


class Waits:
    """Starts a wait once, and ends it when what it waits for is there."""

    def __init__(self, *, store: Store, programs: Programs) -> None:
        self._store = store
        self._programs = programs

    async def wait(self, context: RunContext, step: WaitStep, *, path: str, scope: Scope) -> StepRecord:
        """Sleep for a time, until an instant, or for a later matching alert."""
        record = context.records.get(path) or fresh(context, step, path)
        if record.data.get("phase") in {None, BEGUN}:
            record = await self._begin_wait(context, step, record, scope)
        if record.state is not StepState.WAITING:
            return record
        hold(context, record, "time", "alert")
        if record.data.get("phase") == "alert":
            why = "no such alert came in time"
            return await end(context, record, StepState.FAILED, code="timeout", error=why)
        return await end(context, record, StepState.SUCCEEDED)

    async def _begin_wait(self, context: RunContext, step: WaitStep, new: StepRecord, scope: Scope) -> StepRecord:
        now = context.now()
        if step.for_alert is not None:
            trigger = _trigger(step.for_alert, scope)
            if trigger is None:
                why = "wait for_alert: what match asks for is not there, or no text, number or boolean"
                return await end(context, new, StepState.FAILED, code="wait", error=why)
            moment = scope.until or now + ALERT_WITHIN
            awaits = key_of(trigger, step.for_alert)
            wanted = trigger.model_dump(mode="json", exclude_none=True)
            of = context.run.playbook_id
            record = waiting(new, phase="alert", until=until(moment), awaits=awaits, trigger=wanted, playbook=of)
        else:
            due = now + step.for_ if step.for_ is not None else _instant(step.until or "", scope)
            if due is None:
                why = f"wait until {step.until!r} gives no RFC 3339 time"
                return await end(context, new, StepState.FAILED, code="wait", error=why)
            record = waiting(new, phase="time", until=until(due))
        await context.save(record=record)
        return record

    async def ask(self, context: RunContext, step: AskStep, *, path: str, scope: Scope) -> StepRecord:
        """Put a question to people; their typed answer is the result."""
        record = context.records.get(path) or fresh(context, step, path)
        name = record.data.get("approval_id")
        approval = await self._store.approval(name) if name else None
        if approval is None:
            await self._begin_ask(context, step, record, scope)
            raise Park
        if approval.state is ApprovalState.PENDING:
            raise Park
        if approval.state is not ApprovalState.GRANTED:
            why = f"the question ended as {approval.state.value}"
            return await end(context, record, StepState.FAILED, code="unanswered", error=why)
        answer = approval.votes[-1].answer
        result = {"answer": answer, "by": [vote.approver for vote in approval.votes]}
        return await end(context, record, StepState.SUCCEEDED, result=result)

    async def _begin_ask(self, context: RunContext, step: AskStep, record: StepRecord, scope: Scope) -> None:
        now = context.now()
        decide_by = min(now + step.expires, scope.until or now + step.expires)
        expires = decide_by - now
        bound = {
            "question": context.program.render(step.ask, scope.names()),
            "answer": step.answer,
            "options": list(step.options),
            "run": context.run.id,
            "path": record.path,
            "playbook": context.run.playbook_id,
            "playbook_sha256": context.run.playbook_digest,
            "expires": to_rfc3339(decide_by),
            "nonce": secrets.token_hex(16),
        }
        approval = Approval(
            id=context.scribe.ids.new("approval"),
            run_id=context.run.id,
            path=record.path,
            state=ApprovalState.PENDING,
            binding=bound,
            digest=Approval.digest_of(bound),
            requirement=Requirement(groups=step.groups, ttl=expires, execution_ttl=expires),
            requested_at=now,
            decide_by=decide_by,
        )
        told = context.entry(
            EntryType.APPROVAL_REQUESTED,
            approval.id,
            payload={"binding": bound, "requirement": approval.requirement.model_dump(mode="json")},
            data={"digest": approval.digest},
        )
        await context.save(
            InsertApproval(approval=approval),
            entries=(told,),
            record=waiting(record, phase="answer", approval_id=approval.id),
        )

    async def call(self, context: RunContext, step: CallStep, *, path: str, scope: Scope) -> StepRecord:
        """Run another playbook as a sub-run; its outputs are the result."""
        record = context.records.get(path) or fresh(context, step, path)
        if "run_id" not in record.data:
            return await self._begin_call(context, step, record, scope)
        child = await self._store.run(record.data["run_id"])
        if child is None or not child.final:
            raise Park
        if child.state is RunState.SUCCEEDED:
            return await end(context, record, StepState.SUCCEEDED, result=child.outputs)
        why = f"sub-run {child.id} ended as {child.state.value}: {child.error or 'no reason recorded'}"
        return await end(context, record, StepState.FAILED, code="call", error=why, result=child.outputs)

    async def _begin_call(self, context: RunContext, step: CallStep, record: StepRecord, scope: Scope) -> StepRecord:
        run, playbook = context.run, self._programs.current(step.call)
        if playbook is None:
            why = f"call: no playbook {step.call!r} is loaded"
            return await end(context, record, StepState.FAILED, code="call", error=why)
        if run.depth + 1 > MAX_DEPTH:
            why = f"call: sub-playbooks are nested deeper than {MAX_DEPTH}"
            return await end(context, record, StepState.FAILED, code="depth", error=why)
        child = Run(
            id=context.scribe.ids.new("run"),
            kind=RunKind.CALL,
            state=RunState.READY,
            playbook_id=playbook.id,
            playbook_digest=playbook.digest,
            alert_id=run.alert_id,
            parent_run_id=run.id,
            parent_path=record.path,
            vars={**playbook.vars, **context.program.render(step.with_, scope.names())},
            priority=run.priority,
            depth=run.depth + 1,
            created_at=context.now(),
        )
        record = waiting(record, phase="call", run_id=child.id)
        await context.save(InsertRun(run=child), entries=(run_created(context.scribe, child),), record=record)
        raise Park


def _trigger(wanted: Trigger, scope: Scope) -> Trigger | None:
    """What to wait for: what `match` names may come from this run, such as the same host. None where it cannot be.

    It is checked here, because intake will apply it to every alert.
    """
    trigger = wanted.model_dump(mode="json", exclude_none=True)
    # Not the program's own cache: this value was made for the occasion.
    trigger["match"] = compile_template(trigger.get("match", {})).render(scope.names())
    try:
        return Trigger.model_validate(trigger)
    except ValidationError:
        return None


def _instant(source: str, scope: Scope) -> datetime | None:
    value: Any = compile_expression(source).evaluate(scope.names())
    try:
        return from_rfc3339(value) if isinstance(value, str) else None
    except ValueError:
        return None
