"""What policy is asked about a person and a deed (`soar.person/v1`), and what it answers (`soar.permission/v1`)."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final, Literal

import orjson
from pydantic import Field, ValidationError

from soar.errors import PolicyError
from soar.model.base import Frozen
from soar.policy.input import Environment, TimeFacts
from soar.policy.rego import EngineFault, evaluate

PERSON_PACKAGE: Final = ("soar", "people")
PERSON_ENTRY_POINT: Final = "data.soar.people.decision"


class Deed(StrEnum):
    """What a person may do, or not."""

    APPROVE = "approve"
    DENY = "deny"
    ANSWER = "answer"
    CANCEL = "cancel"
    PAUSE = "pause"
    RELEASE = "release"  # let a paused run go on
    RETRY = "retry"
    SKIP = "skip"
    RESOLVE = "resolve"
    UNDO = "undo"
    SUPPRESS = "suppress"
    UNSUPPRESS = "unsuppress"
    HALT = "halt"
    RESUME = "resume"  # clear the kill switch
    READ = "read"  # over HTTP; whoever reads the store's file needs no leave of ours


class PersonFacts(Frozen):
    """Who, through which channel."""

    name: str
    groups: tuple[str, ...] = ()
    channel: str = "cli"


class SubjectFacts(Frozen):
    """What the deed is about; what does not apply is null."""

    kind: Literal["run", "approval", "suppression", "service"]
    id: str | None = None
    playbook: str | None = None
    action: str | None = None  # of an approval: `connector.verb`
    impact: str | None = None  # of an approval: read, reversible, destructive


class PersonInput(Frozen):
    """The whole question."""

    schema_: Literal["soar.person/v1"] = Field(alias="schema", default="soar.person/v1")
    person: PersonFacts
    deed: Deed
    subject: SubjectFacts
    time: TimeFacts
    environment: Environment = Environment()


class PermissionReason(Frozen):
    """Why: a stable code and a sentence."""

    code: str
    msg: str


class Permission(Frozen):
    """Policy's answer; anything that does not validate as this is none."""

    schema_: Literal["soar.permission/v1"] = Field(alias="schema", default="soar.permission/v1")
    allow: bool
    reasons: tuple[PermissionReason, ...] = ()


def answer_of(engine: Any, question: PersonInput) -> Permission:
    """The validated answer of an engine; raises PolicyError."""
    try:
        document = orjson.dumps(question.model_dump(mode="json", by_alias=True))
        defined, value = evaluate(engine, PERSON_ENTRY_POINT, document)
    except EngineFault as fault:
        raise PolicyError(f"{PERSON_ENTRY_POINT} failed on a question: {fault}") from fault
    if not defined:
        raise PolicyError(f"{PERSON_ENTRY_POINT} is undefined for a question; every deed must have an answer")
    try:
        return Permission.model_validate(value)
    except ValidationError as failure:
        item = failure.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in item["loc"]) or "the document"
        raise PolicyError(f"{PERSON_ENTRY_POINT} gives no permission document: {where}: {item['msg']}") from failure
