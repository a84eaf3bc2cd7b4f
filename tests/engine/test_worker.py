"""Workers, leases and the recorder, when things go wrong around them."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from soar.engine.recorder import Recorder
from soar.errors import StateConflictError, StoreError, StoreUnavailableError
from soar.lab import Fault, Mode
from soar.model.action import AttemptState
from soar.model.approval import ApprovalState
from soar.model.run import Run, RunState
from soar.store.port import Fact, InsertAttempt, MoveAttempt, ParkRun, SetControl, Store, UpdateApproval
from soar.store.sqlite import SqliteStore

from .house import House, ask

SAY = "steps:\n  - {id: say, use: notify.send, with: {channel: soc, text: hello}}\n"
TICKET = "steps:\n  - {id: ticket, use: ticket.create, with: {title: x}}\n"


class Around:
    """A store with something happening around its commits, and reads that a test may falsify."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.before: Any = None
        self.after: Any = None
        self.stale: list[Run] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def commit(self, facts: Sequence[Fact]) -> list[StoreError | None]:
        if self.before is not None:
            await self.before(facts)
        done = await self.inner.commit(facts)
        if self.after is not None:
            await self.after(facts)
        return done

    async def expired_leases(self, now: Any, limit: int, *, beyond: Any = None) -> list[Run]:
        return self.stale if self.stale is not None else await self.inner.expired_leases(now, limit, beyond=beyond)


class CancelledOutcome(Exception):  # noqa: N818
    """Something nobody thought of."""


def intends(facts: Sequence[Fact]) -> bool:
    return any(isinstance(write, InsertAttempt) for fact in facts for write in fact.writes)


async def start(house: House, text: str) -> Around:
    around: list[Around] = []

    def wrap(store: Store) -> Store:
        around.append(Around(store))
        return around[-1]  # type: ignore[return-value]

    house.wrap = wrap
    house.playbook(text)
    await house.start()
    return around[0]


@pytest.mark.parametrize(("text", "state"), [(TICKET, RunState.SUCCEEDED), (SAY, RunState.NEEDS_REVIEW)])
async def test_a_late_result_of_a_superseded_lease_changes_nothing(house: House, text: str, state: RunState) -> None:
    """The run was taken from its worker, and came back to it, while the first call was still out."""
    await start(house, text)
    house.lab.faults.put("", Fault(mode=Mode.SLOW, seconds=1.5, times=1))
    admitted = await house.admit()
    await house.until_sent()
    await house.pass_time(31)
    run = await house.run(admitted.run_ids[0])
    assert (run.state, run.epoch) == (state, 2)
    await asyncio.sleep(1.7)
    await house.rest()
    assert (await house.run(run.id)).state is state
    assert len(house.effects()) == 1
    states = [attempt.state for attempt in await house.store.attempts(run.id)]
    assert states[0] is AttemptState.UNKNOWN
    assert [e["type"] for e in await house.told(run, "run.")] == ["run.created", "run.recovered", "run.finished"]
    assert (await house.go()).state is RunState.SUCCEEDED
    assert (await house.verify()).ok


async def test_an_intent_that_took_too_long_is_not_sent(house: House) -> None:
    """The process was stopped between its commit and its call; by now another may have taken over."""
    around = await start(house, SAY.replace("hello}}", "hello}, timeout: 5m}"))

    async def stopped(facts: Sequence[Fact]) -> None:
        if intends(facts):
            around.after = None
            house.clock.offset += timedelta(seconds=12)

    around.after = stopped
    run = await house.go()
    assert house.sent() == []
    assert run.state is RunState.WAITING
    await house.pass_time(60)
    assert house.effects() == ["posted msg-1 to soc"]


async def test_an_intent_that_took_too_long_uses_up_no_try(house: House) -> None:
    """The store was slow, the other side was never asked: that is no failure of the playbook's."""
    around = await start(house, SAY.replace("hello}}", "hello}, retry: {attempts: 1}}"))
    slow = 4

    async def stopped(facts: Sequence[Fact]) -> None:
        nonlocal slow
        if intends(facts) and slow:
            slow -= 1
            house.clock.offset += timedelta(seconds=12)

    around.after = stopped
    run = await house.go()
    for _ in range(4):
        assert (house.sent(), run.state) == ([], RunState.WAITING)
        await house.pass_time(60)
        run = await house.run(run.id)
    assert run.state is RunState.SUCCEEDED
    assert house.effects() == ["posted msg-1 to soc"]
    codes = [attempt.error_code for attempt in await house.store.attempts(run.id)]
    assert codes == ["late_intent"] * 4 + [None]


async def test_a_store_that_is_away_for_a_while_loses_nothing(house: House) -> None:
    around = await start(house, TICKET + SAY.removeprefix("steps:\n"))
    calls = 0

    async def away(_: Sequence[Fact]) -> None:
        nonlocal calls
        calls += 1
        if calls % 3:
            raise StoreUnavailableError("the disk is full")

    around.before = away
    admitted = await house.running.admit([house.record() for _ in range(5)])
    for _ in range(4):
        await asyncio.sleep(0.05)
        house.clock.offset += timedelta(seconds=31)
        await asyncio.sleep(0.3)
    around.before = None
    for _ in range(4):
        await house.pass_time(31)
    runs = [await house.run(one.run_ids[0]) for one in admitted]
    assert {run.state for run in runs} <= {RunState.SUCCEEDED, RunState.NEEDS_REVIEW}
    effects = house.effects()
    assert sum("opened" in effect for effect in effects) == 5
    assert sum("posted" in effect for effect in effects) <= 5
    assert (await house.verify()).ok


async def test_a_bug_ends_one_run_where_people_see_it(house: House) -> None:
    """Recovery would only meet it again, for ever."""
    around = await start(house, SAY)

    async def bug(_: str) -> None:
        raise ZeroDivisionError("a bug")

    around.alert_documents = bug
    run = await house.go()
    assert run.state is RunState.FAILED
    assert "ZeroDivisionError: a bug" in (run.error or "")
    del around.alert_documents
    await house.control().retry(run.id, reason="mended")
    await house.rest()
    assert house.effects() == ["posted msg-1 to soc"]


async def test_a_bug_under_a_call_leaves_its_outcome_to_a_person(house: House) -> None:
    around = await start(house, SAY)

    async def bug(facts: Sequence[Fact]) -> None:
        if any(isinstance(write, MoveAttempt) for fact in facts for write in fact.writes):
            around.before = None
            raise CancelledOutcome("a bug between answer and record")

    around.before = bug
    admitted = await house.admit()
    await house.until_sent()
    await asyncio.sleep(0.2)
    await house.pass_time(31)
    run = await house.run(admitted.run_ids[0])
    assert run.state is RunState.NEEDS_REVIEW
    assert (await house.store.attempts(run.id))[0].state is AttemptState.UNKNOWN
    assert len(house.effects()) == 1


async def test_a_change_by_somebody_else_meanwhile_is_read_and_followed(house: House) -> None:
    """A person denies, or time ends, in the very moment in which a worker would use the grant: nothing is a bug."""
    house.policy(ask("soc-lead"))
    around = await start(house, "steps:\n  - {id: cut, use: host.isolate, with: {host: ws-1}}\n")
    run = await house.go()

    async def expire_first(facts: Sequence[Fact]) -> None:
        if intends(facts):
            around.before = None
            (approval,) = await house.store.approvals(run_id=run.id)
            over = approval.model_copy(update={"state": ApprovalState.EXPIRED})
            swap = UpdateApproval(approval=over, expect=approval.state, expect_votes=len(approval.votes))
            assert await around.inner.commit([Fact(writes=(swap,))]) == [None]

    around.before = expire_first
    await house.grant()
    run = await house.run(run.id)
    assert (run.state, house.sent()) == (RunState.DENIED, [])
    assert "granted, but its time" in (run.error or "")


async def test_recovery_that_comes_too_late_ends_nothing(house: House) -> None:
    """The worker gave the run back between the timekeeper's look and its write."""
    around = await start(house, TICKET)
    run = await house.go()
    over = house.clock.now() - timedelta(seconds=1)
    around.stale = [run.model_copy(update={"state": RunState.RUNNING, "lease_until": over})]
    assert await house.running.timekeeper.tick() == 1
    around.stale = None
    assert (await house.run(run.id)).state is RunState.SUCCEEDED
    assert (await house.go()).state is RunState.SUCCEEDED


async def test_a_worker_told_to_stop_finishes_what_is_under_way_and_takes_nothing_more(house: House) -> None:
    await start(house, SAY)
    house.lab.faults.put("chat", Fault(mode=Mode.SLOW, seconds=0.5, times=1))
    admitted = await house.admit()
    await house.until_sent()
    house.running.worker.stop()
    later = await house.admit()
    await asyncio.sleep(0.8)
    assert (await house.run(admitted.run_ids[0])).state is RunState.SUCCEEDED
    assert (await house.run(later.run_ids[0])).state is RunState.READY
    await house.restart()
    await house.rest()
    assert (await house.run(later.run_ids[0])).state is RunState.SUCCEEDED


# The recorder


@pytest.fixture
async def store(tmp_path: Path) -> Any:
    store = Around(SqliteStore(tmp_path / "soar.db"))
    await store.inner.open()
    yield store
    await store.inner.close()


async def test_what_waits_while_a_commit_is_under_way_goes_together(store: Around) -> None:
    recorder, sizes = Recorder(store), []  # type: ignore[arg-type, var-annotated]

    async def note(facts: Sequence[Fact]) -> None:
        sizes.append(len(facts))
        await asyncio.sleep(0.02)

    store.before = note
    await recorder.start()
    facts = [Fact(writes=(SetControl(key=f"k{number}", value="v"),)) for number in range(50)]
    await asyncio.gather(*(recorder.record(fact) for fact in facts))
    await recorder.stop()
    assert sum(sizes) == 50
    assert len(sizes) <= 3


async def test_many_that_come_while_a_commit_is_under_way_are_with_the_store_before_that_ends(store: Around) -> None:
    """So the store has work while those go on whose facts were written."""
    recorder, begun, both = Recorder(store), asyncio.Event(), asyncio.Barrier(2)  # type: ignore[arg-type]

    async def meet(_: Sequence[Fact]) -> None:
        begun.set()
        await both.wait()

    store.before = meet
    await recorder.start()
    first = asyncio.create_task(recorder.record(Fact(writes=(SetControl(key="a", value="v"),))))
    await begun.wait()
    many = [Fact(writes=(SetControl(key=f"b{number}", value="v"),)) for number in range(50)]
    await asyncio.gather(*(recorder.record(fact) for fact in many))
    await first
    await recorder.stop()
    assert [await store.inner.control(key) for key in ("a", "b0", "b49")] == ["v", "v", "v"]


async def test_a_refusal_reaches_its_own_caller_alone(store: Around) -> None:
    recorder = Recorder(store)  # type: ignore[arg-type]
    await recorder.start()
    bad = Fact(writes=(ParkRun(run_id="none", wake_at=None),))
    good = Fact(writes=(SetControl(key="k", value="v"),))
    done = await asyncio.gather(*(recorder.record(f) for f in (good, bad, good)), return_exceptions=True)
    assert [type(one) for one in done] == [type(None), StateConflictError, type(None)]
    await recorder.stop()


async def test_a_caller_that_is_cancelled_leaves_its_fact_standing_and_the_rest_unharmed(store: Around) -> None:
    recorder = Recorder(store)  # type: ignore[arg-type]

    async def slow(_: Sequence[Fact]) -> None:
        await asyncio.sleep(0.05)

    store.before = slow
    await recorder.start()
    first = asyncio.create_task(recorder.record(Fact(writes=(SetControl(key="a", value="v"),))))
    second = asyncio.create_task(recorder.record(Fact(writes=(SetControl(key="b", value="v"),))))
    await asyncio.sleep(0.01)
    first.cancel()
    await second
    await recorder.stop()
    assert (await store.control("a"), await store.control("b")) == ("v", "v")


async def test_not_even_a_bug_in_the_store_leaves_a_caller_waiting(store: Around) -> None:
    recorder = Recorder(store)  # type: ignore[arg-type]

    async def bug(_: Sequence[Fact]) -> None:
        raise ZeroDivisionError

    store.before = bug
    await recorder.start()
    with pytest.raises(StoreUnavailableError):
        await asyncio.wait_for(recorder.record(Fact()), 60)
    store.before = None
    await recorder.record(Fact())
    await recorder.stop()


async def test_stopping_commits_what_was_handed_over(store: Around) -> None:
    recorder = Recorder(store)  # type: ignore[arg-type]
    await recorder.start()
    waiting = [
        asyncio.create_task(recorder.record(Fact(writes=(SetControl(key=f"k{n}", value="v"),)))) for n in range(20)
    ]
    await asyncio.sleep(0)
    await recorder.stop()
    await asyncio.gather(*waiting)
    assert await store.control("k19") == "v"
