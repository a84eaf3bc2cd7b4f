"""Approvals: people decide on exactly the bytes that will be sent."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType

from soar.engine.authority import Authority
from soar.engine.people import People
from soar.engine.recorder import record_alone
from soar.engine.redaction import masked
from soar.engine.scribe import Scribe
from soar.errors import InputError, NotAllowedError, NotFoundError, StateConflictError
from soar.model.action import ActionRequest
from soar.model.approval import Approval, ApprovalState, Person, Requirement, StandIn, Vote
from soar.model.base import to_rfc3339
from soar.model.decision import ApprovalObligation, GroupQuorum
from soar.model.entry import Entry, EntryType
from soar.model.playbook import ActionStep, Playbook
from soar.policy.person import Deed, SubjectFacts
from soar.store.port import Fact, SignalRun, Store, UpdateApproval

Answer = str | float | bool | None

DECIDE_WITHIN = timedelta(minutes=30)
EXECUTE_WITHIN = timedelta(minutes=15)


def requirement(
    *, obligations: Sequence[ApprovalObligation], step: ActionStep, playbook: Playbook, requester: str | None
) -> Requirement:
    """What policy and playbook together ask for: every group, the larger number, the shorter time."""
    demanded = _larger([quorum for obligation in obligations for quorum in obligation.groups], {})
    quorums = _larger(step.approval.groups if step.approval else (), demanded)
    names = {"requester": requester, "playbook_author": playbook.author}
    # Policy may lift the exclusion; where only the playbook asks, its author cannot.
    excluded: set[str] = {word for obligation in obligations for word in obligation.exclude}
    if not obligations:
        excluded = set(names)
    ttls = [o.ttl for o in obligations if o.ttl] + ([step.approval.expires] if step.approval else [])
    execution = [o.execution_ttl for o in obligations if o.execution_ttl]
    return Requirement(
        groups=tuple(GroupQuorum(group=group, min=count) for group, count in sorted(quorums.items())),
        stand_in=_stand_in(step, demanded, quorums),
        exclude=tuple(sorted(name for word, name in names.items() if word in excluded and name)),
        reason_required=any(o.reason_required for o in obligations)
        or bool(step.approval and step.approval.reason_required),
        ttl=min(ttls, default=DECIDE_WITHIN),
        execution_ttl=min(execution, default=EXECUTE_WITHIN),
    )


def _larger(groups: Sequence[GroupQuorum], than: Mapping[str, int]) -> dict[str, int]:
    quorums = dict(than)
    for quorum in groups:
        quorums[quorum.group] = max(quorum.min, quorums.get(quorum.group, 0))
    return quorums


def _stand_in(step: ActionStep, demanded: Mapping[str, int], quorums: Mapping[str, int]) -> StandIn | None:
    """Who may stand in, as the playbook says; only in seats that policy does not ask for."""
    escalate = step.approval.escalate if step.approval else None
    if escalate is None:
        return None
    free = {group: count - demanded.get(group, 0) for group, count in sorted(quorums.items())}
    seats = tuple(GroupQuorum(group=group, min=count) for group, count in free.items() if count)
    return StandIn(group=escalate.to, after=escalate.after, seats=seats)


def request_approval(
    *,
    scribe: Scribe,
    request: ActionRequest,
    playbook: Playbook,
    revision: str,
    needed: Requirement,
    redacted: Sequence[str] = (),
    latest: datetime | None = None,
) -> Approval:
    """A new request for people about this very action; `latest` is when the step that it is for ends."""
    now = scribe.clock.now()
    decide_by = min(now + needed.ttl, latest or now + needed.ttl)
    bound = binding(
        request=request,
        playbook=playbook,
        revision=revision,
        nonce=secrets.token_hex(16),
        decide_by=decide_by,
        redacted=redacted,
    )
    return Approval(
        id=scribe.ids.new("approval"),
        run_id=request.run_id,
        path=request.path,
        state=ApprovalState.PENDING,
        binding=bound,
        digest=Approval.digest_of(bound),
        requirement=needed,
        requested_at=now,
        decide_by=decide_by,
    )


def binding(
    *,
    request: ActionRequest,
    playbook: Playbook,
    revision: str,
    nonce: str,
    decide_by: datetime,
    redacted: Sequence[str] = (),
) -> dict[str, object]:
    """What people see and what is compared before sending; any difference is another digest.

    What is masked in it they do not see, but `request_digest` is about the whole.
    """
    return {
        "action": request.action,
        "instance": request.instance,
        "connector_version": request.connector_version,
        "params": masked(request.params, redacted),
        "targets": [target.model_dump(mode="json") for target in request.targets],
        "impact": request.impact.value,
        "run": request.run_id,
        "path": request.path,
        "request_digest": request.digest,
        "playbook": playbook.id,
        "playbook_sha256": playbook.digest,
        "policy_revision": revision,
        "expires": to_rfc3339(decide_by),
        "nonce": nonce,
    }


def still_bound(
    approval: Approval, *, request: ActionRequest, playbook: Playbook, revision: str, redacted: Sequence[str] = ()
) -> bool:
    """Whether what would be sent now is what people were shown."""
    bound = binding(
        request=request,
        playbook=playbook,
        revision=revision,
        nonce=str(approval.binding.get("nonce")),
        decide_by=approval.decide_by,
        redacted=redacted,
    )
    return Approval.digest_of(bound) == approval.digest


def current_votes(votes: Sequence[Vote], people: People) -> tuple[Vote, ...]:
    """The votes with the groups that each approver is in now; who left no longer counts."""
    now_known = ((vote, people.find(vote.approver)) for vote in votes)
    return tuple(vote.model_copy(update={"groups": person.groups}) for vote, person in now_known if person)


class ApprovalDesk:
    """Takes people's words. The one path for every channel: CLI, console, chat."""

    def __init__(
        self,
        *,
        store: Store,
        scribe: Scribe,
        people: People,
        authority: Authority,
        woken: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._authority = authority
        self._scribe = scribe
        self._people = people
        self._woken = woken

    async def vote(
        self,
        approval_id: str,
        *,
        person: str,
        decision: str,
        digest: str,
        method: str,
        reason: str | None = None,
        answer: Answer = None,
    ) -> Approval:
        """Record one person's grant or denial of what has this digest.

        Raises NotFoundError, NotAllowedError (not let by policy, not in a group that is asked, excluded, voted
        already, no reason where one is needed), InputError (no such decision, or an answer that the question does not
        take) and StateConflictError (closed, expired, superseded, or another vote came first).
        """
        if decision not in _DECISIONS:
            raise InputError(f"{decision!r} is no decision; it is grant or deny")
        approval = await self._store.approval(approval_id)
        if approval is None:
            raise NotFoundError(f"no approval {approval_id}; `soar approvals list` shows what waits")
        who = self._people.find(person)
        if who is None:
            raise NotAllowedError(f"{person!r} is not among the configured people, so cannot decide")
        await self._authority.require(
            who.name, _deed(approval, decision), _subject(approval), run_id=approval.run_id, channel=method
        )
        now = self._scribe.clock.now()
        _check_vote(approval, who=who, digest=digest, reason=reason, now=now)
        if decision == "grant":
            _check_answer(approval, answer)
        vote = Vote(
            approver=who.name,
            groups=who.groups,
            decision=decision,
            method=method,
            at=now,
            digest=digest,
            reason=reason,
            answer=answer,
        )
        after = _after(approval, vote)
        await record_alone(self._store, self._fact(approval, after, vote))
        self._woken()
        return after

    def _fact(self, before: Approval, after: Approval, vote: Vote) -> Fact:
        scribe = self._scribe.acting_as(f"person:{vote.approver}")
        entries = [
            scribe.entry(
                EntryType.APPROVAL_VOTED,
                before.id,
                run_id=before.run_id,
                payload={
                    "approver": vote.approver,
                    "groups": list(vote.groups),
                    "reason": vote.reason,
                    **({} if vote.answer is None else {"answer": vote.answer}),
                },
                data={"decision": vote.decision, "method": vote.method, "digest": vote.digest},
            )
        ]
        if after.state is not ApprovalState.PENDING:
            entries.append(closed_entry(scribe, after))
        closed = (SignalRun(run_id=before.run_id),) if after.state is not ApprovalState.PENDING else ()
        return Fact(writes=(swap(before, after), *closed), entries=tuple(entries))


def swap(before: Approval, after: Approval) -> UpdateApproval:
    """From the approval as it was read to what becomes of it; refused where somebody changed it meanwhile."""
    return UpdateApproval(approval=after, expect=before.state, expect_votes=len(before.votes))


def closing(scribe: Scribe, approval: Approval, state: ApprovalState) -> tuple[UpdateApproval, Entry]:
    """The end of a request for people, and the entry that tells of it."""
    after = approval.model_copy(update={"state": state})
    return swap(approval, after), closed_entry(scribe, after)


def closed_entry(scribe: Scribe, approval: Approval) -> Entry:
    """The entry that tells how a request for people ended."""
    return scribe.entry(
        EntryType.APPROVAL_CLOSED,
        approval.id,
        run_id=approval.run_id,
        data={"state": approval.state.value, "digest": approval.digest},
    )


def expire(approval: Approval, scribe: Scribe) -> Fact:
    """Time is over: that is a denial, never a grant."""
    write, told = closing(scribe, approval, ApprovalState.EXPIRED)
    return Fact(writes=(write, SignalRun(run_id=approval.run_id)), entries=(told,))


def _deed(approval: Approval, decision: str) -> Deed:
    if decision != "grant":
        return Deed.DENY
    return Deed.ANSWER if "question" in approval.binding else Deed.APPROVE


def _subject(approval: Approval) -> SubjectFacts:
    bound = {name: approval.binding.get(name) for name in ("playbook", "action", "impact")}
    return SubjectFacts.model_validate({"kind": "approval", "id": approval.id, **bound})


def _check_vote(approval: Approval, *, who: Person, digest: str, reason: str | None, now: datetime) -> None:
    if approval.state is not ApprovalState.PENDING:
        raise StateConflictError(f"approval {approval.id} is already {approval.state}")
    if now >= approval.decide_by:
        raise StateConflictError(f"approval {approval.id} expired at {to_rfc3339(approval.decide_by)}")
    if digest != approval.digest:
        raise StateConflictError(
            f"approval {approval.id} is about digest {approval.digest[:12]}, not {digest[:12]}; look at it again"
        )
    asked = {quorum.group for quorum in approval.requirement.groups}
    stand_in, escalates_at = approval.requirement.stand_in, approval.escalates_at
    if stand_in is not None and stand_in.seats and escalates_at is not None and now >= escalates_at:
        asked.add(stand_in.group)
    if not asked & set(who.groups):
        raise NotAllowedError(f"{who.name} is in none of the groups that are asked: {', '.join(sorted(asked))}")
    if who.name in approval.requirement.exclude:
        raise NotAllowedError(f"{who.name} asked for this or wrote the playbook, so cannot decide on it")
    if any(vote.approver == who.name for vote in approval.votes):
        raise NotAllowedError(f"{who.name} has already decided on {approval.id}")
    if approval.requirement.reason_required and not (reason and reason.strip()):
        raise NotAllowedError(f"approval {approval.id} needs a reason; give one with --reason")


_DECISIONS = frozenset({"grant", "deny"})
_TYPES: Mapping[str, type | tuple[type, ...]] = MappingProxyType(
    {"text": str, "choice": str, "number": (int, float), "boolean": bool}
)


def _check_answer(approval: Approval, answer: Answer) -> None:
    """A question takes an answer of its type; anything else takes none. Raises InputError."""
    wanted = approval.binding.get("answer")
    if wanted is None:
        if answer is not None:
            raise InputError(f"approval {approval.id} asks for consent, not for an answer")
        return
    fits = isinstance(answer, _TYPES[wanted]) and isinstance(answer, bool) == (wanted == "boolean")
    if isinstance(answer, float) and not math.isfinite(answer):
        fits = False
    if not fits:
        raise InputError(f"{approval.id} takes a {wanted} as its answer, not {answer!r}")
    options = approval.binding.get("options") or ()
    if options and answer not in options:
        raise InputError(f"{answer!r} is none of the options of {approval.id}: {', '.join(options)}")


def _after(approval: Approval, vote: Vote) -> Approval:
    """One denial ends it; the grant that completes the quorum grants it."""
    votes = (*approval.votes, vote)
    if vote.decision != "grant":
        return approval.model_copy(update={"votes": votes, "state": ApprovalState.DENIED})
    voted = approval.model_copy(update={"votes": votes})
    if voted.unmet:
        return voted
    execute_by = vote.at + approval.requirement.execution_ttl
    return approval.model_copy(update={"votes": votes, "state": ApprovalState.GRANTED, "execute_by": execute_by})
