"""Limits of a connector instance, kept by three workers on one store together; the lab's own log is the judge."""

import asyncio
import os
import signal
import sys
from datetime import timedelta
from typing import Any

from soar.lab import Fault, Mode
from soar.model.base import from_rfc3339
from soar.model.run import Run, RunState
from soar.store.port import Fact, SignalRun
from soar.store.queueing import HoldInstance

from .crew import Crew, limit, until
from .house import House, ask

ISOLATE = "steps:\n  - {id: isolate, use: host.isolate, with: {host: ws-17}}\n"


async def test_three_workers_together_never_exceed_what_the_instance_bears(crew: Crew) -> None:
    """Five at once and twenty a second: each holds at every moment, and all that waited gets done."""
    slow, rate, burst, at_once, count = 0.2, 20, 5, 5, 50
    crew.limit(f"{{rate: {rate}/s, burst: {burst}, concurrency: {at_once}}}")
    crew.lab.faults.put("desk", Fault(mode=Mode.SLOW, seconds=slow))
    await crew.start()
    runs = await crew.admit(*(f"t-{n}" for n in range(count)))
    await crew.runs(RunState.SUCCEEDED, count)
    assert sorted(crew.titles()) == sorted(f"t-{n}" for n in range(count))
    arrived = sorted(from_rfc3339(line["at"]) for line in crew.sent())
    # A call is under way for `slow` after it arrives. Of six, the first must have been answered before the last came.
    gaps = [late - early for early, late in zip(arrived, arrived[at_once:], strict=False)]
    assert min(gaps) >= timedelta(seconds=slow - 0.001)
    intents = sorted([(await crew.store.attempts(run))[0].intended_at for run in runs])
    interval = timedelta(seconds=1 / rate)
    for first in range(count):
        for more in range(burst, count - first):
            assert intents[first + more] - intents[first] >= (more + 1 - burst) * interval
    assert all(at >= intents[0] + (n + 1 - burst) * interval for n, at in enumerate(arrived))


async def test_critical_alerts_go_first_whoever_waited_before(crew: Crew) -> None:
    crew.limit("{concurrency: 1}")
    await crew.start()
    crew.lab.faults.put("desk", Fault(mode=Mode.RATE_LIMITED, retry_after=600, times=1))
    await crew.admit("first")
    await until(lambda: _true(crew.sent()))
    for number, title in enumerate(("low-1", "low-2", "low-3", "critical-1", "critical-2"), start=2):
        await crew.admit(title, severity=title.partition("-")[0])
        await crew.runs(RunState.WAITING, number)
    crew.clock.offset += timedelta(seconds=601)
    await crew.runs(RunState.SUCCEEDED, 6)
    assert crew.titles() == ["critical-1", "critical-2", "low-1", "low-2", "low-3", "first"]


async def test_retry_after_is_kept_by_all_workers_even_without_limits(crew: Crew) -> None:
    await crew.start()
    crew.lab.faults.put("desk", Fault(mode=Mode.RATE_LIMITED, retry_after=600, times=1))
    await crew.admit("first")
    await until(lambda: _true(crew.sent()))
    runs = await crew.admit(*(f"t-{n}" for n in range(9)))
    await crew.runs(RunState.WAITING, 10)
    crew.clock.offset += timedelta(seconds=590)
    await asyncio.sleep(0.5)
    assert len(crew.sent()) == 1
    assert {(await crew.store.steps(run))["ticket"].data["phase"] for run in runs} == {"queued"}
    crew.clock.offset += timedelta(seconds=15)
    await crew.runs(RunState.SUCCEEDED, 10)
    assert len(crew.sent()) == 11
    assert (await crew.store.traffic(crew.clock.now()))[0].queued == 0


async def test_the_turn_of_a_killed_worker_comes_free(crew: Crew) -> None:
    """A process dies by SIGKILL in the middle of the only call that may be under way."""
    crew.limit("{concurrency: 1}")
    crew.lab.faults.put("desk", Fault(mode=Mode.SLOW, seconds=600, times=1))
    command = [sys.executable, "-m", "soar", "run", "-c", str(crew.home / "soar.yaml")]
    environ = {**os.environ, **crew.environ, "SOAR_WEB__PORT": "0"}
    await crew.start(1)
    crew.workers[0].worker.stop()  # this process only lets alerts in, for now
    other = await asyncio.create_subprocess_exec(
        *command, env=environ, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await crew.admit("dies")
        await until(lambda: _true(crew.sent()))
    finally:
        os.kill(other.pid, signal.SIGKILL)
        await other.wait()
    await crew.start(1)
    (run,) = await crew.admit("waits", severity="critical")
    await crew.runs(RunState.WAITING, 1)
    assert (await crew.store.steps(run))["ticket"].data["phase"] == "queued"
    assert (await crew.store.traffic(crew.clock.now()))[0].under_way == 1
    crew.clock.offset += timedelta(seconds=31)
    await crew.runs(RunState.SUCCEEDED, 2)
    assert sorted(crew.titles()) == ["dies", "waits"], "the call that died was keyed, and is one effect"
    assert (await crew.store.traffic(crew.clock.now()))[0].under_way == 0


async def test_halting_and_cancelling_while_queued(crew: Crew) -> None:
    crew.limit("{concurrency: 1}")
    crew.lab.faults.put("desk", Fault(mode=Mode.SLOW, seconds=5, times=1))
    await crew.start()
    await crew.admit("first")
    await until(lambda: _true(crew.sent()))
    runs = []
    for number, title in enumerate(("cancelled", "paused", "third", "fourth"), start=1):
        runs += await crew.admit(title)
        await crew.runs(RunState.WAITING, number)
    control = crew.workers[0].service.control("alice")
    await control.halt(reason="wait")
    await crew.runs(RunState.SUCCEEDED, 1)
    await control.cancel(runs[0], reason="false alarm")
    await control.pause(runs[1], reason="look first")
    await crew.runs(RunState.CANCELLED, 1)
    assert crew.titles() == ["first"]
    await control.resume(reason="on")
    await crew.runs(RunState.SUCCEEDED, 3)
    assert crew.titles() == ["first", "third", "fourth"]
    await control.release(runs[1], reason="go on")
    await crew.runs(RunState.SUCCEEDED, 4)


async def _true(found: Any) -> bool:
    return bool(found)


async def hold(house: House, instance: str, seconds: float) -> None:
    until_ = house.clock.now() + timedelta(seconds=seconds)
    fact = Fact(writes=(HoldInstance(instance=instance, until=until_),))
    assert await house.store.commit([fact]) == [None]


async def words(house: House, run: Run) -> list[str]:
    return [entry["type"] for entry in await house.told(run)]


async def test_a_queued_run_is_told_once_and_asks_policy_once_more_only_when_it_is_called(house: House) -> None:
    house.playbook("steps:\n  - {id: ticket, use: ticket.create, with: {title: x}}\n")
    await house.start()
    await hold(house, "lab_desk", 60)
    run = await house.go()
    for _ in range(3):
        await house.store.commit([Fact(writes=(SignalRun(run_id=run.id),))])
        await house.rest()
    assert await words(house, run) == ["run.created", "step.waiting"]
    await house.pass_time(61)
    assert (await house.run(run.id)).state is RunState.SUCCEEDED
    told = await words(house, run)
    assert told[2:] == ["policy.decided", "action.intent", "action.outcome", "run.finished"]
    assert (await house.verify()).ok


async def test_consent_is_not_used_up_while_its_action_waits_for_a_turn(house: House) -> None:
    house.policy(ask("soc-lead", execution_ttl="1h"))
    house.playbook(ISOLATE)
    await house.start()
    run = await house.go()
    await hold(house, "lab_edr", 60)
    await house.grant()
    assert (await house.step(run, "isolate")).data["phase"] == "queued"
    assert not await house.told(run, "approval.consumed")
    await house.pass_time(61)
    assert (await house.run(run.id)).state is RunState.SUCCEEDED
    assert len(await house.told(run, "approval.requested")) == len(await house.told(run, "approval.consumed")) == 1


async def test_consent_that_ends_before_the_turn_comes_lets_nothing_out(house: House) -> None:
    house.policy(ask("soc-lead", execution_ttl="1m"))
    house.playbook(ISOLATE)
    await house.start()
    run = await house.go()
    await hold(house, "lab_edr", 600)
    await house.grant()
    await house.pass_time(61)
    assert (await house.run(run.id)).state is RunState.DENIED
    assert house.sent() == []


async def test_reads_take_turns_too_and_a_branch_that_waits_for_one_stops_no_other(house: House) -> None:
    limit(house.folder, "{rate: 1/m}", "lab_intel")
    look = "use: ioc.lookup, with: {type: ip, value: 198.51.100.7}"
    say = "use: notify.send, with: {channel: soc, text: x}"
    house.playbook(
        f"steps:\n  - parallel:\n      - {{id: a, {look}}}\n      - {{id: b, {look}}}\n      - {{id: say, {say}}}\n"
    )
    await house.start()
    run = await house.go()
    assert sorted(line["system"] for line in house.sent()) == ["chat", "intel"]
    await house.pass_time(61)
    assert (await house.run(run.id)).state is RunState.SUCCEEDED
    assert len(house.sent()) == 3


async def test_a_turn_that_nobody_answered_goes_on_to_the_next(house: House) -> None:
    """A run that is busy in another branch is called and does not come in time: the queue goes past it."""
    limit(house.folder, "{concurrency: 1}")
    ticket = "use: ticket.create, with: {title: x}"
    house.playbook(f"steps:\n  - {{id: ticket, {ticket}}}\n")
    await house.start()
    await hold(house, "lab_desk", 60)
    first, second = await house.go(), await house.go()
    await house.stop()  # nobody is there to come when the first is called
    await house.start()
    house.running.worker.stop()
    house.clock.offset += timedelta(seconds=61)
    await until(lambda: _called(house, first))
    house.clock.offset += timedelta(seconds=6)
    await until(lambda: _called(house, second))
    await house.restart()
    await house.rest()
    states = {(await house.run(run.id)).state for run in (first, second)}
    assert states == {RunState.SUCCEEDED}


async def _called(house: House, run: Run) -> bool:
    return (await house.run(run.id)).state is RunState.READY
