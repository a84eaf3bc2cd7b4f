"""Beyond one machine: several workers on one PostgreSQL carry every run out once, and the journal stays one."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from soar.demo.scenario import home_with_lab
from soar.engine.audit import verify_store
from soar.errors import ConfigError
from soar.lab import read_log
from soar.model.alert import Record
from soar.service import Running, assemble
from soar.settings import load_settings
from soar.store.postgres.migrate import SCHEMA_VERSION

WORKERS = 3
ALERTS = 60


async def test_three_workers_do_everything_once(database: str, tmp_path: Path) -> None:
    config, lab = await home_with_lab(tmp_path / "home")
    loaded = load_settings(config, {"SOAR_STORE__URL": "secret://env/DATABASE", "DATABASE": database})
    async with AsyncExitStack() as stack:
        stack.push_async_callback(lab.stop)
        workers = []
        for _ in range(WORKERS):
            workers.append(Running(await stack.enter_async_context(assemble(loaded))))
            await workers[-1].start()
        service = workers[0].service
        now = service.clock.now()
        bodies = [
            b'{"id":"pg-%d","title":"Ransomware","severity":"high","hostname":"ws-%d","technique":"T1486"}' % (n, n)
            for n in range(ALERTS)
        ]
        records = [
            Record(source="t", topic="t", offset=n, value=body, received_at=now) for n, body in enumerate(bodies)
        ]
        # Each door is given all of them, as a rebalance would; each is admitted once.
        admitted = await asyncio.gather(*(worker.admit(records) for worker in workers))
        assert sum(len(part) for part in admitted) == ALERTS
        async with asyncio.timeout(90):
            while (await service.store.counts()).runs.get("succeeded", 0) < ALERTS:  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.2)
        for worker in workers:
            await worker.stop()
        report = await verify_store(
            service.store, verifier=service.signer().verifier, origin=service.loaded.settings.journal.origin
        )
    verified = await _soar("audit", "verify", "--json", config=config, database=database)
    assert json.loads(verified)["ok"]
    done = [line["effect"] for line in read_log(tmp_path / "home/data/lab.jsonl") if line["applied"]]
    isolated = [effect for effect in done if "isolated" in effect]
    assert len(isolated) == len(set(isolated)) > 0
    assert len([effect for effect in done if effect.startswith("opened ticket")]) == ALERTS
    assert report.ok, report.problems


async def test_a_password_in_the_url_is_refused(tmp_path: Path) -> None:
    config, lab = await home_with_lab(tmp_path / "home")
    await lab.stop()
    with pytest.raises(ConfigError, match="holds a password"):
        async with assemble(load_settings(config, {"SOAR_STORE__URL": "postgresql://soar:secret@localhost/soar"})):
            pass


async def test_doctor_looks_at_the_database_and_changes_nothing(database: str, tmp_path: Path) -> None:
    config, lab = await home_with_lab(tmp_path / "home")
    await lab.stop()
    told = await _soar("doctor", "--offline", "--json", config=config, database=database)
    assert f"durable, schema 0; the next start brings it to {SCHEMA_VERSION}" in told
    assert "127.0.0.1" in told
    assert database.split("@", maxsplit=1)[0] not in told, "the password is not shown"


async def _soar(*words: str, config: Path, database: str) -> str:
    """What a command prints on this database."""
    environ = {**os.environ, "SOAR_STORE__URL": "secret://env/DATABASE", "DATABASE": database}
    command = [sys.executable, "-m", "soar", *words, "-c", str(config)]
    done = await asyncio.create_subprocess_exec(*command, env=environ, stdout=asyncio.subprocess.PIPE)
    return (await done.communicate())[0].decode()
