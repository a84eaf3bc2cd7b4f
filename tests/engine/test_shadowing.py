"""A candidate beside the live policy: what it would have said is journalled, and nothing else comes of it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx
import pytest
import yaml
from typer.testing import CliRunner

from soar.cli.app import app
from soar.engine.recorder import Recorder
from soar.engine.scribe import Scribe
from soar.engine.shadowing import Shadow
from soar.errors import PolicyUnavailableError
from soar.model.clock import SystemClock, UlidSource
from soar.model.decision import Decision, Verdict
from soar.model.run import RunState
from soar.policy.bundle import load_bundle
from soar.policy.embedded import EmbeddedEngine
from soar.policy.gate import Gate
from soar.policy.rehearsal import rehearsal
from soar.service import Doors

from .house import ALLOW, DENY_CONTAIN, House, ask

TWO = """
steps:
  - {id: ticket, use: ticket.create, with: {title: x}}
  - {id: isolate, use: host.isolate, with: {host: ws-17}}
"""


def candidate(house: House, rego: str) -> None:
    """Put a candidate beside the policies, and name it in soar.yaml."""
    (house.folder / "next").mkdir()
    (house.folder / "next" / "main.rego").write_text(rego)
    path = house.folder / "soar.yaml"
    text = path.read_text()
    document = yaml.safe_load(text)
    path.write_text(yaml.safe_dump({**document, "policy": {**document.get("policy", {}), "shadow": "next"}}))


async def compared(house: House, count: int) -> Shadow:
    """The shadow, once it has compared so many."""
    shadow = house.running.shadow
    assert shadow is not None
    async with asyncio.timeout(60):
        while shadow.seen.total() < count:  # noqa: ASYNC110 - nothing waits for a shadow, so it rings no bell
            await asyncio.sleep(0.01)
    return shadow


async def test_what_the_candidate_would_have_denied_is_done_and_the_difference_journalled(house: House) -> None:
    candidate(house, DENY_CONTAIN)
    house.playbook(TWO)
    await house.start()
    run = await house.go()
    shadow = await compared(house, 2)
    assert run.state is RunState.SUCCEEDED
    assert house.effects()[-1] == "isolated host ws-17"
    assert shadow.seen == {"same": 1, "differed": 1}
    (told,) = await house.told(run, "policy.differed")
    decided = [each for each in await house.told(run, "policy.decided") if each["subject"] == "isolate"]
    assert told["subject"] == decided[0]["data"]["decision"]
    assert told["data"] == {
        "path": "isolate",
        "kind": "allow->deny",
        "revision": house.running.gate.revision,
        "candidate": shadow.gate.revision,
    }
    assert told["body"]["action"] == "lab_edr.isolate_host ws-17"
    assert (await house.verify()).ok


async def test_differences_are_shown_by_kind_with_the_newest_as_examples(house: House) -> None:
    candidate(house, DENY_CONTAIN)
    house.playbook(TWO)
    await house.start()
    runs = [await house.go() for _ in range(3)]
    shadow = await compared(house, 6)

    def shown(*words: str) -> str:
        ended = CliRunner().invoke(app, ["policy", "shadow", "--config", str(house.folder / "soar.yaml"), *words])
        assert ended.exit_code == 0, ended.output
        return ended.stdout

    found = json.loads(shown("--limit", "2", "--json"))
    assert (found["differed"], found["kinds"]) == (
        3, [{"kind": "allow->deny", "candidate": shadow.gate.revision, "count": 3}],
    )  # fmt: skip
    assert [each["run"] for each in found["examples"]] == [runs[2].id, runs[1].id]
    assert "lab_edr.isolate_host ws-17" in shown()
    assert json.loads(shown("--candidate", "0" * 64, "--json"))["differed"] == 0


async def test_what_the_candidate_would_have_allowed_is_still_asked(house: House) -> None:
    house.policy(ask("soc-lead"))
    candidate(house, ALLOW)
    house.playbook(TWO)
    await house.start()
    run = await house.go()
    await compared(house, 2)
    assert run.state is RunState.WAITING
    assert not [effect for effect in house.effects() if "isolated" in effect]
    assert [each["data"]["kind"] for each in await house.told(run, "policy.differed")] == ["ask->allow"]


async def test_a_candidate_that_does_not_load_keeps_nothing_from_running(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    candidate(house, "package soar.main\n\nallow {\n")
    house.playbook(TWO)
    await house.start()
    assert (await house.go()).state is RunState.SUCCEEDED
    assert house.running.shadow is None
    told = capsys.readouterr()
    assert "policy.shadow_refused" in told.out + told.err


async def test_metrics_count_what_was_compared(house: House) -> None:
    candidate(house, DENY_CONTAIN)
    house.playbook(TWO)
    house.environ = {"SOAR_WEB__PORT": "0"}
    await house.start()
    doors = Doors(house.running)
    await doors.open()
    serving = [asyncio.create_task(part()) for part in doors.parts]
    try:
        await house.go()
        await compared(house, 2)
        async with httpx.AsyncClient(base_url=doors.url or "") as http:
            metrics = (await http.get("/metrics")).text
    finally:
        await doors.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
    assert 'soar_policy_shadow_decisions{result="differed"} 1' in metrics
    assert 'soar_policy_shadow_decisions{result="dropped"} 0' in metrics
    assert f'soar_policy_info{{revision="{house.running.gate.revision}"}} 1' in metrics


async def test_what_comes_too_fast_is_dropped_and_counted_and_an_engine_that_is_away_too(house: House) -> None:
    """The offer itself never waits: it is no coroutine, and the queue is as long as it is."""
    await house.start()
    engine = EmbeddedEngine(load_bundle(Path(house.folder / "policies")))
    gate = Gate(engine, mandatory_controls=(), ids=UlidSource())
    recorder = Recorder(house.store)
    shadow = Shadow(gate=gate, recorder=recorder, scribe=Scribe(clock=SystemClock(), ids=UlidSource()), held=3)
    live = Decision(id="decision-1", effect=Verdict.DENY, engine="embedded", revision="another")
    for _ in range(10):
        shadow.offer(rehearsal()[0].document(), live)
    assert shadow.seen == {"dropped": 7}
    await engine.close()
    with pytest.raises(PolicyUnavailableError):
        await gate.decide(rehearsal()[0].document())
    running = asyncio.create_task(shadow.run())
    async with asyncio.timeout(60):
        while shadow.seen["failed"] < 3:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert shadow.seen == {"dropped": 7, "failed": 3}
