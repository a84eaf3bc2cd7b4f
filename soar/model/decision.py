"""Policy's answer."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import Field, field_validator

from soar.model.base import Frozen
from soar.model.duration import Duration

DECISION_SCHEMA: Final = "soar.decision/v1"
INPUT_SCHEMA: Final = "soar.input/v1"
LONGEST_WINDOW: Final = timedelta(days=7)
"""So long every store remembers what was done."""


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
    """At most so many actions under one key in a window that slides; over it an action waits for its time."""

    type: Literal["rate"] = "rate"
    key: str = Field(min_length=1)
    limit: int = Field(ge=1)
    window: Duration

    @field_validator("window")
    @classmethod
    def _remembered(cls, window: timedelta) -> timedelta:
        if not timedelta(0) < window <= LONGEST_WINDOW:
            raise ValueError("a window lasts from 1ms to 7d: longer than that nobody remembers what was done")
        return window


class ExpireObligation(Frozen):
    """Take it back by itself after a time."""

    type: Literal["expire"] = "expire"
    after: Duration


class NotifyObligation(Frozen):
    """Tell a group, by an action of its own that the action does not wait for; the one obligation of a denial too."""

    type: Literal["notify"] = "notify"
    group: str
    msg: str


class RedactObligation(Frozen):
    """Mask these params in the journal and in what people are shown; what is sent stays as it is.

    A field is a dotted path, `password` or `headers.authorization`; `*` stands for every name or place.
    """

    type: Literal["redact"] = "redact"
    fields: tuple[str, ...] = Field(min_length=1)


Obligation = Annotated[
    ApprovalObligation | RateObligation | ExpireObligation | NotifyObligation | RedactObligation,
    Field(discriminator="type"),
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

    @property
    def redacted(self) -> tuple[str, ...]:
        """The fields of params that are to be masked."""
        if not self.obligations:
            return ()
        fields = {field for o in self.obligations if isinstance(o, RedactObligation) for field in o.fields}
        return tuple(sorted(fields))
