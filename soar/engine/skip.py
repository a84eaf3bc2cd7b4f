"""A step that a person skips: which may be, how it is recorded, and what ends with it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType

from soar.engine.again import BY_PERSON
from soar.engine.approvals import closing
from soar.engine.scribe import Scribe
from soar.errors import InputError
from soar.model.approval import OPEN, ApprovalState
from soar.model.entry import Entry, EntryType
from soar.model.run import Run, RunState, StepRecord, StepState
from soar.store.port import RequestCancel, Store, Write

SKIPPABLE = MappingProxyType(
    {
        RunState.FAILED: frozenset({StepState.FAILED, StepState.DENIED}),
        RunState.DENIED: frozenset({StepState.FAILED, StepState.DENIED}),
        RunState.WAITING: frozenset({StepState.WAITING, StepState.UNKNOWN}),
        RunState.NEEDS_REVIEW: frozenset({StepState.UNKNOWN}),
    }
)
"""Which steps can be skipped while their run stands so."""

_KINDS = frozenset({"use", "wait", "ask", "call"})  # replay takes only these from their records
_LOOKS = (".verify[", ".readback[")


def skippable(run: Run, steps: Mapping[str, StepRecord], path: str) -> StepRecord:
    """The step to skip; raises InputError, which names those that can be."""
    can = {
        each: record
        for each, record in steps.items()
        if record.kind in _KINDS and record.state in SKIPPABLE[run.state] and not any(look in each for look in _LOOKS)
    }
    if path not in can:
        others = f"; it has {', '.join(sorted(can))}" if can else ""
        raise InputError(f"run {run.id} is {run.state} and has no step {path!r} that can be skipped{others}")
    return can[path]


def looks_that_wait(steps: Mapping[str, StepRecord], path: str) -> list[StepRecord]:
    """The looks at an action's effect that wait, for a turn or for policy: with the step they are passed over too."""
    beneath = tuple(path + look for look in _LOOKS)
    return [each for name, each in steps.items() if name.startswith(beneath) and each.state is StepState.WAITING]


def skipped_by_person(record: StepRecord, *, now: datetime, reason: str) -> StepRecord:
    """The record that replay takes instead of doing the step."""
    return record.model_copy(
        update={
            "state": StepState.SKIPPED,
            "error_code": BY_PERSON,
            "error": f"a person skipped it: {reason}",
            "finished_at": now,
        }
    )


async def asked_no_more(
    store: Store, scribe: Scribe, record: StepRecord, *, because: str
) -> tuple[list[Write], list[Entry]]:
    """End what a waiting step waits for, `because` it was skipped, say: people's consent, or the run that it called."""
    if record.state is not StepState.WAITING:
        return [], []
    name = record.data.get("approval_id")
    approval = await store.approval(name) if name else None
    if approval is not None and approval.state in OPEN:
        write, told = closing(scribe, approval, ApprovalState.CANCELLED)
        return [write], [told]
    name = record.data.get("run_id")
    called = await store.run(name) if name else None
    if called is None or called.final:
        return [], []
    why = f"step {record.path} of run {record.run_id}, which called it, {because}"
    told = scribe.entry(EntryType.RUN_CANCEL_REQUESTED, called.id, run_id=called.id, payload={"reason": why})
    return [RequestCancel(run_id=called.id)], [told]
