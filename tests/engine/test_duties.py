"""What policy wants done with an action besides its being allowed: rates, notices, masks."""

import json
from typing import Any

from soar.lab import Fault, Mode
from soar.model.run import RunKind, RunState

from .house import ALLOW, DECISION, House

CUT = 'steps:\n  - {id: cut, use: host.isolate, with: {host: "${{ alert.raw.host }}"}}\n'
SAY = "notify.send"
RATE = {"type": "rate", "key": "edr", "limit": 2, "window": "1h"}
TELL = {"type": "notify", "group": "soc-lead", "msg": "A host is concerned"}


def duty(*obligations: dict[str, Any], effect: str = "allow", whose: str = "host.isolate") -> str:
    """Rego that gives one action these obligations."""
    rules = f"""
default obligations := []

obligations := {json.dumps(obligations)} if input.action.capability == "{whose}"

default effect := "allow"

effect := "{effect}" if input.action.capability == "{whose}"
"""
    return DECISION.format(effect="effect", obligations="obligations", rules=rules)


async def test_an_action_over_its_rate_waits_until_there_is_room(house: House) -> None:
    house.policy(duty(RATE))
    house.playbook(CUT)
    await house.start()
    await house.running.admit([house.record(host=f"h{number}") for number in range(5)])
    await house.rest()
    assert len(house.effects()) == 2
    waiting = await house.store.runs(state=RunState.WAITING)
    assert len(waiting) == 3
    step = await house.step(waiting[0], "cut")
    assert step.data["phase"] == "rate"
    assert "2 actions through in 1h under 'edr'" in step.data["why"]
    await house.pass_time(1800)
    assert len(house.effects()) == 2
    await house.pass_time(1801)
    assert len(house.effects()) == 4
    await house.pass_time(3601)
    assert len(house.effects()) == 5


async def test_a_rate_holds_for_what_is_harmless_too(house: House) -> None:
    house.policy(duty(RATE, whose=SAY))
    house.playbook("steps:\n  - {id: say, use: notify.send, with: {channel: soc, text: hi}}\n")
    await house.start()
    await house.running.admit([house.record() for _ in range(20)])
    await house.rest()
    assert len(house.sent()) == 2


async def test_a_group_is_told_by_an_action_of_its_own(house: House) -> None:
    house.policy(duty(TELL))
    house.playbook(CUT)
    await house.start()
    run = await house.go(host="ws-17")
    assert run.state is RunState.SUCCEEDED
    (notice,) = await house.store.runs(parent=(run.id, "cut"))
    assert (notice.kind, notice.state) == (RunKind.NOTICE, RunState.SUCCEEDED)
    (said,) = [line for line in house.sent() if line["system"] == "chat"]
    assert said["body"]["channel"] == "soc-lead"
    assert said["body"]["text"].startswith(
        "A host is concerned: lab_edr.isolate_host on host ws-17 is about to be done"
    )
    assert [each["type"] for each in await house.told(notice, "action")] == ["action.intent", "action.outcome"]
    assert (await house.verify()).ok


async def test_of_a_denial_a_group_is_told_too(house: House) -> None:
    house.policy(duty(TELL, effect="deny"))
    house.playbook(CUT)
    await house.start()
    run = await house.go(host="ws-17")
    assert run.state is RunState.DENIED
    (said,) = house.sent()
    assert "is denied" in said["body"]["text"]


async def test_a_notice_that_fails_is_recorded_and_holds_nothing_up(house: House) -> None:
    house.policy(duty(TELL))
    house.playbook(CUT)
    await house.start()
    house.lab.faults.put("chat", Fault(mode=Mode.UNAUTHORIZED, times=1))
    run = await house.go(host="ws-17")
    assert run.state is RunState.SUCCEEDED
    (notice,) = await house.store.runs(parent=(run.id, "cut"))
    assert notice.state is RunState.FAILED
    assert (await house.told(notice, "run.finished"))[0]["data"]["state"] == "failed"


async def test_an_action_is_told_of_once_however_often_it_is_tried(house: House) -> None:
    house.policy(duty(TELL))
    house.playbook(CUT)
    await house.start()
    house.lab.faults.put("edr", Fault(mode=Mode.RATE_LIMITED, times=2))
    run = await house.go(host="ws-17")
    for _ in range(2):
        await house.pass_time(61)
    assert len(await house.store.attempts(run.id)) == 3
    assert len(await house.store.runs(parent=(run.id, "cut"))) == 1


async def test_telling_of_everything_does_not_tell_of_telling(house: House) -> None:
    house.policy(ALLOW.replace('"obligations": []', f'"obligations": [{json.dumps(TELL)}]'))
    house.playbook(CUT)
    await house.start()
    await house.go(host="ws-17")
    assert len([line for line in house.sent() if line["system"] == "chat"]) == 1


async def test_what_policy_masks_is_sent_and_stands_nowhere_else(house: House) -> None:
    """In no entry of the journal, nor in what people agree to; the undo is masked as well."""
    people = {"type": "approval", "groups": [{"group": "soc-lead", "min": 1}]}
    masks = ({"type": "redact", "fields": ["reason"]}, {"type": "expire", "after": "1h"})
    house.policy(duty(people, *masks, effect="require_approval", whose="ip.block"))
    house.playbook('steps:\n  - {id: cut, use: ip.block, with: {ip: 198.51.100.7, reason: "hush-hush"}}\n')
    house.people(alice="soc-lead")
    await house.start()
    run = await house.go()
    approval = await house.pending()
    assert approval.binding["params"] == {"ip": "198.51.100.7", "reason": "[redacted]"}
    await house.grant()
    assert (await house.run(run.id)).state is RunState.SUCCEEDED
    (sent,) = [line for line in house.sent() if line["applied"]]
    assert sent["body"]["reason"] == "hush-hush"
    await house.pass_time(3601)
    assert "hush-hush" not in json.dumps([each["body"] for each in await house.told()])
    (intent, *_) = await house.told(run, "action.intent")
    assert intent["body"]["request"]["params"]["reason"] == "[redacted]"
    assert (await house.verify()).ok
