"""Several `soar run` on one PostgreSQL and one topic: they share the work, and locks and order hold between them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections import defaultdict
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from soar.demo.scenario import home_with_lab
from soar.engine.audit import verify_store
from soar.lab import read_log
from soar.service import assemble
from soar.settings import load_settings
from soar.store.port import Store

from .programs import program

HOSTS, EACH = 4, 6
PLAYBOOK = """\
playbook: probe
description: Does something before and after a while, for one alert of a host at a time.
owner: probe
on: {match: {rule.id: probe}}
lock: entities.hosts[0].name
steps:
  - {use: ticket.create, with: {title: "${{ alert.title }} begins"}}
  - wait: 100ms
  - {use: ticket.create, with: {title: "${{ alert.title }} ends"}}
"""


@pytest.mark.timeout(400)
async def test_runs_of_one_lock_never_overlap_and_go_in_order_however_workers_come_and_go(
    kafka: str, database: str, tmp_path: Path
) -> None:
    """One worker, then three, then two others: same configuration, no word to any of them; the lab says what was."""
    topic = f"alerts-{uuid.uuid4().hex[:8]}"
    await _make(kafka, topic, partitions=4)
    config, lab = await home_with_lab(tmp_path / "home")
    (tmp_path / "home" / "playbooks" / "probe.yaml").write_text(PLAYBOOK)
    environ = {
        "SOAR_STORE__URL": "secret://env/DATABASE",
        "DATABASE": database,
        "SOAR_KAFKA__BOOTSTRAP_SERVERS": kafka,
        "SOAR_KAFKA__TOPICS": f"[{topic}]",
        "SOAR_KAFKA__GROUP_ID": topic,
        "SOAR_KAFKA__MAX_POLL_RECORDS": "5",
    }
    logs = [tmp_path / f"soar-{number}.log" for number in range(3)]
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(lab.stop)
        at = await stack.enter_async_context(assemble(load_settings(config, environ)))
        first = await stack.enter_async_context(program(config, logs[0], environ))
        await _produce(kafka, topic, range(EACH // 3))
        await _until(at.store, done=1)
        others = [stack.enter_async_context(program(config, log, environ)) for log in logs[1:]]
        await asyncio.gather(*others)
        await _produce(kafka, topic, range(EACH // 3, 2 * EACH // 3))
        await _until(at.store, done=HOSTS * EACH // 2)
        await first.stop()
        await _produce(kafka, topic, range(2 * EACH // 3, EACH))
        await _until(at.store, done=HOSTS * EACH)
        report = await verify_store(at.store, verifier=at.signer().verifier, origin=at.loaded.settings.journal.origin)
        outcomes = (await at.store.counts()).alerts
    done = defaultdict(list)
    for line in read_log(lab.log_path):
        host, _, what = str(line["body"]["title"]).partition(" ")
        done[host].append(what)
    assert done == {
        f"ws-{host}": [f"{n} {word}" for n in range(EACH) for word in ("begins", "ends")] for host in range(HOSTS)
    }
    assert outcomes == {"matched": HOSTS * EACH}
    assert report.ok, report.problems
    assert sum("run.finished" in log.read_text() for log in logs) >= 2, "no single one did all of it"


async def _make(servers: str, topic: str, *, partitions: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, num_partitions=partitions, replication_factor=1)])
    finally:
        await admin.close()


async def _produce(servers: str, topic: str, numbers: range) -> None:
    """An alert of each number for each host; those of one host stay in order, as they have one key."""
    producer = AIOKafkaProducer(bootstrap_servers=servers)
    await producer.start()
    try:
        for number in numbers:
            for host in range(HOSTS):
                name = f"ws-{host}"
                alert = {"id": f"{name}-{number}", "rule_id": "probe", "title": f"{name} {number}", "hostname": name}
                # Severity would say who goes first; a lock's order is that of admission all the same.
                urgent = "critical" if (number + host) % 2 else "low"
                await producer.send(topic, json.dumps({**alert, "severity": urgent}).encode(), key=name.encode())
        await producer.flush()
    finally:
        await producer.stop()


async def _until(store: Store, *, done: int) -> None:
    async with asyncio.timeout(120):
        while (await store.counts()).runs.get("succeeded", 0) < done:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.1)
