"""Playbooks change while the service runs: nothing is lost, nothing doubled, a mistake takes nothing out of force."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import structlog

from soar.demo.scenario import home_with_lab
from soar.model.alert import Record
from soar.model.entry import EntryType
from soar.model.run import Run, RunState
from soar.service import Running

from .topics import at_work, until

PLAYBOOK = """\
playbook: {name}
description: Answers what is critical.
owner: probe
on: {{match: {{severity: critical}}}}
steps:
  - set: {{version: {version}}}
"""


def write(home: Path, name: str, version: int) -> Path:
    path = home / "playbooks" / f"{name}.yaml"
    path.write_text(PLAYBOOK.format(name=name, version=version))
    return path


def record(running: Running, number: int) -> Record:
    value = json.dumps({"id": f"a{number}", "title": f"Alert {number}", "severity": "critical"}).encode()
    return Record(source="s", topic="t", offset=number, value=value, received_at=running.service.clock.now())


async def loads(running: Running) -> list[dict[str, Any]]:
    """What the journal tells of each set of playbooks."""
    entries = [entry async for entry in running.service.store.entries()]
    kind = EntryType.PLAYBOOKS_LOADED
    return [json.loads(entry.payload or b"{}") for entry in entries if entry.type == kind]


async def test_a_stream_of_alerts_meets_each_version_once_each(tmp_path: Path) -> None:
    """Every alert has one run of one version, before, while and after a new one comes into force."""
    config, lab = await home_with_lab(tmp_path / "home")
    write(tmp_path / "home", "probe", 1)
    async with at_work(config, {}) as (running, _):
        first = running.service.library.playbooks["probe"].digest

        async def stream() -> None:
            for number in range(120):
                await running.admit([record(running, number)])

        streaming = asyncio.create_task(stream())
        await asyncio.sleep(0.1)
        write(tmp_path / "home", "probe", 2)
        await running.reloader.reload()
        second = running.service.library.playbooks["probe"].digest
        await streaming
        await running.admit([record(running, 1000)])
        runs = await running.service.store.runs(playbook_id="probe", limit=1000)
        told = await loads(running)
    await lab.stop()
    assert Counter(Counter(run.alert_id for run in runs).values()) == {1: 121}
    assert {run.playbook_digest for run in runs} == {first, second}
    assert max(runs, key=lambda run: run.id).playbook_digest == second
    assert [each["playbooks"]["probe"] for each in told] == [first, second]
    assert told[1]["changed"] == {"probe": {"old": first, "new": second}}


async def test_a_broken_file_keeps_its_old_version_and_a_deleted_one_goes(tmp_path: Path) -> None:
    config, lab = await home_with_lab(tmp_path / "home")
    broken, gone = write(tmp_path / "home", "probe", 1), write(tmp_path / "home", "other", 1)
    async with at_work(config, {}) as (running, _):
        before = running.service.library.playbooks["probe"].digest
        broken.write_text("playbook: probe\nstesp: []\n")
        gone.unlink()
        write(tmp_path / "home", "third", 1)
        await running.reloader.reload()
        library = running.service.library
        assert library.playbooks["probe"].digest == before
        assert "{version: 1}" in library.text_of(before)
        assert any("did you mean 'steps'" in str(error) for error in library.errors)
        assert "other" not in library.playbooks
        [alert] = await running.admit([record(running, 1)])
        (_, change) = await loads(running)
        assert {name: bool(each["old"]) for name, each in change["changed"].items()} == {"other": True, "third": False}
        started = {run.playbook_id for run in await running.service.store.runs(alert_id=alert.alert_id)}
        assert started == {"probe", "third"}
        write(tmp_path / "home", "probe", 2)
        await running.reloader.reload()
        assert running.service.library.playbooks["probe"].digest != before
    await lab.stop()


async def test_a_playbook_that_got_another_name_is_not_kept_under_its_old_one(tmp_path: Path) -> None:
    config, lab = await home_with_lab(tmp_path / "home")
    path = write(tmp_path / "home", "probe", 1)
    async with at_work(config, {}) as (running, _):
        path.write_text(PLAYBOOK.format(name="renamed", version=1))
        await running.reloader.reload()
        assert {"probe", "renamed"} & running.service.library.playbooks.keys() == {"renamed"}
    await lab.stop()


async def test_nothing_changed_is_nothing_told(tmp_path: Path) -> None:
    config, lab = await home_with_lab(tmp_path / "home")
    async with at_work(config, {}) as (running, _):
        await running.reloader.reload()
        assert len(await loads(running)) == 1
    await lab.stop()


async def test_a_look_loads_nothing_until_a_file_is_another_one_than_was_loaded(tmp_path: Path) -> None:
    """At start, after a change, and where the change is a mistake: every file is loaded once."""
    config, lab = await home_with_lab(tmp_path / "home")
    async with at_work(config, {}) as (running, _):
        looks = []
        for text in (None, PLAYBOOK.format(name="probe", version=1), "playbook: probe\nstesp: []\n"):
            if text is not None:
                (tmp_path / "home" / "playbooks" / "probe.yaml").write_text(text)
            with structlog.testing.capture_logs() as told:
                await running.reloader.look()
                await running.reloader.look()
            looks.append([each["event"] for each in told if each["event"].startswith("playbooks.")])
        assert looks == [[], ["playbooks.reloaded"], ["playbooks.unchanged"]]
    await lab.stop()


async def test_a_file_that_changes_is_noticed_where_that_is_watched(tmp_path: Path) -> None:
    config, lab = await home_with_lab(tmp_path / "home")
    config.write_text(f"{config.read_text()}\nwatch_playbooks: true\n")
    async with at_work(config, {}) as (running, _):
        write(tmp_path / "home", "probe", 1)
        await until(lambda: running.reloader.reloaded == 1)
    await lab.stop()


async def test_workers_reload_one_after_the_other_and_either_carries_out_what_the_other_began(tmp_path: Path) -> None:
    """One has the new set, the other not yet: every alert has one run, of the version of who admitted it."""
    config, lab = await home_with_lab(tmp_path / "home")
    write(tmp_path / "home", "probe", 1)
    async with at_work(config, {}) as (one, _), at_work(config, {}) as (two, _):
        write(tmp_path / "home", "probe", 2)
        await one.reloader.reload()
        new, old = (each.service.library.playbooks["probe"].digest for each in (one, two))
        assert new != old
        for number in range(40):
            running = (one, two)[number % 2]
            await running.admit([record(running, number)])
        await two.reloader.reload()
        await two.admit([record(two, 40)])

        async def runs() -> list[Run]:
            return await one.service.store.runs(playbook_id="probe", limit=1000)

        async with asyncio.timeout(60):
            while {run.state for run in await runs()} != {RunState.SUCCEEDED}:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.05)
        found = Counter(run.playbook_digest for run in await runs())
    await lab.stop()
    assert found == {new: 21, old: 20}
