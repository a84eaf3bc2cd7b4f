"""People hold a run, let it go on, do it again from a step, and skip a step."""

import pytest

from soar.errors import InputError, NotFoundError, StateConflictError
from soar.lab import Fault, Mode
from soar.model.action import AttemptState
from soar.model.approval import ApprovalState
from soar.model.run import Run, RunState, StepState

from .house import House, ask

SAY = "{id: say, use: notify.send, with: {channel: soc, text: hello}}"
TICKET = "{id: ticket, use: ticket.create, with: {title: x}}"
CUT = "{id: cut, use: host.isolate, with: {host: h1}}"


async def start(house: House, *steps: str, more: str = "") -> None:
    house.playbook("steps:\n" + "".join(f"  - {step}\n" for step in steps) + more)
    await house.start()


async def failing(house: House, room: str = "desk", times: int = 1) -> None:
    house.lab.faults.put(room, Fault(mode=Mode.UNAUTHORIZED, times=times))


async def stands(house: House, run: Run) -> tuple[RunState, bool]:
    found = await house.run(run.id)
    return found.state, found.paused


# -- pause and resume -------------------------------------------------------------------------------------------


async def test_a_paused_run_does_not_go_on_when_its_time_comes_and_does_when_it_is_resumed(house: House) -> None:
    await start(house, "wait: 1h", SAY)
    run = await house.go()
    assert await house.control().pause(run.id, reason="wait for me") == [run.id]
    assert await stands(house, run) == (RunState.WAITING, True)
    await house.pass_time(3601)
    await house.restart()
    await house.pass_time(3601)
    assert (house.sent(), (await house.run(run.id)).paused) == ([], True)
    assert await house.control().release(run.id, reason="go") == [run.id]
    await house.rest()
    assert await stands(house, run) == (RunState.SUCCEEDED, False)
    assert len(house.effects()) == 1
    told = await house.told(run, "run.")
    assert [(e["type"], e["actor"], e["body"]["reason"]) for e in told[1:3]] == [
        ("run.paused", "person:alice", "wait for me"),
        ("run.resumed", "person:alice", "go"),
    ]
    assert (await house.verify()).ok


async def test_a_timer_that_was_not_due_still_holds_after_a_resume(house: House) -> None:
    await start(house, "wait: 1h", SAY)
    run = await house.go()
    await house.control().pause(run.id, reason="x")
    await house.control().release(run.id, reason="y")
    await house.rest()
    assert await stands(house, run) == (RunState.WAITING, False)
    await house.pass_time(3000)
    assert house.sent() == []
    await house.pass_time(601)
    assert await stands(house, run) == (RunState.SUCCEEDED, False)


async def test_people_may_decide_while_a_run_is_paused_and_nothing_is_sent_before_it_is_resumed(house: House) -> None:
    house.policy(ask("soc-lead"))
    await start(house, CUT)
    run = await house.go()
    await house.control().pause(run.id, reason="x")
    assert (await house.grant()).state is ApprovalState.GRANTED
    assert house.sent() == []
    await house.control().release(run.id, reason="y")
    await house.rest()
    assert ((await house.run(run.id)).state, len(house.effects())) == (RunState.SUCCEEDED, 1)


async def test_a_run_paused_under_way_stops_before_its_next_intent(house: House) -> None:
    """What is on its way gets its outcome; nothing follows it, until the run is resumed."""
    await start(house, SAY, TICKET)
    house.lab.faults.put("chat", Fault(mode=Mode.SLOW, seconds=0.5))
    admitted = await house.admit()
    await house.until_sent()
    run = await house.run(admitted.run_ids[0])
    await house.control().pause(run.id, reason="stop")
    await house.rest()
    assert await stands(house, run) == (RunState.WAITING, True)
    assert (await house.step(run, "say")).state is StepState.SUCCEEDED
    assert len(await house.told(run, "action.intent")) == 1
    await house.pass_time(3600)
    assert len(house.sent()) == 1
    await house.control().release(run.id, reason="go")
    await house.rest()
    assert (await house.run(run.id)).state is RunState.SUCCEEDED
    assert house.effects() == ["posted msg-1 to soc", "opened ticket DESK-1"]


async def test_a_run_paused_and_resumed_under_way_loses_no_time(house: House) -> None:
    await start(house, SAY, TICKET)
    house.lab.faults.put("chat", Fault(mode=Mode.SLOW, seconds=0.5))
    admitted = await house.admit()
    await house.until_sent()
    await house.control().pause(admitted.run_ids[0], reason="stop")
    await house.control().release(admitted.run_ids[0], reason="go")
    await house.rest()
    assert (await house.run(admitted.run_ids[0])).state is RunState.SUCCEEDED


async def test_sub_runs_are_paused_and_resumed_with_who_called_them(house: House) -> None:
    house.called(f"steps:\n  - wait: 1h\n  - {SAY}\n", "inner")
    await start(house, "call: inner", TICKET)
    run = await house.go()
    child = await house.the_run("inner")
    assert await house.control().pause(run.id, reason="x") == [run.id, child.id]
    await house.pass_time(3601)
    assert house.sent() == []
    assert await house.control().release(run.id, reason="y") == [run.id, child.id]
    await house.rest()
    assert ((await house.run(run.id)).state, len(house.effects())) == (RunState.SUCCEEDED, 2)


async def test_a_run_paused_under_way_begins_no_sub_run(house: House) -> None:
    house.called(f"steps:\n  - {TICKET}\n", "inner")
    await start(house, SAY, "call: inner")
    house.lab.faults.put("chat", Fault(mode=Mode.SLOW, seconds=0.5))
    admitted = await house.admit()
    await house.until_sent()
    await house.control().pause(admitted.run_ids[0], reason="stop")
    await house.rest()
    assert await house.store.runs(playbook_id="inner") == []
    await house.control().release(admitted.run_ids[0], reason="go")
    await house.rest()
    assert (await house.the_run("inner")).state is RunState.SUCCEEDED


async def test_a_paused_run_can_be_cancelled_and_one_that_ended_cannot_be_paused(house: House) -> None:
    await start(house, "wait: 1h", SAY)
    run = await house.go()
    with pytest.raises(StateConflictError, match="not paused"):
        await house.control().release(run.id, reason="x")
    await house.control().pause(run.id, reason="x")
    with pytest.raises(StateConflictError, match="paused already"):
        await house.control().pause(run.id, reason="x")
    await house.control().cancel(run.id, reason="x")
    await house.rest()
    assert await stands(house, run) == (RunState.CANCELLED, False)
    with pytest.raises(StateConflictError, match="cancelled already"):
        await house.control().pause(run.id, reason="x")
    with pytest.raises(NotFoundError):
        await house.control().pause("run-none", reason="x")


async def test_a_paused_run_that_waits_for_its_lock_does_not_hold_up_those_behind_it(house: House) -> None:
    house.playbook(f"steps:\n  - wait: 1h\n  - {SAY}\nlock: rule.name\n")
    await house.start()
    first = await house.go()
    second, third = [(await house.admit()).run_ids[0] for _ in range(2)]
    await house.control().pause(second, reason="x")
    await house.pass_time(3601)
    assert (await house.run(first.id)).state is RunState.SUCCEEDED
    await house.pass_time(3601)
    assert (await house.run(third)).state is RunState.SUCCEEDED
    await house.control().release(second, reason="y")
    await house.pass_time(1)
    await house.pass_time(3601)
    assert (await house.run(second)).state is RunState.SUCCEEDED


async def test_an_action_that_waits_for_review_stays_paused_when_it_is_resolved(house: House) -> None:
    await start(house, SAY, TICKET)
    house.lab.faults.put("chat", Fault(mode=Mode.DROP_AFTER, times=1))
    run = await house.go()
    await house.control().pause(run.id, reason="x")
    await house.control().resolve(run.id, happened=True, reason="seen")
    await house.rest()
    assert (await stands(house, run), len(house.sent())) == ((RunState.READY, True), 1)
    await house.control().release(run.id, reason="y")
    await house.rest()
    assert (await house.run(run.id)).state is RunState.SUCCEEDED


# -- retry from a step ------------------------------------------------------------------------------------------


async def test_a_retry_from_a_step_keeps_what_came_before_it_and_does_all_after_it_again(house: House) -> None:
    await start(house, SAY, f"{{id: many, foreach: '[`1`, `2`]', do: [{CUT}]}}", TICKET)
    await failing(house)
    run = await house.go()
    assert run.state is RunState.FAILED
    again = await house.control().retry(run.id, reason="x", start="many")
    assert again == ["many", "many.do[0].cut", "many.do[1].cut", "ticket"]
    await house.rest()
    assert (await house.run(run.id)).state is RunState.SUCCEEDED
    assert len([a for a in await house.store.attempts(run.id) if a.path == "many.do[1].cut"]) == 2
    assert len([a for a in await house.store.attempts(run.id) if a.path == "say"]) == 1
    (told,) = await house.told(run, "run.retried")
    assert told["body"] == {"reason": "x", "from": "many"}


async def test_an_action_that_took_effect_is_only_repeated_if_the_person_says_so(house: House) -> None:
    """A message cannot be recognised as a repeat, so a second one would simply be sent."""
    await start(house, SAY, TICKET, more=f"on_error:\n  - {SAY.replace('id: say', 'id: tell')}\n")
    await failing(house)
    run = await house.go()
    assert len(house.effects()) == 2
    with pytest.raises(InputError, match=r"would repeat what took effect: say; .*--yes-again"):
        await house.control().retry(run.id, reason="x", start="say")
    assert (await house.run(run.id)).state is RunState.FAILED
    await house.control().retry(run.id, reason="x", start="say", repeat=True)
    await house.rest()
    assert (await house.run(run.id)).state is RunState.SUCCEEDED
    assert house.effects() == [f"posted msg-{n} to soc" for n in (1, 2, 3)] + ["opened ticket DESK-1"]
    (told,) = await house.told(run, "run.retried")
    assert told["body"]["repeats"] == ["say"]


async def test_a_sub_run_that_is_begun_anew_counts_as_a_repeat_of_what_it_sent(house: House) -> None:
    house.called(f"steps:\n  - {SAY}\n  - {TICKET}\n", "inner")
    await start(house, "{id: sub, call: inner}")
    await failing(house)
    run = await house.go()
    child = await house.the_run("inner")
    with pytest.raises(InputError, match=f"sub: say of {child.id}"):
        await house.control().retry(run.id, reason="x")
    await house.control().retry(run.id, reason="x", repeat=True)
    await house.rest()
    assert (await house.run(run.id)).state is RunState.SUCCEEDED


async def test_a_retry_starts_from_one_of_the_playbooks_own_steps_that_the_run_has_come_to(house: House) -> None:
    await start(house, TICKET, SAY)
    await failing(house)
    run = await house.go()
    with pytest.raises(InputError, match=r"no step 'other' of its own; .* one of ticket, say"):
        await house.control().retry(run.id, reason="x", start="other")
    with pytest.raises(InputError, match="has not come to step 'say'"):
        await house.control().retry(run.id, reason="x", start="say")


# -- skip -------------------------------------------------------------------------------------------------------


async def test_a_failed_step_is_skipped_by_a_person_and_the_run_goes_on(house: House) -> None:
    await start(house, SAY, TICKET, "{id: after, set: {told: '${{ steps.ticket.state }}'}}",
                more="outputs: {told: '${{ vars.told }}'}\n")  # fmt: skip
    await failing(house)
    run = await house.go()
    await house.control().skip(run.id, "ticket", reason="opened by hand")
    await house.rest()
    run = await house.run(run.id)
    assert (run.state, run.outputs) == (RunState.SUCCEEDED, {"told": "skipped"})
    record = await house.step(run, "ticket")
    assert (record.state, record.error_code) == (StepState.SKIPPED, "skipped_by_person")
    assert house.effects() == ["posted msg-1 to soc"]
    (told,) = await house.told(run, "step.skipped")
    assert (told["actor"], told["subject"], told["body"]) == ("person:alice", "ticket", {"reason": "opened by hand"})
    assert (await house.verify()).ok


async def test_what_a_person_skipped_stays_skipped_when_the_run_is_retried(house: House) -> None:
    await start(house, TICKET, TICKET.replace("id: ticket", "id: other"))
    await failing(house, times=2)
    run = await house.go()
    await house.control().skip(run.id, "ticket", reason="x")
    await house.rest()
    assert (await house.run(run.id)).state is RunState.FAILED
    assert await house.control().retry(run.id, reason="x") == ["other"]
    await house.rest()
    assert (await house.run(run.id)).state is RunState.SUCCEEDED
    assert house.effects() == ["opened ticket DESK-1"]


async def test_a_denied_step_is_skipped_too(house: House) -> None:
    house.policy(ask("soc-lead"))
    await start(house, CUT, SAY)
    run = await house.go()
    await house.vote("alice", "deny", reason="no")
    assert (await house.run(run.id)).state is RunState.DENIED
    await house.control().skip(run.id, "cut", reason="x")
    await house.rest()
    assert (await house.run(run.id)).state is RunState.SUCCEEDED
    assert house.effects() == ["posted msg-1 to soc"]


async def test_a_step_that_waits_for_people_is_skipped_and_they_are_asked_no_more(house: House) -> None:
    house.policy(ask("soc-lead"))
    await start(house, CUT, SAY)
    run = await house.go()
    approval = await house.pending()
    await house.control().skip(run.id, "cut", reason="x")
    await house.rest()
    assert (await house.run(run.id)).state is RunState.SUCCEEDED
    after = await house.store.approval(approval.id)
    assert after is not None
    assert after.state is ApprovalState.CANCELLED
    assert house.effects() == ["posted msg-1 to soc"]


async def test_a_call_that_is_skipped_cancels_its_sub_run(house: House) -> None:
    house.called(f"steps:\n  - wait: 1h\n  - {SAY}\n", "inner")
    await start(house, "{id: sub, call: inner}", TICKET)
    run = await house.go()
    await house.control().skip(run.id, "sub", reason="x")
    await house.rest()
    assert ((await house.run(run.id)).state, house.effects()) == (RunState.SUCCEEDED, ["opened ticket DESK-1"])
    assert (await house.the_run("inner")).state is RunState.CANCELLED


async def test_a_skipped_action_of_unknown_outcome_stays_visibly_unknown_and_is_not_sent_again(house: House) -> None:
    await start(house, SAY, TICKET)
    house.lab.faults.put("chat", Fault(mode=Mode.DROP_AFTER, times=1))
    run = await house.go()
    assert run.state is RunState.NEEDS_REVIEW
    await house.control().skip(run.id, "say", reason="does not matter")
    await house.rest()
    assert (await house.run(run.id)).state is RunState.SUCCEEDED
    (attempt,) = [a for a in await house.store.attempts(run.id) if a.path == "say"]
    assert attempt.state is AttemptState.UNKNOWN
    assert len(house.effects()) == 2


async def test_a_timer_is_skipped_of_a_paused_run_which_stays_paused(house: House) -> None:
    await start(house, "{id: nap, wait: 1h}", SAY)
    run = await house.go()
    await house.control().pause(run.id, reason="x")
    await house.control().skip(run.id, "nap", reason="x")
    await house.rest()
    assert (house.sent(), (await house.run(run.id)).paused) == ([], True)
    await house.control().release(run.id, reason="x")
    await house.rest()
    assert (await house.run(run.id)).state is RunState.SUCCEEDED


async def test_only_what_stands_still_and_is_not_done_can_be_skipped(house: House) -> None:
    await start(house, SAY, TICKET)
    await failing(house)
    run = await house.go()
    for path in ("say", "none", "0"):
        with pytest.raises(InputError, match="that can be skipped; it has ticket"):
            await house.control().skip(run.id, path, reason="x")
    await house.control().retry(run.id, reason="x")
    await house.rest()
    with pytest.raises(StateConflictError, match="succeeded"):
        await house.control().skip(run.id, "ticket", reason="x")


async def test_a_step_in_a_workers_hands_is_not_skipped(house: House) -> None:
    await start(house, SAY)
    house.lab.faults.put("chat", Fault(mode=Mode.SLOW, seconds=0.5))
    admitted = await house.admit()
    await house.until_sent()
    with pytest.raises(StateConflictError, match="running"):
        await house.control().skip(admitted.run_ids[0], "say", reason="x")
    await house.rest()
    assert (await house.run(admitted.run_ids[0])).state is RunState.SUCCEEDED
