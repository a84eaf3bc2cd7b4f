"""What people do to runs, and what happens when parts of the house are away."""

import pytest

from soar.errors import InputError, NotFoundError, StateConflictError
from soar.lab import Fault, Mode
from soar.model.approval import ApprovalState
from soar.model.run import RunState, StepState

from .house import House, ask

SAY = "{id: say, use: notify.send, with: {channel: soc, text: hello}}"
TWO = f"steps:\n  - {SAY}\n  - {{id: ticket, use: ticket.create, with: {{title: x}}}}\n"


async def start(house: House, text: str = TWO) -> None:
    house.playbook(text)
    await house.start()


async def test_nothing_is_sent_while_the_kill_switch_is_set_and_all_of_it_after(house: House) -> None:
    await start(house)
    await house.control().halt(reason="something is wrong")
    runs = [await house.go() for _ in range(5)]
    await house.pass_time(3600)
    await house.restart()
    await house.pass_time(3600)
    assert house.sent() == []
    assert {(await house.run(run.id)).state for run in runs} == {RunState.WAITING}
    assert await house.told(kind="action.intent") == []
    await house.control().resume(reason="all is well")
    await house.pass_time(10)
    assert {(await house.run(run.id)).state for run in runs} == {RunState.SUCCEEDED}
    assert len(house.effects()) == 10
    assert [e["type"] for e in await house.told(kind="halt")] == ["halt.set", "halt.cleared"]
    assert (await house.verify()).ok


async def test_the_kill_switch_also_stops_the_look_at_what_a_lost_answer_did(house: House) -> None:
    await start(house, "steps:\n  - {id: block, use: ip.block, with: {ip: 203.0.113.66}}\n")
    house.lab.faults.put("firewall", Fault(mode=Mode.SLOW, seconds=1, method="POST", times=1))
    admitted = await house.admit()
    await house.until_sent()
    house.lab.faults.put("firewall", Fault(mode=Mode.DROP_AFTER, method="POST", times=1))
    await house.control().halt(reason="now")
    await house.rest()
    await house.control().resume(reason="on")
    await house.pass_time(10)
    assert (await house.run(admitted.run_ids[0])).state is RunState.SUCCEEDED


async def test_a_halted_run_tells_so_once(house: House) -> None:
    """It asks neither policy nor the journal again and again while it waits for the switch."""
    await start(house)
    await house.control().halt(reason="wait")
    run = await house.go()
    for _ in range(5):
        await house.pass_time(10)
    assert [e["type"] for e in await house.told(run)] == ["run.created", "step.waiting"]


async def test_a_waiting_run_can_be_cancelled(house: House) -> None:
    await start(house, f"steps:\n  - wait: 1h\n  - {SAY}\n")
    run = await house.go()
    await house.control().cancel(run.id, reason="false alarm")
    await house.rest()
    await house.pass_time(3601)
    run = await house.run(run.id)
    assert (run.state, house.sent()) == (RunState.CANCELLED, [])
    with pytest.raises(StateConflictError):
        await house.control().cancel(run.id, reason="again")
    with pytest.raises(NotFoundError):
        await house.control().cancel("run-none", reason="x")


async def test_a_run_cancelled_under_way_sends_nothing_more(house: House) -> None:
    """What it has sent stays sent, with its outcome."""
    await start(house)
    house.lab.faults.put("chat", Fault(mode=Mode.SLOW, seconds=0.5))
    admitted = await house.admit()
    await house.until_sent()
    await house.control().cancel(admitted.run_ids[0], reason="stop")
    await house.rest()
    run = await house.run(admitted.run_ids[0])
    assert run.state is RunState.CANCELLED
    assert (await house.step(run, "say")).state is StepState.SUCCEEDED
    assert house.effects() == ["posted msg-1 to soc"]


async def test_a_cancelled_run_cancels_what_it_called(house: House) -> None:
    house.called(f"steps:\n  - wait: 1h\n  - {SAY}\n", "inner")
    await start(house, "steps:\n  - call: inner\n")
    run = await house.go()
    await house.control().cancel(run.id, reason="stop")
    await house.rest()
    child = await house.the_run("inner")
    assert (child.state, (await house.run(run.id)).state) == (RunState.CANCELLED, RunState.CANCELLED)


async def test_a_run_in_review_can_be_cancelled(house: House) -> None:
    await start(house)
    house.lab.faults.put("chat", Fault(mode=Mode.DROP_AFTER, times=1))
    run = await house.go()
    await house.control().cancel(run.id, reason="leave it")
    await house.rest()
    assert (await house.run(run.id)).state is RunState.CANCELLED
    (attempt, *_) = await house.store.attempts(run.id)
    assert attempt.state.value == "unknown"


async def test_a_run_cancelled_before_its_review_sends_nothing_after_it(house: House) -> None:
    """Saying what happened is no word that the run shall go on."""
    await start(house, TWO.replace("{id: say,", "{id: say, timeout: 500ms,"))
    house.lab.faults.put("chat", Fault(mode=Mode.SLOW, seconds=2, times=1))
    admitted = await house.admit()
    await house.until_sent()
    await house.control().cancel(admitted.run_ids[0], reason="stop")
    await house.rest()
    run = await house.run(admitted.run_ids[0])
    assert run.state is RunState.NEEDS_REVIEW
    await house.control().resolve(run.id, happened=True, reason="seen")
    await house.rest()
    assert ((await house.run(run.id)).state, len(house.sent())) == (RunState.CANCELLED, 1)


async def test_a_retry_does_again_what_failed_and_nothing_else(house: House) -> None:
    await start(house)
    house.lab.faults.put("desk", Fault(mode=Mode.UNAUTHORIZED, times=1))
    run = await house.go()
    assert run.state is RunState.FAILED
    assert await house.control().retry(run.id, reason="token renewed") == ["ticket"]
    await house.rest()
    assert (await house.run(run.id)).state is RunState.SUCCEEDED
    assert house.effects() == ["posted msg-1 to soc", "opened ticket DESK-1"]
    with pytest.raises(StateConflictError):
        await house.control().retry(run.id, reason="again")


async def test_unknown_outcomes_are_resolved_one_by_one_or_together(house: House) -> None:
    await start(
        house,
        "steps:\n  - parallel:\n"
        + "".join(f"      - {SAY.replace('id: say', f'id: {name}')}\n" for name in ("a", "b")),
    )
    house.lab.faults.put("chat", Fault(mode=Mode.DROP_AFTER, times=2))
    run = await house.go()
    assert run.state is RunState.NEEDS_REVIEW
    with pytest.raises(InputError):
        await house.control().resolve(run.id, happened=True, reason="x", path="none")
    assert await house.control().resolve(run.id, happened=True, reason="seen", path="0.1.b") == ["0.1.b"]
    await house.rest()
    assert (await house.run(run.id)).state is RunState.NEEDS_REVIEW
    assert await house.control().resolve(run.id, happened=True, reason="seen") == ["0.0.a"]
    await house.rest()
    assert (await house.run(run.id)).state is RunState.SUCCEEDED
    assert len(house.sent()) == 2


async def test_without_a_decision_nothing_is_sent_and_runs_go_on_by_themselves(house: House) -> None:
    await start(house)
    await house.running.gate.close()
    run = await house.go()
    await house.pass_time(3600)
    assert (run.state, house.sent()) == (RunState.WAITING, [])
    assert (await house.step(run, "say")).data["phase"] == "policy"
    assert len(await house.told(run, "step.waiting")) == 1
    await house.restart()
    await house.pass_time(6)
    assert (await house.run(run.id)).state is RunState.SUCCEEDED


async def test_an_undefined_decision_is_a_denial(house: House) -> None:
    house.policy(ask("soc-lead").replace('default effect := "allow"', 'effect := "allow" if input.action.verb == "x"'))
    house.playbook(TWO)
    with pytest.raises(InputError):
        await house.start()


async def test_limits_hold_however_many_runs_ask_at_once(house: House) -> None:
    """Each decision sees every intent before it, so a limit of five is five, not five times fifty."""
    limit = """
default effect := "allow"

effect := "deny" if input.counters.connector[input.action.connector].hour >= 5
"""
    house.policy(ask("soc-lead").partition("\ndefault effect")[0].replace("obligations,", "[],") + limit)
    house.playbook('steps:\n  - {id: cut, use: host.isolate, with: {host: "${{ alert.raw.host }}"}}\n')
    await house.start()
    await house.running.admit([house.record(host=f"h{number}") for number in range(40)])
    await house.rest()
    assert len(house.effects()) == 5
    assert (await house.store.counts()).runs == {"succeeded": 5, "denied": 35}
    await house.pass_time(3601)
    await house.go(host="later")
    assert len(house.effects()) == 6


async def test_tries_of_one_action_count_once_and_not_against_itself(house: House) -> None:
    limit = """
default effect := "allow"

effect := "deny" if input.counters.target["host:h1"].hour >= 1
"""
    house.policy(ask("soc-lead").partition("\ndefault effect")[0].replace("obligations,", "[],") + limit)
    house.playbook("steps:\n  - {id: cut, use: host.isolate, with: {host: h1}}\n")
    await house.start()
    house.lab.faults.put("edr", Fault(mode=Mode.RATE_LIMITED, times=2))
    run = await house.go()
    for _ in range(2):
        await house.pass_time(61)
    assert (await house.run(run.id)).state is RunState.SUCCEEDED
    assert (await house.go()).state is RunState.DENIED


async def test_people_are_asked_in_order_of_urgency_not_starved_by_waiting_runs(house: House) -> None:
    """A thousand runs that wait for people hold no worker."""
    house.policy(ask("soc-lead"))
    house.playbook('steps:\n  - {id: cut, use: host.isolate, with: {host: "${{ alert.raw.host }}"}}\n')
    house.playbook(f"steps:\n  - {SAY}\n", "quick")
    await house.start()
    await house.running.admit([house.record(host=f"h{number}") for number in range(150)])
    await house.rest()
    assert (await house.store.counts()).approvals == {"pending": 150}
    assert (await house.go(rule="quick")).state is RunState.SUCCEEDED
    assert len(await house.store.approvals(state=ApprovalState.PENDING, limit=1000)) == 150
