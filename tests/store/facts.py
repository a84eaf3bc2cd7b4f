"""What a test writes into a store."""

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

from soar.journal.leaf import parse_leaf
from soar.model.action import ActionRequest, Attempt, AttemptState, Effect, Impact, Risk, Target
from soar.model.alert import Alert, AlertDocument, Outcome, Severity
from soar.model.approval import Approval, ApprovalState, Requirement
from soar.model.decision import GroupQuorum
from soar.model.entry import Entry, EntryType
from soar.model.run import Run, RunKind, RunState, StepRecord, StepState
from soar.store.port import (
    AdmissionKeys,
    EntryRow,
    Fact,
    InsertAlert,
    InsertAttempt,
    InsertRecord,
    InsertRun,
    Lease,
    Store,
    Write,
)

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
_NUMBERS = itertools.count()


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def entry(run_id: str | None = None, subject: str = "it", **data: Any) -> Entry:
    return Entry(
        id=f"entry-{next(_NUMBERS):09}", type=EntryType.STEP_FINISHED, at=NOW, actor="test", run_id=run_id,
        subject=subject, data=data, payload={"n": 1},
    )  # fmt: skip


def a_run(run_id: str, **more: Any) -> Run:
    fields = {"kind": RunKind.ALERT, "state": RunState.READY, "playbook_id": "p", "playbook_digest": "d"}
    return Run(id=run_id, created_at=NOW, **{**fields, **more})


def a_request(run_id: str, path: str = "s", risk: Risk = Risk.CONTAIN, effect: Effect = Effect.UNSAFE) -> ActionRequest:
    return ActionRequest(
        run_id=run_id, path=path, step_id=path, connector="edr", instance="edr", connector_version="1", verb="isolate",
        effect=effect, risk=risk, impact=Impact.REVERSIBLE, params={}, targets=(Target(type="host", id="h1"),),
        idempotency_key="k",
    )  # fmt: skip


def intent(run_id: str, path: str = "s", number: int = 1, **more: Any) -> InsertAttempt:
    attempt = Attempt(
        run_id=run_id, path=path, number=number, state=AttemptState.INTENDED, request=a_request(run_id, path, **more),
        epoch=1, intended_at=NOW,
    )  # fmt: skip
    return InsertAttempt(attempt=attempt, playbook_id="p")


def an_approval(name: str = "approval-1", run_id: str = "run-1", **more: Any) -> Approval:
    fields = {"state": ApprovalState.PENDING, "path": "s", "binding": {"a": 1}, "digest": "0" * 64}
    needed = Requirement(groups=(GroupQuorum(group="g"),), ttl=timedelta(minutes=5), execution_ttl=timedelta(minutes=5))
    return Approval(
        id=name, run_id=run_id, requirement=needed, requested_at=NOW, decide_by=later(300), **{**fields, **more}
    )


def a_step(run_id: str, state: StepState, path: str = "s", **more: Any) -> StepRecord:
    return StepRecord(run_id=run_id, path=path, kind="use", state=state, started_at=NOW, **more)


def an_alert(name: str, uid: str = "u", **more: Any) -> Alert:
    fields = {"source": "s", "product": "p", "title": "t", "severity": Severity.HIGH, "severity_score": 70}
    return Alert(id=name, uid=uid, time=NOW, received_at=NOW, **{**fields, **more})


def admission(coordinates: str, name: str) -> tuple[AdmissionKeys, Fact]:
    keys = AdmissionKeys(
        coordinates=frozenset({coordinates}), uids=frozenset({("s", "u", "c")}), uids_since=later(-60),
        windows=frozenset({"w"}), now=NOW,
    )  # fmt: skip
    told = Entry(
        id=f"entry-{name}", type=EntryType.ALERT_ADMITTED, at=NOW, actor="test", subject=name,
        payload={"alert": an_alert(name).model_dump(mode="json")},
    )  # fmt: skip
    insert = InsertAlert(
        alert=AlertDocument.of(an_alert(name)), outcome=Outcome.NO_MATCH, matches=(), coordinates=coordinates,
        content="c", entry_id=told.id,
    )  # fmt: skip
    return keys, Fact(writes=(InsertRecord(coordinates=coordinates, at=NOW), insert), entries=(told,))


async def put(store: Store, *writes: Write, lease: Lease | None = None, run_id: str | None = None) -> Any:
    """Commit one fact; the refusal, or None."""
    return (await store.commit([Fact(writes=writes, entries=(entry(run_id),) if run_id else (), lease=lease)]))[0]


async def begin(store: Store, *names: str, **more: Any) -> None:
    """New runs, ready."""
    refusals = await store.commit([Fact(writes=(InsertRun(run=a_run(name, **more)),)) for name in names])
    assert refusals == [None] * len(names)


async def take(store: Store, limit: int = 10, owner: str = "w", until: datetime | None = None) -> list[Lease]:
    """Lease what is ready."""
    runs = await store.lease(owner=owner, until=until or later(30), limit=limit)
    return [Lease(run_id=run.id, epoch=run.epoch) for run in runs]


async def rows(store: Store, **which: Any) -> list[EntryRow]:
    return [row async for row in store.entries(**which)]


def chain(found: list[EntryRow]) -> list[tuple[int, str]]:
    """Place and predecessor of one run's entries."""
    leaves = [parse_leaf(row.leaf) for row in found]
    return [(leaf["run_seq"], leaf["run_prev"]) for leaf in leaves]
