"""A service in a process of its own is killed under its work. What the lab did is then held against the journal.

That it dies around every single write is in tests/crash.
"""

import asyncio
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence

from soar.model.run import RunState

from .house import House

SERVICE = """
import asyncio, json, sys
from datetime import UTC, datetime
from pathlib import Path
from soar.model.alert import Record
from soar.model.approval import ApprovalState
from soar.service import Running, assemble
from soar.settings import load_settings

async def main():
    async with assemble(load_settings(Path(sys.argv[1]), {})) as service:
        running = Running(service)
        await running.start()
        print("up", flush=True)
        first, last = int(sys.argv[2]), int(sys.argv[3])
        for number in range(first, last):
            body = {"id": f"k-{number}", "rule": "it", "title": f"k-{number}", "severity": "high"}
            record = Record(source="t", topic="t", offset=number, value=json.dumps(body).encode(), mapping="generic",
                            received_at=datetime.now(UTC))
            if await running.admit([record]):
                print(number, flush=True)
            await asyncio.sleep(0.005)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def kill_at(house: House, numbers: Sequence[int], rng: random.Random) -> set[int]:
    """Run the service in a process of its own and kill it under its work; what it acknowledged."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVICE, str(house.folder / "soar.yaml"), str(numbers[0]), str(numbers[-1] + 1),
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    lines = 0
    acknowledged = set()
    limit = rng.randrange(5, len(numbers))
    while line := (await process.stdout.readline()).decode().strip():
        if line.isdigit():
            acknowledged.add(int(line))
            lines += 1
        if lines >= limit:
            await asyncio.sleep(rng.random() / 20)
            process.kill()
            break
    rest = (await process.stdout.read()).decode().split()
    await process.wait()
    return acknowledged | {int(word) for word in rest if word.isdigit()}


async def test_killed_under_load_nothing_is_lost_and_nothing_keyed_done_twice(house: House) -> None:
    house.playbook(
        'steps:\n  - {id: ticket, use: ticket.create, with: {title: "${{ alert.title }}"}}\n'
        '  - {id: say, use: notify.send, with: {channel: soc, text: "${{ alert.title }}"}}\n'
        '  - {id: page, use: page.trigger, with: {summary: "${{ alert.title }}", severity: high}}\n'
    )
    rng = random.Random(20260105)
    acknowledged: set[int] = set()
    for life in range(3):
        acknowledged |= await kill_at(house, range(life * 100, life * 100 + 60), rng)
    await house.start()
    for seconds in (31, 62, 62, 62, 62, 62):
        await house.pass_time(seconds)
    runs = {run.alert_id: run for run in await house.store.runs(limit=1000)}
    assert len(runs) >= len(acknowledged) > 15
    done: Counter[tuple[str, str]] = Counter()
    for line in house.sent("POST"):
        if line["applied"]:
            done[
                line["system"] + line["path"],
                line["body"].get("title") or line["body"].get("text") or line["body"]["summary"],
            ] += 1
    assert set(done.values()) == {1}
    states: Counter[RunState] = Counter()
    for alert_id, run in runs.items():
        states[run.state] += 1
        row = await house.store.alert_row(alert_id or "")
        assert row is not None
        assert done["desk/tickets", row.title] == 1
        assert run.state in {RunState.SUCCEEDED, RunState.NEEDS_REVIEW}
        if run.state is RunState.SUCCEEDED:
            assert done["chat/messages", row.title] == done["chat/pages", row.title] == 1
        else:
            unknown = {a.path for a in await house.store.attempts(run.id) if a.state.value == "unknown"}
            assert "say" in unknown
    titles = {row.title for row in await house.store.alerts(limit=1000)}
    assert {f"k-{number}" for number in acknowledged} <= titles
    assert (await house.verify()).ok
