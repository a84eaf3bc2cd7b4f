"""One action, from its step to its recorded outcome: render, decide, ask people, send, verify."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

import orjson
import structlog

from soar.engine import approvals
from soar.engine.context import Park, RunContext, Scope, Undetermined
from soar.engine.control import HALT
from soar.engine.doubt import LOOKS, give_up, settle, undetermined
from soar.engine.escalation import wait_for_people
from soar.engine.leases import LeaseTimes
from soar.engine.notice import notices
from soar.engine.people import People
from soar.engine.question import Question, Questions
from soar.engine.redaction import masked
from soar.engine.request import Connectors, build_request, request_for
from soar.engine.send import HALT_PAUSE, Allowed, Sender, complete
from soar.engine.steps import HAPPENED, end, fresh, hold, until, until_of, wait, waiting
from soar.engine.turns import hold_place
from soar.engine.undo import plan_undo
from soar.errors import ExpressionError, InputError, PolicyUnavailableError, RecountError
from soar.expr.compile import compile_expression, truthy
from soar.model.action import ActionRequest, Attempt, Effect, Risk
from soar.model.approval import Approval, ApprovalState, Requirement, Vote
from soar.model.calendar import Calendar
from soar.model.decision import Decision, RateObligation, RedactObligation, Verdict
from soar.model.duration import format_duration
from soar.model.entry import Entry, EntryType
from soar.model.playbook import ActionStep
from soar.model.run import RunKind, StepRecord, StepState
from soar.policy.gate import Document, Gate
from soar.policy.input import Environment
from soar.store.ceilings import Ceiling
from soar.store.port import InsertApproval, Store, Write

log = structlog.get_logger(__name__)

POLICY_PAUSE = timedelta(seconds=5)
_DECISIONS = 20  # in a row, while others come between
_RECOUNT_PAUSE = timedelta(seconds=1)
_RATE_PAUSES = (timedelta(seconds=1), timedelta(minutes=1))  # until an action over its rate looks again
_OVER = frozenset({ApprovalState.DENIED, ApprovalState.EXPIRED, ApprovalState.CANCELLED})


@dataclass(frozen=True, kw_only=True)
class _Doing:
    """An action and how to render it; `doubted` is the one that it looks for, where it is a read-back."""

    step: ActionStep
    scope: Scope
    build: Callable[[], ActionRequest]
    doubted: ActionRequest | None = None


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A rendered action, with how its step stands and what people have said so far."""

    doing: _Doing
    request: ActionRequest
    record: StepRecord
    approval: Approval | None
    votes: tuple[Vote, ...]


class Actor:
    """Performs actions. All it knows is in the context and the store; it keeps nothing itself."""

    def __init__(  # noqa: PLR0913 - its parts, each by name
        self,
        *,
        store: Store,
        gate: Gate,
        connectors: Connectors,
        people: People,
        environment: Environment,
        times: LeaseTimes,
        calendar: Calendar | None = None,
        fleet: Callable[[], Mapping[str, float]] = dict,
        turned: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._gate = gate
        self._connectors = connectors
        self._people = people
        self._questions = Questions(store=store, environment=environment, calendar=calendar or Calendar(), fleet=fleet)
        self._sender = Sender(connectors=connectors, times=times, turned=turned)
        self._catalogue = connectors.catalogue()
        # Actions that count are decided one after the other, or most of what this worker decides would be overtaken
        # by itself. That limits hold is not this lock's doing: the store refuses an intent that was overtaken.
        self._in_turn = asyncio.Lock()

    async def perform(self, context: RunContext, step: ActionStep, *, path: str, scope: Scope) -> StepRecord:
        """Carry one step as far as it goes now and return its final record.

        Raises Park where it must wait and Undetermined where a person must say what happened.
        """

        def build() -> ActionRequest:
            return build_request(
                context, self._connectors, self._catalogue, use=step.use, params=step.with_, path=path, scope=scope
            )

        record = context.records.get(path) or fresh(context, step, path)
        if record.state is StepState.UNKNOWN:
            raise Undetermined(path, record.error or "its outcome is not known")
        if record.data.get("phase") != "verify":
            record = await self._to_outcome(context, _Doing(step=step, scope=scope, build=build), record)
        if record.state is StepState.WAITING:
            return await self._verify(context, step, record=record, scope=scope)
        return record

    async def _to_outcome(self, context: RunContext, doing: _Doing, record: StepRecord) -> StepRecord:
        step = doing.step
        hold(context, record, "retry", "readback")
        last = context.last_try(record.path)
        if last is not None and record.data.get("phase") == HAPPENED:
            return await complete(context, step, record=record, attempt=last, result=None)
        doubt = await settle(context, step, record)
        if isinstance(doubt, Attempt):
            return await self._find_out(context, step, record=record, attempt=doubt)
        if doubt is not None:
            return doubt
        if record.data.get("phase") == "halted" and await self._store.control(HALT) is not None:
            raise Park(context.now() + HALT_PAUSE)  # no decision, no entry: only the switch lets it go on
        try:
            request = doing.build()
        except InputError as failure:
            return await give_up(context, record, StepState.FAILED, code=failure.code, error=str(failure))
        return await self._with_people(context, doing, request=request, record=record)

    async def _with_people(
        self, context: RunContext, doing: _Doing, *, request: ActionRequest, record: StepRecord
    ) -> StepRecord:
        approval = await self._approval_of(record)
        if approval is not None and approval.state is ApprovalState.PENDING:
            raise await wait_for_people(context, record, approval)
        if approval is not None and approval.state in _OVER:
            code = f"approval_{approval.state.value}"
            return await give_up(context, record, StepState.DENIED, code=code, error=_words(approval))
        await hold_place(context, self._store, record)
        votes = approvals.current_votes(approval.votes, self._people) if approval else ()
        asked = _Asked(doing=doing, request=request, record=record, approval=approval, votes=votes)
        async with contextlib.nullcontext() if request.risk is Risk.NONE else self._in_turn:
            intended = await self._to_intent(context, asked)
        if isinstance(intended, StepRecord):
            return intended
        attempt, record = intended
        done = await self._sender.send(context, doing.step, record=record, attempt=attempt, doubted=doing.doubted)
        if done is not None:
            return done
        return await self._find_out(context, doing.step, record=record, attempt=attempt)

    async def _to_intent(self, context: RunContext, asked: _Asked) -> StepRecord | tuple[Attempt, StepRecord]:
        """Decide, and again each time that another worker's intent came between; somebody's always passes."""
        for _ in range(_DECISIONS):
            try:
                return await self._decide(context, asked)
            except RecountError as overtaken:
                log.debug("action.overtaken", run=context.run.id, path=asked.request.path, why=str(overtaken))
                why = str(overtaken)
        raise await wait(context, asked.record, phase="recount", pause=_RECOUNT_PAUSE, why=why)

    async def _decide(self, context: RunContext, asked: _Asked) -> StepRecord | tuple[Attempt, StepRecord]:
        """From the question to the durable intent, or to the step's end where nothing may be sent."""
        step, request, record = asked.doing.step, asked.request, asked.record
        question, decision = await self._ask_policy(context, asked)
        decided = _decided(context, request.path, question.document, decision)
        if decision.effect is Verdict.DENY:
            why = "; ".join(f"{reason.msg} [{reason.code}]" for reason in decision.reasons)
            told = notices(context, request, decision)
            return await give_up(
                context,
                record,
                StepState.DENIED,
                code="policy_denied",
                error=why,
                writes=told.writes,
                entries=(decided, *told.entries),
            )
        if context.shadow and request.effect is not Effect.READ:
            return await end(context, record, StepState.SKIPPED, code="shadow", entries=(decided,))
        try:
            undo = plan_undo(context, step, request=request, decision=decision, scope=asked.doing.scope)
        except ExpressionError as failure:
            why = f"undo: {failure}"
            return await give_up(context, record, StepState.FAILED, code=failure.code, error=why, entries=(decided,))
        approval: Approval | None = None
        if decision.effect is Verdict.REQUIRE_APPROVAL or step.approval is not None:
            granted = await self._granted(context, asked, decision=decision, decided=decided)
            if isinstance(granted, StepRecord):
                return granted
            approval = granted
        rates = await self._within_rates(context, asked, decision)
        allowed = Allowed(
            request=request,
            record=record,
            decided=decided,
            approval=approval,
            undo=undo,
            ceilings=(*question.ceilings, *rates),
            redacted=decision.redacted,
            notices=notices(context, request, decision),
        )
        return await self._sender.intend(context, allowed)

    async def _within_rates(self, context: RunContext, asked: _Asked, decision: Decision) -> tuple[Ceiling, ...]:
        """Room under every rate that policy sets, to be reserved with the intent; raises Park where there is none."""
        if not decision.obligations:
            return ()
        itself = (context.run.id, asked.request.path)
        rates = [o for o in decision.obligations if isinstance(o, RateObligation)]
        ceilings = tuple(
            Ceiling(key=f"rate:{each.key}", since=context.now() - each.window, most=each.limit - 1) for each in rates
        )
        for rate, ceiling in zip(rates, ceilings, strict=True):
            counts = await self._store.action_counts([ceiling.key], ceiling.since, besides=itself)
            if counts[ceiling.key] > ceiling.most:
                why = f"policy lets {rate.limit} actions through in {format_duration(rate.window)} under {rate.key!r}"
                pause = min(max(rate.window / rate.limit, _RATE_PAUSES[0]), _RATE_PAUSES[1])
                raise await wait(context, asked.record, phase="rate", pause=pause, why=why)
        return ceilings

    async def _ask_policy(self, context: RunContext, asked: _Asked) -> tuple[Question, Decision]:
        """Decide now, with live counters and today's votes; raises Park while no decision can be had."""
        use = asked.doing.step.use
        capability = use if use in self._catalogue.capabilities else None
        question = await self._questions.about(context, asked.request, capability=capability, votes=asked.votes)
        try:
            decision = await self._gate.decide(question.document)
        except PolicyUnavailableError as failure:
            park = await wait(context, asked.record, phase="policy", pause=POLICY_PAUSE, why=str(failure))
            raise park from failure
        inherited = context.run.vars.get("redacted", ()) if context.run.kind is RunKind.UNDO else ()
        if inherited:  # what was masked when it was done stays so when it is taken back
            masks = RedactObligation(fields=tuple(inherited))
            decision = decision.model_copy(update={"obligations": (*decision.obligations, masks)})
        return question, decision

    async def _approval_of(self, record: StepRecord) -> Approval | None:
        name = record.data.get("approval_id")
        return await self._store.approval(name) if name else None

    async def _granted(
        self, context: RunContext, asked: _Asked, *, decision: Decision, decided: Entry
    ) -> Approval | StepRecord:
        """The grant that covers this very action now, or the step's end where its time is over.

        Otherwise people are asked and Park is raised. A further try of the same request is covered by the grant
        that its first intent consumed, while the time to execute lasts.
        """
        run, playbook, approval = context.run, context.program.playbook, asked.approval
        requester = run.vars.get("requester") if run.kind is RunKind.UNDO else None
        needed = approvals.requirement(
            obligations=decision.approvals, step=asked.doing.step, playbook=playbook, requester=requester
        )
        if approval is None:
            raise await self._ask_people(context, asked, needed=needed, decision=decision, entries=(decided,))
        usable = approval.state in {ApprovalState.GRANTED, ApprovalState.CONSUMED}
        in_time = approval.execute_by is not None and context.now() < approval.execute_by
        bound = approvals.still_bound(
            approval,
            request=asked.request,
            playbook=playbook,
            revision=decision.revision,
            redacted=decision.redacted,
        )
        if usable and bound and in_time and not needed.unmet(asked.votes, approval.requested_at):
            return approval
        entries: tuple[Entry, ...] = (decided,)
        writes: tuple[Write, ...] = ()
        if approval.state is ApprovalState.GRANTED:
            state = ApprovalState.SUPERSEDED if in_time else ApprovalState.EXPIRED
            write, told = approvals.closing(context.scribe, approval, state)
            writes, entries = (write,), (decided, told)
            if state is ApprovalState.EXPIRED:
                return await give_up(
                    context,
                    asked.record,
                    StepState.DENIED,
                    code="approval_expired",
                    error=_words(write.approval),
                    writes=writes,
                    entries=entries,
                )
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
            redacted=decision.redacted,
            latest=asked.doing.scope.until,
        )
        told = context.entry(
            EntryType.APPROVAL_REQUESTED,
            request.id,
            payload={"binding": request.binding, "requirement": request.requirement.model_dump(mode="json")},
            data={"digest": request.digest},
        )
        await context.save(
            *writes,
            InsertApproval(approval=request),
            entries=(*entries, told),
            record=waiting(asked.record, phase="approval", approval_id=request.id),
        )
        log.info("approval.requested", run=context.run.id, approval=request.id, action=asked.request.action)
        return Park(request.escalates_at)

    async def _verify(self, context: RunContext, step: ActionStep, *, record: StepRecord, scope: Scope) -> StepRecord:
        """Read back until the effect is there: an HTTP 200 is not proof. Each look is an action of its own."""
        assert step.verify is not None
        deadline = until_of(record)
        assert deadline is not None
        look = ActionStep(use=step.verify.use).model_copy(update={"with_": step.verify.with_ or step.with_})
        looks = sum(1 for path in context.records if _LOOK.fullmatch(path.removeprefix(f"{record.path}.verify")))
        last = context.records.get(f"{record.path}.verify[{looks - 1}]")
        if last is not None and last.finished_at is not None:
            again = last.finished_at + step.verify.every
            if context.now() < min(again, deadline):  # woken by another branch
                raise Park(min(again, deadline))
        path = last.path if last is not None and last.finished_at is None else f"{record.path}.verify[{looks}]"
        last = await self.perform(context, look, path=path, scope=scope)
        if _shows(step, last):
            return await end(context, record, StepState.SUCCEEDED, result=record.result)
        if context.now() >= deadline:
            why = f"{step.verify.use} did not show {step.verify.until!r} in time; it last said {last.result!r}"
            return await end(context, record, StepState.FAILED, code="not_verified", error=why, result=record.result)
        raise Park(min(context.now() + step.verify.every, deadline))

    async def _find_out(
        self, context: RunContext, step: ActionStep, *, record: StepRecord, attempt: Attempt
    ) -> StepRecord:
        """Read back whether an action of unknown outcome happened, with several looks; else a person must say.

        A look is an action of its own: decided, intended, journalled, stopped by the kill switch. It carries the
        action's own idempotency key, by which some products find what was sent.
        """
        attempt = context.last_try(record.path) or attempt  # as it stands now
        doubted = attempt.request
        why = attempt.error or "no answer came"
        offer = self._catalogue.resolve(f"{doubted.instance}.{doubted.verb}")
        use = f"{doubted.instance}.{offer.spec.verify}" if offer is not None else ""
        reader = self._catalogue.resolve(use)
        if reader is None or doubted.effect is not Effect.VERIFIABLE:
            await undetermined(context, record, f"{why}; it cannot be read back")
        number = record.data.get("look", 0)
        path = f"{record.path}.readback[{number}]"

        def build() -> ActionRequest:
            params, key = doubted.params, doubted.idempotency_key
            return request_for(context, self._connectors, offer=reader, params=params, path=path, key=key)

        look = context.records.get(path)
        if look is None or look.finished_at is None:
            doing = _Doing(step=ActionStep(use=use), scope=_NO_SCOPE, build=build, doubted=doubted)
            look = await self._to_outcome(context, doing, look or fresh(context, doing.step, path))
        if look.ok and look.result is not None:
            return await complete(context, step, record=record, attempt=attempt, result=look.result)
        if number + 1 == len(LOOKS):
            last = look.error or "nothing shows that it happened"
            await undetermined(context, record, f"{why}; read back {number + 1} times: {last}")
        due = context.now() + LOOKS[number + 1]
        await context.save(record=waiting(record, phase="readback", until=until(due), look=number + 1))
        raise Park(due)


_LOOK = re.compile(r"\[\d+\]")
_NO_SCOPE = Scope(alert=None, run={}, vars={})


def _shows(step: ActionStep, look: StepRecord) -> bool:
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
    if approval.execute_by is not None:
        return f"approval {approval.id} was granted, but its time to execute passed before the action could be sent"
    return f"approval {approval.id} is {approval.state.value}: it was not granted in time"


def _shown(question: Document, decision: Decision) -> Document:
    if not decision.redacted:
        return question
    action = question["action"]
    return {**question, "action": {**action, "params": masked(action["params"], decision.redacted)}}


def _decided(context: RunContext, path: str, question: Document, decision: Decision) -> Entry:
    return context.entry(
        EntryType.POLICY_DECIDED,
        path,
        # The gate has seen that JSON can say the question.
        payload=orjson.dumps({"decision": decision.model_dump(mode="json"), "input": _shown(question, decision)}),
        data={
            "decision": decision.id,
            "effect": decision.effect.value,
            "engine": decision.engine,
            "revision": decision.revision,
        },
    )
