"""Run: one execution of one playbook version."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from pydantic import Field

from soar.model.base import Frozen


class RunState(StrEnum):
    """Where a run stands. Final states are those that `RUN_MOVES` omits as keys."""

    READY = "ready"  # a worker may lease it
    RUNNING = "running"  # leased; its worker moves it on, recovery takes it back when the lease ends
    WAITING = "waiting"  # parked on a timer, an approval, an answer; the timekeeper or a person wakes it
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    DENIED = "denied"  # policy or a person said no, and the playbook did not go on
    CANCELLED = "cancelled"
    NEEDS_REVIEW = "needs_review"  # an action's outcome is unknown; a person must say (then ready again)


RUN_MOVES = MappingProxyType(
    {
        RunState.READY: frozenset({RunState.RUNNING, RunState.CANCELLED}),
        RunState.RUNNING: frozenset(
            {
                RunState.READY,
                RunState.WAITING,
                RunState.SUCCEEDED,
                RunState.FAILED,
                RunState.DENIED,
                RunState.CANCELLED,
                RunState.NEEDS_REVIEW,
            }
        ),
        RunState.WAITING: frozenset({RunState.READY, RunState.CANCELLED}),
        RunState.NEEDS_REVIEW: frozenset({RunState.READY, RunState.CANCELLED}),
        RunState.FAILED: frozenset({RunState.READY}),  # a person retries
        RunState.DENIED: frozenset({RunState.READY}),  # a person retries, after policy changed
    }
)
FINAL_STATES = frozenset({RunState.SUCCEEDED, RunState.FAILED, RunState.DENIED, RunState.CANCELLED})
"""A run rests here unless a person retries it."""


class RunKind(StrEnum):
    """What started a run."""

    ALERT = "alert"
    CALL = "call"  # a sub-playbook
    UNDO = "undo"  # takes back one action of another run
    MANUAL = "manual"
    NOTICE = "notice"  # tells a group of a decision, because policy wants it


class Run(Frozen):
    """One execution of one playbook version, pinned by digest for life."""

    id: str
    kind: RunKind
    state: RunState
    playbook_id: str
    playbook_digest: str
    alert_id: str | None = None
    parent_run_id: str | None = None  # of a call or an undo
    parent_path: str | None = None
    vars: dict[str, Any] = Field(default_factory=dict)
    priority: int = 0  # the alert's severity score; higher is leased first
    lock_key: str | None = None
    depth: int = 0
    epoch: int = 0  # rises with every lease; a write with an old one is refused
    owner: str | None = None
    lease_until: datetime | None = None
    wake_at: datetime | None = None
    cancel_requested: bool = False
    paused: bool = False  # whatever its state: not leased, no intent, no sub-run, until a person resumes it
    outputs: dict[str, Any] = Field(default_factory=dict)
    error: str | None = None
    created_at: datetime
    finished_at: datetime | None = None

    @property
    def final(self) -> bool:
        """Whether it rests."""
        return self.state in FINAL_STATES


class StepState(StrEnum):
    """How a step ended, or that it waits."""

    WAITING = "waiting"  # parked; `data` says on what
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    DENIED = "denied"
    SKIPPED = "skipped"
    UNKNOWN = "unknown"  # the outcome is not known; a person must say


class StepRecord(Frozen):
    """What the store knows of one step of a run; replay takes it instead of doing the step again.

    `result` is what expressions see as `steps.<id>.result`. `data` is the interpreter's own: what a
    waiting step waits for (`approval_id`, `until`, `attempt`), which branch was taken.
    """

    run_id: str
    path: str
    step_id: str | None = None
    kind: str
    state: StepState
    result: Any = None
    error_code: str | None = None
    error: str | None = None
    data: dict[str, Any] = Field(default_factory=dict)
    started_at: datetime
    finished_at: datetime | None = None

    @property
    def ok(self) -> bool:
        """Whether it did what it was asked."""
        return self.state is StepState.SUCCEEDED
