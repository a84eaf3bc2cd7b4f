"""The process dies around every single write. What the lab did, by its own log, is then held against the journal."""

import asyncio
import dataclasses
import itertools
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from soar.model.alert import Record
from soar.model.approval import ApprovalState
from soar.model.run import Run, RunState
from soar.service import Running
from soar.store.port import Store
from soar.store.sqlite import SqliteStore

from .house import House, ask, open_house

PLAYBOOK = """
vars: {seen: 0}
steps:
  - {id: ticket, use: ticket.create, with: {title: "${{ alert.title }}"}}
  - parallel:
      - {id: isolate, use: host.isolate, with: {host: "${{ alert.raw.host }}"}, undo: {use: host.release, after: 7d}}
      - {id: say, use: notify.send, with: {channel: soc, text: "${{ alert.title }}"}}
      - {id: block, use: ip.block, with: {ip: "${{ alert.raw.address }}"}}
  - {set: {seen: 1}}
  - wait: 1m
  - {id: page, use: page.trigger, with: {summary: "${{ alert.title }}", severity: high}, if: vars.seen == `1`}
"""
ENDED = {RunState.SUCCEEDED, RunState.FAILED, RunState.DENIED, RunState.CANCELLED, RunState.NEEDS_REVIEW}


class DyingStore:
    """A store whose process dies right before or right after its n-th write: nothing that waits goes on from there."""

    WRITES = frozenset({"commit", "admit", "lease", "add_checkpoint"})

    def __init__(self, store: Store, *, at: int, after: bool) -> None:
        self.inner = store
        self.writes = 0
        self.died = asyncio.Event()
        self._at = at
        self._after = after

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        if name in {"open", "close"} or not asyncio.iscoroutinefunction(found):
            return found

        async def call(*args: Any, **kwargs: Any) -> Any:
            if self.died.is_set():
                await asyncio.Event().wait()
            self.writes += name in self.WRITES
            dies = name in self.WRITES and self.writes == self._at
            if dies and not self._after:
                await self._die()
            result = await found(*args, **kwargs)
            if dies:
                await self._die()
            return result

        return call

    async def _die(self) -> None:
        self.died.set()
        await asyncio.Event().wait()


class Lives:
    """One alert's life across two processes on one store file; the lab outlives both."""

    def __init__(self, house: House, number: int) -> None:
        self.house = house
        self.tag = f"case-{number}"
        self.path = house.folder / "data" / f"{number}.db"
        body = {
            "id": self.tag, "rule": "it", "title": self.tag, "host": self.tag, "severity": "high",
            "address": f"198.51.{number // 250}.{number % 250 + 1}",
        }  # fmt: skip
        self.address = body["address"]
        self.record = Record(
            source="test", topic="t", offset=number, value=json.dumps(body).encode(), mapping="generic",
            received_at=house.clock.now(),
        )  # fmt: skip

    async def live(self, at: int, *, after: bool) -> DyingStore:
        """Work until the process dies at its write `at`, or to the end where there is none such."""
        inner = SqliteStore(self.path)
        await inner.open()
        store = DyingStore(inner, at=at, after=after)
        self.house.service = dataclasses.replace(self.house.service, store=store)
        self.house.running = running = Running(self.house.service)
        life = asyncio.create_task(self._drive(running))
        death = asyncio.create_task(store.died.wait())
        await asyncio.wait({life, death}, return_when=asyncio.FIRST_COMPLETED)
        if life.done() and not store.died.is_set():
            life.result()
        left = {task for task in (life, death, *running._tasks, running.recorder._loop) if task is not None}
        while left:
            for task in left:
                task.cancel()
            _, left = await asyncio.wait(left, timeout=0.1)
        await running.gate.close()
        await inner.close()
        return store

    async def _drive(self, running: Running) -> None:
        """Admit the record, as a source does again after a crash, and let people and time do their part."""
        house = self.house
        await running.start()
        await running.admit([self.record])
        for _ in range(14):
            await house.rest()
            for approval in await house.store.approvals(state=ApprovalState.PENDING):
                await house.vote("alice", "grant", approval)
            runs = await house.store.runs(playbook_id="it")
            if all(run.state in ENDED for run in runs if run.parent_run_id is None):
                break
            house.clock.offset += timedelta(seconds=65)
        await running.sequencer.sign()

    def effects(self) -> Counter[str]:
        """What changed in the lab for this alert."""
        names = {self.tag, self.address}
        found: Counter[str] = Counter()
        for line in self.house.sent():
            body = json.dumps(line["body"]) + line["path"]
            if line["applied"] and any(f'"{name}"' in body or f"/{name}/" in body for name in names):
                found[line["system"] + line["path"].split("?")[0].replace(self.tag, "*")] += 1
        return found


ALL = {"desk/tickets": 1, "edr/hosts/*/isolate": 1, "chat/messages": 1, "firewall/rules": 1, "chat/pages": 1}


@pytest.fixture
async def matrix(tmp_path: Path) -> AsyncIterator[Callable[[], Lives]]:
    async with open_house(tmp_path) as house:
        house.policy(ask("soc-lead", execution_ttl="1h"))
        house.playbook(PLAYBOOK)
        await house.start()
        await house.running.stop()
        numbers = itertools.count()
        yield lambda: Lives(house, next(numbers))
        del house.running
        await house._stack.aclose()


async def check(lives: Lives, store: Store) -> Run:
    """What must hold whenever the process died; returns the run."""
    (run,) = [run for run in await store.runs(playbook_id="it") if run.parent_run_id is None]
    effects = lives.effects()
    assert all(count == 1 for count in effects.values()), effects
    attempts = await store.attempts(run.id)
    succeeded = {a.path for a in attempts if a.state.value == "succeeded"}
    if run.state is RunState.SUCCEEDED:
        assert effects == ALL
        assert not [a for a in attempts if a.state.value == "intended"]
    else:
        assert run.state is RunState.NEEDS_REVIEW, run.error
        doubtful = {a.path for a in attempts if a.state.value == "unknown"} - succeeded
        assert doubtful
        assert doubtful <= {"1.1.say", "1.2.block"}
    consumed = Counter([row.id async for row in store.entries() if row.type == "approval.consumed"])
    assert all(count == 1 for count in consumed.values())
    runs = (await store.counts()).runs
    assert not runs.get(RunState.RUNNING)
    assert not runs.get(RunState.READY)
    return run


async def count_writes(matrix: Callable[[], Lives]) -> int:
    lives = matrix()
    store = await lives.live(at=0, after=False)
    assert lives.effects() == ALL
    return store.writes


async def test_dying_around_any_write_loses_nothing_and_repeats_nothing(matrix: Callable[[], Lives]) -> None:
    writes = await count_writes(matrix)
    assert writes > 20
    states: Counter[RunState] = Counter()
    for at in range(1, writes + 1):
        for after in (False, True):
            lives = matrix()
            first = await lives.live(at=at, after=after)
            lives.house.clock.offset += timedelta(seconds=31)
            await lives.live(at=0, after=False)
            store = SqliteStore(lives.path)
            await store.open()
            try:
                run = await check(lives, store)
                assert (await lives.house.verify_of(store)).ok
            except AssertionError as failure:
                raise AssertionError(f"died {'after' if after else 'before'} write {at} of {writes}") from failure
            finally:
                await store.close()
            assert first.died.is_set() or at > first.writes
            states[run.state] += 1
    assert states[RunState.SUCCEEDED] > states[RunState.NEEDS_REVIEW] > 0


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
