"""The whole path from a real broker: alerts produced to a topic become runs, tickets and a verified journal."""

from __future__ import annotations

import asyncio
import json
import uuid
from pathlib import Path

from aiokafka import AIOKafkaProducer

from soar.demo.scenario import home_with_lab
from soar.engine.audit import verify_store
from soar.service import Doors, Running, assemble
from soar.settings import load_settings


async def test_alerts_of_a_topic_run_to_their_end_and_a_restart_doubles_nothing(kafka: str, tmp_path: Path) -> None:
    topic = f"alerts-{uuid.uuid4().hex[:8]}"
    await _produce(kafka, topic, first=0)
    config, lab = await home_with_lab(tmp_path / "home")
    environ = {
        "SOAR_WEB__PORT": "0",
        "SOAR_KAFKA__BOOTSTRAP_SERVERS": kafka,
        "SOAR_KAFKA__TOPICS": f"[{topic}]",
        "SOAR_KAFKA__GROUP_ID": topic,
    }
    for expected in (3, 6):
        async with assemble(load_settings(config, environ)) as service:
            running = Running(service)
            doors = Doors(running)
            await doors.open()
            await running.start(*doors.parts)
            async with asyncio.timeout(60):
                while sum((await service.store.counts()).alerts.values()) < expected:  # noqa: ASYNC110 - no event
                    await asyncio.sleep(0.1)
                while (await service.store.counts()).runs.get("succeeded", 0) < expected // 3:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            await doors.close()
            await running.stop()
            outcomes = (await service.store.counts()).alerts
            report = await verify_store(
                service.store, verifier=service.signer().verifier, origin=service.loaded.settings.journal.origin
            )
        assert outcomes == {"matched": expected // 3, "no_match": expected // 3, "dead_letter": expected // 3}
        assert report.ok, report.problems
        await _produce(kafka, topic, first=expected)
    await lab.stop()


async def _produce(servers: str, topic: str, *, first: int) -> None:
    """One alert that a playbook answers, one that none wants, one that is broken."""
    host = f"ws-{first}"
    wanted = {"id": f"k{first}", "title": "Ransomware", "severity": "high", "hostname": host, "technique": "T1486"}
    other = {"id": f"k{first + 1}", "title": "Scan finished", "severity": "informational"}
    producer = AIOKafkaProducer(bootstrap_servers=servers)
    await producer.start()
    try:
        for value in (json.dumps(wanted), json.dumps(other), "{broken"):
            await producer.send_and_wait(topic, value.encode())
    finally:
        await producer.stop()
