"""One leased run in memory: what is recorded of it, and how more gets recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any

from soar.engine.programs import Program
from soar.engine.recorder import Recorder
from soar.engine.redaction import masked_notes
from soar.engine.scribe import Data, Scribe
from soar.errors import StoreError
from soar.model.action import Attempt
from soar.model.entry import Entry, EntryType
from soar.model.run import Run, StepRecord, StepState
from soar.store.port import Fact, Lease, PutStep, Write


class Park(Exception):  # noqa: N818 - a way to go, not an error
    """The run cannot go on now: it sleeps until `wake_at`, or until a signal if that is None."""

    def __init__(self, wake_at: datetime | None = None) -> None:
        super().__init__()
        self.wake_at = wake_at


class Undetermined(Exception):  # noqa: N818 - a way to go, not an error
    """An action's outcome is unknown and cannot be found out: a person must say."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(why)
        self.path = path


class Stopped(Exception):  # noqa: N818 - a way to go, not an error
    """A `stop` step ended the run."""

    def __init__(self, *, succeeded: bool, message: str | None) -> None:
        super().__init__(message)
        self.succeeded = succeeded
        self.message = message


class StepFailed(Exception):  # noqa: N818 - a way to go, not an error
    """A step failed or was denied, and nothing in the playbook catches it there."""

    def __init__(self, record: StepRecord) -> None:
        super().__init__(record.error or record.error_code or record.state)
        self.record = record


@dataclass(frozen=True)
class Scope:
    """What expressions see. Branches and iterations get scopes of their own, so that replay is exact."""

    alert: Mapping[str, Any] | None
    run: Mapping[str, Any]
    vars: dict[str, Any]
    steps: dict[str, Any] = field(default_factory=dict)
    item: Any = None
    until: datetime | None = None  # nothing that acts or waits begins here after this instant
    closed: str | None = None  # the step whose deadline has ended all that is recorded here; nothing begins any more

    def names(self) -> dict[str, Any]:
        """The context of an expression."""
        return {"alert": self.alert, "steps": self.steps, "run": self.run, "vars": self.vars, "item": self.item}

    def branch(self, item: Any = None) -> Scope:
        """A scope that sees what this one saw so far, and keeps what it adds to itself."""
        inner = self.item if item is None else item
        return replace(self, vars=dict(self.vars), steps=dict(self.steps), item=inner)

    def adopt(self, inner: Scope) -> None:
        """Take over what the one branch of this scope found."""
        self.steps.update(inner.steps)
        self.vars.update(inner.vars)

    def learn(self, record: StepRecord) -> None:
        """Let later steps see `steps.<id>`."""
        if record.step_id is not None:
            self.steps[record.step_id] = {
                "ok": record.ok,
                "state": record.state.value,
                "result": record.result,
                "error": record.error,
                "error_code": record.error_code,
            }


@dataclass
class RunContext:
    """A run under lease. Every save carries the lease, so that a worker that lost it writes nothing."""

    run: Run
    program: Program
    alert: Mapping[str, Any] | None  # as it was admitted
    records: dict[str, StepRecord]
    attempts: dict[str, list[Attempt]]
    recorder: Recorder
    scribe: Scribe
    first: bool = False  # nobody has leased this run before, nor looked at it: nothing is recorded of its steps
    shadow: bool = False  # nothing but reads is sent: this playbook says so, or one that called it
    kept_facts: dict[str, Any] = field(default_factory=dict)  # parts of questions that stay the same for this run
    lanes: int = 1  # how many branches go on side by side
    _writes: list[Write] = field(default_factory=list)  # for the next fact
    _entries: list[Entry] = field(default_factory=list)

    @cached_property
    def lease(self) -> Lease:
        """The claim under which this worker writes."""
        return Lease(run_id=self.run.id, epoch=self.run.epoch)

    def now(self) -> datetime:
        """This instant."""
        return self.scribe.clock.now()

    def entry(
        self, kind: EntryType, subject: str, *, payload: dict[str, Any] | bytes | None = None, data: Data | None = None
    ) -> Entry:
        """An entry of this run."""
        return self.scribe.entry(kind, subject, run_id=self.run.id, payload=payload, data=data)

    def last_try(self, path: str) -> Attempt | None:
        """The latest attempt of a step, if there was one."""
        tries = self.attempts.get(path)
        return tries[-1] if tries else None

    def know(self, attempt: Attempt) -> None:
        """Keep in memory what was recorded of an attempt."""
        tries = self.attempts.setdefault(attempt.path, [])
        tries[attempt.number - 1 :] = [attempt]

    def note(self, record: StepRecord, *, over: StepRecord | None = None) -> None:
        """Remember a result that replay would find again by itself; it is written with the next fact, once.

        What is known of the step already stays, but for the record `over`.
        """
        if self.records.get(record.path) is over:
            self.later(entries=(self.step_entry(record),), record=record)

    def later(self, *writes: Write, entries: tuple[Entry, ...] = (), record: StepRecord) -> None:
        """Record something in one fact with whatever this run records next.

        If we crash before that it is lost, so it must be something that may happen again.
        """
        self.records[record.path] = record
        self._writes += [*writes, PutStep(record=record)]
        self._entries += entries

    async def flush(self) -> None:
        """Record what was left for later, if anything was."""
        if self._writes or self._entries:
            await self.save()

    async def save(self, *writes: Write, entries: tuple[Entry, ...] = (), record: StepRecord | None = None) -> None:
        """Record a fact of this run: what was left for later, `entries` in order, then `record` as a step's state.

        Raises the StoreError that refused it; nothing of it is written then, and what was left for later waits on.
        """
        earlier, self._writes = self._writes, []
        told, self._entries = self._entries, []
        all_writes = (*earlier, *writes)
        all_entries = (*told, *entries)
        if record is not None:
            all_writes = (*all_writes, PutStep(record=record))
            all_entries = (*all_entries, self.step_entry(record))
        try:
            await self.recorder.record(Fact(writes=all_writes, entries=all_entries, lease=self.lease))
        except StoreError:
            self._writes, self._entries = earlier + self._writes, told + self._entries
            raise
        if record is not None:
            self.records[record.path] = record

    def step_entry(self, record: StepRecord) -> Entry:
        """The entry that tells how a step stands."""
        waiting = record.state is StepState.WAITING
        payload = {
            key: value
            for key, value in (("result", record.result), ("error", record.error), ("data", masked_notes(record.data)))
            if value not in (None, {})
        }
        data: Data = {"kind": record.kind, "state": record.state.value}
        if record.step_id:
            data["step"] = record.step_id
        if record.error_code:
            data["code"] = record.error_code
        kind = EntryType.STEP_WAITING if waiting else EntryType.STEP_FINISHED
        return self.entry(kind, record.path, payload=payload or None, data=data)
