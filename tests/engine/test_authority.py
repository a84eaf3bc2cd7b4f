"""Who may do what: said by policy, refused with reasons, and told in the journal."""

import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from soar.engine.control import HALT
from soar.engine.suppressing import Suppressor
from soar.errors import NotAllowedError, PolicyError
from soar.model.approval import ApprovalState
from soar.model.playbook import Trigger
from soar.model.run import RunState
from soar.policy.bundle import load_bundle
from soar.policy.person import Deed

from .house import House, ask

POLICIES = Path(__file__).parents[2] / "policies"
CUT = "steps:\n  - {id: cut, use: host.isolate, with: {host: h1}}\n"
RULES = (POLICIES / "people.rego").read_text()


def people(house: House, may: dict[str, list[str]], rules: str = RULES, **playbooks: dict[str, list[str]]) -> None:
    """Give the house the starters' rules about people, with these lists."""
    everybody = {deed.value: ["*"] for deed in Deed}
    folder = house.folder / "policies"
    (folder / "people.rego").write_text(rules)
    (folder / "data").mkdir(exist_ok=True)
    lists = {"may": {**everybody, **may}, "playbooks": playbooks}
    (folder / "data" / "people.yaml").write_text(json.dumps(lists))


DEEDS: dict[str, Callable[[House, str], Awaitable[object]]] = {
    "cancel": lambda house, run: house.control().cancel(run, reason="x"),
    "pause": lambda house, run: house.control().pause(run, reason="x"),
    "release": lambda house, run: house.control().release(run, reason="x"),
    "retry": lambda house, run: house.control().retry(run, reason="x"),
    "skip": lambda house, run: house.control().skip(run, "cut", reason="x"),
    "resolve": lambda house, run: house.control().resolve(run, happened=True, reason="x"),
    "undo": lambda house, run: house.control().undo(run),
    "halt": lambda house, run: house.control().halt(reason="x"),
    "resume": lambda house, run: house.control().resume(reason="x"),
    "approve": lambda house, run: house.vote("alice", "grant"),
    "deny": lambda house, run: house.vote("alice", "deny"),
}


@pytest.mark.parametrize("deed", DEEDS)
async def test_a_deed_that_is_not_allowed_changes_nothing_and_is_told(house: House, deed: str) -> None:
    house.policy(ask("soc-lead"))
    people(house, {deed: ["somebody-else"]})
    house.people(alice="soc-lead")
    house.playbook(CUT)
    await house.start()
    run = await house.go()
    before = await house.told()
    with pytest.raises(NotAllowedError, match=f"alice may not {deed}: alice is not among those who may {deed}"):
        await DEEDS[deed](house, run.id)
    (told,) = (await house.told())[len(before) :]
    assert (told["type"], told["actor"], told["data"]["deed"]) == ("person.refused", "person:alice", deed)
    assert told["body"]["question"]["person"] == {"name": "alice", "groups": ["soc-lead"], "channel": "cli"}
    assert (await house.run(run.id)).state is RunState.WAITING
    assert (await house.pending()).state is ApprovalState.PENDING
    assert await house.store.control(HALT) is None
    assert (await house.verify()).ok


async def test_a_name_or_a_group_on_the_list_is_enough(house: House) -> None:
    people(house, {"halt": ["soc-lead"], "resume": ["alice"]})
    house.people(alice="soc-lead", bob="soc")
    await house.start()
    await house.control().halt(reason="x")
    with pytest.raises(NotAllowedError):
        await house.control("bob").resume(reason="x")
    await house.control().resume(reason="x")


async def test_a_playbook_has_lists_of_its_own(house: House) -> None:
    house.policy(ask("soc-lead"))
    people(house, {}, careful={"approve": ["bob"], "suppress": []})
    house.people(alice="soc-lead", bob="soc-lead")
    house.playbook(CUT, "careful")
    await house.start()
    await house.go(rule="careful")
    with pytest.raises(NotAllowedError, match="runs of careful"):
        await house.grant("alice")
    await house.grant("bob")
    assert len(house.effects()) == 1
    suppressor = Suppressor(
        store=house.store, scribe=house.service.scribe, person="alice", authority=house.service.authority
    )
    since = house.clock.now()
    until = since + timedelta(hours=1)
    with pytest.raises(NotAllowedError):
        await suppressor.add(Trigger(), playbooks=["it", "careful"], since=since, until=until, reason="x")
    assert await house.store.suppressions() == []


UNDEFINED = RULES.replace("default allow := false", "").replace("allow if listed", 'allow if input.deed == "retry"')


async def test_where_policy_gives_no_answer_nobody_may_do_anything_but_stop(house: House) -> None:
    """The kill switch must not wait for somebody to mend a rule, nor a no to what is asked."""
    house.policy(ask("soc-lead"))
    people(house, {}, UNDEFINED)
    house.people(alice="soc-lead")
    house.playbook(CUT)
    await house.start()
    await house.go()
    with pytest.raises(NotAllowedError):
        await house.grant()
    await house.vote("alice", "deny")
    with pytest.raises(NotAllowedError, match=r"policy cannot say who may: .* is undefined"):
        await house.control().resume(reason="x")
    await house.control().halt(reason="x")
    assert await house.store.control(HALT) == "x"


async def test_a_bundle_whose_rules_about_people_do_not_answer_is_refused(house: House) -> None:
    people(house, {}, RULES.replace('"schema": "soar.permission/v1"', '"schema": "v2"'))
    with pytest.raises(PolicyError, match=r"people.rego: .*no permission document"):
        load_bundle(house.folder / "policies")
    (house.folder / "policies" / "people.rego").unlink()
    with pytest.raises(PolicyError, match=r"people.yaml: says who may do what, but there is no data.soar.people"):
        load_bundle(house.folder / "policies")


async def test_a_bundle_that_says_nothing_about_people_forbids_them_nothing(house: House) -> None:
    house.people(alice="soc-lead")
    await house.start()
    await house.control().halt(reason="x")
    await house.control().resume(reason="x")


def test_the_starters_say_what_people_may_do() -> None:
    assert load_bundle(POLICIES).rules_people
