"""A step's time bounds the whole of it, over sleep and restarts, and what is within it ends with it."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest

from soar.errors import StateConflictError, StoreUnavailableError
from soar.lab import Fault, Mode
from soar.model.approval import ApprovalState
from soar.model.run import Run, RunKind, RunState, StepState
from soar.store.port import Fact, MoveAttempt

from .house import House, ask
from .test_worker import start as watched

HOUR = 3600


def say(text: str) -> str:
    return f'{{use: notify.send, with: {{channel: soc, text: "{text}"}}}}'


ISOLATE = "{id: cut, use: host.isolate, with: {host: ws-1}}"
AFTER = f"  - {say('${{ steps.it.ok }} ${{ steps.it.error_code }}')}\n"
FIRST = "{id: first, use: ioc.lookup, with: {type: ip, value: 203.0.113.66}}"
LONG = "{wait: 5h}"

FORMS = {
    "if": f"if: alert.title\n    then: [{FIRST}, {LONG}, {say('never')}]",
    "switch": f"switch: alert.severity\n    cases: {{high: [{FIRST}, {LONG}, {say('never')}]}}",
    "parallel": f"parallel: [{FIRST}, {{if: alert.title, then: [{LONG}, {say('never')}]}}]",
    "foreach": f"foreach: \"['a', 'b']\"\n    do: [{LONG}, {say('never')}]",
}
SEEN = dict.fromkeys(
    ("if", "switch", "parallel"),
    f"  - {say('${{ steps.it.ok }} ${{ steps.it.error_code }} ${{ steps.first.result.value }}')}\n",
)


def said(house: House) -> list[str]:
    return [line["body"]["text"] for line in house.sent("POST") if line["system"] == "chat"]


def timed(form: str, *, timeout: str = "1h", more: str = "    on_error: continue\n") -> str:
    return f"steps:\n  - id: it\n    timeout: {timeout}\n    {form}\n{more}"


async def go(house: House, text: str, **alert: object) -> Run:
    house.playbook(text)
    await house.start()
    return await house.go(**alert)


@pytest.mark.parametrize("form", FORMS)
async def test_a_block_ends_when_its_time_is_over_and_nothing_of_it_acts_later(either_house: House, form: str) -> None:
    house = either_house
    run = await go(house, timed(FORMS[form]) + SEEN.get(form, AFTER))
    assert (run.state, said(house)) == (RunState.WAITING, [])
    await house.pass_time(HOUR + 1)
    run = await house.run(run.id)
    assert run.state is RunState.SUCCEEDED, run.error
    ended = ["false timeout 203.0.113.66" if form in SEEN else "false timeout"]
    assert said(house) == ended
    it = await house.step(run, "it")
    assert (it.state, it.error_code, it.error) == (StepState.FAILED, "timeout", "it was not done within 1h")
    assert not [s for s in (await house.store.steps(run.id)).values() if s.state is StepState.WAITING]
    await house.pass_time(5 * HOUR)
    assert said(house) == ended
    assert (await house.verify()).ok


async def test_the_time_runs_from_the_first_beginning_on_whatever_happens_to_the_service(either_house: House) -> None:
    house = either_house
    run = await go(house, timed(f"parallel: [{LONG}, {{wait: 40m}}]") + AFTER)
    begun = (await house.step(run, "it")).started_at
    await house.pass_time(45 * 60)  # one branch wakes the run meanwhile
    await house.restart()
    assert (await house.step(run, "it")).started_at == begun
    assert (await house.run(run.id)).wake_at == begun + timedelta(hours=1)
    await house.stop()
    house.clock.offset += timedelta(minutes=16)
    await house.start()
    await house.rest()
    assert said(house) == ["false timeout"]


async def test_without_a_handler_the_run_fails_and_the_playbooks_own_one_knows_why(house: House) -> None:
    text = timed(FORMS["if"], more="") + f"on_error: [{say('${{ vars.error.step }} ${{ vars.error.code }}')}]\n"
    run = await go(house, text)
    await house.pass_time(HOUR + 1)
    run = await house.run(run.id)
    assert (run.state, run.error) == (RunState.FAILED, "it: it was not done within 1h")
    assert said(house) == ["it timeout"]


async def test_what_is_complete_in_time_stays_so_however_late_replay_sees_it(house: House) -> None:
    form = "if: alert.title\n    then: [{wait: 50m}, {set: {verdict: fine}}]"
    run = await go(house, timed(form) + f"  - {LONG}\n  - {say('${{ steps.it.ok }} ${{ vars.verdict }}')}\n")
    await house.pass_time(50 * 60 + 1)
    for _ in range(5):
        await house.pass_time(HOUR)
    assert (await house.run(run.id)).state is RunState.SUCCEEDED
    assert said(house) == ["true fine"]


async def test_a_failure_in_time_is_no_timeout_however_late_replay_sees_it(house: House) -> None:
    form = "if: alert.title\n    then: [{use: ticket.comment, with: {key: NONE-1, text: x}}]"
    handler = f"on_error: [{LONG}, {say('${{ vars.error.code }}')}]\n"
    run = await go(house, timed(form, more="") + handler)
    await house.pass_time(5 * HOUR + 1)
    assert (await house.run(run.id)).state is RunState.FAILED
    assert said(house) == ["remote_not_found"]


async def test_a_step_timed_out_stays_so_whatever_the_clock_says_later(house: House) -> None:
    """And what it found until then, and set, is seen as it was."""
    form = f"if: alert.title\n    then: [{FIRST}, {{set: {{n: x}}}}, {LONG}, {{set: {{n: y}}}}]"
    tail = f"  - wait: 2h\n  - {say('${{ steps.it.error_code }} ${{ vars.n }} ${{ steps.first.result.score }}')}\n"
    run = await go(house, f"vars: {{n: w}}\n{timed(form)}{tail}")
    await house.pass_time(HOUR + 1)
    house.clock.offset -= timedelta(hours=1)
    await house.restart()
    await house.pass_time(3 * HOUR)
    assert (await house.run(run.id)).state is RunState.SUCCEEDED
    assert said(house) == ["timeout x 95"]
    ends = [e["subject"] for e in await house.told(run, "step.finished")]
    assert len(ends) == len(set(ends))


async def test_consent_that_is_waited_for_within_is_asked_for_no_more(either_house: House) -> None:
    """In one fact with the step's end: nobody can grant in between."""
    house = either_house
    house.policy(ask("soc-lead", ttl="10h"))
    run = await go(house, timed(f"if: alert.title\n    then: [{ISOLATE}]") + AFTER)
    approval = await house.pending()
    assert approval.decide_by == (await house.step(run, "it")).started_at + timedelta(hours=1)
    await house.pass_time(HOUR + 1)
    after = await house.store.approval(approval.id)
    assert after is not None
    assert after.state in {ApprovalState.CANCELLED, ApprovalState.EXPIRED}
    with pytest.raises(StateConflictError):
        await house.vote("alice", "grant", approval)
    assert (house.effects(), said(house)) == (["posted msg-1 to soc"], ["false timeout"])


async def test_consent_given_in_time_is_not_used_after_it(house: House) -> None:
    """It came while the service was down."""
    house.policy(ask("soc-lead", ttl="10h"))
    await go(house, timed(f"if: alert.title\n    then: [{{wait: 10m}}, {ISOLATE}]") + AFTER)
    await house.pass_time(601)
    approval = await house.pending()
    desk = house.service.desk()
    house.running.worker.stop()
    await asyncio.sleep(0.3)
    await desk.vote(approval.id, person="alice", decision="grant", digest=approval.digest, method="cli")
    await house.stop()
    house.clock.offset += timedelta(minutes=51)
    await house.start()
    await house.rest()
    after = await house.store.approval(approval.id)
    assert after is not None
    assert after.state in {ApprovalState.CANCELLED, ApprovalState.EXPIRED}
    assert said(house) == ["false timeout"]


async def test_a_sub_run_within_is_cancelled_with_the_steps_end(either_house: House) -> None:
    house = either_house
    house.called(f"steps:\n  - {LONG}\n  - {say('never')}\n", "inner")
    await go(house, timed("parallel: [{id: sub, call: inner}]") + AFTER)
    await house.pass_time(HOUR + 1)
    child = await house.the_run("inner")
    assert child.state is RunState.CANCELLED
    await house.pass_time(5 * HOUR)
    assert said(house) == ["false timeout"]
    told = [(e["type"], e["subject"]) for e in await house.told()]
    first = told.index(("run.cancel_requested", child.id))
    assert told[first : first + 3][1:] == [("step.finished", "it.0.sub"), ("step.finished", "it")]


async def test_a_try_that_is_queued_within_is_not_made(house: House) -> None:
    retry = "retry: {attempts: 3, backoff: {from: 2h, to: 2h}}"
    house.lab.faults.put("desk", Fault(mode=Mode.RATE_LIMITED, times=1))
    text = timed(f"if: alert.title\n    then: [{{use: ticket.create, with: {{title: x}}, {retry}}}]")
    run = await go(house, text + AFTER)
    await house.pass_time(HOUR + 1)
    await house.pass_time(5 * HOUR)
    assert [line["system"] for line in house.sent()] == ["desk", "chat"]
    assert (await house.run(run.id)).state is RunState.SUCCEEDED


@pytest.mark.parametrize("happened", [True, False])
async def test_what_was_sent_without_an_answer_is_not_forgotten(house: House, happened: bool) -> None:
    """A person says first what became of it; then the step has timed out all the same, and an undo is kept."""
    act = "{use: notify.send, with: {channel: soc, text: hello}}"
    house.lab.faults.put("chat", Fault(mode=Mode.DROP_AFTER, times=1))
    run = await go(house, timed(f"parallel: [{act}, {LONG}]") + AFTER)
    assert run.state is RunState.WAITING
    await house.pass_time(HOUR + 1)
    run = await house.run(run.id)
    assert run.state is RunState.NEEDS_REVIEW
    assert said(house) == ["hello"]
    await house.control().resolve(run.id, happened=happened, reason="I looked")
    await house.rest()
    run = await house.run(run.id)
    assert run.state is RunState.SUCCEEDED, run.error
    assert said(house) == ["hello", "false timeout"]
    assert (await house.step(run, "it.0.0")).state is (StepState.SUCCEEDED if happened else StepState.FAILED)
    assert (await house.step(run, "it")).error_code == "timeout"


@pytest.mark.parametrize(("act", "read"), [(say("hello"), False), (FIRST, True)])
async def test_a_worker_that_died_under_a_call_leaves_a_doubt_unless_it_only_read(
    house: House, act: str, read: bool
) -> None:
    around = await watched(house, timed(f"if: alert.title\n    then: [{act}, {say('never')}]") + AFTER)

    async def lost(facts: Sequence[Fact]) -> None:
        if any(isinstance(write, MoveAttempt) for fact in facts for write in fact.writes):
            raise StoreUnavailableError("the worker is gone")

    around.before = lost
    admitted = await house.admit()
    await house.until_sent()
    await asyncio.sleep(0.2)
    around.before = None
    await house.pass_time(HOUR + 1)
    run = await house.run(admitted.run_ids[0])
    assert len([s for s in said(house) if s == "hello"]) + len(house.sent("GET")) >= 1
    if not read:
        assert run.state is RunState.NEEDS_REVIEW
        await house.control().resolve(run.id, happened=True, reason="I looked")
        await house.rest()
    assert (await house.run(run.id)).state is RunState.SUCCEEDED
    assert said(house) == (["false timeout"] if read else ["hello", "false timeout"])


async def test_what_a_sub_run_sent_without_an_answer_is_not_forgotten(either_house: House) -> None:
    """It is not cancelled before a person has said, and does nothing more then, however deep it is."""
    house = either_house
    house.called(f"steps: [{say('hello')}, {say('never')}]\n", "innermost")
    house.called(f"steps: [{{call: innermost}}, {say('never')}]\n", "inner")
    house.lab.faults.put("chat", Fault(mode=Mode.DROP_AFTER, times=1))
    run = await go(house, timed("parallel: [{id: sub, call: inner}]") + AFTER)
    await house.pass_time(HOUR + 1)
    child = await house.the_run("innermost")
    assert (child.state, child.paused) == (RunState.NEEDS_REVIEW, True)
    assert (await house.run(run.id)).state is RunState.WAITING
    await house.control().resolve(child.id, happened=True, reason="I looked")
    await house.pass_time(6)
    assert (await house.run(run.id)).state is RunState.SUCCEEDED
    assert {(await house.the_run(name)).state for name in ("inner", "innermost")} == {RunState.CANCELLED}
    assert said(house) == ["hello", "false timeout"]


async def test_what_a_person_says_has_happened_is_still_taken_back_in_its_time(house: House) -> None:
    act = "{use: host.isolate, with: {host: ws-1}, undo: {use: host.release, after: 8h}}"
    house.lab.faults.put("edr", Fault(mode=Mode.DROP_AFTER))
    run = await go(house, timed(f"if: alert.title\n    then: [{act}]") + AFTER)
    await house.pass_time(HOUR + 1)
    if (await house.run(run.id)).state is RunState.NEEDS_REVIEW:
        await house.control().resolve(run.id, happened=True, reason="I looked")
        await house.rest()
    house.lab.faults.clear()
    undo = [r for r in await house.store.runs() if r.kind is RunKind.UNDO]
    assert len(undo) == 1
    await house.pass_time(8 * HOUR)
    assert house.effects()[-1] == "released host ws-1"


async def test_an_action_under_way_gets_its_outcome_and_the_next_step_does_not_begin(house: House) -> None:
    slow = Fault(mode=Mode.SLOW, seconds=1.0, times=1)
    house.lab.faults.put("desk", slow)
    then = "{id: t, use: ticket.create, with: {title: x}}"
    text = timed(f"if: alert.title\n    then: [{then}, {say('never')}]", timeout="500ms")
    run = await go(house, text + f"  - {say('${{ steps.t.ok }} ${{ steps.it.error_code }}')}\n")
    await house.pass_time(1)
    run = await house.run(run.id)
    assert run.state is RunState.SUCCEEDED, run.error
    assert said(house) == ["true timeout"]


async def test_of_two_times_the_inner_one_ends_first_and_the_outer_one_still_holds(house: House) -> None:
    inner = f"{{id: in, timeout: 10m, on_error: continue, if: alert.title, then: [{LONG}]}}"
    tell = say("${{ steps.in.error_code }}")
    run = await go(house, timed(f"if: alert.title\n    then: [{inner}, {tell}, {LONG}, {say('never')}]") + AFTER)
    await house.pass_time(601)
    assert said(house) == ["timeout"]
    await house.pass_time(HOUR)
    assert said(house) == ["timeout", "false timeout"]
    assert (await house.run(run.id)).state is RunState.SUCCEEDED


async def test_an_outer_time_that_is_shorter_ends_the_inner_block_too(house: House) -> None:
    inner = f"{{id: in, timeout: 3h, on_error: continue, parallel: [{FIRST}, {LONG}]}}"
    run = await go(
        house, timed(f"if: alert.title\n    then: [{inner}, {say('never')}]") + f"  - wait: 1h\n{SEEN['if']}"
    )
    await house.pass_time(HOUR + 1)
    await house.pass_time(HOUR + 1)
    assert said(house) == ["false timeout 203.0.113.66"]
    assert (await house.step(run, "it.then.in")).error_code == "timeout"


async def test_an_actions_time_covers_its_tries(house: House) -> None:
    house.lab.faults.put("desk", Fault(mode=Mode.RATE_LIMITED))
    retry = "retry: {attempts: 20, backoff: {from: 20m, to: 20m}}"
    run = await go(house, timed(f"use: ticket.create\n    with: {{title: x}}\n    {retry}") + AFTER)
    for _ in range(7):
        await house.pass_time(10 * 60 + 1)
    assert (await house.run(run.id)).state is RunState.SUCCEEDED
    it = await house.step(run, "it")
    assert it.error_code == "timeout"
    assert "rate" in (it.error or "")
    tries = len([line for line in house.sent() if line["system"] == "desk"])
    await house.pass_time(2 * HOUR)
    assert len([line for line in house.sent() if line["system"] == "desk"]) == tries >= 2


async def test_an_actions_time_covers_the_wait_for_people(house: House) -> None:
    house.policy(ask("soc-lead", ttl="10h"))
    run = await go(house, timed("use: host.isolate\n    with: {host: ws-1}") + AFTER)
    await house.pass_time(HOUR + 1)
    assert (await house.run(run.id)).state is RunState.SUCCEEDED
    assert (house.effects(), said(house)) == (["posted msg-1 to soc"], ["false timeout"])
    assert await house.store.approvals(state=ApprovalState.PENDING) == []


@pytest.mark.parametrize("form", ["wait: 5h", "ask: Really?\n    groups: [{group: soc-lead}]", "call: inner"])
async def test_what_waits_times_out_by_the_same_word(house: House, form: str) -> None:
    house.called(f"steps: [{LONG}]\n", "inner")
    run = await go(house, timed(form) + AFTER)
    await house.pass_time(HOUR + 1)
    assert said(house) == ["false timeout"]
    assert (await house.run(run.id)).state is RunState.SUCCEEDED


async def test_a_person_who_retries_gives_a_new_time(house: House) -> None:
    run = await go(house, timed("if: alert.title\n    then: [{wait: 2h}]", more=""))
    await house.pass_time(HOUR + 1)
    assert (await house.run(run.id)).state is RunState.FAILED
    await house.control().retry(run.id, reason="again")
    await house.rest()
    await house.pass_time(30 * 60)
    assert (await house.run(run.id)).state is RunState.WAITING
    await house.pass_time(31 * 60)
    assert (await house.run(run.id)).error == "it: it was not done within 1h"
