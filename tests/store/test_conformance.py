"""What every store promises (soar/store/port.py), held against each that there is."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

import pytest

from soar.engine.audit import verify_store
from soar.errors import (
    HaltedError,
    LeaseLostError,
    RunCancelledError,
    RunPausedError,
    StateConflictError,
    StoreError,
    StoreUnavailableError,
)
from soar.journal.checkpoint import Checkpoint, sign_checkpoint
from soar.journal.merkle import Frontier, root_of
from soar.journal.nodes import keep_nodes, read_tile
from soar.journal.note import Signer
from soar.journal.tiles import Tile
from soar.model.action import ATTEMPT_MOVES, AttemptState, Effect, Risk
from soar.model.alert import DeadLetter, Outcome, Record
from soar.model.approval import APPROVAL_MOVES, ApprovalState
from soar.model.clock import SystemClock, UlidSource
from soar.model.run import RunKind, RunState, StepState
from soar.store.matches import AlertMatch
from soar.store.port import (
    Fact,
    FinishRun,
    InsertAlert,
    InsertApproval,
    InsertDeadLetter,
    InsertPlaybook,
    InsertRecord,
    InsertRun,
    Known,
    Lease,
    MoveAttempt,
    ParkRun,
    PutStep,
    PutWindow,
    ReleaseRun,
    ReopenRun,
    RequestCancel,
    SetControl,
    SetPaused,
    SignalRun,
    Store,
    UpdateApproval,
    Window,
)

from .conftest import Open
from .facts import (
    NOW,
    a_run,
    a_step,
    admission,
    an_approval,
    begin,
    chain,
    entry,
    intent,
    later,
    put,
    rows,
    take,
)

ORIGIN = "soar.test/journal"


async def state(store: Store, run_id: str = "run-1") -> RunState:
    run = await store.run(run_id)
    assert run is not None
    return run.state


def finish(run_id: str, to: RunState = RunState.SUCCEEDED) -> FinishRun:
    return FinishRun(run_id=run_id, state=to, at=NOW)


async def verified(store: Store) -> bool:
    signer = Signer.generate(ORIGIN)
    size, raw = await store.tree()
    root = Frontier.from_bytes(raw).root()
    await store.add_checkpoint(size, sign_checkpoint(Checkpoint(origin=ORIGIN, size=size, root=root), signer))
    report = await verify_store(store, verifier=signer.verifier, origin=ORIGIN)
    assert report.ok, report.problems
    return report.entries == report.covered == size


# Facts


async def test_a_fact_is_all_or_nothing(store: Store) -> None:
    await begin(store, "run-1")
    fact = Fact(
        writes=(InsertRun(run=a_run("run-2")), PutStep(record=a_step("run-1", StepState.FAILED)), finish("run-1")),
        entries=(entry("run-1"),),
    )
    (refusal,) = await store.commit([fact])
    assert isinstance(refusal, StateConflictError)
    assert await store.run("run-2") is None
    assert await store.steps("run-1") == {}
    assert (await store.tree())[0] == 0


async def test_a_refused_fact_takes_no_other_with_it(store: Store) -> None:
    await begin(store, "run-1")
    bad = Fact(writes=(finish("run-1"),), entries=(entry("run-1", "bad"),))
    good = [Fact(entries=(entry("run-1", f"good {number}"),)) for number in range(4)]
    refusals = await store.commit([good[0], bad, good[1], bad, good[2], good[3]])
    assert [refusal is None for refusal in refusals] == [True, False, True, False, True, True]
    assert len(await rows(store)) == 4
    assert await verified(store)


@pytest.mark.parametrize(
    "fact",
    [
        Fact(writes=(InsertRun(run=a_run("run-1")),)),
        Fact(writes=(InsertRun(run=a_run("run-2", vars={"x": "\ud800"})),)),
        Fact(writes=(InsertRun(run=a_run("run-2", priority=2**70)),)),
        Fact(entries=(entry("run-none"),)),
        Fact(entries=(entry(None, n="x" * 70_000),)),
        Fact(entries=(replace(entry(None), payload={"x": "\ud800"}),)),
        Fact(entries=(replace(entry(None), payload={"x": float("nan")}),)),
    ],
)
async def test_what_cannot_be_written_is_refused_as_a_store_error_alone(store: Store, fact: Fact) -> None:
    """A value out of an alert must not look like a store that is away: that would be tried for ever."""
    await begin(store, "run-1")
    refusals = await store.commit([Fact(entries=(entry("run-1"),)), fact, Fact(entries=(entry("run-1"),))])
    assert [refusal is None for refusal in refusals] == [True, False, True]
    assert isinstance(refusals[1], StoreError)
    assert not isinstance(refusals[1], StoreUnavailableError)
    assert len(await rows(store)) == 2


async def test_a_second_entry_of_one_id_is_refused(store: Store) -> None:
    one = entry()
    assert await store.commit([Fact(entries=(one,))]) == [None]
    (refusal,) = await store.commit([Fact(entries=(one,))])
    assert isinstance(refusal, StoreError)


async def test_what_was_committed_is_there_for_the_next_who_opens(open_store: Open) -> None:
    first = await open_store()
    await begin(first, "run-1")
    await put(first, InsertPlaybook(digest="d", playbook_id="p", file="f", text="one"), run_id="run-1")
    await put(first, InsertPlaybook(digest="d", playbook_id="p", file="f", text="other"))
    second = await open_store()
    assert await state(second) is RunState.READY
    assert await second.playbook_text("d") == ("f", "one")
    assert await second.playbook_text("none") is None
    assert len(await rows(second)) == 1


async def test_a_closed_store_is_unavailable_and_says_so(open_store: Open) -> None:
    store = await open_store()
    await store.close()
    with pytest.raises(StoreUnavailableError):
        await store.commit([Fact(entries=(entry(),))])
    with pytest.raises(StoreUnavailableError):
        await store.run("run-1")


# Leases


async def test_a_run_is_leased_once_with_a_higher_epoch_each_time(open_store: Open) -> None:
    one, two = await open_store(), await open_store()
    await begin(one, *(f"run-{number:02}" for number in range(40)))
    leased = await asyncio.gather(*(take(store, limit=7) for store in (one, two) * 4))
    names = [lease.run_id for leases in leased for lease in leases]
    assert sorted(names) == [f"run-{number:02}" for number in range(40)]
    assert {lease.epoch for leases in leased for lease in leases} == {1}
    assert await put(one, ReleaseRun(run_id="run-00"), lease=Lease(run_id="run-00", epoch=1)) is None
    assert await take(two) == [Lease(run_id="run-00", epoch=2)]


async def test_the_most_urgent_run_goes_first(store: Store) -> None:
    await begin(store, "run-1", priority=10)
    await begin(store, "run-2", "run-3", priority=90)
    assert [lease.run_id for lease in await take(store, limit=2)] == ["run-2", "run-3"]
    assert [lease.run_id for lease in await take(store)] == ["run-1"]


async def test_a_write_under_an_old_epoch_is_refused_and_changes_nothing(store: Store) -> None:
    await begin(store, "run-1")
    (old,) = await take(store)
    await put(store, ReleaseRun(run_id="run-1", expired_before=later(31)), lease=old)
    stale = [
        (PutStep(record=a_step("run-1", StepState.SUCCEEDED)),), (intent("run-1"),), (finish("run-1"),),
        (ParkRun(run_id="run-1", wake_at=None),),
    ]  # fmt: skip
    for again in (False, True):  # while nobody owns it, and once another does
        for writes in stale:
            assert isinstance(await put(store, *writes, lease=old, run_id="run-1"), LeaseLostError)
        if not again:
            (new,) = await take(store)
    assert await store.steps("run-1") == {}
    assert await store.attempts("run-1") == []
    assert (await store.tree())[0] == 0
    assert await put(store, finish("run-1"), lease=new) is None


async def test_renewal_extends_what_is_held_and_names_what_is_lost(store: Store) -> None:
    await begin(store, "run-1", "run-2", "run-3")
    one, two, three = sorted(await take(store), key=lambda lease: lease.run_id)
    await put(store, finish("run-2"), lease=two)
    await put(store, ReleaseRun(run_id="run-3"), lease=three)
    await take(store, owner="other")
    lost = await store.renew(owner="w", leases=[one, two, three], until=later(90))
    assert lost == [two, three]
    expired = [run.id for run in await store.expired_leases(later(60), 10)]
    assert expired == ["run-3"]
    assert await store.renew(owner="other", leases=[one], until=later(90)) == [one]


async def test_recovery_takes_only_what_is_past_its_lease(store: Store) -> None:
    await begin(store, "run-1")
    (lease,) = await take(store)
    release = ReleaseRun(run_id="run-1", expired_before=later(29))
    assert isinstance(await put(store, release, lease=lease), StateConflictError)
    assert await store.expired_leases(later(30), 10) == []
    await store.renew(owner="w", leases=[lease], until=later(60))
    assert isinstance(
        await put(store, ReleaseRun(run_id="run-1", expired_before=later(31)), lease=lease), StateConflictError
    )
    assert await put(store, ReleaseRun(run_id="run-1", expired_before=later(61)), lease=lease) is None
    assert await state(store) is RunState.READY


# Parking and signals


async def test_a_parked_run_wakes_at_its_time_or_at_a_signal(store: Store) -> None:
    await begin(store, "run-1", "run-2")
    for lease in await take(store):
        await put(store, ParkRun(run_id=lease.run_id, wake_at=later(60)), lease=lease)
    assert await store.due(later(59), 10) == []
    assert {run.id for run in await store.due(later(60), 10)} == {"run-1", "run-2"}
    await put(store, SignalRun(run_id="run-1"))
    assert [lease.run_id for lease in await take(store)] == ["run-1"]
    assert [run.id for run in await store.due(later(60), 10)] == ["run-2"]


async def test_a_signal_that_comes_while_the_run_works_is_not_slept_through(store: Store) -> None:
    await begin(store, "run-1")
    (lease,) = await take(store)
    await put(store, SignalRun(run_id="run-1"))
    await put(store, ParkRun(run_id="run-1", wake_at=None), lease=lease)
    assert await state(store) is RunState.READY
    (lease,) = await take(store)
    await put(store, ParkRun(run_id="run-1", wake_at=None), lease=lease)
    assert await state(store) is RunState.WAITING


async def test_a_signal_to_a_run_at_rest_does_nothing(store: Store) -> None:
    await begin(store, "run-1")
    (lease,) = await take(store)
    await put(store, finish("run-1"), lease=lease)
    assert await put(store, SignalRun(run_id="run-1"), SignalRun(run_id="run-none")) is None
    assert await state(store) is RunState.SUCCEEDED


# Locks


async def test_a_lock_goes_to_one_at_a_time_in_the_order_of_asking(store: Store) -> None:
    await begin(store, "run-1", "run-2", "run-3", lock_key="h1", priority=1)
    await begin(store, "run-4", lock_key="h1", priority=99)
    await begin(store, "run-5", lock_key="h2")
    held = []
    for _ in range(4):
        leases = [lease for lease in await take(store) if lease.run_id != "run-5"]
        held += [lease.run_id for lease in leases]
        await put(store, finish(leases[0].run_id), lease=leases[0])
    assert held == ["run-1", "run-2", "run-3", "run-4"]


@pytest.mark.parametrize("resting", ["waiting", "review", "ready"])
async def test_a_lock_is_held_until_the_run_ends(store: Store, resting: str) -> None:
    await begin(store, "run-1", "run-2", lock_key="h1")
    (lease,) = await take(store)
    match resting:
        case "waiting":
            await put(store, ParkRun(run_id="run-1", wake_at=None), lease=lease)
        case "review":
            await put(store, finish("run-1", RunState.NEEDS_REVIEW), lease=lease)
        case _:
            await put(store, ReleaseRun(run_id="run-1"), lease=lease)
    assert [lease.run_id for lease in await take(store)] in ([], ["run-1"])


async def test_a_retried_run_asks_for_its_lock_anew(store: Store) -> None:
    """It is older than the one that holds the lock by now, and still has to wait."""
    await begin(store, "run-1", "run-2", "run-3", lock_key="h1")
    (first,) = await take(store)
    await put(store, finish("run-1", RunState.FAILED), lease=first)
    (second,) = await take(store)
    await put(store, ReopenRun(run_id="run-1", expect=RunState.FAILED, forget=()))
    assert await take(store) == []
    await put(store, ParkRun(run_id="run-2", wake_at=None), lease=second)
    assert await take(store) == []
    await put(store, SignalRun(run_id="run-2"))
    (second,) = await take(store)
    assert second.run_id == "run-2"
    await put(store, finish("run-2"), lease=second)
    assert [lease.run_id for lease in await take(store)] == ["run-1"]


# Halt, cancel, retry


async def test_no_intent_while_halted(store: Store) -> None:
    await begin(store, "run-1")
    (lease,) = await take(store)
    await put(store, SetControl(key="halt", value="why"))
    step = PutStep(record=a_step("run-1", StepState.WAITING))
    assert isinstance(await put(store, step, intent("run-1"), lease=lease, run_id="run-1"), HaltedError)
    assert (await store.attempts("run-1"), await store.steps("run-1"), await rows(store)) == ([], {}, [])
    assert await store.control("halt") == "why"
    await put(store, SetControl(key="halt", value=None))
    assert await store.control("halt") is None
    assert await put(store, intent("run-1"), lease=lease) is None


async def test_halt_in_the_same_batch_stops_the_intents_behind_it(store: Store) -> None:
    await begin(store, "run-1")
    (lease,) = await take(store)
    facts = [
        Fact(writes=(intent("run-1", "a"),), lease=lease),
        Fact(writes=(SetControl(key="halt", value="x"),)),
        Fact(writes=(intent("run-1", "b"),), lease=lease),
    ]
    refusals = await store.commit(facts)
    assert refusals[:2] == [None, None]
    assert isinstance(refusals[2], HaltedError)


async def test_no_intent_of_a_run_whose_end_was_asked_for(store: Store) -> None:
    await begin(store, "run-1")
    (lease,) = await take(store)
    assert await put(store, RequestCancel(run_id="run-1")) is None
    assert isinstance(await put(store, intent("run-1"), lease=lease), RunCancelledError)
    assert await put(store, ParkRun(run_id="run-1", wake_at=None), lease=lease) is None
    assert await state(store) is RunState.READY


async def test_cancelling_wakes_what_rests_and_refuses_what_has_ended(store: Store) -> None:
    await begin(store, "run-1", "run-2", "run-3")
    one, two, three = sorted(await take(store), key=lambda lease: lease.run_id)
    await put(store, ParkRun(run_id="run-1", wake_at=None), lease=one)
    await put(store, finish("run-2", RunState.NEEDS_REVIEW), lease=two)
    await put(store, finish("run-3"), lease=three)
    assert await put(store, RequestCancel(run_id="run-1"), RequestCancel(run_id="run-2")) is None
    assert [await state(store, name) for name in ("run-1", "run-2")] == [RunState.READY, RunState.READY]
    for name in ("run-3", "run-none"):
        assert isinstance(await put(store, RequestCancel(run_id=name)), StateConflictError)


@pytest.mark.parametrize("end", list(RunState))
async def test_a_run_moves_as_its_table_says(store: Store, end: RunState) -> None:
    await begin(store, "run-1")
    (lease,) = await take(store)
    refused = await put(store, finish("run-1", end), lease=lease)
    finals = {
        RunState.SUCCEEDED, RunState.FAILED, RunState.DENIED, RunState.CANCELLED, RunState.NEEDS_REVIEW,
    }  # fmt: skip
    if end not in finals:
        assert isinstance(refused, StateConflictError)
        return
    assert refused is None
    assert isinstance(await put(store, finish("run-1")), StateConflictError)
    assert await take(store) == []
    reopened = await put(store, ReopenRun(run_id="run-1", expect=end, forget=()))
    assert (reopened is None) == (end in {RunState.FAILED, RunState.DENIED, RunState.NEEDS_REVIEW})


@pytest.mark.parametrize(("end", "kept"), [(RunState.NEEDS_REVIEW, True), (RunState.FAILED, False)])
async def test_a_cancellation_outlasts_a_review_and_ends_with_a_retry(store: Store, end: RunState, kept: bool) -> None:
    await begin(store, "run-1")
    (lease,) = await take(store)
    await put(store, RequestCancel(run_id="run-1"))
    await put(store, finish("run-1", end), lease=lease)
    assert await put(store, ReopenRun(run_id="run-1", expect=end, forget=())) is None
    run = await store.run("run-1")
    assert run is not None
    assert run.cancel_requested is kept


async def test_reopening_forgets_the_named_steps_alone(store: Store) -> None:
    await begin(store, "run-1")
    (lease,) = await take(store)
    steps = [PutStep(record=a_step("run-1", StepState.FAILED, path)) for path in ("a", "b", "c")]
    await put(store, *steps, finish("run-1", RunState.FAILED), lease=lease)
    wrong = ReopenRun(run_id="run-1", expect=RunState.DENIED, forget=("a",))
    assert isinstance(await put(store, wrong), StateConflictError)
    assert await put(store, ReopenRun(run_id="run-1", expect=RunState.FAILED, forget=("a", "c"))) is None
    assert set(await store.steps("run-1")) == {"b"}
    run = await store.run("run-1")
    assert run is not None
    assert (run.state, run.error, run.finished_at) == (RunState.READY, None, None)


# Steps, attempts, approvals


@pytest.mark.parametrize("first", list(StepState))
async def test_a_final_step_is_never_overwritten(store: Store, first: StepState) -> None:
    await begin(store, "run-1")
    assert await put(store, PutStep(record=a_step("run-1", first))) is None
    refused = await put(store, PutStep(record=a_step("run-1", StepState.SUCCEEDED, result={"n": 1})))
    if first in {StepState.WAITING, StepState.UNKNOWN}:
        assert refused is None
        assert (await store.steps("run-1"))["s"].result == {"n": 1}
    else:
        assert isinstance(refused, StateConflictError)
        assert (await store.steps("run-1"))["s"].state is first


@pytest.mark.parametrize("before", list(AttemptState))
@pytest.mark.parametrize("after", list(AttemptState))
async def test_an_attempt_moves_as_its_table_says(store: Store, before: AttemptState, after: AttemptState) -> None:
    def move(expect: AttemptState, to: AttemptState) -> MoveAttempt:
        after = intent("run-1").attempt.model_copy(update={"state": to, "finished_at": NOW, "error": "e"})
        return MoveAttempt(attempt=after, expect=expect)

    await begin(store, "run-1")
    await put(store, intent("run-1"))
    if before is not AttemptState.INTENDED:
        await put(store, move(AttemptState.INTENDED, before))
    refused = await put(store, move(before, after))
    assert (refused is None) == (after in ATTEMPT_MOVES.get(before, ()))
    (attempt,) = await store.attempts("run-1")
    assert attempt.state is (after if refused is None else before)
    other = next(state for state in AttemptState if state is not attempt.state)
    assert isinstance(await put(store, move(other, AttemptState.SUCCEEDED)), StateConflictError)


async def test_an_attempt_is_intended_once(store: Store) -> None:
    await begin(store, "run-1")
    assert await put(store, intent("run-1")) is None
    assert isinstance(await put(store, intent("run-1")), StateConflictError)
    assert await put(store, intent("run-1", number=2), intent("run-1", "t")) is None
    assert [(a.path, a.number) for a in await store.attempts("run-1")] == [("s", 1), ("s", 2), ("t", 1)]


@pytest.mark.parametrize("before", list(ApprovalState))
@pytest.mark.parametrize("after", list(ApprovalState))
async def test_an_approval_moves_as_its_table_says(store: Store, before: ApprovalState, after: ApprovalState) -> None:
    await put(store, InsertApproval(approval=an_approval(state=before)))
    swap = UpdateApproval(approval=an_approval(state=after), expect=before, expect_votes=0)
    refused = await put(store, swap)
    votes_only = before is after is ApprovalState.PENDING
    assert (refused is None) == (after in APPROVAL_MOVES.get(before, ()) or votes_only)


async def test_an_approval_changes_only_as_it_was_read(store: Store) -> None:
    await put(store, InsertApproval(approval=an_approval()))
    granted = an_approval(state=ApprovalState.GRANTED, execute_by=later(60))
    for expect, votes in ((ApprovalState.PENDING, 1), (ApprovalState.GRANTED, 0)):
        swap = UpdateApproval(approval=granted, expect=expect, expect_votes=votes)
        assert isinstance(await put(store, swap), StateConflictError)
    swap = UpdateApproval(approval=granted, expect=ApprovalState.PENDING, expect_votes=0)
    assert await put(store, swap) is None
    assert isinstance(await put(store, swap), StateConflictError)
    assert [a.id for a in await store.due_approvals(later(60), 10)] == ["approval-1"]
    assert await store.due_approvals(later(59), 10) == []
    assert await store.approval("approval-1") == granted


async def test_of_many_swaps_at_once_exactly_one_wins(open_store: Open) -> None:
    one, two = await open_store(), await open_store()
    await put(one, InsertApproval(approval=an_approval()))
    swap = UpdateApproval(
        approval=an_approval(state=ApprovalState.GRANTED), expect=ApprovalState.PENDING, expect_votes=0
    )
    done = await asyncio.gather(*(put(store, swap) for store in (one, two) * 10))
    assert sum(refusal is None for refusal in done) == 1


# Admission


async def test_what_is_known_is_held_still_until_the_admission_commits(open_store: Open) -> None:
    """Two processes that admit the same record at once: one writes it, the other sees that."""
    one, two = await open_store(), await open_store()

    async def admit(store: Store, name: str) -> bool:
        keys, fact = admission("k/0/1", name)

        def decide(known: Known) -> Fact:
            return Fact() if known.coordinates else fact

        return bool((await store.admit(keys, decide)).writes)

    done = await asyncio.gather(*(admit(store, f"alert-{i}") for i, store in enumerate((one, two) * 8)))
    assert sum(done) == 1
    assert sum((await one.counts()).alerts.values()) == 1


async def test_an_admission_whose_decision_refuses_writes_nothing_and_is_in_nobodys_way(store: Store) -> None:
    keys, fact = admission("k/0/1", "alert-1")

    def refuse(_: Known) -> Fact:
        raise StoreError("this one not")

    for _ in range(20):  # more than there are connections
        with pytest.raises(StoreError, match="this one not"):
            await store.admit(keys, refuse)
    assert not (await store.counts()).alerts
    await store.admit(keys, lambda _: fact)
    assert sum((await store.counts()).alerts.values()) == 1


async def test_known_tells_coordinates_names_contents_windows_and_open_waits(store: Store) -> None:
    keys, fact = admission("k/0/1", "alert-1")
    await store.admit(keys, lambda _: fact)
    await begin(store, "run-1", "run-2")
    await put(store, PutWindow(window=Window(key="w", started_at=NOW, until=later(60), count=3, run_id="run-1")))
    waits = [
        PutStep(record=a_step(name, StepState.WAITING, data={"phase": "alert", "trigger": {}}))
        for name in ("run-1", "run-2")
    ]
    await put(store, *waits, PutStep(record=a_step("run-1", StepState.WAITING, "other")))
    (lease,) = await take(store, limit=1)
    await put(store, finish("run-1", RunState.CANCELLED), lease=lease)
    seen: list[Known] = []

    def look(known: Known) -> Fact:
        seen.append(known)
        return Fact()

    await store.admit(keys, look)
    assert seen[0].coordinates == {"k/0/1"}
    assert seen[0].uids == {("s", "u"): "alert-1"}
    assert seen[0].repeats == {("s", "u", "c"): "alert-1"}
    assert seen[0].windows["w"].count == 3
    assert [(wait.run_id, wait.path) for wait in seen[0].waits] == [("run-2", "s")]


async def test_an_admission_is_told_of_the_waits_under_the_keys_it_asks_for(store: Store) -> None:
    """Of all others nothing is read, however many there are; a wait without a key is told to everybody."""
    keys = {"run-1": "aa:01", "run-2": "aa:02", "run-3": "bb:01", "run-4": "", "run-5": None, "run-6": "aa:01"}
    await begin(store, *keys)
    for name, key in keys.items():
        data = {"phase": "alert", "trigger": {"match": {"title": {"any_of": ['\x00 "awaits":"cc:01"']}}}}
        await put(
            store,
            PutStep(record=a_step(name, StepState.WAITING, data=data if key is None else {**data, "awaits": key})),
        )
    over = a_step("run-6", StepState.SUCCEEDED, data={"awaits": "aa:01"})
    await put(store, PutStep(record=over))
    asked: list[set[str]] = []
    seen: list[Known] = []

    def awaited(fields: Iterable[str]) -> set[str]:
        asked.append(set(fields))
        return {"aa:01", "aa:03"}

    admitted, fact = admission("k/0/1", "alert-1")
    await store.admit(replace(admitted, awaited=awaited), lambda known: seen.append(known) or fact)
    assert asked == [{"aa", "bb"}]
    assert sorted(wait.run_id for wait in seen[0].waits) == ["run-1", "run-4", "run-5"]


async def test_a_refused_admission_writes_nothing(store: Store) -> None:
    keys, fact = admission("k/0/1", "alert-1")
    await store.admit(keys, lambda _: fact)
    with pytest.raises(StateConflictError):
        await store.admit(keys, lambda _: Fact(writes=(InsertRecord(coordinates="k/0/2", at=NOW), *fact.writes)))
    assert (await store.counts()).alerts == {"no_match": 1}
    keys, other = admission("k/0/2", "alert-2")
    assert (await store.admit(keys, lambda known: other if not known.coordinates else Fact())).writes


async def test_alerts_and_dead_letters_are_found_again(store: Store) -> None:
    keys, fact = admission("k/0/1", "alert-1")
    await store.admit(keys, lambda _: fact)
    record = Record(source="k", topic="t", offset=2, value=b"\xff\x00", received_at=NOW)
    letter = DeadLetter(id="deadletter-1", record=record, code="x", reason="because", at=NOW)
    await put(store, InsertDeadLetter(letter=letter))
    alert, row = await store.alert("alert-1"), await store.alert_row("alert-1")
    assert alert is not None
    assert row is not None
    assert (alert.uid, row.outcome) == ("u", Outcome.NO_MATCH)
    assert [found.id for found in await store.alerts(outcome=Outcome.NO_MATCH)] == ["alert-1"]
    assert await store.alerts(outcome=Outcome.MATCHED) == []
    assert await store.dead_letters() == [letter]
    older = letter.model_copy(update={"id": "deadletter-0"})
    await put(store, InsertDeadLetter(letter=older))
    assert await store.dead_letters(1) == [letter]
    assert await store.dead_letters(before=letter.id) == [older]
    assert await store.dead_letters(1, before=f"{letter.id}~") == [letter]
    assert await store.dead_letters(before=older.id) == []
    assert (await store.counts()).alerts == {"no_match": 1, "dead_letter": 2}
    assert (await store.alert("none"), await store.alert_row("none")) == (None, None)


async def test_alerts_of_the_same_name_that_came_before_are_found_the_repeats_first(store: Store) -> None:
    for number, content in enumerate(["c", "other", "c", "c"]):
        keys, fact = admission(f"k/0/{number}", f"alert-{number}")
        record, alert = fact.writes
        assert isinstance(alert, InsertAlert)
        changed = replace(fact, writes=(record, replace(alert, content=content)))
        await store.admit(keys, lambda _, fact=changed: fact)
    assert [(each.id, each.repeats) for each in await store.namesakes("alert-2")] == [
        ("alert-0", True),
        ("alert-1", False),
    ]
    assert [each.id for each in await store.namesakes("alert-3", limit=1)] == ["alert-2"]
    assert await store.namesakes("alert-0") == await store.namesakes("none") == []


async def test_what_became_of_an_alert_is_kept_playbook_by_playbook(store: Store) -> None:
    keys, fact = admission("k/0/1", "alert-1")
    record, alert = fact.writes
    assert isinstance(alert, InsertAlert)
    matches = (
        AlertMatch(playbook_id="a", outcome=Outcome.MATCHED, run_id="run-1"),
        AlertMatch(playbook_id="b", outcome=Outcome.SUPPRESSED, suppression="suppression-1"),
        AlertMatch(playbook_id="c", outcome=Outcome.SUPPRESSED, number=2),
        AlertMatch(playbook_id="d", outcome=Outcome.CORRELATED, run_id="run-2", path="again"),
    )
    await store.admit(keys, lambda _: replace(fact, writes=(record, replace(alert, matches=matches))))
    row = await store.alert_row("alert-1")
    assert row is not None
    assert row.matches == matches


async def test_the_alerts_that_joined_a_run_are_found_in_their_time(store: Store) -> None:
    ids = UlidSource()
    names = [ids.new("alert") for _ in range(3)]
    rows = [
        (AlertMatch(playbook_id="a", outcome=Outcome.MATCHED, run_id="run-1"),),
        (
            AlertMatch(playbook_id="run-1", outcome=Outcome.MATCHED, run_id="run-2"),
            AlertMatch(playbook_id="b", outcome=Outcome.CORRELATED, run_id="run-1", path="run-1"),
            AlertMatch(playbook_id="c", outcome=Outcome.CORRELATED, run_id="run-1"),
        ),
        (AlertMatch(playbook_id="a", outcome=Outcome.CORRELATED, run_id="run-11"),),
    ]
    for name, matches in zip(names, rows, strict=True):
        keys, fact = admission(f"k/0/{name}", name)
        record, alert = fact.writes
        assert isinstance(alert, InsertAlert)
        changed = replace(fact, writes=(record, replace(alert, matches=matches)))
        await store.admit(keys, lambda _, fact=changed: fact)
    now, hour = SystemClock().now(), timedelta(hours=1)
    assert await store.joined("run-1", since=now - hour, until=now + hour) == [names[1]]
    assert await store.joined("run-1", since=now - 2 * hour, until=now - hour) == []
    assert await store.joined("run-2", since=now - hour, until=now + hour) == []


# Counting


async def test_only_what_can_harm_counts_and_each_action_once(store: Store) -> None:
    await begin(store, "run-1", "run-2")
    await put(store, intent("run-1"), intent("run-1", number=2), intent("run-2"))
    await put(store, intent("run-1", "t", risk=Risk.NONE), intent("run-1", "u", risk=Risk.NONE, effect=Effect.READ))
    keys = ["target:host:h1", "connector:edr", "playbook:p", "target:host:none"]
    hour = NOW - timedelta(hours=1)
    assert await store.action_counts(keys, hour) == dict(zip(keys, [2, 2, 2, 0], strict=True))
    assert await store.action_counts(keys[:1], hour, besides=("run-1", "s")) == {keys[0]: 1}
    assert await store.action_counts(keys[:1], later(1)) == {keys[0]: 0}
    counts = await store.counts()
    assert counts.actions == {"unsafe/intended": 4, "read/intended": 1}
    assert counts.runs == {"ready": 2}


# The journal


async def test_entries_stand_in_the_order_of_their_facts_each_run_chained(store: Store) -> None:
    await begin(store, "run-1", "run-2")
    facts = [Fact(entries=(entry(f"run-{n % 2 + 1}", f"{n}"), entry(None, f"{n}+"))) for n in range(6)]
    await store.commit(facts[:4])
    await store.commit(facts[4:])
    found = await rows(store)
    assert [row.index for row in found] == list(range(12))
    mine = await rows(store, run_id="run-1")
    sequence = chain(mine)
    assert [number for number, _ in sequence] == [0, 1, 2]
    assert [previous for _, previous in sequence] == ["", *(row.leaf_hash.hex() for row in mine[:-1])]
    assert [row.index for row in await rows(store, newest=3)] == [9, 10, 11]
    assert await verified(store)


async def test_several_writers_keep_one_tree_and_one_chain_for_each_run(open_store: Open) -> None:
    stores = [await open_store() for _ in range(3)]
    await begin(stores[0], "run-1", "run-2")

    async def write(store: Store, number: int) -> None:
        run = f"run-{number % 2 + 1}"
        facts = [Fact(entries=(entry(run), entry(None))), Fact(writes=(finish(run),), entries=(entry(run),))]
        first, second = await store.commit(facts)
        assert first is None
        assert second is not None

    await asyncio.gather(*(write(store, number) for number in range(20) for store in stores))
    assert (await stores[0].tree())[0] == 120
    assert len(await rows(stores[1])) == 120
    assert await verified(stores[2])


async def test_pages_join_without_gap(store: Store) -> None:
    await store.commit([Fact(entries=(entry(),)) for _ in range(2500)])
    assert [row.index async for row in store.entries(start=10)] == list(range(10, 2500))


async def test_witnesses_lines_are_kept_with_their_checkpoint(store: Store) -> None:
    for size in (1, 2):
        await store.add_checkpoint(size, str(size))
    assert await store.cosigned() is None
    for text in ("2 cosigned", "2 cosigned twice"):
        await store.add_cosigned(2, text)
    await store.add_checkpoint(2, "2 again")
    assert await store.checkpoints() == ["1", "2 cosigned twice"]
    assert await store.cosigned() == "2 cosigned twice"


async def test_nodes_of_the_tree_are_kept_and_prove_every_entry(store: Store) -> None:
    for first in (0, 300):
        await store.commit([Fact(entries=tuple(entry(None, f"e {n}") for n in range(first, first + 300)))])
        size, raw = await store.tree()
        assert await keep_nodes(store, size) == size // 256 - first // 256
        assert await keep_nodes(store, size) == 0
    leaves = [row.leaf_hash async for row in store.entries()]
    assert await store.hashes(0, 250, 10) == leaves[250:260]
    assert await store.hashes(0, 599, 10) == leaves[599:]
    assert await store.hashes(1, 0, 256) == [root_of(leaves[:256]), root_of(leaves[256:512])]
    assert await store.hashes(1, 1, 1) == [root_of(leaves[256:512])]
    assert await store.hashes(2, 0, 1) == []
    assert b"".join(leaves[512:]) == await read_tile(store, Tile(0, 2, 88))
    await store.add_hashes({(1, 0): bytes(32)})
    assert (await store.hashes(1, 0, 1))[0] == root_of(leaves[:256])
    assert Frontier.from_bytes(raw).root() == root_of(leaves)


async def test_checkpoints_are_kept_in_order_the_first_for_a_size_stays(store: Store) -> None:
    for size, text in ((1, "one"), (2, "two"), (1, "another"), (3, "three")):
        await store.add_checkpoint(size, text)
    assert await store.checkpoints() == ["one", "two", "three"]
    assert await store.checkpoints(newest=2) == ["two", "three"]


async def test_a_paused_run_is_not_leased_whatever_signals_it_and_keeps_its_state(store: Store) -> None:
    await begin(store, "run-1", "run-2")
    assert await put(store, SetPaused(run_id="run-2", paused=True)) is None
    (lease,) = await take(store)
    assert lease.run_id == "run-1"
    assert await put(store, SetPaused(run_id="run-1", paused=True)) is None
    assert await put(store, ParkRun(run_id="run-1", wake_at=NOW), lease=lease) is None
    assert (await state(store, "run-1"), await state(store, "run-2")) == (RunState.WAITING, RunState.READY)
    await put(store, SignalRun(run_id="run-1"))
    assert await take(store) == []
    for name in ("run-1", "run-2"):
        found = await store.run(name)
        assert found is not None
        assert found.paused
        assert await put(store, SetPaused(run_id=name, paused=False)) is None
    assert {lease.run_id for lease in await take(store)} == {"run-1", "run-2"}


async def test_no_intent_and_no_sub_run_of_a_paused_run(store: Store) -> None:
    await begin(store, "run-1")
    (lease,) = await take(store)
    await put(store, SetPaused(run_id="run-1", paused=True))
    assert isinstance(await put(store, intent("run-1"), lease=lease), RunPausedError)
    child = a_run("run-2", kind=RunKind.CALL, parent_run_id="run-1", parent_path="s")
    assert isinstance(await put(store, InsertRun(run=child), lease=lease), RunPausedError)
    undo = child.model_copy(update={"kind": RunKind.UNDO})
    assert await put(store, InsertRun(run=undo), lease=lease) is None
    await put(store, SetPaused(run_id="run-1", paused=False))
    assert await put(store, intent("run-1"), lease=lease) is None
    assert await put(store, ParkRun(run_id="run-1", wake_at=None), lease=lease) is None
    assert await state(store) is RunState.READY  # its resume was a signal


async def test_a_pause_ends_with_its_run_and_with_its_cancellation(store: Store) -> None:
    await begin(store, "run-1", "run-2", "run-3")
    one, two, _ = sorted(await take(store), key=lambda lease: lease.run_id)
    for name in ("run-1", "run-2", "run-3"):
        await put(store, SetPaused(run_id=name, paused=True))
        assert isinstance(await put(store, SetPaused(run_id=name, paused=True)), StateConflictError)
    await put(store, finish("run-1"), lease=one)
    await put(store, finish("run-2", RunState.NEEDS_REVIEW), lease=two)
    await put(store, RequestCancel(run_id="run-3"))
    found = [await store.run(name) for name in ("run-1", "run-2", "run-3")]
    assert [run.paused for run in found if run is not None] == [False, True, False]
    for paused in (True, False):
        assert isinstance(await put(store, SetPaused(run_id="run-1", paused=paused)), StateConflictError)
        assert isinstance(await put(store, SetPaused(run_id="run-none", paused=paused)), StateConflictError)


async def test_a_paused_run_without_the_lock_does_not_stand_before_the_next(store: Store) -> None:
    await put(store, InsertRun(run=a_run("run-1", lock_key="h1")), InsertRun(run=a_run("run-2", lock_key="h1")))
    await put(store, SetPaused(run_id="run-1", paused=True))
    assert [lease.run_id for lease in await take(store)] == ["run-2"]
    await put(store, SetPaused(run_id="run-1", paused=False))
    assert await take(store) == []
