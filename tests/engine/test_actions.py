"""One action: what stands in the journal around what reached the lab."""

import pytest

from soar.lab import Fault, Mode
from soar.model.action import AttemptState
from soar.model.run import RunState, StepState

from .house import DENY_CONTAIN, House

TICKET = '{id: ticket, use: ticket.create, with: {title: "${{ alert.title }}"}}'
ISOLATE = "{id: isolate, use: host.isolate, with: {host: ws-17}}"
SAY = "{id: say, use: notify.send, with: {channel: soc, text: hello}}"
BLOCK = "{id: block, use: ip.block, with: {ip: 203.0.113.66}}"


async def start(house: House, *steps: str, rest: str = "") -> None:
    house.playbook("steps:\n" + "".join(f"  - {step}\n" for step in steps) + rest)
    await house.start()


async def test_the_journal_says_decision_then_intent_then_outcome_for_each_action(house: House) -> None:
    await start(house, TICKET, ISOLATE)
    run = await house.go()
    assert run.state is RunState.SUCCEEDED
    told = [(e["type"], e["subject"]) for e in await house.told(run) if e["subject"] in {"ticket", "isolate"}]
    assert told == [
        (kind, path) for path in ("ticket", "isolate") for kind in ("policy.decided", "action.intent", "action.outcome")
    ]
    assert house.effects() == ["opened ticket DESK-1", "isolated host ws-17"]
    assert (await house.verify()).ok


async def test_what_an_alert_says_is_never_evaluated(house: House) -> None:
    """Also not in an undo, nor in a sub-run that hands it on."""
    evil = "${{ run.id }} ${{ alert.title }} $${{ vars }}"
    house.called(
        "inputs: {type: object, properties: {text: {type: string}}}\n"
        'steps:\n  - {id: ticket, use: ticket.create, with: {title: "${{ vars.text }}"}}\n',
        "inner",
    )
    host = "h-${{ alert.title }}"
    await start(
        house,
        '{call: inner, with: {text: "${{ alert.title }}"}}',
        '{id: cut, use: host.isolate, with: {host: "${{ alert.entities.hosts[0].name }}"},'
        " undo: {use: host.release, after: 1h}}",
    )
    run = await house.go(title=evil, hostname=host)
    assert run.state is RunState.SUCCEEDED, run.error
    await house.pass_time(3601)
    assert house.sent("POST")[0]["body"]["title"] == evil
    assert house.effects()[1:] == [f"isolated host {host}", f"released host {host}"]


async def test_a_denied_action_is_not_sent(house: House) -> None:
    house.policy(DENY_CONTAIN)
    await start(house, TICKET, ISOLATE)
    run = await house.go()
    assert run.state is RunState.DENIED
    assert (await house.step(run, "isolate")).error_code == "policy_denied"
    assert house.effects() == ["opened ticket DESK-1"]


async def test_a_lost_answer_of_a_keyed_action_is_asked_for_again_with_the_same_key(house: House) -> None:
    await start(house, TICKET)
    house.lab.faults.put("desk/tickets", Fault(mode=Mode.DROP_AFTER, times=2))
    run = await house.go()
    assert (await house.step(run, "ticket")).data["phase"] == "retry"
    for _ in range(2):
        await house.pass_time(61)
    run = await house.run(run.id)
    assert run.state is RunState.SUCCEEDED, run.error
    assert house.effects() == ["opened ticket DESK-1"]
    assert len({line["idempotency_key"] for line in house.sent()}) == 1
    assert len(house.sent()) == 3
    states = [attempt.state for attempt in await house.store.attempts(run.id)]
    assert states == [AttemptState.UNKNOWN, AttemptState.UNKNOWN, AttemptState.SUCCEEDED]


async def test_a_lost_answer_of_an_unsafe_action_is_never_asked_for_again(house: House) -> None:
    await start(house, SAY, TICKET)
    house.lab.faults.put("chat", Fault(mode=Mode.DROP_AFTER, times=1))
    run = await house.go()
    assert run.state is RunState.NEEDS_REVIEW
    assert (await house.step(run, "say")).state is StepState.UNKNOWN
    await house.pass_time(86400)
    await house.restart()
    await house.rest()
    assert (await house.run(run.id)).state is RunState.NEEDS_REVIEW
    assert house.effects() == ["posted msg-1 to soc"]


async def test_a_lost_answer_of_a_verifiable_action_is_looked_up(house: House) -> None:
    """Nothing is sent twice, and the look is in the journal like any action."""
    await start(house, BLOCK.replace("}}", "}, undo: {use: ip.unblock, after: 1h}}"))
    house.lab.faults.put("firewall", Fault(mode=Mode.DROP_AFTER, method="POST", times=1))
    run = await house.go()
    assert run.state is RunState.SUCCEEDED, run.error
    assert (await house.step(run, "block")).result == {"ip": "203.0.113.66", "blocked": True}
    assert len(house.sent("POST")) == 1
    kinds = [e["type"] for e in await house.told(run) if e["subject"] == "block.readback[0]"]
    assert kinds[:3] == ["policy.decided", "action.intent", "action.outcome"]
    await house.pass_time(3601)
    assert house.lab.snapshot()["firewall"]["rules"] == {} or not house.lab.snapshot()["firewall"]["rules"]


async def test_what_a_read_back_does_not_find_is_looked_for_again_and_then_left_to_a_person(house: House) -> None:
    await start(house, BLOCK)
    house.lab.faults.put("firewall", Fault(mode=Mode.DROP_BEFORE, method="POST", times=1))
    run = await house.go()
    assert run.state is RunState.WAITING
    for seconds in (6, 31, 121):
        assert (await house.run(run.id)).state is RunState.WAITING
        await house.pass_time(seconds)
    run = await house.run(run.id)
    assert run.state is RunState.NEEDS_REVIEW
    assert len(house.sent("GET")) == 4
    assert len(house.sent("POST")) == 1
    await house.control().resolve(run.id, happened=False, reason="no rule there")
    await house.rest()
    assert (await house.run(run.id)).state is RunState.FAILED
    await house.control().retry(run.id, reason="again")
    await house.rest()
    assert (await house.run(run.id)).state is RunState.SUCCEEDED
    assert len(house.lab.snapshot()["firewall"]["rules"]) == 1


async def test_a_failure_before_sending_is_tried_again_even_if_unsafe(house: House) -> None:
    await start(house, SAY)
    port = int(house.lab.url.rpartition(":")[2])
    await house.lab.stop()
    run = await house.go()
    assert (await house.step(run, "say")).data["phase"] == "retry"
    house.lab._port = port
    await house.lab.start()
    await house.pass_time(61)
    assert (await house.run(run.id)).state is RunState.SUCCEEDED
    assert house.effects() == ["posted msg-1 to soc"]


async def test_a_retry_waits_as_long_as_the_other_side_asks(house: House) -> None:
    await start(house, TICKET)
    house.lab.faults.put("desk", Fault(mode=Mode.RATE_LIMITED, retry_after=600, times=1))
    run = await house.go()
    await house.pass_time(590)
    assert len(house.sent()) == 1
    await house.pass_time(11)
    assert (await house.run(run.id)).state is RunState.SUCCEEDED
    assert len(house.sent()) == 2


async def test_retries_end_and_are_counted(house: House) -> None:
    await start(house, TICKET.replace('}}"}}', '}}"}, retry: {attempts: 2, backoff: {from: 1s, to: 1s}}}'))
    house.lab.faults.put("desk", Fault(mode=Mode.RATE_LIMITED, retry_after=1))
    run = await house.go()
    await house.pass_time(5)
    run = await house.run(run.id)
    assert (run.state, len(house.sent())) == (RunState.FAILED, 2)
    house.lab.faults.clear()
    house.lab.faults.put("desk", Fault(mode=Mode.RATE_LIMITED, retry_after=1, times=1))
    await house.control().retry(run.id, reason="a person grants a new round")
    await house.rest()
    await house.pass_time(5)  # the last answer asked everybody to wait
    await house.pass_time(5)
    assert (await house.run(run.id)).state is RunState.SUCCEEDED


async def test_what_the_playbook_does_not_retry_fails_at_once(house: House) -> None:
    await start(house, TICKET.replace('}}"}}', '}}"}, retry: {on: [timeout]}}'))
    house.lab.faults.put("desk", Fault(mode=Mode.RATE_LIMITED, times=1))
    assert (await house.go()).state is RunState.FAILED
    assert len(house.sent()) == 1


async def test_a_step_has_its_own_deadline(house: House) -> None:
    await start(house, SAY.replace("hello}}", "hello}, timeout: 300ms}"))
    house.lab.faults.put("chat", Fault(mode=Mode.SLOW, seconds=30))
    run = await house.go()
    assert run.state is RunState.NEEDS_REVIEW
    assert len(house.sent()) == 1


@pytest.mark.parametrize("happened", [True, False])
async def test_a_person_says_what_became_of_an_unknown_outcome(house: House, happened: bool) -> None:
    await start(
        house, SAY.replace("hello}}", "hello}, on_error: continue}"), '{set: {ok: "${{ steps.say.ok }}"}}',
        rest='outputs: {said: "${{ vars.ok }}"}\n',
    )  # fmt: skip
    house.lab.faults.put("chat", Fault(mode=Mode.DROP_AFTER, times=1))
    run = await house.go()
    assert await house.control().resolve(run.id, happened=happened, reason="I looked") == ["say"]
    await house.rest()
    run = await house.run(run.id)
    assert (run.state, run.outputs) == (RunState.SUCCEEDED, {"said": happened})
    assert len(house.sent()) == 1
    (attempt,) = await house.store.attempts(run.id)
    assert attempt.state is (AttemptState.SUCCEEDED if happened else AttemptState.FAILED)
    outcomes = await house.told(run, "action.outcome")
    assert [e["data"]["state"] for e in outcomes] == ["unknown", attempt.state.value]
    assert outcomes[1]["actor"] == "person:alice"


async def test_what_a_person_says_happened_is_still_taken_back_in_time(house: House) -> None:
    """Containment expires by itself whoever found out that it was there."""
    await start(house, BLOCK.replace("}}", "}, undo: {use: ip.unblock, after: 1h}}"))
    house.lab.faults.put("firewall", Fault(mode=Mode.DROP_AFTER, method="POST", times=1))
    house.lab.faults.put("firewall/rules", Fault(mode=Mode.DROP_AFTER))
    run = await house.go()
    for _ in range(40):
        if (await house.run(run.id)).state is not RunState.WAITING:
            break
        await house.pass_time(61)
    assert (await house.run(run.id)).state is RunState.NEEDS_REVIEW
    house.lab.faults.clear()
    await house.control().resolve(run.id, happened=True, reason="the rule is there")
    await house.rest()
    assert (await house.run(run.id)).state is RunState.SUCCEEDED
    assert len(house.lab.snapshot()["firewall"]["rules"]) == 1
    await house.pass_time(3601)
    assert not house.lab.snapshot()["firewall"]["rules"]


async def test_an_undo_that_cannot_be_rendered_fails_the_step_before_it_is_sent(house: House) -> None:
    await start(
        house,
        "{id: cut, use: host.isolate, with: {host: ws-17},"
        ' undo: {use: host.release, after: 1h, with: {host: "${{ length(alert.title.no) }}"}}}',
    )
    run = await house.go()
    assert run.state is RunState.FAILED
    assert house.sent() == []
    assert await house.store.attempts(run.id) == []


async def test_verification_looks_until_the_effect_is_there(house: House) -> None:
    await start(
        house,
        "{id: isolate, use: host.isolate, with: {host: ws-17},"
        " verify: {use: host.status, until: result.isolated, within: 5m, every: 10s}}",
    )
    house.lab.faults.put("edr/hosts/ws-17", Fault(mode=Mode.ERROR, method="GET", status=404, times=2))
    run = await house.go()
    assert run.state is RunState.WAITING
    await house.pass_time(11)
    await house.pass_time(11)
    run = await house.run(run.id)
    assert run.state is RunState.SUCCEEDED, run.error
    assert len(house.sent("GET")) == 3
    assert len(house.sent("POST")) == 1


async def test_an_effect_that_never_shows_fails_and_a_retry_does_it_again(house: House) -> None:
    await start(
        house,
        "{id: isolate, use: host.isolate, with: {host: ws-17},"
        " verify: {use: host.status, until: result.never, within: 1m, every: 20s}}",
    )
    run = await house.go()
    for _ in range(4):
        await house.pass_time(21)
    run = await house.run(run.id)
    assert run.state is RunState.FAILED
    assert (await house.step(run, "isolate")).error_code == "not_verified"
    await house.control().retry(run.id, reason="again")
    await house.rest()
    assert len(house.sent("POST")) == 2
    assert (await house.run(run.id)).state is RunState.WAITING


async def test_an_effect_is_taken_back_after_its_time_and_only_then(house: House) -> None:
    await start(house, ISOLATE.replace("}}", "}, undo: {use: host.release, after: 24h}}"))
    run = await house.go()
    await house.pass_time(23 * 3600)
    assert house.effects() == ["isolated host ws-17"]
    await house.restart()
    await house.pass_time(3601)
    assert house.effects() == ["isolated host ws-17", "released host ws-17"]
    (undo,) = await house.store.runs(parent=(run.id, "isolate"))
    assert undo.state is RunState.SUCCEEDED


async def test_an_undo_by_hand_comes_instead_of_the_one_in_time_not_besides(house: House) -> None:
    await start(house, ISOLATE.replace("}}", "}, undo: {use: host.release, after: 24h}}"), TICKET)
    run = await house.go()
    (name,) = await house.control().undo(run.id)
    await house.rest()
    assert (await house.run(name)).state is RunState.SUCCEEDED
    with pytest.raises(Exception, match="nothing in it"):
        await house.control().undo(run.id)
    await house.pass_time(25 * 3600)
    assert [line["path"] for line in house.sent("POST")].count("/hosts/ws-17/release") == 1


async def test_what_was_done_is_taken_back_by_hand_last_done_first(house: House) -> None:
    await start(
        house, ISOLATE, BLOCK, "{id: out, use: account.disable, with: {user: ann}, undo: {use: account.enable}}"
    )
    run = await house.go()
    names = await house.control().undo(run.id)
    assert [(await house.run(name)).parent_path for name in names] == ["out", "block", "isolate"]
    await house.rest()
    assert len(house.effects()) == 6
    assert {(await house.run(name)).state for name in names} == {RunState.SUCCEEDED}


async def test_shadow_sends_nothing_but_reads_not_even_through_a_live_sub_playbook(house: House) -> None:
    house.called(f"steps:\n  - {TICKET}\n", "inner")
    house.playbook(
        "mode: shadow\nsteps:\n"
        "  - {id: known, use: ioc.lookup, with: {type: ip, value: 203.0.113.66}}\n"
        f"  - {ISOLATE}\n  - {{call: inner}}\n"
    )
    await house.start()
    run = await house.go()
    assert run.state is RunState.SUCCEEDED
    assert [line["system"] for line in house.sent()] == ["intel"]
    assert (await house.step(run, "isolate")).state is StepState.SKIPPED


async def test_a_value_that_the_action_does_not_take_fails_before_anything_is_sent(house: House) -> None:
    """A number beyond 2**53 has no digest that every JSON reader agrees on, so no approval could be bound to it."""
    await start(house, TICKET.replace("alert.title", "alert.raw.items"))
    run = await house.go(items=[2**60])
    assert run.state is RunState.FAILED
    assert house.sent() == []
