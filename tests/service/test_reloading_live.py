"""Playbooks that change many times under a stream from a real broker, in a process of its own, by SIGHUP."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import signal
import uuid
from collections import Counter
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from soar.demo.scenario import home_with_lab
from soar.journal.leaf import parse_leaf
from soar.model.entry import EntryType
from soar.service import assemble
from soar.settings import load_settings
from soar.store.port import Store

from .programs import program

CHANGES = 6
_KINDS = {EntryType.PLAYBOOKS_LOADED, EntryType.RUN_CREATED}
PLAYBOOK = """\
playbook: probe
description: Answers what is critical.
owner: probe
on: {{match: {{severity: critical}}}}
steps:
  - set: {{version: {version}}}
"""


@pytest.mark.timeout(400)
async def test_no_alert_is_lost_or_doubled_while_playbooks_change_under_a_stream(kafka: str, tmp_path: Path) -> None:
    """Each alert meets one version, each version those of its time; the journal has them in this order."""
    topic, home = f"alerts-{uuid.uuid4().hex[:8]}", tmp_path / "home"
    config, lab = await home_with_lab(home)
    await lab.stop()  # nothing is sent to it
    playbook = home / "playbooks" / "probe.yaml"
    playbook.write_text(PLAYBOOK.format(version=0))
    environ = {
        "SOAR_KAFKA__BOOTSTRAP_SERVERS": kafka,
        "SOAR_KAFKA__TOPICS": f"[{topic}]",
        "SOAR_KAFKA__GROUP_ID": topic,
        "SOAR_KAFKA__MAX_POLL_RECORDS": "20",
    }
    stream = _Stream(kafka, topic)
    async with program(config, tmp_path / "soar.log", environ) as soar, assemble(load_settings(config, environ)) as at:
        producing = asyncio.create_task(stream.run())
        for version in range(1, CHANGES + 1):
            await _until(at.store, more=10)
            playbook.write_text("playbook: probe\nstesp: []\n")  # half-written, as an editor may leave it
            soar.send(signal.SIGHUP)
            playbook.write_text(PLAYBOOK.format(version=version))
            soar.send(signal.SIGHUP)
            await _until(at.store, loaded=hashlib.sha256(playbook.read_bytes()).hexdigest())
        await _until(at.store, more=20)
        stream.stop.set()
        sent = await producing
        await _until(at.store, alerts=sent)
        await soar.stop()
        alerts = await at.store.alerts(limit=100_000)
        told = [entry async for entry in at.store.entries() if entry.type in _KINDS]
        versions = [each["probe"] for each in await _loads(at.store)]
    runs = [parse_leaf(entry.leaf)["data"] for entry in told if entry.type == EntryType.RUN_CREATED]
    met = [run["playbook_digest"] for run in runs]
    assert Counter(row.title for row in alerts) == {f"Alert {number}": 1 for number in range(sent)}
    assert {row.outcome for row in alerts} == {"matched"}
    assert Counter(run["alert"] for run in runs) == {row.id: 1 for row in alerts}
    assert met == sorted(met, key=versions.index)
    assert {met[0], met[-1]} == {versions[0], versions[-1]}
    assert len(versions) == CHANGES + 1
    in_force = 0  # how many versions the journal had told of
    for entry in told:
        in_force += entry.type == EntryType.PLAYBOOKS_LOADED
        if entry.type == EntryType.RUN_CREATED:
            assert parse_leaf(entry.leaf)["data"]["playbook_digest"] in versions[:in_force]


class _Stream:
    """Critical alerts, one after the other, until it is stopped."""

    def __init__(self, servers: str, topic: str) -> None:
        self.stop = asyncio.Event()
        self._servers = servers
        self._topic = topic

    async def run(self) -> int:
        """How many the broker has."""
        producer = AIOKafkaProducer(bootstrap_servers=self._servers, linger_ms=5)
        await producer.start()
        sent = 0
        try:
            while not self.stop.is_set():
                alert = {"id": f"a{sent}", "title": f"Alert {sent}", "severity": "critical"}
                await producer.send(self._topic, json.dumps(alert).encode())
                sent += 1
                await asyncio.sleep(0.01)
            await producer.flush()
        finally:
            await producer.stop()
        return sent


async def _until(store: Store, *, alerts: int = 0, more: int = 0, loaded: str | None = None) -> None:
    """Until there are so many alerts, so many more than now, or this digest is in force as the journal tells."""
    enough = max(alerts, sum((await store.counts()).alerts.values()) + more) if alerts or more else 0
    async with asyncio.timeout(90):
        while sum((await store.counts()).alerts.values()) < enough:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.1)
        while loaded is not None and (await _loads(store))[-1]["probe"] != loaded:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def _loads(store: Store) -> list[dict[str, str]]:
    """The digests of each set of playbooks, as the journal tells; each says what it came after."""
    told = [entry async for entry in store.entries() if entry.type == EntryType.PLAYBOOKS_LOADED]
    payloads = [json.loads(entry.payload or b"{}") for entry in told]
    for before, after in itertools.pairwise(payloads):
        old, new = before["playbooks"]["probe"], after["playbooks"]["probe"]
        assert after["changed"] == {"probe": {"old": old, "new": new}}
    return [payload["playbooks"] for payload in payloads]
