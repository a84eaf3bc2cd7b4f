"""A request that nobody decides goes on to a further group, in its time, and never asks for less than policy does."""

from datetime import timedelta

import pytest

from soar.engine.timeline import timeline
from soar.errors import NotAllowedError
from soar.model.approval import Approval, ApprovalState
from soar.model.run import Run, RunState

from .house import ALLOW, House, ask

MINUTE = 60
GROUPS = "[{group: soc-lead}]"


def steps(groups: str = GROUPS, to: str = "ir-manager", **more: str) -> str:
    wrapped = "".join(f", {name}: {value}" for name, value in more.items())
    approval = f"{{groups: {groups}, expires: 1h, escalate: {{after: 15m, to: {to}}}}}"
    return f"steps:\n  - {{id: cut, use: host.isolate, with: {{host: ws-1}}, approval: {approval}{wrapped}}}\n"


async def go(house: House, text: str, rego: str = ALLOW) -> tuple[Run, Approval]:
    house.people(alice="soc-lead", carol="soc-lead", irma="ir-manager", ingo="ir-manager")
    house.policy(rego)
    house.playbook(text)
    await house.start()
    return await house.go(), await house.pending()


async def escalations(house: House, run: Run) -> list[str]:
    return [str(entry["data"]["to"]) for entry in await house.told(run, "approval.escalated")]


async def test_after_its_time_a_further_group_may_decide_and_the_journal_says_so_once(either_house: House) -> None:
    house = either_house
    run, approval = await go(house, steps())
    with pytest.raises(NotAllowedError, match="none of the groups"):
        await house.grant("irma")
    await house.pass_time(14 * MINUTE)
    assert await escalations(house, run) == []
    await house.pass_time(MINUTE + 1)
    assert await escalations(house, run) == ["ir-manager"]
    await house.restart()
    await house.pass_time(MINUTE)
    assert await escalations(house, run) == ["ir-manager"]
    assert (await house.pending()).digest == approval.digest
    await house.grant("irma")
    assert house.effects() == ["isolated host ws-1"]
    lines = [line.text async for line in _lines(house, run)]
    assert "nobody has decided: ir-manager may take the place of 1 of soc-lead" in lines
    assert (await house.verify()).ok


async def _lines(house: House, run: Run):  # type: ignore[no-untyped-def]
    rows = [row async for row in house.store.entries(run_id=run.id)]
    for line in timeline(rows):
        yield line


async def test_those_who_were_asked_first_may_still_decide(house: House) -> None:
    await go(house, steps())
    await house.pass_time(16 * MINUTE)
    await house.grant("alice")
    assert house.effects() == ["isolated host ws-1"]


async def test_a_request_that_is_decided_in_time_does_not_escalate(house: House) -> None:
    run, _ = await go(house, steps())
    await house.vote("alice", "deny", reason="ours")
    await house.pass_time(16 * MINUTE)
    assert await escalations(house, run) == []
    assert (await house.run(run.id)).state is RunState.DENIED


async def test_escalation_asks_for_as_many_people_as_before(house: House) -> None:
    await go(house, steps("[{group: soc-lead, min: 2}]"))
    await house.pass_time(16 * MINUTE)
    await house.grant("irma")
    assert house.sent() == []
    with pytest.raises(NotAllowedError, match="already"):
        await house.grant("irma")
    await house.grant("alice")
    assert house.effects() == ["isolated host ws-1"]


async def test_nobody_stands_in_for_those_whom_policy_asks(house: House) -> None:
    run, _ = await go(house, steps(), ask("soc-lead"))
    await house.pass_time(16 * MINUTE)
    assert await escalations(house, run) == ["ir-manager"]
    with pytest.raises(NotAllowedError):
        await house.grant("irma")
    await house.grant("alice")
    assert house.effects() == ["isolated host ws-1"]


async def test_only_the_seats_that_the_playbook_adds_to_policys_are_open(house: House) -> None:
    """Policy wants one of soc-lead, the playbook two: two of ir-manager do not do."""
    await go(house, steps("[{group: soc-lead, min: 2}]"), ask("soc-lead"))
    await house.pass_time(16 * MINUTE)
    await house.grant("irma")
    await house.grant("ingo")
    assert house.sent() == []
    await house.grant("carol")
    assert house.effects() == ["isolated host ws-1"]


async def test_a_word_given_before_the_escalation_fills_no_others_seat(house: House) -> None:
    """They were asked for their own group, and said yes to that."""
    await go(house, steps(), ask("ir-manager"))
    await house.grant("irma")
    await house.grant("ingo")
    await house.pass_time(14 * MINUTE)
    assert house.sent() == []
    approval = await house.pending()
    assert [each.group for each in approval.unmet] == ["soc-lead"]
    await house.pass_time(2 * MINUTE)
    assert house.sent() == []
    await house.grant("alice")
    assert house.effects() == ["isolated host ws-1"]


async def test_an_escalated_request_ends_in_its_time_as_a_no(house: House) -> None:
    run, approval = await go(house, steps())
    await house.pass_time(16 * MINUTE)
    await house.pass_time(45 * MINUTE)
    assert (await house.run(run.id)).state is RunState.DENIED
    after = await house.store.approval(approval.id)
    assert after is not None
    assert after.state is ApprovalState.EXPIRED
    assert approval.escalates_at == approval.requested_at + timedelta(minutes=15)
