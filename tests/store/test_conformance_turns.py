"""Turns at limited instances: never more than the limits allow, in order, nobody stuck. The same for every store."""

import asyncio
from datetime import datetime, timedelta

from soar.errors import BusyError, HaltedError, RunCancelledError, StateConflictError, StoreError
from soar.model.action import Attempt, AttemptState
from soar.model.approval import ApprovalState
from soar.model.limits import Limits
from soar.model.run import RunState, StepState
from soar.store.port import (
    Fact,
    FinishRun,
    InsertApproval,
    InsertAttempt,
    InsertRun,
    Lease,
    MoveAttempt,
    ParkRun,
    PutStep,
    RequestCancel,
    SetControl,
    SetPaused,
    SignalRun,
    Store,
    UpdateApproval,
)
from soar.store.queueing import CallTurn, HoldInstance, JoinQueue, SweepTurns, Traffic, Turn
from soar.store.turns import ANSWER_WITHIN, FAIR_EVERY

from .conftest import Open
from .facts import NOW, a_request, a_run, a_step, an_approval, begin, intent, later, put

TWO = Limits(concurrency=2)
LASTS = timedelta(seconds=30)


def wish(
    run_id: str, at: datetime = NOW, *, limits: Limits = TWO, priority: int = 50, path: str = "s"
) -> InsertAttempt:
    """An intent that needs a turn."""
    attempt = Attempt(
        run_id=run_id, path=path, number=1, state=AttemptState.INTENDED, request=a_request(run_id, path), epoch=1,
        intended_at=at, limited=True,
    )  # fmt: skip
    return InsertAttempt(attempt=attempt, playbook_id="p", turn=Turn(limits=limits, priority=priority, lasts=LASTS))


def outcome(run_id: str) -> MoveAttempt:
    done = wish(run_id).attempt.model_copy(update={"state": AttemptState.SUCCEEDED, "finished_at": NOW})
    return MoveAttempt(attempt=done, expect=AttemptState.INTENDED)


async def queue(store: Store, *names: str, at: datetime = NOW, priority: int = 50, limits: Limits = TWO) -> None:
    """New runs, parked, each of which waits for a turn."""
    facts = []
    for name in names:
        join = JoinQueue(instance="edr", limits=limits, run_id=name, path="s", priority=priority, at=at)
        run = a_run(name, state=RunState.WAITING, priority=priority)
        facts.append(Fact(writes=(InsertRun(run=run), PutStep(record=a_step(name, StepState.WAITING)), join)))
    assert await store.commit(facts) == [None] * len(facts)


async def called(store: Store, at: datetime = NOW) -> list[str]:
    """Call whose turn it is; their runs in order."""
    turns = (await store.calls(at)).turns
    assert await store.commit([Fact(writes=(turn,)) for turn in turns]) == [None] * len(turns)
    return [turn.run_id for turn in turns]


async def under_way(store: Store, *names: str, at: datetime = NOW, limits: Limits = TWO) -> None:
    """Runs that have a turn."""
    await begin(store, *names)
    assert [await put(store, wish(name, at, limits=limits)) for name in names] == [None] * len(names)


async def busy(store: Store, write: InsertAttempt) -> bool:
    """Whether it is refused for want of a turn, and not for another reason."""
    refusal = await put(store, write)
    assert refusal is None or isinstance(refusal, BusyError), refusal
    return refusal is not None


async def test_no_more_are_under_way_than_the_limit_and_an_outcome_lets_the_next_in(store: Store) -> None:
    await under_way(store, "run-1", "run-2")
    await begin(store, "run-3")
    assert await busy(store, wish("run-3"))
    assert await put(store, outcome("run-1")) is None
    assert not await busy(store, wish("run-3"))
    assert await store.traffic(NOW) == [Traffic(instance="edr", under_way=2, queued=0, held_until=None)]


async def test_what_is_refused_writes_nothing(store: Store) -> None:
    """Above all, it does not use up the consent of people."""
    await under_way(store, "run-1", "run-2")
    await begin(store, "run-3")
    granted = an_approval(run_id="run-3", state=ApprovalState.GRANTED)
    await put(store, InsertApproval(approval=granted))
    consumed = granted.model_copy(update={"state": ApprovalState.CONSUMED})
    swap = UpdateApproval(approval=consumed, expect=ApprovalState.GRANTED, expect_votes=0)
    assert isinstance(await put(store, wish("run-3"), swap), BusyError)
    found = await store.approval(granted.id)
    assert found is not None
    assert found.state is ApprovalState.GRANTED
    assert await store.attempts("run-3") == []


async def test_the_turn_of_one_who_never_comes_back_ends_by_itself(store: Store) -> None:
    await under_way(store, "run-1", "run-2")
    await begin(store, "run-3")
    assert await busy(store, wish("run-3", later(29)))
    assert not await busy(store, wish("run-3", later(31)))


async def test_a_burst_goes_out_and_then_one_call_in_each_interval(store: Store) -> None:
    limits = Limits(rate="60/m", burst=3)
    await under_way(store, "run-1", "run-2", "run-3", limits=limits)
    await begin(store, "run-4", "run-5")
    assert await busy(store, wish("run-4", later(0.99), limits=limits))
    assert not await busy(store, wish("run-4", later(1), limits=limits))
    assert await busy(store, wish("run-5", later(1.5), limits=limits))
    assert not await busy(store, wish("run-5", later(2), limits=limits))


async def test_a_quiet_time_saves_up_no_more_than_the_burst(store: Store) -> None:
    limits = Limits(rate="60/m", burst=2)
    await under_way(store, "run-1", limits=limits)
    await begin(store, *(f"run-1{n}" for n in range(5)))
    refused = [await busy(store, wish(f"run-1{n}", later(600), limits=limits)) for n in range(5)]
    assert refused == [False, False, True, True, True]


async def test_a_clock_that_is_behind_neither_gains_a_call_nor_loses_one(store: Store) -> None:
    """Two workers' clocks differ by ten seconds; the rate is kept on the time of the one that is ahead."""
    limits = Limits(rate="60/m")
    await under_way(store, "run-1", at=later(10), limits=limits)
    await begin(store, "run-2", "run-3")
    assert await busy(store, wish("run-2", later(0.5), limits=limits))
    await under_way(store, "run-4", at=later(11), limits=limits)
    assert await busy(store, wish("run-2", later(1.5), limits=limits))
    assert not await busy(store, wish("run-2", later(12), limits=limits))


async def test_a_clock_that_was_set_back_by_an_hour_stops_nothing(store: Store) -> None:
    limits = Limits(rate="60/m")
    await under_way(store, "run-1", at=later(3600), limits=limits)
    await begin(store, "run-2", "run-3", "run-4")
    assert not await busy(store, wish("run-2", NOW, limits=limits))
    assert await busy(store, wish("run-3", later(0.5), limits=limits))
    assert not await busy(store, wish("run-3", later(1), limits=limits))


async def test_the_most_urgent_is_called_first_and_then_who_came_first(store: Store) -> None:
    one = Limits(concurrency=1)
    await queue(store, "run-low", at=later(0), priority=10, limits=one)
    await queue(store, "run-late", at=later(2), priority=90, limits=one)
    await queue(store, "run-early", at=later(1), priority=90, limits=one)
    order = []
    for _ in range(3):
        (name,) = await called(store, later(3))
        order.append(name)
        assert not await busy(store, wish(name, later(3), limits=one))
        await put(store, outcome(name))
    assert order == ["run-early", "run-late", "run-low"]
    assert await called(store, later(3)) == []


async def test_exactly_as_many_are_called_as_there_are_turns(store: Store) -> None:
    """Ten thousand may wait: nobody is woken in vain."""
    await under_way(store, "run-1", "run-2")
    await queue(store, *(f"run-q{n:03}" for n in range(300)))
    assert await called(store) == []
    await put(store, outcome("run-1"))
    assert await called(store) == ["run-q000"]
    assert await called(store) == [], "a turn that is kept for one is not given to another"
    assert await store.before("run-q299", "s") == 298
    assert await store.before("run-q000", "s") is None, "it was called"
    assert (await store.traffic(NOW))[0].queued == 299


async def test_nobody_overtakes_who_waits_but_the_more_urgent(store: Store) -> None:
    await under_way(store, "run-1", "run-2")
    await queue(store, "run-waits", priority=50)
    await put(store, outcome("run-1"))
    await begin(store, "run-less", "run-same", "run-more")
    assert await busy(store, wish("run-less", later(1), priority=10))
    assert await busy(store, wish("run-same", later(1), priority=50))
    assert not await busy(store, wish("run-more", later(1), priority=90))
    await put(store, outcome("run-2"))
    assert await called(store) == ["run-waits"]
    assert await busy(store, wish("run-less", later(1), priority=90)), "the turn is kept for who was called"
    assert not await busy(store, wish("run-waits", later(1)))


async def test_who_was_called_and_does_not_come_loses_the_turn_but_not_the_place(store: Store) -> None:
    await queue(store, "run-a", "run-b", limits=Limits(concurrency=1))
    assert await called(store) == ["run-a"]
    after = NOW + ANSWER_WITHIN
    assert await called(store, after) == ["run-b"]
    one = Limits(concurrency=1)
    assert await busy(store, wish("run-a", after, limits=one))
    assert not await busy(store, wish("run-b", after, limits=one))
    again = JoinQueue(instance="edr", limits=one, run_id="run-a", path="s", priority=50, at=later(100))
    await put(store, again)
    await queue(store, "run-c", at=later(50), limits=one)
    await put(store, outcome("run-b"))
    assert await called(store, later(101)) == ["run-a"]


async def test_two_who_call_at_once_keep_one_turn(store: Store, open_store: Open) -> None:
    other = await open_store()
    await queue(store, "run-a", limits=Limits(concurrency=1))
    (turn,) = (await store.calls(NOW)).turns
    (same,) = (await other.calls(NOW)).turns
    refusals = [(await each.commit([Fact(writes=(one,))]))[0] for each, one in ((store, turn), (other, same))]
    assert refusals[0] is None
    assert isinstance(refusals[1], StateConflictError)


async def test_who_is_paused_cancelled_or_gone_stands_in_nobodys_way(store: Store) -> None:
    await queue(store, "run-paused", "run-cancelled", "run-skipped", at=later(0), priority=90)
    await queue(store, "run-next", at=later(1))
    await put(store, SetPaused(run_id="run-paused", paused=True))
    await put(store, RequestCancel(run_id="run-cancelled"))
    await put(store, PutStep(record=a_step("run-skipped", StepState.SKIPPED)))
    assert await called(store) == ["run-next"]


async def test_places_of_what_has_ended_are_forgotten(store: Store) -> None:
    await queue(store, "run-1", "run-2")
    await put(store, RequestCancel(run_id="run-1"))
    (run,) = await store.lease(owner="w", until=later(30), limit=5)
    lease = Lease(run_id=run.id, epoch=run.epoch)
    await put(store, FinishRun(run_id=run.id, state=RunState.CANCELLED, at=NOW), lease=lease)
    await put(store, SweepTurns(before=NOW))
    assert (await store.traffic(NOW))[0].queued == 1
    assert await store.before("run-2", "s") == 0


async def test_each_tenth_turn_goes_to_who_has_waited_longest(store: Store) -> None:
    one = Limits(concurrency=1)
    await queue(store, "run-low", at=NOW, priority=1, limits=one)
    await queue(store, *(f"run-{n:02}" for n in range(2 * FAIR_EVERY)), at=later(1), priority=90, limits=one)
    order = []
    while names := await called(store, later(2)):
        order += names
        assert not await busy(store, wish(names[0], later(2), limits=one, priority=90))
        await put(store, outcome(names[0]))
    assert order.index("run-low") == FAIR_EVERY - 1
    assert len(order) == 2 * FAIR_EVERY + 1


async def test_an_instance_that_is_held_is_left_alone_until_then_limits_or_none(store: Store) -> None:
    await put(store, HoldInstance(instance="edr", until=later(60)))
    await put(store, HoldInstance(instance="edr", until=later(30)))
    await begin(store, "run-1", "run-2")
    assert await busy(store, intent("run-1"))
    assert await busy(store, wish("run-2", later(59)))
    await queue(store, "run-3", limits=Limits())
    assert await called(store, later(59)) == []
    assert (await store.calls(NOW)).again_at == later(60)
    assert (await store.traffic(NOW))[0].held_until == later(60)
    assert await called(store, later(60)) == ["run-3"]
    assert not await busy(store, wish("run-2", later(60)))


async def test_while_halted_nobody_is_called_and_the_switch_is_the_reason(store: Store) -> None:
    await queue(store, "run-1")
    await put(store, HoldInstance(instance="edr", until=later(60)))
    await put(store, SetControl(key="halt", value="stop"))
    assert await called(store, later(61)) == []
    await begin(store, "run-2")
    assert isinstance(await put(store, wish("run-2")), HaltedError)
    await put(store, SetControl(key="halt", value=None))
    assert await called(store, later(61)) == ["run-1"]


async def test_a_cancelled_run_gets_no_turn(store: Store) -> None:
    await queue(store, "run-1")
    await called(store)
    await put(store, RequestCancel(run_id="run-1"))
    assert isinstance(await put(store, wish("run-1")), RunCancelledError)


async def test_an_instance_without_limits_leaves_no_rows(store: Store) -> None:
    await begin(store, "run-1")
    assert await put(store, intent("run-1")) is None
    done = intent("run-1").attempt.model_copy(update={"state": AttemptState.SUCCEEDED})
    move = MoveAttempt(attempt=done, expect=AttemptState.INTENDED)
    assert await put(store, move) is None
    assert await store.traffic(NOW) == []


async def test_limits_hold_exactly_when_many_ask_at_once(open_store: Open) -> None:
    """Three processes with ten askers each, in batches and alone; five at once, and a burst of seven."""
    stores = [await open_store() for _ in range(3)]
    names = [f"run-{n:02}" for n in range(30)]
    await begin(stores[0], *names)

    async def asks(store: Store, mine: list[str], limits: Limits) -> list[StoreError | None]:
        together = await store.commit([Fact(writes=(wish(name, limits=limits),)) for name in mine[:5]])
        alone = [await put(store, wish(name, limits=limits)) for name in mine[5:]]
        return [*together, *alone]

    async def granted(limits: Limits) -> int:
        parts = [asks(store, names[n::3], limits) for n, store in enumerate(stores)]
        refusals = [refusal for part in await asyncio.gather(*parts) for refusal in part]
        assert all(isinstance(refusal, BusyError) for refusal in refusals if refusal is not None), refusals
        return refusals.count(None)

    assert await granted(Limits(concurrency=5)) == 5
    for run in names:
        if await stores[0].attempts(run):
            await put(stores[0], outcome(run))
    names = [f"run-{n:02}" for n in range(30, 60)]
    await begin(stores[0], *names)
    assert await granted(Limits(rate="1/h", burst=7)) == 7


async def test_who_joins_while_under_way_is_woken_when_called(store: Store) -> None:
    """The call may come before its worker has parked it: the signal is not slept through."""
    await begin(store, "run-1")
    (run,) = await store.lease(owner="w", until=later(30), limit=1)
    lease = Lease(run_id=run.id, epoch=run.epoch)
    join = JoinQueue(instance="edr", limits=TWO, run_id="run-1", path="s", priority=50, at=NOW)
    await put(store, PutStep(record=a_step("run-1", StepState.WAITING)), join, lease=lease)
    (turn,) = (await store.calls(NOW)).turns
    assert turn == CallTurn(instance="edr", run_id="run-1", path="s", at=NOW)
    assert await put(store, turn, SignalRun(run_id="run-1")) is None
    assert await put(store, ParkRun(run_id="run-1", wake_at=None), lease=lease) is None
    assert [run.id for run in await store.lease(owner="w", until=later(30), limit=1)] == ["run-1"]
