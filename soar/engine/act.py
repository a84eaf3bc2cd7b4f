"""One action, from its step to its recorded outcome: render, decide, ask people, send, verify."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import structlog

from soar.engine import approvals
from soar.engine.approvals import People
from soar.engine.context import Park, RunContext, Scope
from soar.engine.request import Connectors, build_request, policy_input
from soar.engine.send import Allowed, Sender
from soar.engine.steps import end, fresh, hold, until_of, wait, waiting
from soar.errors import ExpressionError, InputError, PolicyUnavailableError
from soar.expr.compile import compile_expression, truthy
from soar.model.action import ActionRequest, Effect
from soar.model.approval import Approval, ApprovalState, Requirement, Vote
from soar.model.decision import Decision, Verdict
from soar.model.entry import Entry, EntryType
from soar.model.playbook import ActionStep, Mode
from soar.model.run import StepRecord, StepState
from soar.policy.gate import Gate
from soar.policy.input import Environment, PolicyInput
from soar.store.port import InsertApproval, Store, UpdateApproval, Write

log = structlog.get_logger(__name__)

POLICY_PAUSE = timedelta(seconds=5)
_OVER = frozenset({ApprovalState.DENIED, ApprovalState.EXPIRED, ApprovalState.CANCELLED})


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A rendered action, with how its step stands and what people have said so far."""

    step: ActionStep
    request: ActionRequest
    record: StepRecord
    approval: Approval | None
    votes: tuple[Vote, ...]


class Actor:
    """Performs actions. All it knows is in the context and the store; it keeps nothing itself."""

    def __init__(
        self, *, store: Store, gate: Gate, connectors: Connectors, people: People, environment: Environment
    ) -> None:
        self._store = store
        self._gate = gate
        self._connectors = connectors
        self._people = people
        self._environment = environment
        self._sender = Sender(connectors)

    async def perform(self, context: RunContext, step: ActionStep, *, path: str, scope: Scope) -> StepRecord:
        """Carry one step as far as it goes now and return its final record.

        Raises Park where it must wait and Undetermined where a person must say what happened.
        """
        record = context.records.get(path) or fresh(context, step, path)
        if record.data.get("phase") != "verify":
            record = await self._to_outcome(context, step, record=record, scope=scope)
        if record.state is StepState.WAITING:
            return await self._verify(context, step, record=record, scope=scope)
        return record

    async def _to_outcome(
        self, context: RunContext, step: ActionStep, *, record: StepRecord, scope: Scope
    ) -> StepRecord:
        hold(context, record, "retry")
        settled = await self._sender.settle_last(context, step, record)
        if settled is not None:
            return settled
        try:
            request = build_request(
                context, self._connectors, use=step.use, params=step.with_, path=record.path, scope=scope
            )
        except InputError as failure:
            return await end(context, record, StepState.FAILED, code=failure.code, error=str(failure))
        approval = await self._approval_of(record)
        if approval is not None and approval.state is ApprovalState.PENDING:
            raise Park
        if approval is not None and approval.state in _OVER:
            code = f"approval_{approval.state.value}"
            return await end(context, record, StepState.DENIED, code=code, error=_words(approval))
        votes = approvals.current_votes(approval.votes, self._people) if approval else ()
        asked = _Asked(step=step, request=request, record=record, approval=approval, votes=votes)
        return await self._decide(context, asked, scope)

    async def _decide(self, context: RunContext, asked: _Asked, scope: Scope) -> StepRecord:
        step, request, record = asked.step, asked.request, asked.record
        decision, decided = await self._ask_policy(context, asked)
        if decision.effect is Verdict.DENY:
            why = "; ".join(f"{reason.msg} [{reason.code}]" for reason in decision.reasons)
            return await end(context, record, StepState.DENIED, code="policy_denied", error=why, entries=(decided,))
        if context.program.playbook.mode is Mode.SHADOW and request.effect is not Effect.READ:
            return await end(context, record, StepState.SKIPPED, code="shadow", entries=(decided,))
        approval = None
        if decision.effect is Verdict.REQUIRE_APPROVAL or step.approval is not None:
            approval = await self._granted(context, asked, decision=decision, decided=decided)
        allowed = Allowed(
            step=step,
            request=request,
            record=record,
            decision=decision,
            decided=decided,
            approval=approval,
            scope=scope,
        )
        return await self._sender.send(context, allowed)

    async def _ask_policy(self, context: RunContext, asked: _Asked) -> tuple[Decision, Entry]:
        """Decide now, with live counters and today's votes; raises Park while no decision can be had."""
        step, path = asked.step, asked.request.path
        question = await policy_input(
            context,
            self._store,
            request=asked.request,
            capability=step.use if step.use in self._connectors.catalogue().capabilities else None,
            votes=asked.votes,
            environment=self._environment,
        )
        try:
            decision = await self._gate.decide(question)
        except PolicyUnavailableError as failure:
            park = await wait(context, asked.record, phase="policy", pause=POLICY_PAUSE, why=str(failure))
            raise park from failure
        return decision, _decided(context, path, question, decision)

    async def _approval_of(self, record: StepRecord) -> Approval | None:
        name = record.data.get("approval_id")
        return await self._store.approval(name) if name else None

    async def _granted(self, context: RunContext, asked: _Asked, *, decision: Decision, decided: Entry) -> Approval:
        """The grant that covers this very action now; otherwise people are asked and Park is raised."""
        playbook, approval = context.program.playbook, asked.approval
        needed = approvals.requirement(
            obligations=decision.approvals, step=asked.step, playbook=playbook, requester=None
        )
        if approval is None:
            raise await self._ask_people(context, asked, needed=needed, decision=decision, entries=(decided,))
        in_time = approval.execute_by is not None and context.now() < approval.execute_by
        bound = approvals.still_bound(approval, request=asked.request, playbook=playbook, revision=decision.revision)
        if bound and in_time and not needed.unmet(asked.votes):
            return approval
        entries: tuple[Entry, ...] = (decided,)
        writes: tuple[Write, ...] = ()
        if approval.state is ApprovalState.GRANTED:
            state = ApprovalState.SUPERSEDED if in_time else ApprovalState.EXPIRED
            over = approval.model_copy(update={"state": state})
            writes = (UpdateApproval(approval=over, expect=approval.state, expect_votes=len(approval.votes)),)
            entries = (decided, approvals.closed_entry(context.scribe, over))
        raise await self._ask_people(context, asked, needed=needed, decision=decision, entries=entries, writes=writes)

    async def _ask_people(
        self,
        context: RunContext,
        asked: _Asked,
        *,
        needed: Requirement,
        decision: Decision,
        entries: tuple[Entry, ...],
        writes: tuple[Write, ...] = (),
    ) -> Park:
        """Put the request to people; returns the Park to raise."""
        request = approvals.request_approval(
            scribe=context.scribe,
            request=asked.request,
            playbook=context.program.playbook,
            revision=decision.revision,
            needed=needed,
        )
        told = context.entry(
            EntryType.APPROVAL_REQUESTED,
            request.id,
            payload={"binding": request.binding},
            data={"digest": request.digest},
        )
        await context.save(
            *writes,
            InsertApproval(approval=request),
            entries=(*entries, told),
            record=waiting(asked.record, phase="approval", approval_id=request.id),
        )
        log.info("approval.requested", run=context.run.id, approval=request.id, action=asked.request.action)
        return Park()

    async def _verify(self, context: RunContext, step: ActionStep, *, record: StepRecord, scope: Scope) -> StepRecord:
        """Read back until the effect is there: an HTTP 200 is not proof. Each look is an action of its own."""
        assert step.verify is not None
        deadline = until_of(record)
        assert deadline is not None
        look = ActionStep(use=step.verify.use).model_copy(update={"with_": step.verify.with_ or step.with_})
        looks = sum(1 for path in context.records if path.startswith(f"{record.path}.verify["))
        last = context.records.get(f"{record.path}.verify[{looks - 1}]")
        if last is None or (last.state is not StepState.WAITING and not _confirmed(step, last)):
            last = await self.perform(context, look, path=f"{record.path}.verify[{looks}]", scope=scope)
        elif last.state is StepState.WAITING:
            last = await self.perform(context, look, path=last.path, scope=scope)
        if _confirmed(step, last):
            return await end(context, record, StepState.SUCCEEDED, result=record.result)
        if context.now() >= deadline:
            why = f"{step.verify.use} did not show {step.verify.until!r} in time; it last said {last.result!r}"
            return await end(context, record, StepState.FAILED, code="not_verified", error=why, result=record.result)
        raise Park(context.now() + step.verify.every)


def _confirmed(step: ActionStep, look: StepRecord) -> bool:
    assert step.verify is not None
    if not look.ok:
        return False
    try:
        return truthy(compile_expression(step.verify.until).evaluate({"result": look.result}))
    except ExpressionError:
        return False


def _words(approval: Approval) -> str:
    if approval.state is ApprovalState.DENIED:
        denials = [vote for vote in approval.votes if vote.decision != "grant"]
        said = "; ".join(f"{vote.approver}: {vote.reason or 'no reason given'}" for vote in denials)
        return f"denied by {said}"
    return f"approval {approval.id} is {approval.state.value}: nobody granted it in time"


def _decided(context: RunContext, path: str, question: PolicyInput, decision: Decision) -> Entry:
    return context.entry(
        EntryType.POLICY_DECIDED,
        path,
        payload={"input": question.document(), "decision": decision.model_dump(mode="json")},
        data={
            "decision": decision.id,
            "effect": decision.effect.value,
            "engine": decision.engine,
            "revision": decision.revision,
            "input_digest": decision.input_digest,
        },
    )
