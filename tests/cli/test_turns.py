"""What waits for a turn where, as a person sees it."""

import asyncio
import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from typer.testing import CliRunner

from soar.cli.app import app
from soar.demo.home import make_home
from soar.model.base import to_rfc3339
from soar.model.clock import SystemClock
from soar.model.limits import Limits
from soar.model.run import Run, RunKind, RunState, StepRecord, StepState
from soar.store.port import Fact, InsertRun, PutStep
from soar.store.queueing import HoldInstance, JoinQueue
from soar.store.sqlite import SqliteStore

NOW = SystemClock().now()
HELD = NOW + timedelta(hours=1)


async def fill(path: Path, facts: Sequence[Fact]) -> None:
    store = SqliteStore(path)
    await store.open()
    assert await store.commit(facts) == [None] * len(facts)
    await store.close()


def queued(name: str) -> Fact:
    run = Run(
        id=name, kind=RunKind.MANUAL, state=RunState.WAITING, playbook_id="p", playbook_digest="d", created_at=NOW
    )
    data = {"phase": "queued", "instance": "lab_desk", "why": "lab_desk is at its limits (1 at once)"}
    step = StepRecord(run_id=name, path="ticket", kind="use", state=StepState.WAITING, started_at=NOW, data=data)
    limits = Limits(concurrency=1)
    join = JoinQueue(instance="lab_desk", limits=limits, run_id=name, path="ticket", priority=1, at=NOW)
    return Fact(writes=(InsertRun(run=run), PutStep(record=step), join))


def test_a_queued_run_says_what_it_waits_for_and_each_instance_how_it_stands(tmp_path: Path) -> None:
    config = make_home(tmp_path / "home")
    text = config.read_text().replace("{use: lab_desk,", "{use: lab_desk, limits: {concurrency: 1},")
    config.write_text(text)
    hold = Fact(writes=(HoldInstance(instance="lab_edr", until=HELD),))
    asyncio.run(fill(tmp_path / "home/data/soar.db", [hold, *(queued(f"run-{n}") for n in range(4))]))

    def soar(*words: str) -> str:
        done = CliRunner().invoke(app, [*words, "-c", str(config)])
        assert done.exit_code == 0, done.output
        return done.stdout

    assert "waits for   ticket: its turn at lab_desk: 3 before it" in soar("runs", "show", "run-3")
    shown = {row["instance"]: row for row in json.loads(soar("connectors", "status", "--json"))}
    assert shown["lab_desk"] == {
        "instance": "lab_desk", "limits": "1 at once", "in_flight": 0, "queued": 4, "held_until": None,
    }  # fmt: skip
    assert shown["lab_edr"]["held_until"] == to_rfc3339(HELD)
    assert shown["lab_chat"]["limits"] == "none"
    assert "1 at once" in soar("connectors", "status")
