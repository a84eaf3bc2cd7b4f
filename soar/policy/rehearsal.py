"""Questions asked of a bundle before it may decide: at load, and to warm an engine up.

They lead through every part of a decision (a read, a containment, a destruction with votes), so that a rule
which the engine cannot run shows itself now and not in front of a real alert.
"""

from __future__ import annotations

from datetime import UTC, datetime

from soar.model.action import Impact, Risk
from soar.model.alert import Severity
from soar.model.base import to_rfc3339
from soar.policy.input import (
    ActionFacts,
    AlertFacts,
    ApprovalFacts,
    Count,
    Counters,
    PlaybookFacts,
    PolicyInput,
    RunFacts,
    TargetFacts,
    TimeFacts,
)
from soar.policy.person import Deed, PersonFacts, PersonInput, SubjectFacts

_NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
_DIGEST = "0" * 64


def rehearsal() -> tuple[PolicyInput, ...]:
    """The questions, the plainest first."""
    host = TargetFacts(type="host", id="rehearsal-host", tags=("rehearsal",))
    user = TargetFacts(type="user", id="rehearsal@example.org", tier="rehearsal")
    address = TargetFacts(type="ip", id="2001:db8::1")
    return (
        _question("look", Impact.READ, Risk.NONE),
        _question("contain", Impact.REVERSIBLE, Risk.CONTAIN, host, user, address),
        _question("destroy", Impact.DESTRUCTIVE, Risk.DESTRUCTIVE, host, user, address),
    )


def person_rehearsal() -> PersonInput:
    """The question about a person."""
    return PersonInput(
        person=PersonFacts(name="rehearsal", groups=("rehearsal",)),
        deed=Deed.RETRY,
        subject=SubjectFacts(kind="run", id="rehearsal", playbook="rehearsal"),
        time=TimeFacts.of(_NOW),
    )


def _question(verb: str, effect: Impact, risk: Risk, *targets: TargetFacts) -> PolicyInput:
    action = ActionFacts(
        id="0",
        connector="rehearsal",
        connector_version="1",
        verb=verb,
        capability=f"rehearsal.{verb}",
        effect=effect,
        risk=risk,
        digest=_DIGEST,
        targets=targets,
    )
    vote = ApprovalFacts(approver="rehearsal", method="cli", at=to_rfc3339(_NOW), digest=_DIGEST, decision="grant")
    count = {"rehearsal": Count(hour=1, day=1)}
    return PolicyInput(
        action=action,
        alert=AlertFacts(id="rehearsal", severity=Severity.HIGH, confidence=50),
        playbook=PlaybookFacts(id="rehearsal", sha256=_DIGEST, author="author"),
        run=RunFacts(id="rehearsal"),
        approvals=(vote,),
        time=TimeFacts.of(_NOW, freeze=("rehearsal",)),
        counters=Counters(connector=count, playbook=count, fleet_percent={"host": 0.5}),
    )
