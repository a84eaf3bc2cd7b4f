"""What a connector can do, a fully rendered call, and what came back."""

from __future__ import annotations

import hashlib
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType
from typing import Any, Self

import orjson
from pydantic import Field

from soar.model.base import Frozen, canonical


class Effect(StrEnum):
    """What doing it twice means: it decides what happens after an unknown outcome."""

    READ = "read"  # changes nothing: ask again
    IDEMPOTENT = "idempotent"  # twice is once: send again
    KEYED = "keyed"  # the other side honours an idempotency key: send again with the same key
    VERIFIABLE = "verifiable"  # can be read back: look before sending again
    UNSAFE = "unsafe"  # twice is twice: a person must say what happened


class Risk(StrEnum):
    """What harm it can do."""

    NONE = "none"  # looks, tells, opens tickets
    CONTAIN = "contain"  # takes something from someone, and can give it back
    DESTRUCTIVE = "destructive"  # cannot be taken back


class Impact(StrEnum):
    """Effect and risk in policy's words."""

    READ = "read"
    REVERSIBLE = "reversible"
    DESTRUCTIVE = "destructive"


class ActionSpec(Frozen):
    """The declaration beside an action's code; lint, policy, console, docs and tests all read this one."""

    connector: str
    verb: str
    summary: str
    effect: Effect
    risk: Risk
    capability: str | None = None
    undo: str | None = None  # verb of the same connector that takes it back, given the same params
    verify: str | None = None  # verb of the same connector that reads back, given the same params
    react: str | None = None  # RE&CT response action id
    docs: str | None = None
    max_tlp: str | None = None
    params_schema: dict[str, Any]
    result_schema: dict[str, Any]
    targets: tuple[tuple[str, str], ...] = ()  # (params field, target type): whom it acts on

    @property
    def name(self) -> str:
        """`connector.verb`."""
        return f"{self.connector}.{self.verb}"

    @property
    def impact(self) -> Impact:
        """A contain action without an undo counts as destructive."""
        if self.effect is Effect.READ:
            return Impact.READ
        if self.risk is Risk.DESTRUCTIVE or (self.risk is Risk.CONTAIN and self.undo is None):
            return Impact.DESTRUCTIVE
        return Impact.REVERSIBLE


class Target(Frozen):
    """Whom or what an action acts on, with what we know of it from the asset list."""

    type: str  # host | user | ip | file | url | ...
    id: str
    tier: str | None = None
    tags: tuple[str, ...] = ()
    owner: str | None = None


class ActionRequest(Frozen):
    """A fully rendered call: nothing in it is looked up or rendered again before it is sent."""

    run_id: str
    path: str  # step path within the run, iterations included: `3.do[2].disable`
    step_id: str
    connector: str
    instance: str
    connector_version: str
    verb: str
    effect: Effect
    risk: Risk
    impact: Impact
    undo: str | None = None
    params: dict[str, Any]
    targets: tuple[Target, ...] = ()
    idempotency_key: str

    @property
    def action(self) -> str:
        """`connector.verb`."""
        return f"{self.connector}.{self.verb}"

    def counts_against(self, playbook_id: str) -> list[str]:
        """The keys that limits count this action under: its connector, its playbook, each of its targets once."""
        targets = {f"target:{target.type}:{target.id}" for target in self.targets}
        return [f"connector:{self.connector}", f"playbook:{playbook_id}", *sorted(targets)]

    def __copy__(self) -> Self:
        """Without what is derived from its fields: a changed copy has a text and a digest of its own."""
        copy = super().__copy__()
        for derived in ("text", "digest"):
            copy.__dict__.pop(derived, None)
        return copy

    @cached_property
    def text(self) -> bytes:
        """The canonical JSON of the whole request; raises ValueError for params that JSON does not keep exactly."""
        return canonical(self.model_dump(mode="json"))

    @cached_property
    def digest(self) -> str:
        """SHA-256 over its canonical JSON."""
        return hashlib.sha256(self.text).hexdigest()


class ActionResult(Frozen):
    """What came back, already validated against the action's result model."""

    value: dict[str, Any] = Field(default_factory=dict)


class AttemptState(StrEnum):
    """One try of one action."""

    INTENDED = "intended"  # journalled, about to be sent; the worker moves it when the call ends
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNKNOWN = "unknown"  # it may have happened; a read-back, a keyed repeat or a person moves it


ATTEMPT_MOVES = MappingProxyType(
    {
        AttemptState.INTENDED: frozenset({AttemptState.SUCCEEDED, AttemptState.FAILED, AttemptState.UNKNOWN}),
        AttemptState.UNKNOWN: frozenset({AttemptState.SUCCEEDED, AttemptState.FAILED}),
    }
)
"""`planned` of the architecture is a step without an attempt: nothing is stored before the intent."""


class Attempt(Frozen):
    """One try of one action, from intent to outcome."""

    run_id: str
    path: str
    number: int
    state: AttemptState
    request: ActionRequest
    epoch: int
    intended_at: datetime
    redacted: tuple[str, ...] = ()  # fields of its params that people are not shown
    limited: bool = False  # holds a turn at its instance until it ends
    finished_at: datetime | None = None
    error_code: str | None = None
    error: str | None = None

    def text(self) -> str:
        """The JSON that stores keep; the request in it, which all states share, is written once."""
        return orjson.dumps({**self.__dict__, "request": orjson.Fragment(self.request.text)}).decode()
