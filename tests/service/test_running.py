"""The service as a whole: it starts, lets alerts in by HTTP, says how it is, and stops in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from soar.demo.scenario import home_with_lab
from soar.engine.audit import verify_store
from soar.errors import ConfigError, NotAllowedError, PolicyError
from soar.model.run import RunState
from soar.service import Doors, Running, assemble, person_of
from soar.settings import load_settings


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[tuple[Running, Doors, str]]:
    config, lab = await home_with_lab(tmp_path / "home")
    token = (tmp_path / "home/keys/ingest-token").read_text().strip()
    async with assemble(load_settings(config, {"SOAR_WEB__PORT": "0"})) as service:
        running = Running(service)
        doors = Doors(running)
        await doors.open()
        await running.start(*doors.parts)
        yield running, doors, token
        await doors.close()
        await running.stop()
    await lab.stop()


async def test_an_alert_sent_by_http_runs_to_its_end(running: tuple[Running, Doors, str]) -> None:
    service, doors, token = running[0].service, running[1], running[2]
    body = {"title": "Ransomware behaviour", "severity": "high", "hostname": "ws-5", "technique": "T1486"}
    async with httpx.AsyncClient(base_url=doors.url or "", headers={"Authorization": f"Bearer {token}"}) as http:
        answer = (await http.post("/ingest/test", json=body)).json()
        assert answer["alerts"][0]["outcome"] == "matched"
        async with asyncio.timeout(60):
            while not await service.store.runs(state=RunState.SUCCEEDED):  # noqa: ASYNC110 - the store has no event
                await asyncio.sleep(0.05)
        metrics = (await http.get("/metrics")).text
        assert 'soar_alerts{outcome="matched"} 1' in metrics
        assert (await http.get("/health")).json() == {"status": "ok"}
    await running[0].sequencer.sign()
    report = await verify_store(
        service.store, verifier=service.signer().verifier, origin=service.loaded.settings.journal.origin
    )
    assert report.ok, report.problems


async def test_what_was_started_and_stopped_is_in_the_journal(tmp_path: Path) -> None:
    config, lab = await home_with_lab(tmp_path / "home")
    async with assemble(load_settings(config, {})) as service:
        running = Running(service)
        await running.start()
        await running.stop()
        kinds = [entry.type async for entry in service.store.entries()]
    await lab.stop()
    assert kinds == ["service.started", "playbooks.loaded", "policy.loaded", "service.stopped"]


async def test_a_broken_playbook_keeps_no_other_out(tmp_path: Path) -> None:
    config, lab = await home_with_lab(tmp_path / "home")
    (tmp_path / "home/playbooks/broken.yaml").write_text("playbook: broken\nstesp: []\n")
    async with assemble(load_settings(config, {})) as service:
        assert "ransomware-host" in service.library.playbooks
        assert any("did you mean 'steps'" in str(error) for error in service.library.errors)
    await lab.stop()


async def test_a_broken_policy_stops_the_start_with_its_place(tmp_path: Path) -> None:
    config, lab = await home_with_lab(tmp_path / "home")
    (tmp_path / "home/policies/extra.rego").write_text("package soar.extra\n\nallow if {\n")
    with pytest.raises(PolicyError, match=r"extra\.rego"):
        async with assemble(load_settings(config, {})):
            pass
    await lab.stop()


async def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    config, lab = await home_with_lab(tmp_path / "home")
    (tmp_path / "home/keys/journal.key").chmod(0o644)
    async with assemble(load_settings(config, {})) as service:
        with pytest.raises(ConfigError, match="chmod 600"):
            service.signer()
    await lab.stop()


async def test_a_connector_that_does_not_exist_is_named_with_its_place(tmp_path: Path) -> None:
    config, lab = await home_with_lab(tmp_path / "home")
    config.write_text(config.read_text().replace("{use: lab_desk,", "{use: lab_dsek,"))
    with pytest.raises(ConfigError, match=r"soar\.yaml:\d+:\d+: .*lab_desk"):
        async with assemble(load_settings(config, {})):
            pass
    await lab.stop()


def test_acting_for_others_needs_the_configuration_to_allow_it(tmp_path: Path) -> None:
    file = tmp_path / "soar.yaml"
    file.write_text("people: [{name: bob}]\n")
    with pytest.raises(NotAllowedError, match="act_as is false"):
        person_of(load_settings(file, {}), "bob")
    with pytest.raises(NotAllowedError, match="belongs to nobody"):
        person_of(load_settings(file, {}), None)
    file.write_text("people: [{name: bob}]\ncli: {act_as: true}\n")
    assert person_of(load_settings(file, {}), "bob") == "bob"
