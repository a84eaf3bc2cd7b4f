"""Alerts of a kind are held back for a time: by a person, with a reason, in the transaction that admits them."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from soar.engine.admission import Admitted
from soar.engine.suppressing import LONGEST, Suppressor
from soar.errors import InputError, NotFoundError, StateConflictError
from soar.library.conditions import conditions
from soar.model.alert import Outcome
from soar.model.playbook import Trigger
from soar.model.run import RunState
from soar.model.suppression import Suppression
from soar.store.port import Fact, SetControl
from soar.store.suppressions import key_of

from .house import House

SAY = "steps:\n  - {use: notify.send, with: {channel: soc, text: hello}}\n"
HOUR = timedelta(hours=1)


@pytest.fixture
async def busy(either_house: House) -> House:
    """A house with one playbook for each alert, and another one for those whose title is `both`."""
    either_house.playbook(SAY)
    either_house.playbook("on: {match: {title: both}}\n" + SAY, "second")
    await either_house.start()
    return either_house


def suppressor(house: House) -> Suppressor:
    return Suppressor(store=house.store, scribe=house.service.scribe, person="alice", authority=house.service.authority)


async def hold(house: House, match: dict[str, Any], **more: Any) -> Suppression:
    now = house.clock.now()
    given = {"playbooks": (), "since": now, "until": now + HOUR, "reason": "backup moves"} | more
    return await suppressor(house).add(conditions(match) if match else Trigger(), **given)


async def admit(house: House, **fields: Any) -> Admitted:
    found = await house.admit(**fields)
    await house.rest()
    return found


async def test_what_is_held_back_starts_nothing_and_names_what_held_it(busy: House) -> None:
    held = await hold(busy, {"title": "noise"})
    alert = await admit(busy, title="noise")
    assert (alert.outcome, alert.run_ids) == (Outcome.SUPPRESSED, ())
    assert (await admit(busy, title="a real one")).outcome is Outcome.MATCHED
    assert len(busy.sent()) == 1
    assert alert.alert_id is not None
    row = await busy.store.alert_row(alert.alert_id)
    assert row is not None
    assert [(m.playbook_id, m.outcome, m.suppression) for m in row.matches] == [("it", Outcome.SUPPRESSED, held.id)]
    (told,) = [e for e in await busy.told(kind="alert.admitted") if e["subject"] == alert.alert_id]
    assert told["data"]["suppressed_by"] == held.id
    assert told["body"]["matches"] == [["it", "suppressed", None, held.id]]
    (added,) = await busy.told(kind="suppression.added")
    assert (added["actor"], added["subject"], added["body"]["reason"]) == ("person:alice", held.id, "backup moves")
    assert (await busy.verify()).ok


async def test_it_holds_from_its_beginning_to_its_end_and_over_restarts(busy: House) -> None:
    now = busy.clock.now()
    await hold(busy, {"title": "noise"}, since=now + HOUR, until=now + 2 * HOUR)
    assert (await admit(busy, title="noise")).outcome is Outcome.MATCHED
    await busy.pass_time(3601)
    await busy.restart()
    assert (await admit(busy, title="noise")).outcome is Outcome.SUPPRESSED
    await busy.pass_time(3600)
    assert (await admit(busy, title="noise")).outcome is Outcome.MATCHED


async def test_it_may_be_for_one_playbook_alone(busy: House) -> None:
    held = await hold(busy, {"title": "both"}, playbooks=("second",))
    alert = await admit(busy, title="both")
    assert alert.outcome is Outcome.MATCHED
    assert alert.alert_id is not None
    row = await busy.store.alert_row(alert.alert_id)
    assert row is not None
    assert {m.playbook_id: m.suppression for m in row.matches} == {"it": None, "second": held.id}
    assert [run.playbook_id for run in await busy.store.runs()] == ["it"]


async def test_everything_can_be_held_back(busy: House) -> None:
    await hold(busy, {})
    assert (await admit(busy)).outcome is Outcome.SUPPRESSED
    assert (await admit(busy, rule="other")).outcome is Outcome.NO_MATCH


async def test_a_person_ends_it_early_and_only_once(busy: House) -> None:
    held = await hold(busy, {"title": "noise"})
    await suppressor(busy).end(held.id[-8:], reason="the move is done")
    assert (await admit(busy, title="noise")).outcome is Outcome.MATCHED
    with pytest.raises(StateConflictError, match="is over"):
        await suppressor(busy).end(held.id, reason="again")
    with pytest.raises(NotFoundError):
        await suppressor(busy).end("suppression-none", reason="x")
    assert len(await busy.told(kind="suppression.ended")) == 1
    (kept,) = await busy.store.suppressions()
    assert kept.ended_by == "alice"


async def test_what_is_held_back_opens_no_dedupe_window(house: House) -> None:
    """Else what nobody answered would count for what comes after a maintenance."""
    house.playbook(f"dedupe: {{key: title, within: 5h, mode: {{threshold: {{count: 2}}}}}}\n{SAY}")
    await house.start()
    held = await hold(house, {"title": "noise"})
    assert (await admit(house, title="noise")).outcome is Outcome.SUPPRESSED
    await suppressor(house).end(held.id, reason="done")
    assert (await admit(house, title="noise")).outcome is Outcome.SUPPRESSED
    assert (await admit(house, title="noise")).outcome is Outcome.MATCHED


async def test_what_is_held_back_from_all_ends_no_wait(house: House) -> None:
    house.playbook("steps:\n  - {wait: {for_alert: {match: {title: noise}}}, timeout: 5h}\n")
    await house.start()
    run = await house.go()
    held = await hold(house, {"title": "noise"})
    await admit(house, title="noise", rule="other")
    assert (await house.run(run.id)).state is RunState.WAITING
    await suppressor(house).end(held.id, reason="done")
    await admit(house, title="noise", rule="other")
    assert (await house.run(run.id)).state is RunState.SUCCEEDED


async def test_it_is_in_force_for_every_admission_after_its_commit(busy: House) -> None:
    """Whatever door admits: no alert that comes after the person's command has returned starts a run."""
    said = asyncio.Event()
    doors = [busy.service.intake() for _ in range(3)]
    stop = asyncio.Event()

    async def flood(number: int) -> list[tuple[bool, Admitted]]:
        done: list[tuple[bool, Admitted]] = []
        while not stop.is_set():
            record, later = busy.record(title="noise", uid=f"{number}-{len(done)}"), said.is_set()
            done += [(later, each) for each in await doors[number].admit([record])]
        return done

    floods = [asyncio.create_task(flood(number)) for number in range(3)]
    await asyncio.sleep(0.2)
    await hold(busy, {"title": "noise"})
    said.set()
    await asyncio.sleep(0.2)
    stop.set()
    done = [each for part in await asyncio.gather(*floods) for each in part]
    await busy.rest()
    assert {each.outcome for later, each in done if later} == {Outcome.SUPPRESSED}
    assert {each.outcome for later, each in done if not later} >= {Outcome.MATCHED}


async def test_none_lasts_for_ever_and_none_is_without_a_reason(house: House) -> None:
    await house.start()
    now = house.clock.now()
    with pytest.raises(InputError, match="at most 30d"):
        await hold(house, {"title": "x"}, until=now + LONGEST + HOUR)
    with pytest.raises(InputError, match="reason"):
        await hold(house, {"title": "x"}, reason="  ")
    with pytest.raises(InputError, match="before it begins"):
        await hold(house, {"title": "x"}, since=now + HOUR, until=now + HOUR)
    with pytest.raises(InputError, match="before it begins"):
        await hold(house, {"title": "x"}, since=now - 2 * HOUR, until=now - HOUR)
    assert await house.store.suppressions() == []


@pytest.mark.parametrize(
    ("match", "where", "why"),
    [
        ({"titel": "x"}, None, "did you mean 'title'"),
        ({"severity": {"at_least": "hihg"}}, None, "did you mean 'high'"),
        ({"title": {"startswith": "x"}}, None, "unknown key 'startswith'"),
        ({}, "severty == 'high'", "did you mean 'severity'"),
        ({}, "title ==", "ends too early"),
        ({}, None, "would match every alert"),
    ],
)
def test_conditions_are_checked_as_those_of_a_playbook(match: dict[str, Any], where: str | None, why: str) -> None:
    with pytest.raises(InputError, match=why):
        conditions(match, where)


async def test_long_after_its_end_it_is_forgotten_and_what_was_blanked_holds_nothing_back(busy: House) -> None:
    old = await hold(busy, {"title": "noise"})
    await busy.pass_time((LONGEST + 2 * HOUR).total_seconds())
    new = await hold(busy, {"title": "noise"})
    assert [each.id for each in await busy.store.suppressions()] == [new.id]
    assert old.id != new.id
    blank = SetControl(key=key_of(new.id), value="[erased]")
    assert await busy.store.commit([Fact(writes=(blank,))]) == [None]
    assert (await admit(busy, title="noise")).outcome is Outcome.MATCHED
