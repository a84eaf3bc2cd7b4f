"""The short way of a batch on PostgreSQL: one statement, and the same answers as the long way whatever others did."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from soar.errors import (
    BusyError,
    HaltedError,
    LeaseLostError,
    RunCancelledError,
    RunPausedError,
    StateConflictError,
    StoreError,
)
from soar.model.action import AttemptState, Effect, Risk
from soar.model.run import RunState, StepState
from soar.store.port import (
    Fact,
    FinishRun,
    InsertAttempt,
    InsertRun,
    Lease,
    MoveAttempt,
    ParkRun,
    PutStep,
    ReleaseRun,
    RequestCancel,
    SetControl,
    SetPaused,
    SignalRun,
    Store,
    Write,
)
from soar.store.postgres import PostgresStore
from soar.store.queueing import HoldInstance

from .facts import NOW, a_run, a_step, admission, chain, entry, intent, later, put, rows, take
from .test_postgres_races import holds
from .wire import Wire, wire

LEASE = Lease(run_id="run-1", epoch=1)
SEED = 20261123


@pytest.fixture
async def line(postgres_home: str) -> AsyncIterator[Wire]:
    async with wire(postgres_home) as line:
        yield line


@pytest.fixture
async def mine(line: Wire) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(line.dsn)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def other(postgres_home: str) -> AsyncIterator[PostgresStore]:
    """Another process on the same database."""
    store = PostgresStore(postgres_home)
    await store.open()
    yield store
    await store.close()


async def running(store: Store, *names: str, **more: Any) -> None:
    """Runs that this process made, told and leased, each with an attempt and a step under way."""
    made = [Fact(writes=(InsertRun(run=a_run(name, **more)),), entries=(entry(name),)) for name in names]
    assert await store.commit(made) == [None] * len(names)
    leases = await take(store, limit=len(names))
    begun = [
        told(harmless(lease.run_id, "begun"), PutStep(record=a_step(lease.run_id, StepState.WAITING)), lease=lease)
        for lease in leases
    ]
    assert await store.commit(begun) == [None] * len(begun)


def harmless(run_id: str, path: str = "new") -> InsertAttempt:
    """An intent that counts against nothing."""
    return intent(run_id, path, risk=Risk.NONE, effect=Effect.KEYED)


def done(run_id: str, state: AttemptState = AttemptState.SUCCEEDED) -> MoveAttempt:
    attempt = harmless(run_id, "begun").attempt.model_copy(update={"state": state})
    return MoveAttempt(attempt=attempt, expect=AttemptState.INTENDED)


def told(*writes: Write, lease: Lease) -> Fact:
    return Fact(writes=writes, entries=(entry(lease.run_id),), lease=lease)


def finish(run_id: str) -> FinishRun:
    return FinishRun(run_id=run_id, state=RunState.SUCCEEDED, outputs={"a": 1}, error=None, at=NOW)


def listened(line: Wire) -> list[bytes]:
    """What is sent to the server from now on."""
    heard: list[bytes] = []

    def hear(data: bytes) -> None:
        heard.append(data)

    line.cut = hear
    return heard


async def test_what_the_holder_of_a_lease_records_is_one_statement(line: Wire, mine: PostgresStore) -> None:
    await running(mine, "run-1", "run-2", lock_key="l")
    heard = listened(line)
    step = PutStep(record=a_step("run-1", StepState.SUCCEEDED))
    assert await mine.commit([told(harmless("run-1"), done("run-1"), step, lease=LEASE)]) == [None]
    assert await mine.commit([told(finish("run-1"), lease=LEASE)]) == [None]
    sent = b"".join(heard)
    assert sent.count(b"__asyncpg_stmt_") == 2
    assert b"BEGIN" not in sent
    run = await mine.run("run-1")
    assert run is not None
    assert (run.state, run.outputs, run.finished_at, run.owner) == (RunState.SUCCEEDED, {"a": 1}, NOW, None)
    assert [each.state for each in await mine.attempts("run-1")] == [AttemptState.SUCCEEDED, AttemptState.INTENDED]
    assert (await mine.steps("run-1"))["s"].state is StepState.SUCCEEDED
    assert [place for place, _ in chain(await rows(mine, run_id="run-1"))] == [0, 1, 2, 3]
    assert await take(mine) == [Lease(run_id="run-2", epoch=1)]  # the lock came free
    assert await holds(mine)


@pytest.mark.parametrize("path", ["case[a\x1fb].s", "case[\x1f].s"])
async def test_a_path_that_holds_what_stands_between_values_is_written_all_the_same(
    mine: PostgresStore, path: str
) -> None:
    """The short way sends many rows' text as one; what it could not take apart again takes the long way."""
    await running(mine, "run-1")
    steps = [PutStep(record=a_step("run-1", StepState.SUCCEEDED, each)) for each in ("case[\x00\x01].s", path)]
    assert await mine.commit([told(harmless("run-1", path), *steps, lease=LEASE)]) == [None]
    assert (await mine.steps("run-1")).keys() == {"s", "case[\x00\x01].s", path}
    assert [each.path for each in await mine.attempts("run-1")] == ["begun", path]
    assert await holds(mine)


async def lease_again(other: Store) -> None:
    assert await put(other, ReleaseRun(run_id="run-1", expired_before=later(3600)), run_id="run-1") is None
    assert await take(other, owner="other") == [Lease(run_id="run-1", epoch=2)]


async def cut_off(other: Store) -> None:
    assert await put(other, PutStep(record=a_step("run-1", StepState.FAILED))) is None


OTHERS = {
    "nothing": ((), None),
    "an entry": ((), None),
    "cancel": ((RequestCancel(run_id="run-1"),), RunCancelledError),
    "pause": ((SetPaused(run_id="run-1", paused=True),), RunPausedError),
    "signal": ((SignalRun(run_id="run-1"),), None),
    "halt": ((SetControl(key="halt", value="now"),), HaltedError),
    "hold": ((HoldInstance(instance="edr", until=later(60)),), BusyError),
    "a hold that is over": ((HoldInstance(instance="edr", until=NOW),), None),
    "lease": (lease_again, LeaseLostError),
    "outcome": ((done("run-1", AttemptState.UNKNOWN),), StateConflictError),
    "the step's end": (cut_off, StateConflictError),
    "the same intent": ((harmless("run-1"),), StateConflictError),
}


@pytest.mark.parametrize("journalled", [True, False], ids=["journalled", "silent"])
@pytest.mark.parametrize("what", OTHERS)
async def test_what_another_process_did_meanwhile_counts(
    mine: PostgresStore, other: PostgresStore, what: str, journalled: bool
) -> None:
    await running(mine, "run-1")
    change, expected = OTHERS[what]
    if callable(change):
        await change(other)
    else:
        assert await put(other, *change, run_id="run-1" if journalled else None) is None
    step = PutStep(record=a_step("run-1", StepState.SUCCEEDED))
    (refused,) = await mine.commit([told(harmless("run-1"), done("run-1"), step, lease=LEASE)])
    assert type(refused) is (expected or type(None)), refused
    states = [each.state for each in await other.attempts("run-1")]
    assert (AttemptState.SUCCEEDED in states) is (expected is None)
    found = chain(await rows(other, run_id="run-1"))
    assert [place for place, _ in found] == list(range(len(found)))
    assert await holds(other)


async def test_a_signal_that_came_while_it_ran_is_not_slept_through(mine: PostgresStore, other: PostgresStore) -> None:
    await running(mine, "run-1", "run-2")
    assert await put(other, SignalRun(run_id="run-1")) is None
    leases = [LEASE, Lease(run_id="run-2", epoch=1)]
    parked = [told(ParkRun(run_id=lease.run_id, wake_at=later(60)), lease=lease) for lease in leases]
    assert await mine.commit(parked) == [None, None]
    runs = {run.id: (run.state, run.wake_at) for run in await other.runs()}
    assert runs == {"run-1": (RunState.READY, later(60)), "run-2": (RunState.WAITING, later(60))}


@pytest.mark.parametrize("where", ["before", "after"])
async def test_a_statement_that_was_not_answered_is_found_out_about(
    line: Wire, mine: PostgresStore, other: PostgresStore, where: str
) -> None:
    await running(mine, "run-1")
    fact = told(harmless("run-1"), lease=LEASE)
    name = fact.entries[0].id.encode()
    line.cut = lambda data: where if name in data and not line.cuts else None
    assert await mine.commit([fact]) == [None]
    assert line.cuts == 1
    assert len(await other.attempts("run-1")) == 2
    assert len(await rows(other)) == 3
    assert await holds(other)


async def test_admissions_and_runs_of_one_process_share_the_journal_while_others_interfere(
    mine: PostgresStore, other: PostgresStore
) -> None:
    names = [f"run-{number:02}" for number in range(30)]
    await running(mine, *names)
    chance = random.Random(SEED)

    async def work(run_id: str) -> list[StoreError | None]:
        lease, results = Lease(run_id=run_id, epoch=1), []
        for number in range(4):
            results += await mine.commit([told(harmless(run_id, f"new-{number}"), lease=lease)])
        return [*results, *await mine.commit([told(finish(run_id), lease=lease)])]

    async def admit(number: int) -> None:
        keys, fact = admission(f"k/{number}", f"alert-{number}")
        await mine.admit(keys, lambda _: fact)

    async def interfere(names: Sequence[str]) -> None:
        for name in names:
            assert await put(other, RequestCancel(run_id=name), run_id=chance.choice([name, None])) is None
            await asyncio.sleep(chance.random() / 100)

    cancelled = names[::3]
    results, *_ = await asyncio.gather(
        asyncio.gather(*map(work, names)), interfere(cancelled), *(admit(number) for number in range(20))
    )
    for name, found in zip(names, results, strict=True):
        assert found[-1] is None or isinstance(found[-1], StateConflictError | LeaseLostError)
        refused = [each for each in found[:-1] if each is not None]
        assert all(isinstance(each, RunCancelledError) for each in refused)
        assert not refused or name in cancelled
        assert sum(each is None for each in found[:-1]) == len(await other.attempts(name)) - 1
        places = [place for place, _ in chain(await rows(other, run_id=name))]
        assert places == list(range(len(places)))
    assert (await other.counts()).runs == {"succeeded": 30}
    assert await holds(other)
