"""Commands of the day: alerts, runs, approvals, explain, deadletters, halt, resume, status."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import typer
from aiokafka.errors import KafkaError

from soar.cli import alerts, approvals, deadletters, runs, steer, suppress
from soar.cli.base import AsOption, ConfigOption, JsonOption, ReasonOption, out, print_json, run
from soar.cli.explain import explain
from soar.cli.ground import counted
from soar.cli.show import fact
from soar.cli.stored import stored
from soar.engine.control import HALT
from soar.errors import SoarError
from soar.ingest.backlog import backlog
from soar.journal.checkpoint import Checkpoint
from soar.service.brokers import subscription_of
from soar.settings import Loaded
from soar.store.port import Store
from soar.store.seen import Counts

BROKER_SECONDS = 3.0


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(status)
    app.add_typer(alerts.app, name="alerts")
    steer.add_to(runs.app)
    app.add_typer(runs.app, name="runs")
    app.add_typer(approvals.app, name="approvals")
    app.add_typer(suppress.app, name="suppress")
    app.command()(explain)
    app.add_typer(deadletters.app, name="deadletters")
    app.command()(halt)
    app.command()(resume)


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How things stand: `halted` is the reason of the kill switch, None while actions may go out."""

    halted: str | None
    alerts: Mapping[str, int]
    runs: Mapping[str, int]
    actions: Mapping[str, int]
    approvals: Mapping[str, int]
    entries: int
    signed: int  # entries under the newest checkpoint
    kafka: Waiting | None  # None where none is configured


@dataclass(frozen=True, slots=True)
class Waiting:
    """Records that the group has not consumed; `problem` says why there is no telling."""

    group: str
    records: int | None
    problem: str | None = None


def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Whether actions go out, how much there is of everything, what waits in Kafka, how much of the journal is signed.

    Example: soar status --json
    """
    stands = run(_status(config))
    if as_json:
        print_json(stands)
        return
    fact("actions", "go out" if stands.halted is None else f"HALTED: {stands.halted}")
    for name in ("alerts", "runs", "actions", "approvals"):
        fact("sent" if name == "actions" else name, _counted(getattr(stands, name)))
    if stands.kafka is not None:
        waiting = stands.kafka
        fact("kafka", waiting.problem or f"{counted(waiting.records or 0, 'record')} wait for group {waiting.group}")
    fact("journal", f"{stands.entries} entries, {stands.signed} of them under a signed checkpoint")


def halt(
    reason: ReasonOption, named: AsOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Stop every outgoing action at once, on all workers.

    Example: soar halt --reason "wrong hosts isolated"
    """
    person = run(_switch(config, named, reason, halted=True))
    if as_json:
        print_json({"halted": reason, "by": person})
        return
    out.print("[red]halted[/red]: nothing more is sent; runs that want to send wait. `soar resume` lets them go on.")


def resume(
    reason: ReasonOption, named: AsOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Clear the kill switch: actions go out again. `soar runs resume` is for one paused run.

    Example: soar resume --reason "the rule is fixed"
    """
    person = run(_switch(config, named, reason, halted=False))
    if as_json:
        print_json({"halted": None, "by": person})
        return
    out.print("[green]resumed[/green]: what waited is sent, each after policy has been asked again.")


async def _switch(config: Path | None, named: str | None, reason: str, *, halted: bool) -> str:
    async with stored(config) as opened:
        person = opened.person(named)
        control = opened.control(person)
        await (control.halt(reason=reason) if halted else control.resume(reason=reason))
        return person


async def _status(config: Path | None) -> Status:
    async with stored(config) as opened:
        counts: Counts = await opened.store.counts()
        return Status(
            halted=await opened.store.control(HALT),
            alerts=counts.alerts,
            runs=counts.runs,
            actions=counts.actions,
            approvals=counts.approvals,
            entries=counts.entries,
            signed=await _signed(opened.store),
            kafka=await _waiting(opened.loaded),
        )


async def _waiting(loaded: Loaded) -> Waiting | None:
    """How far behind we are, if the broker says so soon: all else of the status is told without it."""
    kafka = loaded.settings.kafka
    if kafka is None:
        return None
    try:
        subscription = subscription_of(loaded)
        assert subscription is not None
        async with asyncio.timeout(BROKER_SECONDS):
            found = await backlog(subscription)
    except TimeoutError:
        return Waiting(kafka.group_id, None, f"no answer from {kafka.bootstrap_servers} in {BROKER_SECONDS:.0f} s")
    except (KafkaError, SoarError) as failure:
        return Waiting(kafka.group_id, None, f"cannot be asked: {failure}")
    return Waiting(kafka.group_id, sum(found.lag.values()))


async def _signed(store: Store) -> int:
    """The size that the newest checkpoint claims; `soar audit verify` checks the claim."""
    newest = await store.checkpoints(newest=1)
    return Checkpoint.from_text(newest[0].partition("\n\n")[0] + "\n").size if newest else 0


def _counted(counts: Mapping[str, int]) -> str:
    each = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    return f"{sum(counts.values())}: {each}" if counts else "none"
