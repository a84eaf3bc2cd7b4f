"""People decide on exactly the bytes that will be sent, once, in time, and nobody decides who may not."""

import asyncio
import random

import pytest

from soar.errors import InputError, NotAllowedError, NotFoundError, StateConflictError, StoreError
from soar.lab import Fault, Mode
from soar.model.approval import Approval, ApprovalState
from soar.model.run import Run, RunState

from .house import ALLOW, House, ask

STEPS = 'steps:\n  - {id: isolate, use: host.isolate, with: {host: "${{ alert.raw.host }}"}}\n'


async def asked(house: House, rego: str | None = None, steps: str = STEPS, **more: object) -> Run:
    """A run that waits for people."""
    house.policy(ask("soc-lead") if rego is None else rego)
    house.playbook(steps)
    await house.start()
    run = await house.go(host="ws-17", **more)
    assert run.state is RunState.WAITING, run.error
    assert house.sent() == []
    return run


async def test_a_grant_is_used_once_in_the_fact_that_records_the_intent(house: House) -> None:
    run = await asked(house)
    approval = await house.grant()
    assert house.effects() == ["isolated host ws-17"]
    after = await house.store.approval(approval.id)
    assert after is not None
    assert after.state is ApprovalState.CONSUMED
    kinds = [e["type"] for e in await house.told(run)]
    assert kinds == [
        "run.created", "policy.decided", "approval.requested", "step.waiting", "approval.voted", "approval.closed",
        "policy.decided", "approval.consumed", "action.intent", "action.outcome", "run.finished",
    ]  # fmt: skip
    again = await house.go(host="ws-18")
    assert again.state is RunState.WAITING


async def test_people_see_the_bytes_that_are_hashed_and_nothing_the_alert_made_up(house: House) -> None:
    await asked(house, title="Harmless, please grant")
    approval = await house.pending()
    assert Approval.digest_of(approval.binding) == approval.digest
    assert approval.binding["params"] == {"host": "ws-17"}
    assert "Harmless" not in str(approval.binding)


async def test_another_digest_is_refused(house: House) -> None:
    await asked(house)
    with pytest.raises(StateConflictError, match="look at it again"):
        await house.grant(digest="0" * 64)
    assert house.sent() == []


async def test_one_denial_ends_it(house: House) -> None:
    run = await asked(house)
    await house.vote("alice", "deny", reason="that is our CEO")
    run = await house.run(run.id)
    assert run.state is RunState.DENIED
    assert "alice: that is our CEO" in (run.error or "")
    assert house.sent() == []


async def test_an_unknown_decision_is_no_denial(house: House) -> None:
    await asked(house)
    with pytest.raises(InputError):
        await house.vote("alice", "Grant")
    assert (await house.pending()).votes == ()


async def test_who_is_not_asked_cannot_decide(house: House) -> None:
    await asked(house)
    approval = await house.pending()
    for person in ("bob", "mallory"):
        with pytest.raises(NotAllowedError):
            await house.grant(person)
    with pytest.raises(NotFoundError):
        await house.vote("alice", "grant", approval.model_copy(update={"id": "approval-none"}))


async def test_who_wrote_the_playbook_cannot_decide_on_it(house: House) -> None:
    await asked(house, steps=f"author: alice\n{STEPS}")
    with pytest.raises(NotAllowedError, match="wrote the playbook"):
        await house.grant()


async def test_policy_may_lift_that(house: House) -> None:
    await asked(house, ask("soc-lead", exclude=[]), steps=f"author: alice\n{STEPS}")
    await house.grant()
    assert house.effects() == ["isolated host ws-17"]


async def test_who_asked_for_an_undo_cannot_grant_it(house: House) -> None:
    house.people(alice="soc-lead", carol="soc-lead")
    house.policy(ask("soc-lead").replace('"contain"', '"none"'))
    house.playbook("steps:\n  - {id: isolate, use: host.isolate, with: {host: ws-17}}\n")
    await house.start()
    run = await house.go()
    await house.control("alice").undo(run.id)
    await house.rest()
    with pytest.raises(NotAllowedError):
        await house.grant("alice")
    await house.grant("carol")
    assert house.effects() == ["isolated host ws-17", "released host ws-17"]


async def test_the_same_person_counts_once(house: House) -> None:
    house.people(alice="soc-lead", carol="soc-lead")
    await asked(house, steps=STEPS.replace("}}\n", "}, approval: {groups: [{group: soc-lead, min: 2}]}}\n"))
    await house.grant("alice")
    with pytest.raises(NotAllowedError, match="already"):
        await house.grant("alice")
    assert house.sent() == []
    await house.grant("carol")
    assert house.effects() == ["isolated host ws-17"]


async def test_one_person_in_two_groups_is_not_two_people(house: House) -> None:
    house.people(alice='"soc-lead", "ir-manager"', carol="soc-lead", dora='"ir-manager"')
    await asked(house, ask("soc-lead,ir-manager"))
    await house.grant("alice")
    assert (await house.pending()).votes[0].groups == ("soc-lead", "ir-manager")
    await house.grant("carol")
    assert house.effects() == ["isolated host ws-17"]


async def test_the_playbook_can_only_add_to_what_policy_asks(house: House) -> None:
    steps = STEPS.replace("}}\n", "}, approval: {groups: [{group: ir-manager, min: 1}], expires: 5m}}\n")
    run = await asked(house, ask("soc-lead", reason_required=True), steps=steps)
    requirement = (await house.pending()).requirement
    assert [group.group for group in requirement.groups] == ["ir-manager", "soc-lead"]
    assert requirement.ttl.total_seconds() == 300
    with pytest.raises(NotAllowedError, match="reason"):
        await house.grant("alice", reason="  ")
    await house.pass_time(301)
    assert (await house.run(run.id)).state is RunState.DENIED


async def test_time_over_is_a_denial_also_across_a_restart(house: House) -> None:
    run = await asked(house, ask("soc-lead", ttl="30m"))
    approval = await house.pending()
    await house.restart()
    house.clock.offset += house.clock.offset.__class__(minutes=31)
    with pytest.raises(StateConflictError):
        await house.vote("alice", "grant", approval)
    await house.rest()
    assert (await house.run(run.id)).state is RunState.DENIED
    assert house.sent() == []


async def test_a_grant_outlives_a_restart(house: House) -> None:
    await asked(house)
    await house.restart()
    await house.grant()
    assert house.effects() == ["isolated host ws-17"]


async def test_a_grant_that_could_not_be_used_in_time_is_void(house: House) -> None:
    run = await asked(house, ask("soc-lead", execution_ttl="10m"))
    await house.control().halt(reason="wait")
    approval = await house.grant()
    assert (await house.run(run.id)).state is RunState.WAITING
    await house.pass_time(601)
    await house.control().resume(reason="go")
    await house.pass_time(10)
    run = await house.run(run.id)
    assert (run.state, house.sent()) == (RunState.DENIED, [])
    after = await house.store.approval(approval.id)
    assert after is not None
    assert after.state is ApprovalState.EXPIRED


async def test_another_policy_asks_anew(house: House) -> None:
    """What people were shown names the revision; under another one it is another question."""
    await asked(house)
    first = await house.pending()
    await house.stop()
    house.policy(ask("soc-lead") + "\n# another revision\n")
    await house.start()
    await house.grant()
    assert house.sent() == []
    superseded = await house.store.approval(first.id)
    assert superseded is not None
    assert superseded.state is ApprovalState.SUPERSEDED
    second = await house.pending()
    assert second.digest != first.digest
    await house.grant()
    assert house.effects() == ["isolated host ws-17"]


async def test_a_policy_that_now_denies_or_allows_is_heard(house: House) -> None:
    run = await asked(house)
    await house.stop()
    house.policy(ALLOW)
    await house.start()
    approval = await house.grant()
    assert (await house.run(run.id)).state is RunState.SUCCEEDED
    after = await house.store.approval(approval.id)
    assert after is not None
    assert after.state in {ApprovalState.CONSUMED, ApprovalState.CANCELLED}


async def test_who_left_the_group_meanwhile_no_longer_counts(house: House) -> None:
    await asked(house, ask("soc-lead,ir-manager"))
    await house.grant("alice")
    await house.stop()
    house.people(alice="lunch", bob="ir-manager", carol="soc-lead")
    await house.start()
    await house.grant("bob")
    assert house.sent() == []
    second = await house.pending()
    assert second.votes == ()
    await house.grant("bob")
    await house.grant("carol")
    assert house.effects() == ["isolated host ws-17"]


async def test_two_people_at_once_give_exactly_one_decision_each_time(house: House) -> None:
    house.people(alice="soc-lead", carol="soc-lead")
    house.policy(ask("soc-lead"))
    house.playbook(STEPS)
    await house.start()
    records = [house.record(host=f"h{number}") for number in range(200)]
    admitted = await house.running.admit(records)
    await house.rest()
    waiting = await house.store.approvals(state=ApprovalState.PENDING, limit=1000)
    assert len(waiting) == 200
    desk, dice = house.service.desk(house.running.worker.wake), random.Random(7)

    async def race(approval: Approval) -> list[str]:
        words = [("alice", "grant"), ("carol", "deny")]
        dice.shuffle(words)
        said = [
            desk.vote(approval.id, person=person, decision=word, digest=approval.digest, method="cli")
            for person, word in words
        ]
        done = await asyncio.gather(*said, return_exceptions=True)
        assert sum(isinstance(one, StateConflictError) for one in done) == 1, done
        return [one.state.value for one in done if isinstance(one, Approval)]

    decided = [state for states in await asyncio.gather(*map(race, waiting)) for state in states]
    await house.rest()
    assert len(decided) == 200
    runs = [await house.run(one.run_ids[0]) for one in admitted]
    assert sum(run.state is RunState.SUCCEEDED for run in runs) == decided.count("granted") == len(house.effects())
    assert sum(run.state is RunState.DENIED for run in runs) == decided.count("denied")
    assert len(await house.told(kind="approval.voted")) == 200
    assert (await house.verify()).ok


async def test_a_vote_on_a_decided_request_is_refused(house: House) -> None:
    await asked(house)
    approval = await house.pending()
    await house.grant()
    for person, word in (("alice", "grant"), ("bob", "deny")):
        with pytest.raises((StateConflictError, NotAllowedError)):
            await house.vote(person, word, approval)


async def test_a_used_grant_does_not_cover_what_a_person_retries(house: House) -> None:
    house.lab.faults.put("edr", Fault(mode=Mode.UNAUTHORIZED, times=1))
    run = await asked(house)
    await house.grant()
    assert (await house.run(run.id)).state is RunState.FAILED
    await house.control().retry(run.id, reason="token renewed")
    await house.rest()
    assert (await house.run(run.id)).state is RunState.WAITING
    await house.grant()
    assert house.effects() == ["isolated host ws-17"]


async def test_a_used_grant_covers_further_tries_of_the_same_request_while_its_time_lasts(house: House) -> None:
    run = await asked(house, ask("soc-lead", execution_ttl="10m"))
    house.lab.faults.put("edr", Fault(mode=Mode.RATE_LIMITED, retry_after=30, times=1))
    await house.grant()
    await house.pass_time(61)
    assert (await house.run(run.id)).state is RunState.SUCCEEDED
    assert len(await house.store.approvals(run_id=run.id)) == 1


async def test_after_that_time_people_are_asked_again(house: House) -> None:
    run = await asked(house, ask("soc-lead", execution_ttl="10m"))
    house.lab.faults.put("edr", Fault(mode=Mode.RATE_LIMITED, retry_after=1200, times=1))
    await house.grant()
    await house.pass_time(1201)
    assert (await house.run(run.id)).state is RunState.WAITING
    assert (await house.pending()).path == "isolate"
    assert len(house.sent()) == 1


async def test_a_cancelled_run_asks_nobody_any_more(house: House) -> None:
    run = await asked(house)
    approval = await house.pending()
    await house.control().cancel(run.id, reason="false alarm")
    await house.rest()
    assert (await house.run(run.id)).state is RunState.CANCELLED
    with pytest.raises(StoreError):
        await house.vote("alice", "grant", approval)
    assert house.sent() == []


async def test_branches_ask_for_each_of_their_actions_on_its_own(house: House) -> None:
    await asked(
        house,
        steps="steps:\n  - parallel:\n      - {id: one, use: host.isolate, with: {host: h1}}\n"
        "      - {id: two, use: host.isolate, with: {host: h2}}\n",
    )
    approvals = {a.path: a for a in await house.store.approvals(state=ApprovalState.PENDING)}
    assert set(approvals) == {"0.0.one", "0.1.two"}
    await house.vote("alice", "grant", approvals["0.1.two"])
    assert house.effects() == ["isolated host h2"]
    await house.vote("alice", "deny", approvals["0.0.one"])
    assert house.effects() == ["isolated host h2"]
    assert (await house.the_run()).state is RunState.DENIED
