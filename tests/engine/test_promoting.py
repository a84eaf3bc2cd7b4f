"""Another revision comes into force while runs are under way; one that is not fit changes nothing."""

from __future__ import annotations

import asyncio

import pytest

from soar.engine.promotion import promote, promoted
from soar.errors import InputError, PolicyError, StoreUnavailableError
from soar.lab import Fault, Mode
from soar.model.approval import ApprovalState
from soar.model.run import RunState
from soar.policy.bundle import load_bundle

from .house import ALLOW, DENY_CONTAIN, House, ask

ISOLATE = "steps:\n  - {id: isolate, use: host.isolate, with: {host: ws-17}}\n"
PASSES = "package soar.main_test\n\ntest_it_decides if data.soar.main.decision.schema\n"
FAILS = "package soar.main_test\n\ntest_it_decides if 1 == 2\n"


def write(house: House, rego: str, tests: str | None = PASSES) -> str:
    """Change the folder; returns its revision."""
    house.policy(rego)
    path = house.folder / "policies" / "main_test.rego"
    path.unlink(missing_ok=True)
    if tests is not None:
        path.write_text(tests)
    return load_bundle(house.folder / "policies").revision


async def want(house: House, revision: str) -> None:
    """As `soar policy promote` does."""
    await promote(house.store, house.service.scribe, person="alice", revision=revision, reason="a test")


async def in_force(house: House, revision: str) -> None:
    async with asyncio.timeout(60):
        while house.running.gate.revision != revision:  # noqa: ASYNC110 - the service rings no bell for it
            await asyncio.sleep(0.02)


async def test_a_promoted_revision_decides_without_a_restart_and_the_journal_says_who(either_house: House) -> None:
    house = either_house
    house.playbook(ISOLATE)
    await house.start()
    was = house.running.gate.revision
    assert (await house.go()).state is RunState.SUCCEEDED
    now = write(house, DENY_CONTAIN)
    await want(house, now)
    await in_force(house, now)
    assert (await house.go()).state is RunState.DENIED
    assert house.effects() == ["isolated host ws-17"]
    (said,) = await house.told(kind="policy.promoted")
    assert (said["actor"], said["subject"], said["body"]) == ("person:alice", now, {"reason": "a test"})
    told = await house.told(kind="policy.loaded")
    assert [each["subject"] for each in told] == [was, now]
    assert told[1]["data"] == {"engine": "embedded", "was": was, "by": "person:alice"}
    assert (await house.verify()).ok


async def test_a_signal_takes_what_the_folder_holds(house: House) -> None:
    house.playbook(ISOLATE)
    await house.start()
    now = write(house, DENY_CONTAIN)
    house.running.promotion.signal()
    await in_force(house, now)
    assert (await house.go()).state is RunState.DENIED
    assert (await house.told(kind="policy.loaded"))[-1]["data"]["by"] == "signal"


@pytest.mark.parametrize(
    ("rego", "tests", "why"),
    [
        ("package soar.main\n\ndecision := {\n", PASSES, r"main\.rego:\d+:\d+"),
        (ALLOW.replace("package soar.main", "package soar.main\n\nallow { true }"), PASSES, "Rego v0"),
        (ALLOW + '\nx := http.send({"url": "http://127.0.0.1"})\n', PASSES, r"main\.rego:\d+:\d+: http\.send"),
        (ALLOW, FAILS, r"main_test\.rego:3:1: soar\.main_test\.test_it_decides fails"),
        (DENY_CONTAIN, None, "has no tests"),
    ],
    ids=["typo", "v0", "forbidden builtin", "failing test", "no tests"],
)
async def test_what_is_not_fit_is_refused_with_its_place_and_the_revision_in_force_stays(
    house: House, rego: str, tests: str | None, why: str
) -> None:
    house.playbook(ISOLATE)
    await house.start()
    was = house.running.gate.revision
    house.policy(rego)
    if tests is not None:
        (house.folder / "policies" / "main_test.rego").write_text(tests)
    with pytest.raises(PolicyError, match=why):
        await house.running.promotion.take(by="person:alice")
    assert house.running.gate.revision == was
    assert (await house.go()).state is RunState.SUCCEEDED
    assert len(await house.told(kind="policy.loaded")) == 1


async def test_a_worker_whose_folder_holds_another_revision_does_not_follow_until_it_holds_the_one(
    house: House,
) -> None:
    house.playbook(ISOLATE)
    await house.start()
    was = house.running.gate.revision
    write(house, DENY_CONTAIN)
    with pytest.raises(PolicyError, match="not ffffffffffff, which person:alice promoted; bring the folder up to date"):
        await house.running.promotion.take(by="person:alice", wanted="f" * 64)
    assert house.running.gate.revision == was


async def test_while_the_journal_cannot_be_told_the_revision_in_force_stays(house: House) -> None:
    await house.start()
    was = house.running.gate.revision
    now = write(house, DENY_CONTAIN)
    commit = house.store.commit

    async def away(*_: object) -> None:
        raise StoreUnavailableError("the disk is full")

    house.running.recorder._store.commit = away  # type: ignore[method-assign,assignment]
    with pytest.raises(StoreUnavailableError):
        await house.running.promotion.take(by="person:alice")
    assert house.running.gate.revision == was
    house.running.recorder._store.commit = commit  # type: ignore[method-assign]
    assert await house.running.promotion.take(by="person:alice")
    assert house.running.gate.revision == now
    assert not await house.running.promotion.take(by="person:alice")


async def test_an_approval_under_the_old_revision_covers_nothing_under_the_new(house: House) -> None:
    """Granted, then the rules change before it is sent: policy is asked again, and so are people."""
    write(house, ask("soc-lead"))
    house.playbook(ISOLATE)
    await house.start()
    run = await house.go()
    first = await house.pending()
    now = write(house, ask("soc-lead", reason_required=True))
    house.running.promotion.signal()
    await in_force(house, now)
    await house.grant()
    assert house.sent() == []
    again = await house.pending()
    assert again.id != first.id
    after = await house.store.approval(first.id)
    assert after is not None
    assert after.state is ApprovalState.SUPERSEDED
    await house.grant(reason="still true")
    assert (await house.run(run.id)).state is RunState.SUCCEEDED
    assert house.effects() == ["isolated host ws-17"]


@pytest.mark.parametrize("happened", [True, False])
async def test_a_denial_of_the_next_try_does_not_hide_that_the_first_may_have_taken_effect(
    house: House, happened: bool
) -> None:
    house.playbook(ISOLATE)
    await house.start()
    house.lab.faults.put("edr", Fault(mode=Mode.DROP_AFTER, times=1))
    run = await house.go()
    assert run.state is RunState.WAITING
    now = write(house, DENY_CONTAIN)
    house.running.promotion.signal()
    await in_force(house, now)
    await house.pass_time(600)
    assert (await house.run(run.id)).state is RunState.NEEDS_REVIEW
    assert len(house.sent("POST")) == 1
    assert "it may not be repeated" in ((await house.step(run, "isolate")).error or "")
    assert await house.control().resolve(run.id, happened=happened, reason="I looked") == ["isolate"]
    await house.rest()
    assert (await house.run(run.id)).state is (RunState.SUCCEEDED if happened else RunState.FAILED)
    assert len(house.sent("POST")) == 1
    assert (await house.verify()).ok


async def test_a_decision_that_is_being_had_is_had_whole_from_the_revision_before(house: House) -> None:
    """Many runs while the rules change to and fro: each decision is of one revision, and none is lost."""
    house.playbook(ISOLATE)
    await house.start()
    revisions = {house.running.gate.revision}
    admitted = []
    for number in range(6):
        admitted += [await house.admit(host=f"ws-{number}-{each}") for each in range(5)]
        revisions.add(write(house, DENY_CONTAIN if number % 2 == 0 else ALLOW))
        assert await house.running.promotion.take(by="person:alice")
    await house.rest()
    runs = [await house.run(each.run_ids[0]) for each in admitted]
    assert {run.state for run in runs} <= {RunState.SUCCEEDED, RunState.DENIED}
    decided = await house.told(kind="policy.decided")
    assert {each["data"]["revision"] for each in decided} <= revisions
    assert not [
        each for each in decided for reason in each["body"]["decision"]["reasons"] if reason["control"] == "gate"
    ]


async def test_a_promotion_needs_a_reason_and_tells_what_it_replaces(house: House) -> None:
    await house.start()
    scribe = house.service.scribe
    with pytest.raises(InputError, match="needs a reason"):
        await promote(house.store, scribe, person="alice", revision="a" * 64, reason=" ")
    assert await promoted(house.store) is None
    assert await promote(house.store, scribe, person="alice", revision="a" * 64, reason="one") is None
    before = await promote(house.store, scribe, person="bob", revision="b" * 64, reason="two")
    assert before is not None
    assert (before.revision, before.by) == ("a" * 64, "person:alice")
    assert (await house.told(kind="policy.promoted"))[1]["data"]["was"] == "a" * 64
