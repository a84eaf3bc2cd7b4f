"""Every form of a step does what the documentation says, and replay finds the same."""

import asyncio
from datetime import timedelta

import pytest

from soar.errors import InputError, NotAllowedError
from soar.lab import Fault, Mode
from soar.model.alert import Outcome
from soar.model.base import to_rfc3339
from soar.model.run import Run, RunKind, RunState, StepState
from soar.store.matches import AlertMatch
from soar.store.port import Fact, InsertRun

from .house import House


def say(text: str, step: str | None = None) -> str:
    name = f"id: {step}, " if step else ""
    return f'{{{name}use: notify.send, with: {{channel: soc, text: "{text}"}}}}'


async def start(house: House, text: str) -> None:
    house.playbook(text)
    await house.start()


def said(house: House) -> list[str]:
    return [line["body"]["text"] for line in house.sent("POST") if line["system"] == "chat"]


@pytest.mark.parametrize(("severity", "branch"), [("critical", "then"), ("low", "else")])
async def test_if_takes_the_branch_that_holds(house: House, severity: str, branch: str) -> None:
    await start(
        house,
        "steps:\n  - if: alert.severity == 'critical'\n"
        f"    then:\n      - {say('then')}\n    else:\n      - {say('else')}\n",
    )
    await house.go(severity=severity)
    assert said(house) == [branch]


async def test_a_step_whose_condition_does_not_hold_is_skipped(house: House) -> None:
    await start(
        house,
        f"steps:\n  - {say('no', 'a')[:-1]}, if: alert.title == 'other'}}\n  - {say('${{ steps.a.state }}')}\n",
    )
    assert (await house.go()).state is RunState.SUCCEEDED
    assert said(house) == ["skipped"]


@pytest.mark.parametrize(
    ("value", "case"), [("a", "a"), (True, "true"), (None, "null"), (1, "1"), (0, "0"), (2.5, "2.5"), ([1], "other")]
)
async def test_switch_takes_the_case_of_the_value_and_no_other(house: House, value: object, case: str) -> None:
    """One is not true, and nothing is not text."""
    cases = "".join(f'      "{name}": [{say(name)}]\n' for name in ("a", "true", "null", "1", "0", "2.5"))
    await start(house, f"steps:\n  - switch: alert.raw.it\n    cases:\n{cases}    default: [{say('other')}]\n")
    await house.go(it=value)
    assert said(house) == [case]


async def test_parallel_branches_all_go_on_where_one_fails_and_their_findings_are_kept(house: House) -> None:
    await start(
        house,
        "vars: {a: old, b: old}\n"
        "steps:\n  - parallel:\n"
        "      - {set: {a: new}}\n"
        "      - {id: known, use: ioc.lookup, with: {type: ip, value: 203.0.113.66}}\n"
        "      - {use: ticket.comment, with: {key: NONE-1, text: x}}\n"
        "      - {set: {b: new}}\n"
        f"on_error:\n  - {say('${{ vars.a }} ${{ vars.b }} ${{ steps.known.result.score }} ${{ vars.error.code }}')}\n",
    )
    run = await house.go()
    assert run.state is RunState.FAILED
    assert said(house) == ["new new 95 remote_not_found"]


async def test_a_parallel_branch_does_not_undo_what_another_set(house: House) -> None:
    await start(
        house,
        "vars: {a: old, b: old}\n"
        "steps:\n  - parallel:\n      - {set: {a: one}}\n      - {set: {b: two}}\n      - {set: {c: 3}}\n"
        'outputs: {a: "${{ vars.a }}", b: "${{ vars.b }}", c: "${{ vars.c }}"}\n',
    )
    assert (await house.go()).outputs == {"a": "one", "b": "two", "c": 3}


async def test_foreach_does_its_steps_for_each_element(house: House) -> None:
    await start(
        house,
        "steps:\n  - id: all\n    foreach: alert.raw.names\n    as: name\n    concurrency: 3\n    do:\n"
        '      - {id: out, use: account.disable, with: {user: "${{ item.name }}"}}\n'
        f"  - {say('${{ length(steps.all.result) }} ${{ steps.all.result[1].out.result.user }}')}\n",
    )
    run = await house.go(names=["ann", "ben", "cem", "dan"])
    assert run.state is RunState.SUCCEEDED, run.error
    assert sorted(house.effects()[:4]) == [f"disabled user {name}" for name in ("ann", "ben", "cem", "dan")]
    assert said(house) == ["4 ben"]


async def test_foreach_refuses_more_than_its_limit_and_does_nothing(house: House) -> None:
    await start(
        house,
        "steps:\n  - foreach: alert.raw.names\n    limit: 2\n    do:\n"
        '      - {use: account.disable, with: {user: "${{ item.value }}"}}\n',
    )
    assert (await house.go(names=["ann", "ben", "cem"])).state is RunState.FAILED
    assert house.sent() == []


async def test_a_round_that_waits_keeps_its_lane(house: House) -> None:
    """With one at a time, the second begins when the first has ended, also where the first sleeps in between."""
    await start(
        house,
        "steps:\n  - foreach: alert.raw.names\n    do:\n"
        f"      - {say('${{ item.value }} begins')}\n      - wait: 10m\n      - {say('${{ item.value }} ends')}\n",
    )
    await house.go(names=["ann", "ben"])
    assert said(house) == ["ann begins"]
    await house.pass_time(601)
    assert said(house) == ["ann begins", "ann ends", "ben begins"]
    await house.pass_time(601)
    assert said(house) == ["ann begins", "ann ends", "ben begins", "ben ends"]


async def test_a_round_that_fails_stops_no_other_and_the_first_is_named(house: House) -> None:
    await start(
        house,
        "steps:\n  - foreach: alert.raw.keys\n    concurrency: 2\n    do:\n"
        '      - {id: note, use: ticket.comment, with: {key: "${{ item.value }}", text: x}}\n'
        f"on_error:\n  - wait: 1m\n  - {say('${{ vars.error.step }}')}\n",
    )
    run = await house.go(keys=["N-1", "N-2", "N-3", "N-4"])
    await house.pass_time(61)
    assert (await house.run(run.id)).state is RunState.FAILED
    assert len([line for line in house.sent() if line["system"] == "desk"]) == 4
    assert said(house) == ["0.do[0].note"]


async def test_wait_sleeps_for_its_time_as_a_row(house: House) -> None:
    await start(house, f"steps:\n  - wait: 10m\n  - {say('later')}\n")
    run = await house.go()
    assert run.state is RunState.WAITING
    await house.restart()
    await house.pass_time(595)
    assert said(house) == []
    await house.pass_time(6)
    assert said(house) == ["later"]


async def test_wait_until_an_instant(house: House) -> None:
    await start(house, f"steps:\n  - wait: {{until: alert.raw.when}}\n  - {say('later')}\n")
    run = await house.go(when=to_rfc3339(house.clock.now() + timedelta(hours=1)))
    assert (await house.run(run.id)).state is RunState.WAITING
    await house.pass_time(3601)
    assert said(house) == ["later"]
    bad = await house.go(when="tomorrow")
    assert bad.state is RunState.FAILED


async def test_wait_for_an_alert_ends_with_that_alert_and_no_other(house: House) -> None:
    house.playbook(
        "steps:\n  - id: again\n"
        '    wait: {for_alert: {match: {"entities.hosts[].name": "${{ alert.entities.hosts[0].name }}"}}}\n'
        f"    timeout: 2h\n  - {say('${{ steps.again.result.alert.title }}')}\n"
    )
    await house.start()
    await house.go(hostname="ws-1")
    await house.admit(hostname="ws-2", title="another host", rule="other")
    await house.rest()
    assert said(house) == []
    joined = await house.admit(hostname="ws-1", title="the same host", rule="other")
    await house.rest()
    assert said(house) == ["the same host"]
    row = await house.store.alert_row(joined.alert_id or "")
    assert row is not None
    match = AlertMatch(playbook_id="it", outcome=Outcome.CORRELATED, run_id=(await house.the_run()).id, path="again")
    assert (row.outcome, row.matches) == (Outcome.CORRELATED, (match,))
    assert (await house.the_run()).state is RunState.SUCCEEDED


async def test_wait_for_an_alert_ends_with_its_time(house: House) -> None:
    await start(
        house,
        "steps:\n  - {id: again, wait: {for_alert: {match: {rule.name: x}}}, timeout: 1h, on_error: continue}\n"
        f"  - {say('${{ steps.again.ok }} ${{ steps.again.error_code }}')}\n",
    )
    await house.go()
    await house.pass_time(3601)
    assert said(house) == ["false timeout"]


async def test_waiting_for_what_is_not_there_fails_the_run_and_never_the_door(house: House) -> None:
    """An alert without the field would otherwise leave a condition that no later alert can be checked against."""
    await start(
        house,
        'steps:\n  - wait: {for_alert: {match: {"entities.hosts[].name": "${{ alert.entities.hosts[0].name }}"}}}\n'
        "    timeout: 2h\n",
    )
    assert (await house.go()).state is RunState.FAILED
    assert (await house.admit(rule="other")).outcome.value == "no_match"


@pytest.mark.parametrize(
    ("form", "answer", "wrong"),
    [
        ("answer: text", "yes, I did", 5),
        ("answer: number", 2.5, True),
        ("answer: number", 7, float("nan")),
        ("answer: boolean", False, 0),
        ("answer: choice, options: [planned, unplanned]", "planned", "no idea"),
    ],
)
async def test_a_question_takes_an_answer_of_its_type(house: House, form: str, answer: object, wrong: object) -> None:
    await start(
        house,
        f'steps:\n  - {{id: it, ask: "${{{{ alert.title }}}}?", {form}, groups: [{{group: soc-lead}}]}}\n'
        'outputs: {it: "${{ steps.it.result.answer }}", by: "${{ steps.it.result.by }}"}\n',
    )
    run = await house.go(title="Was it ${{ run.id }}")
    approval = await house.pending()
    assert approval.binding["question"] == "Was it ${{ run.id }}?"
    for bad in (wrong, None):
        with pytest.raises(InputError):
            await house.grant(answer=bad)
    await house.grant(answer=answer)
    assert (await house.run(run.id)).outputs == {"it": answer, "by": ["alice"]}


async def test_a_question_that_nobody_answers_fails_in_its_time(house: House) -> None:
    await start(house, "steps:\n  - {ask: Really?, groups: [{group: soc-lead}], expires: 1h}\n")
    run = await house.go()
    with pytest.raises(NotAllowedError):
        await house.vote("bob", "grant", answer="yes")
    await house.pass_time(3601)
    run = await house.run(run.id)
    assert run.state is RunState.FAILED
    assert "expired" in (run.error or "")


INNER = (
    "inputs: {type: object, properties: {text: {type: string}}}\n"
    f'steps:\n  - {say("${{ vars.text }}", "tell")}\noutputs: {{id: "${{{{ steps.tell.result.id }}}}"}}\n'
)


async def test_call_runs_another_playbook_and_takes_its_outputs(house: House) -> None:
    house.called(INNER, "inner")
    await start(
        house, 'steps:\n  - {id: sub, call: inner, with: {text: hi}}\noutputs: {id: "${{ steps.sub.result.id }}"}\n'
    )
    run = await house.go()
    assert (run.state, run.outputs) == (RunState.SUCCEEDED, {"id": "msg-1"})
    (child,) = await house.store.runs(parent=(run.id, "sub"))
    assert (child.kind, child.depth) == (RunKind.CALL, 1)


async def test_a_call_fails_with_its_sub_run_and_can_be_retried(house: House) -> None:
    house.called(INNER, "inner")
    await start(house, "steps:\n  - {id: sub, call: inner, with: {text: hi}}\n")
    house.lab.faults.put("chat", Fault(mode=Mode.UNAUTHORIZED, times=1))
    run = await house.go()
    assert run.state is RunState.FAILED
    assert await house.control().retry(run.id, reason="token renewed") == ["sub"]
    await house.rest()
    assert (await house.run(run.id)).state is RunState.SUCCEEDED


async def test_a_sub_run_that_takes_too_long_is_cancelled(house: House) -> None:
    house.called("steps:\n  - wait: 5h\n  - " + say("never") + "\n", "inner")
    await start(house, f"steps:\n  - {{id: sub, call: inner, timeout: 1h, on_error: continue}}\n  - {say('went on')}\n")
    run = await house.go()
    await house.pass_time(3601)
    assert (await house.run(run.id)).state is RunState.SUCCEEDED
    assert (await house.the_run("inner")).state is RunState.CANCELLED
    assert said(house) == ["went on"]


async def test_a_sub_run_that_needs_review_leaves_its_caller_waiting_until_it_is_resolved(house: House) -> None:
    house.called(INNER, "inner")
    await start(house, "steps:\n  - {id: sub, call: inner, with: {text: hi}}\n")
    house.lab.faults.put("chat", Fault(mode=Mode.DROP_AFTER, times=1))
    run = await house.go()
    child = await house.the_run("inner")
    assert (run.state, child.state) == (RunState.WAITING, RunState.NEEDS_REVIEW)
    await house.control().resolve(child.id, happened=True, reason="seen")
    await house.rest()
    assert (await house.run(run.id)).state is RunState.SUCCEEDED


@pytest.mark.parametrize(("how", "state"), [("succeeded", RunState.SUCCEEDED), ("failed", RunState.FAILED)])
async def test_stop_ends_the_run_here(house: House, how: str, state: RunState) -> None:
    await start(house, f'steps:\n  - {{stop: {how}, message: "${{{{ alert.title }}}}"}}\n  - {say("never")}\n')
    run = await house.go(title="because")
    assert (run.state, run.error) == (state, "because")
    assert house.sent() == []


async def test_on_error_of_a_step_catches_its_failure(house: House) -> None:
    await start(
        house,
        "steps:\n  - {id: note, use: ticket.comment, with: {key: NONE-1, text: x}, on_error: ["
        f"{say('caught ${{ steps.note.error_code }}')}]}}\n  - {say('went on')}\n",
    )
    assert (await house.go()).state is RunState.SUCCEEDED
    assert said(house) == ["caught remote_not_found", "went on"]


async def test_on_error_of_a_block_catches_what_fails_within(house: House) -> None:
    note = "{id: note, use: ticket.comment, with: {key: NONE-1, text: x}}"
    await start(
        house,
        f"steps:\n  - {{id: both, parallel: [{note}, {say('beside')}], on_error: continue}}\n"
        f"  - {{foreach: alert.raw.list, do: [{note.replace('note', 'each')}],"
        f" on_error: [{say('caught ${{ steps.both.state }} ${{ steps.both.error_code }}')}]}}\n"
        f"  - {{stop: failed}}\n",
    )
    run = await house.go(list=[1])
    assert said(house) == ["beside", "caught failed remote_not_found"]
    await house.control().retry(run.id, reason="what was done within the block stays done")
    await house.rest()
    assert said(house).count("beside") == 1


async def test_what_handled_a_failure_handles_it_again_when_a_retry_fails_too(house: House) -> None:
    note = "{id: note, use: ticket.comment, with: {key: NONE-1, text: x}"
    await start(
        house, f"steps:\n  - {note}, on_error: [{say('first')}, {{stop: failed}}]}}\non_error:\n  - {say('never')}\n"
    )
    run = await house.go()
    await house.control().retry(run.id, reason="again")
    await house.rest()
    assert said(house) == ["first", "first"]


async def test_a_retry_asks_conditions_anew(house: House) -> None:
    """What was skipped because a step had failed is done once that step is; what was done stays done."""
    await start(
        house,
        "steps:\n  - {id: known, use: ioc.lookup, with: {type: ip, value: 203.0.113.66}, on_error: continue}\n"
        f"  - if: steps.known.ok\n    then: [{say('bad')}]\n    else: [{say('no idea')}]\n"
        f"  - {say('it is bad')[:-1]}, if: steps.known.ok}}\n"
        "  - {stop: failed, if: steps.known.state == 'failed'}\n",
    )
    house.lab.faults.put("intel", Fault(mode=Mode.UNAUTHORIZED, times=1))
    run = await house.go()
    assert (run.state, said(house)) == (RunState.FAILED, ["no idea"])
    await house.control().retry(run.id, reason="token renewed")
    await house.rest()
    assert (await house.run(run.id)).state is RunState.SUCCEEDED
    assert said(house) == ["no idea", "bad", "it is bad"]


async def test_on_error_of_the_playbook_runs_once_and_the_run_still_failed(house: House) -> None:
    await start(
        house,
        "steps:\n  - {id: note, use: ticket.comment, with: {key: NONE-1, text: x}}\n"
        f"on_error:\n  - wait: 1m\n  - {say('${{ vars.error.step }}: ${{ vars.error.message }}')}\n",
    )
    run = await house.go()
    await house.pass_time(61)
    assert (await house.run(run.id)).state is RunState.FAILED
    assert len(said(house)) == 1
    assert said(house)[0].startswith("note: ")


async def test_an_expression_that_fails_fails_its_step_alone(house: House) -> None:
    await start(
        house,
        'steps:\n  - {set: {x: "${{ length(alert.description) }}"}, on_error: continue}\n'
        f"  - {say('went on')}\n"
        'outputs: {x: "${{ vars.x }}"}\n',
    )
    assert (await house.go()).state is RunState.SUCCEEDED
    assert said(house) == ["went on"]


async def test_computed_steps_stand_in_the_journal_once_however_often_a_run_wakes(house: House) -> None:
    await start(
        house,
        "steps:\n  - {id: first, set: {a: 1}}\n  - if: vars.a == `1`\n    then:\n      - wait: 1m\n      - wait: 1m\n"
        f"      - wait: 1m\n  - {say('it is ${{ vars.a }}')}\n",
    )
    run = await house.go()
    for _ in range(3):
        await house.pass_time(61)
    assert (await house.run(run.id)).state is RunState.SUCCEEDED
    ended = [e["subject"] for e in await house.told(run, "step.finished")]
    assert ended == ["first", "1", "1.then.0", "1.then.1", "1.then.2"]
    assert (await house.step(run, "first")).state is StepState.SUCCEEDED
    assert (await house.verify()).ok


async def test_a_run_finishes_on_the_version_it_began_with(house: House) -> None:
    await start(house, f"steps:\n  - wait: 1m\n  - {say('old')}\n")
    await house.go()
    await house.go()
    await house.stop()
    house.playbook(f"steps:\n  - wait: 1m\n  - {say('new')}\n")
    await house.start()
    await house.go()
    await house.stop()
    (house.folder / "playbooks" / "it.yaml").unlink()
    await house.start()
    await house.pass_time(61)
    assert sorted(said(house)) == ["new", "old", "old"]


async def test_a_playbook_that_nobody_has_any_more_ends_its_run_where_people_see_it(house: House) -> None:
    """Such a run must not go through recovery for ever."""
    await start(house, f"steps:\n  - {say('x')}\n")
    lost = Run(
        id="run-lost", kind=RunKind.MANUAL, state=RunState.READY, playbook_id="gone", playbook_digest="0" * 64,
        created_at=house.clock.now(),
    )  # fmt: skip
    assert await house.store.commit([Fact(writes=(InsertRun(run=lost),))]) == [None]
    await house.rest()
    run = await house.run("run-lost")
    assert run.state is RunState.FAILED
    assert "0" * 64 in (run.error or "")


async def test_many_runs_at_once_each_come_to_their_own_end(house: House) -> None:
    await start(
        house,
        'steps:\n  - {id: t, use: ticket.create, with: {title: "${{ alert.title }}"}}\n'
        f"  - {say('${{ steps.t.result.key }}')}\n",
    )
    admitted = await house.running.admit([house.record(title=f"alert {i}") for i in range(120)])
    await house.rest()
    runs = await asyncio.gather(*(house.run(one.run_ids[0]) for one in admitted))
    assert {run.state for run in runs} == {RunState.SUCCEEDED}
    assert len(set(said(house))) == 120
    assert (await house.verify()).ok
