"""The bounded demonstration: samples in, one approval answered, one action taken back, the journal verified."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from soar.demo.home import make_home
from soar.demo.samples import samples
from soar.engine.audit import verify_store
from soar.lab import LabServer
from soar.model.approval import ApprovalState
from soar.model.run import RunKind, RunState, StepRecord
from soar.service import Running, assemble
from soar.settings import load_settings
from soar.store.port import Store

_PATIENCE_SECONDS = 45.0
_SETTLED_SECONDS = 0.5


@dataclass(frozen=True)
class Summary:
    """What the demonstration saw, counted in the store and the lab, not in what it meant to do."""

    alerts: dict[str, int]
    records: int
    runs: dict[str, int]
    actions: dict[str, int]
    approvals: dict[str, int]
    tickets: int
    denied_by_policy: int
    approved: int
    undone: int
    entries: int
    verified: bool

    @property
    def ok(self) -> bool:
        """Whether everything that the demonstration is to show was seen."""
        seen = (self.tickets, self.denied_by_policy, self.approved, self.undone)
        return self.verified and all(seen) and not self.runs.get(RunState.RUNNING)


async def demonstrate(folder: Path, say: Callable[[str], None]) -> Summary:
    """Run the whole demonstration in an empty folder; `say` is told each step."""
    config, lab = await home_with_lab(folder)
    try:
        async with assemble(load_settings(config)) as service:
            running = Running(service)
            await running.start()
            try:
                records = samples(service.clock.now(), topic="demo")
                await running.admit(records)
                say(f"{len(records)} sample records admitted, each with one outcome")
                await _decide(running, say)
                await _rest(running)
                for record in await _denied(service.store):
                    say(f"policy denies {record.step_id}: {record.error}")
                await _take_back(running, say)
                await _rest(running)
            finally:
                await running.stop()
            say("journal signed; verifying it")
            return await _summary(running, lab, records=len(records))
    finally:
        await lab.stop()


async def home_with_lab(folder: Path, *, port: int = 0) -> tuple[Path, LabServer]:
    """A started lab, and a new home whose connectors point to it."""
    token = secrets.token_urlsafe(24)
    lab = LabServer(port=port, log_path=folder / "data" / "lab.jsonl", token=token)
    (folder / "data").mkdir(parents=True, exist_ok=True)
    await lab.start()
    try:
        return make_home(folder, lab_url=lab.url, lab_token=token), lab
    except BaseException:
        await lab.stop()
        raise


async def _decide(running: Running, say: Callable[[str], None]) -> None:
    """Answer the approval about the server as alice would; leave what needs more people to its time."""
    service = running.service
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while True:
            pending = await service.store.approvals(state=ApprovalState.PENDING)
            mine = [a for a in pending if a.binding.get("params", {}).get("host") == "srv-db-01"]
            if mine:
                break
            await asyncio.sleep(0.1)
    approval = mine[0]
    say(f"alice reads what would be sent: {approval.binding['action']} {approval.binding['params']}")
    await service.desk(running.worker.wake).vote(
        approval.id,
        person="alice",
        decision="grant",
        digest=approval.digest,
        method="demo",
        reason="confirmed with the owner",
    )
    say(f"alice grants {approval.id}, bound to digest {approval.digest[:12]}")


async def _rest(running: Running) -> None:
    """Wait until nothing is ready or running for a moment."""
    store, quiet = running.service.store, 0.0
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while quiet < _SETTLED_SECONDS:
            runs = (await store.counts()).runs
            quiet = 0.0 if runs.get(RunState.READY) or runs.get(RunState.RUNNING) else quiet + 0.1
            await asyncio.sleep(0.1)


async def _take_back(running: Running, say: Callable[[str], None]) -> None:
    """Release the workstation again, by hand."""
    service = running.service
    for run in await service.store.runs(playbook_id="ransomware-host"):
        steps = await service.store.steps(run.id)
        isolated = steps.get("isolate")
        if run.kind is RunKind.ALERT and isolated and isolated.ok and isolated.result["host"] == "ws-17":
            undo = await service.control("alice").undo(run.id, path="isolate")
            running.worker.wake()
            say(f"alice takes an isolation back: {undo[0]}")
            return


async def _denied(store: Store) -> list[StepRecord]:
    runs = await store.runs(limit=1000)
    records = [record for run in runs for record in (await store.steps(run.id)).values()]
    return [record for record in records if record.error_code == "policy_denied"]


async def _summary(running: Running, lab: LabServer, *, records: int) -> Summary:
    service = running.service
    store = service.store
    counts = await store.counts()
    undone = [r for r in await store.runs(state=RunState.SUCCEEDED, limit=1000) if r.kind is RunKind.UNDO]
    report = await verify_store(
        store, verifier=service.signer().verifier, origin=service.loaded.settings.journal.origin
    )
    return Summary(
        alerts=dict(counts.alerts),
        records=records,
        runs=dict(counts.runs),
        actions=dict(counts.actions),
        approvals=dict(counts.approvals),
        tickets=_tickets(lab),
        denied_by_policy=len(await _denied(store)),
        approved=counts.approvals.get(ApprovalState.CONSUMED, 0),
        undone=len(undone),
        entries=counts.entries,
        verified=report.ok,
    )


def _tickets(lab: LabServer) -> int:
    return len(lab.snapshot()["desk"]["tickets"])
