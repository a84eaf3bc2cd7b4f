"""Several workers on one PostgreSQL, all at once: what may happen once happens once, and nobody waits for ever."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from soar.engine.audit import verify_store
from soar.errors import HaltedError, LeaseLostError, StateConflictError, StoreUnavailableError
from soar.journal.checkpoint import Checkpoint, sign_checkpoint
from soar.journal.merkle import Frontier
from soar.journal.note import Signer
from soar.model.alert import AlertDocument, Outcome
from soar.model.approval import ApprovalState
from soar.model.run import RunState, StepState
from soar.store.port import (
    AdmissionKeys,
    Fact,
    FinishRun,
    InsertAlert,
    InsertApproval,
    InsertRecord,
    InsertRun,
    Known,
    Lease,
    ParkRun,
    PutStep,
    PutWindow,
    ReleaseRun,
    SetControl,
    SignalRun,
    Store,
    UpdateApproval,
    Window,
)
from soar.store.postgres import PostgresStore
from soar.store.postgres.database import CONNECTIONS_MAX
from soar.store.postgres.sql import statements

from .facts import NOW, a_run, a_step, an_alert, an_approval, begin, entry, intent, later, put, rows, take

ORIGIN = "soar.test/journal"
SEED = 20260105


@pytest.fixture
async def stores(postgres_home: str) -> AsyncIterator[list[PostgresStore]]:
    """Three processes' worth of stores on one database, all connections made: who races must start together."""
    stores = [PostgresStore(postgres_home) for _ in range(3)]
    for store in stores:
        await store.open()
    await asyncio.gather(*(store.counts() for store in stores * CONNECTIONS_MAX))
    yield stores
    for store in stores:
        await store.close()


async def holds(store: Store) -> bool:
    """Whether the journal proves itself, checkpoint and frontier included."""
    signer = Signer.generate(ORIGIN)
    size, raw = await store.tree()
    checkpoint = Checkpoint(origin=ORIGIN, size=size, root=Frontier.from_bytes(raw).root())
    await store.add_checkpoint(size, sign_checkpoint(checkpoint, signer))
    report = await verify_store(store, verifier=signer.verifier, origin=ORIGIN)
    assert report.ok, report.problems
    return report.entries == report.covered == size


# Leases


async def test_every_run_is_leased_by_one(stores: list[PostgresStore]) -> None:
    await begin(stores[0], *(f"run-{n:03}" for n in range(300)))
    taken: Counter[str] = Counter()

    async def worker(store: Store, name: str) -> None:
        while leases := await take(store, limit=7, owner=name):
            taken.update(lease.run_id for lease in leases)
            assert {lease.epoch for lease in leases} == {1}

    await asyncio.gather(*(worker(store, f"w{n}") for n, store in enumerate(stores * 2)))
    assert len(taken) == 300
    assert set(taken.values()) == {1}


async def test_a_lock_is_held_by_one_at_a_time_whoever_asks(stores: list[PostgresStore]) -> None:
    """Runs are parked, signalled and finished meanwhile, so that who is the oldest changes under those who look."""
    chance = random.Random(SEED)
    runs = {f"run-{n:03}": f"lock-{n % 4}" for n in range(80)}
    for run_id, lock in runs.items():
        await begin(stores[0], run_id, lock_key=lock, state=chance.choice([RunState.READY, RunState.WAITING]))
    holder: dict[str, str] = {}
    ended: set[str] = set()

    async def worker(store: Store, name: str) -> None:
        while len(ended) < len(runs):
            for lease in await take(store, limit=3, owner=name):
                lock = runs[lease.run_id]
                assert holder.setdefault(lock, lease.run_id) == lease.run_id
                if chance.random() < 0.3:
                    park = ParkRun(run_id=lease.run_id, wake_at=NOW)
                    assert await put(store, park, lease=lease, run_id=lease.run_id) is None
                    continue
                del holder[lock]  # before the commit: from then on another may have it
                ended.add(lease.run_id)
                end = FinishRun(run_id=lease.run_id, state=RunState.SUCCEEDED, at=NOW)
                assert await put(store, end, lease=lease, run_id=lease.run_id) is None
            await put(store, SignalRun(run_id=chance.choice(list(runs))))

    async with asyncio.timeout(60):
        await asyncio.gather(*(worker(store, f"w{n}") for n, store in enumerate(stores)))
    assert (await stores[0].counts()).runs == {"succeeded": 80}
    assert await holds(stores[0])


async def test_two_who_find_a_lock_free_at_the_same_moment_do_not_both_get_it(
    stores: list[PostgresStore], postgres_home: str
) -> None:
    """The older run becomes ready and is leased while another worker, who cannot see that yet, leases the younger."""
    await begin(stores[0], "run-1", lock_key="lock", state=RunState.WAITING)
    await begin(stores[0], "run-2", lock_key="lock")
    db = await asyncpg.connect(postgres_home)
    await db.execute("BEGIN")
    await db.execute("UPDATE runs SET state = 'ready' WHERE id = 'run-1'")
    (leased,) = await db.fetch(statements("writes.sql")["lease"], "w0", later(30), 1)
    assert leased["id"] == "run-1"
    other = asyncio.create_task(take(stores[1]))
    await asyncio.sleep(0.1)  # it waits for us, or has taken what it may not
    await db.execute("COMMIT")
    await db.close()
    assert await other == []
    end = FinishRun(run_id="run-1", state=RunState.SUCCEEDED, at=NOW)
    assert await put(stores[0], end, lease=Lease(run_id="run-1", epoch=1)) is None
    assert [lease.run_id for lease in await take(stores[1])] == ["run-2"]


async def test_of_a_zombie_and_its_successor_only_the_successor_writes(stores: list[PostgresStore]) -> None:
    zombie, timekeeper, successor = stores
    await begin(zombie, *(f"run-{n}" for n in range(50)))
    old = await take(zombie, limit=50, owner="zombie", until=later(1))
    written: list[Lease] = []

    async def late(lease: Lease) -> None:
        refused = await put(zombie, PutStep(record=a_step(lease.run_id, StepState.SUCCEEDED)), lease=lease)
        if refused is None:
            written.append(lease)
        else:
            assert isinstance(refused, LeaseLostError)

    async def recover(lease: Lease) -> None:
        release = ReleaseRun(run_id=lease.run_id, expired_before=later(2))
        assert await put(timekeeper, release, lease=lease, run_id=lease.run_id) is None

    await asyncio.gather(*(part(lease) for lease in old for part in (late, recover)))
    new = await take(successor, limit=50, owner="successor")
    assert len(new) == 50
    for lease in old:
        assert isinstance(await put(zombie, SignalRun(run_id=lease.run_id), lease=lease), LeaseLostError)
    # What the zombie wrote, it wrote before it lost the run.
    for lease in new:
        steps = await successor.steps(lease.run_id)
        assert bool(steps) == any(lease.run_id == early.run_id for early in written)


# Admission


def arriving(number: int, *, window: str, run_id: str, coordinates: str) -> tuple[AdmissionKeys, Any]:
    """An alert that starts a run unless its window has one."""
    alert = an_alert(f"alert-{run_id}", uid=f"uid-{number}")
    keys = AdmissionKeys(
        coordinates=frozenset({coordinates}), uids=frozenset({("s", alert.uid, "c")}), uids_since=later(-60),
        windows=frozenset({window}), now=NOW,
    )  # fmt: skip

    def decide(known: Known) -> Fact:
        if coordinates in known.coordinates:
            return Fact()
        held = known.windows.get(window)
        opened = held or Window(key=window, started_at=NOW, until=later(60), count=0, run_id=run_id)
        counted = Window(key=window, started_at=NOW, until=opened.until, count=opened.count + 1, run_id=opened.run_id)
        told = entry(subject=alert.id)
        insert = InsertAlert(
            alert=AlertDocument.of(alert), outcome=Outcome.MATCHED if held is None else Outcome.SUPPRESSED, matches=(),
            coordinates=coordinates, content="c", entry_id=told.id,
        )  # fmt: skip
        first = (InsertRun(run=a_run(run_id)),) if held is None else (SignalRun(run_id=str(opened.run_id)),)
        writes = (InsertRecord(coordinates=coordinates, at=NOW), insert, PutWindow(window=counted), *first)
        return Fact(writes=writes, entries=(told,))

    return keys, decide


async def test_a_window_starts_one_run_and_a_record_is_admitted_once(stores: list[PostgresStore]) -> None:
    """Each of 100 records is delivered to all three stores at once; five windows take them."""

    async def deliver(number: int, store: Store, name: str) -> None:
        keys, decide = arriving(
            number, window=f"w-{number % 5}", run_id=f"run-{number}-{name}", coordinates=f"k/0/{number}"
        )
        await store.admit(keys, decide)

    deliveries = [(number, store, f"{n}") for number in range(100) for n, store in enumerate(stores)]
    random.Random(SEED).shuffle(deliveries)
    await asyncio.gather(*(deliver(*delivery) for delivery in deliveries))
    counts = await stores[0].counts()
    assert counts.alerts == {"matched": 5, "suppressed": 95}
    assert counts.runs == {"ready": 5}
    assert counts.entries == 100
    seen: list[Known] = []
    keys, _ = arriving(0, window="w-0", run_id="", coordinates="k/0/0")
    await stores[0].admit(keys, lambda known: seen.append(known) or Fact())
    assert seen[0].windows["w-0"].count == 20
    assert await holds(stores[1])


async def test_of_two_alerts_that_end_one_wait_one_does(stores: list[PostgresStore]) -> None:
    """Waits are not held still: who comes second decides again, and is admitted without it."""
    waiting = [f"run-{n}" for n in range(20)]
    await begin(stores[0], *waiting)
    for lease in await take(stores[0], limit=20):
        wait = PutStep(record=a_step(lease.run_id, StepState.WAITING, data={"trigger": {}}))
        assert await put(stores[0], wait, ParkRun(run_id=lease.run_id, wake_at=None), lease=lease) is None
    ended: list[str] = []

    async def arrive(number: int, store: Store) -> None:
        keys, _ = arriving(number, window="w", run_id="x", coordinates=f"k/0/{number}")

        def decide(known: Known) -> Fact:
            over = [wait.model_copy(update={"state": StepState.SUCCEEDED}) for wait in known.waits]
            told = tuple(entry(wait.run_id) for wait in over)
            signals = tuple(SignalRun(run_id=wait.run_id) for wait in over)
            record = InsertRecord(coordinates=f"k/0/{number}", at=NOW)
            return Fact(writes=(record, *(PutStep(record=wait) for wait in over), *signals), entries=told)

        unrelated = AdmissionKeys(
            coordinates=keys.coordinates, uids=frozenset(), uids_since=NOW, windows=frozenset(), now=NOW
        )
        fact = await store.admit(unrelated, decide)
        ended.extend(write.record.run_id for write in fact.writes if isinstance(write, PutStep))

    await asyncio.gather(*(arrive(number, store) for number, store in enumerate(stores * 4)))
    assert sorted(ended) == sorted(waiting)
    assert await holds(stores[0])


# Approvals


async def test_of_many_who_decide_at_once_one_does(stores: list[PostgresStore]) -> None:
    for number in range(20):
        await put(stores[0], InsertApproval(approval=an_approval(f"approval-{number}")))
    swaps = [
        UpdateApproval(
            approval=an_approval(f"approval-{number}", state=state), expect=ApprovalState.PENDING, expect_votes=0
        )
        for number in range(20)
        for state in (ApprovalState.GRANTED, ApprovalState.DENIED, ApprovalState.EXPIRED)
    ]
    done = await asyncio.gather(*(put(stores[number % 3], swap) for number, swap in enumerate(swaps)))
    assert sum(refusal is None for refusal in done) == 20


# Halt


async def test_no_intent_stands_behind_the_halt_in_the_journal(stores: list[PostgresStore]) -> None:
    halting, *workers = stores
    await begin(halting, *(f"run-{n}" for n in range(120)))
    leases = await take(halting, limit=120)

    async def act(store: Store, lease: Lease) -> None:
        told = entry(lease.run_id, "intent")
        (refused,) = await store.commit([Fact(writes=(intent(lease.run_id),), entries=(told,), lease=lease)])
        assert refused is None or isinstance(refused, HaltedError)

    async def halt() -> None:
        while (await halting.tree())[0] < 20:  # noqa: ASYNC110 - what we wait for happens in the database
            await asyncio.sleep(0)
        fact = Fact(writes=(SetControl(key="halt", value="now"),), entries=(entry(subject="halt"),))
        assert await halting.commit([fact]) == [None]

    await asyncio.gather(halt(), *(act(workers[n % 2], lease) for n, lease in enumerate(leases)))
    found = await rows(halting)
    assert b'"halt"' in found[-1].leaf
    assert 20 <= len(found) - 1 < 120
    assert sum((await halting.counts()).actions.values()) == len(found) - 1


# No waiting for ever


async def test_facts_that_touch_the_same_runs_in_any_order_do_not_deadlock(stores: list[PostgresStore]) -> None:
    chance = random.Random(SEED)
    names = [f"run-{n}" for n in range(6)]
    await begin(stores[0], *names)

    async def write(store: Store) -> None:
        facts = []
        for _ in range(5):
            some = chance.sample(names, 3)
            facts.append(
                Fact(writes=tuple(SignalRun(run_id=x) for x in some), entries=tuple(entry(x) for x in some[::-1]))
            )
        assert await store.commit(facts) == [None] * 5

    with capture_logs() as logs:
        await asyncio.gather(*(write(store) for store in stores * 15))
    assert [log for log in logs if log["event"] == "store.again"] == []
    assert (await stores[0].tree())[0] == 45 * 5 * 3
    assert await holds(stores[0])


async def test_killed_connections_lose_nothing_and_double_nothing(
    stores: list[PostgresStore], postgres_home: str
) -> None:
    """All sessions are killed twelve times while facts are written."""
    db = await asyncpg.connect(postgres_home)
    schema = postgres_home.rsplit("=", 1)[1]
    await begin(stores[0], *(f"run-{n}" for n in range(8)))
    leases = await take(stores[0])

    async def kill_all() -> int:
        """Sessions that are at work in our schema."""
        killed: int = await db.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE application_name = 'soar' AND pid IN (SELECT pid FROM pg_locks "
            "JOIN pg_class ON pg_class.oid = relation WHERE relnamespace = $1::regnamespace)",
            schema,
        )
        return killed

    async def kill() -> int:
        killed = 0
        for _ in range(12):
            await asyncio.sleep(0.25)
            while not (now := await kill_all()):  # noqa: ASYNC110 - what we wait for is in the database
                await asyncio.sleep(0.001)
            killed += now
        return killed

    done: list[str] = []

    async def write(lease: Lease, store: Store) -> None:
        told = entry(lease.run_id)
        step = PutStep(record=a_step(lease.run_id, StepState.SUCCEEDED, path=told.id))
        assert await store.commit([Fact(writes=(step,), entries=(told,), lease=lease)]) == [None]
        done.append(told.id)

    killer = asyncio.create_task(kill())
    while not killer.done():
        await asyncio.gather(*(write(lease, stores[number % 3]) for number, lease in enumerate(leases * 2)))
    assert await killer >= 12
    await db.close()
    assert sorted(row.id for row in await rows(stores[0])) == sorted(done)
    assert sum([len(await stores[0].steps(lease.run_id)) for lease in leases]) == len(done)
    assert await holds(stores[0])


async def test_what_was_refused_stays_refused_when_many_want_the_same(stores: list[PostgresStore]) -> None:
    """Of sixty who insert one run, one does; every refusal says why, and none is a lost server."""
    fact = Fact(writes=(InsertRun(run=a_run("run-1")),), entries=(entry("run-1"),))
    done = await asyncio.gather(*(store.commit([fact]) for store in stores * 20))
    refusals = [refusal for (refusal,) in done]
    assert refusals.count(None) == 1
    assert {type(refusal) for refusal in refusals if refusal} == {StateConflictError}
    assert not any(isinstance(refusal, StoreUnavailableError) for refusal in refusals)
    assert len(await rows(stores[0])) == 1
