"""Playbook, Trigger, Step: what YAML becomes once it is parsed. Sources of all defaults."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from soar.model.alert import Severity
from soar.model.base import Frozen
from soar.model.decision import GroupQuorum
from soar.model.duration import Duration

STEP_ID = r"^[a-z][a-z0-9_]{0,62}$"
PLAYBOOK_ID = r"^[a-z][a-z0-9-]{0,62}$"


class Mode(StrEnum):
    """How far a playbook goes."""

    LIVE = "live"
    SHADOW = "shadow"  # runs, decides, sends nothing but reads
    OFF = "off"


class Match(Frozen):
    """One structured predicate on one alert field; every given operator must hold.

    A bare value or list in YAML is `any_of`.
    """

    any_of: tuple[str | int | bool, ...] | None = None
    none_of: tuple[str | int | bool, ...] | None = None
    at_least: Severity | float | None = None
    at_most: Severity | float | None = None
    prefix: tuple[str, ...] | None = None
    not_prefix: tuple[str, ...] | None = None
    suffix: tuple[str, ...] | None = None
    not_suffix: tuple[str, ...] | None = None
    wildcard: tuple[str, ...] | None = None  # * stands for any text
    not_wildcard: tuple[str, ...] | None = None
    cidr: tuple[str, ...] | None = None
    not_cidr: tuple[str, ...] | None = None
    exists: bool | None = None


class Trigger(Frozen):
    """When a playbook answers an alert: all of `match`, and `where` if given."""

    match: dict[str, Match] = Field(default_factory=dict)  # alert field path -> predicate
    where: str | None = None
    max_age: Duration | None = None


class DedupeMode(StrEnum):
    """What later alerts of the same key do within the window."""

    FIRST = "first"  # the first starts a run, the rest are suppressed
    COLLECT = "collect"  # the first starts a run, the rest are correlated with it
    THRESHOLD = "threshold"  # nothing until `count` alerts came; that one starts the run


class Dedupe(Frozen):
    """Which alerts of one playbook count as the same."""

    key: tuple[str, ...] = Field(min_length=1)
    within: Duration
    mode: DedupeMode = DedupeMode.FIRST
    count: int = Field(default=1, ge=1)


class Backoff(Frozen):
    """Waits between tries: doubling from `from` to `to`, with jitter."""

    from_: Duration = Field(alias="from", default=timedelta(seconds=2))
    to: Duration = timedelta(seconds=60)


class Retry(Frozen):
    """How often and on what an action is tried again. Only what is safe to repeat ever is."""

    attempts: int = Field(default=3, ge=1, le=20)
    backoff: Backoff = Backoff()
    on: tuple[Literal["rate_limited", "timeout", "not_sent", "remote_failure"], ...] = (
        "rate_limited",
        "timeout",
        "not_sent",
        "remote_failure",
    )


class Escalation(Frozen):
    """Ask a further group after a time."""

    after: Duration
    to: str


class ApprovalAsk(Frozen):
    """What a playbook adds to policy: people who must agree."""

    groups: tuple[GroupQuorum, ...] = Field(min_length=1)
    expires: Duration = timedelta(minutes=30)
    on_expire: Literal["deny"] = "deny"
    escalate: Escalation | None = None
    reason_required: bool = False


class VerifyEffect(Frozen):
    """Read back until it is so: an HTTP 200 is not proof."""

    use: str
    with_: dict[str, Any] = Field(alias="with", default_factory=dict)
    until: str
    within: Duration = timedelta(minutes=5)
    every: Duration = timedelta(seconds=5)


class UndoEffect(Frozen):
    """How to take it back, and when by itself."""

    use: str
    with_: dict[str, Any] = Field(alias="with", default_factory=dict)
    after: Duration | None = None


class BaseStep(Frozen):
    """What every step form takes."""

    id: str | None = Field(default=None, pattern=STEP_ID)
    if_: str | None = Field(alias="if", default=None)
    on_error: Literal["fail", "continue"] | tuple[Step, ...] = "fail"
    timeout: Duration | None = None
    line: int = Field(default=0, exclude=True)  # where it stands in the file, for messages
    kind: str  # the word of the form, as in the docs


class ActionStep(BaseStep):
    """`use`: one action of a connector, or a capability bound to one by the configuration."""

    kind: Literal["use"] = "use"
    use: str
    with_: dict[str, Any] = Field(alias="with", default_factory=dict)
    retry: Retry = Retry()
    approval: ApprovalAsk | None = None
    verify: VerifyEffect | None = None
    undo: UndoEffect | None = None


class IfStep(BaseStep):
    """`if` with `then` and `else`; the condition is `if_`."""

    kind: Literal["if"] = "if"
    then: tuple[Step, ...] = Field(min_length=1)
    else_: tuple[Step, ...] = Field(alias="else", default=())


class SwitchStep(BaseStep):
    """`switch`: the first case whose value equals the expression's, else `default`."""

    kind: Literal["switch"] = "switch"
    switch: str
    cases: dict[str, tuple[Step, ...]]
    default: tuple[Step, ...] = ()


class ParallelStep(BaseStep):
    """`parallel`: branches side by side; it fails if one fails that does not `continue`."""

    kind: Literal["parallel"] = "parallel"
    parallel: tuple[Step, ...] = Field(min_length=1, max_length=50)


class ForeachStep(BaseStep):
    """`foreach`: the steps of `do` for each element; more than `limit` elements is an error, not a cut."""

    kind: Literal["foreach"] = "foreach"
    foreach: str
    as_: str = Field(alias="as", default="value", pattern=STEP_ID)
    limit: int = Field(default=20, ge=1, le=1000)
    concurrency: int = Field(default=1, ge=1, le=20)
    do: tuple[Step, ...] = Field(min_length=1)


class WaitStep(BaseStep):
    """`wait`: for a time, until an instant, or for a later matching alert."""

    kind: Literal["wait"] = "wait"
    for_: Duration | None = None
    until: str | None = None  # expression giving an RFC 3339 time
    for_alert: Trigger | None = None  # ends with `ok: false` when `timeout` passes first


class AskStep(BaseStep):
    """`ask`: a question to people with a typed answer, `steps.<id>.result.answer`."""

    kind: Literal["ask"] = "ask"
    ask: str
    options: tuple[str, ...] = ()
    answer: Literal["text", "number", "boolean", "choice"] = "text"
    groups: tuple[GroupQuorum, ...] = Field(min_length=1)
    expires: Duration = timedelta(hours=4)


class CallStep(BaseStep):
    """`call`: another playbook as a sub-run; its outputs are the result."""

    kind: Literal["call"] = "call"
    call: str
    with_: dict[str, Any] = Field(alias="with", default_factory=dict)


class SetStep(BaseStep):
    """`set`: names values under `vars`."""

    kind: Literal["set"] = "set"
    set: dict[str, Any] = Field(min_length=1)


class StopStep(BaseStep):
    """`stop`: ends the run here, as a success or a failure, with a message."""

    kind: Literal["stop"] = "stop"
    stop: Literal["succeeded", "failed"] = "succeeded"
    message: str | None = None


Step = Annotated[
    ActionStep | IfStep | SwitchStep | ParallelStep | ForeachStep | WaitStep | AskStep | CallStep | SetStep | StopStep,
    Field(discriminator="kind"),
]
for _form in BaseStep.__subclasses__():
    _form.model_rebuild()


class Playbook(Frozen):
    """One version of one playbook; its digest is over its file's bytes and pins it for a run's life."""

    id: str = Field(pattern=PLAYBOOK_ID)
    digest: str
    file: str
    description: str
    owner: str
    author: str | None = None
    mode: Mode = Mode.LIVE
    labels: dict[str, Any] = Field(default_factory=dict)
    on: Trigger | None = None  # none: only called by others or by hand
    dedupe: Dedupe | None = None
    lock: str | None = None
    inputs: dict[str, Any] = Field(default_factory=dict)  # JSON Schema of `vars` for a called playbook
    vars: dict[str, Any] = Field(default_factory=dict)
    steps: tuple[Step, ...] = Field(min_length=1)
    on_error: tuple[Step, ...] = ()
    outputs: dict[str, Any] = Field(default_factory=dict)
