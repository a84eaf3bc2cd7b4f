"""Policy's answer."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import Field

from soar.model.base import Frozen
from soar.model.duration import Duration

DECISION_SCHEMA: Final = "soar.decision/v1"
INPUT_SCHEMA: Final = "soar.input/v1"


class Verdict(StrEnum):
    """The three effects a decision can have; deny beats approval, approval beats allow."""

    ALLOW = "allow"
    DENY = "deny"
    REQUIRE_APPROVAL = "require_approval"


class Reason(Frozen):
    """Why: a stable code, the control that said it, and a sentence."""

    code: str
    control: str
    msg: str


class GroupQuorum(Frozen):
    """So many people of one group."""

    group: str
    min: int = Field(default=1, ge=1, le=20)


class ApprovalObligation(Frozen):
    """People must agree first. Groups are an AND; one person counts once."""

    type: Literal["approval"] = "approval"
    groups: tuple[GroupQuorum, ...] = Field(min_length=1)
    distinct: bool = True
    exclude: tuple[Literal["requester", "playbook_author"], ...] = ("requester", "playbook_author")
    ttl: Duration | None = None
    execution_ttl: Duration | None = None
    reason_required: bool = False


class RateObligation(Frozen):
    """At most so many in a window."""

    type: Literal["rate"] = "rate"
    key: str
    limit: int
    window: Duration


class ExpireObligation(Frozen):
    """Take it back by itself after a time."""

    type: Literal["expire"] = "expire"
    after: Duration


class NotifyObligation(Frozen):
    """Tell a group."""

    type: Literal["notify"] = "notify"
    group: str
    msg: str


Obligation = Annotated[
    ApprovalObligation | RateObligation | ExpireObligation | NotifyObligation, Field(discriminator="type")
]


class DecisionDocument(Frozen):
    """What a policy bundle returns; anything that does not validate as this is a denial."""

    schema_: Literal["soar.decision/v1"] = Field(alias="schema", default=DECISION_SCHEMA)
    effect: Verdict
    reasons: tuple[Reason, ...] = ()
    warnings: tuple[str, ...] = ()
    obligations: tuple[Obligation, ...] = ()
    controls_evaluated: tuple[str, ...]


class Decision(Frozen):
    """A decision document with who gave it, on what, under which revision."""

    id: str
    effect: Verdict
    reasons: tuple[Reason, ...] = ()
    warnings: tuple[str, ...] = ()
    obligations: tuple[Obligation, ...] = ()
    controls_evaluated: tuple[str, ...] = ()
    engine: str
    revision: str

    @property
    def approvals(self) -> tuple[ApprovalObligation, ...]:
        """The approval obligations alone."""
        return tuple(o for o in self.obligations if isinstance(o, ApprovalObligation))
