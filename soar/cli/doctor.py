"""`soar doctor`: looks at everything that `soar run` will need, and says what to do."""

from __future__ import annotations

import logging
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

import typer

from soar import logs
from soar.cli import checks
from soar.cli.base import FOUND, ConfigOption, JsonOption, out, print_json, run, settings, text
from soar.cli.checks import Check, Line, Patient, State
from soar.cli.ground import counted
from soar.errors import ConfigError, SoarError
from soar.model.clock import SystemClock, UlidSource

CHECKS = MappingProxyType(
    {
        "folders": checks.folders,
        "key": checks.key,
        "store": checks.store,
        "policy": checks.policy,
        "connectors": checks.connectors,
        "playbooks": checks.playbooks,
        "mappings": checks.mappings,
        "people": checks.people,
        "broker": checks.broker,
        "ports": checks.ports,
    }
)
"""In the order in which people want to know."""

_COLOURS = MappingProxyType({State.OK: "green", State.WARN: "yellow", State.FAILED: "bold red"})


def add_to(app: typer.Typer) -> None:
    """Add `doctor`."""
    app.command()(doctor)


def doctor(
    config: ConfigOption = None,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no product and no broker.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check configuration, folders, key, store, policy, connectors, playbooks, mappings, people, broker and ports.

    Changes nothing. Each line says ok, warn or FAILED, and what to do; exit code 1 if one FAILED.

    Example: soar doctor --offline
    """
    logs.configure(level="error")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # its warnings would say again what our line says
    found = run(_examine(config, offline=offline))
    if as_json:
        print_json([{"check": name, **_plain(line)} for name, line in found])
    else:
        for name, line in found:
            _print(name, line)
        failed, warned = (sum(line.state is state for _, line in found) for state in (State.FAILED, State.WARN))
        out.print(f"{counted(len(found), 'thing')} looked at: {failed} failed, {counted(warned, 'warning')}")
    if any(line.state is State.FAILED for _, line in found):
        raise typer.Exit(FOUND)


async def _examine(config: Path | None, *, offline: bool) -> list[tuple[str, Line]]:
    try:
        loaded = settings(config)
    except ConfigError as failure:
        rest = "nothing else was looked at, as all of it starts from the configuration"
        return [("config", Line(State.FAILED, str(failure), rest))]
    patient = Patient(loaded=loaded, clock=SystemClock(), ids=UlidSource(), offline=offline)
    found = [("config", Line(State.OK, loaded.file))]
    for name, check in CHECKS.items():
        found += [(name, line) for line in await _isolated(check, patient)]
    return found


async def _isolated(check: Check, patient: Patient) -> list[Line]:
    """A check's lines. One that fails, in whatever way, ends itself alone."""
    lines: list[Line] = []
    try:
        async for line in check(patient):
            lines.append(line)  # noqa: PERF401 - what came before a failure is kept
    except SoarError as failure:
        lines.append(Line(State.FAILED, str(failure)))
    except Exception as failure:  # noqa: BLE001 - somebody whose installation is broken in a new way asks just this
        lines.append(Line(State.FAILED, f"this check itself failed: {type(failure).__name__}: {failure}"))
    return lines


def _plain(line: Line) -> dict[str, str]:
    return {"state": line.state.value, "message": line.message, "fix": line.fix}


def _print(name: str, line: Line) -> None:
    first, *rest = line.message.splitlines() or [""]
    colour = _COLOURS[line.state]
    out.print(f"[{colour}]{line.state:6}[/{colour}] {name:10} {text(first)}")
    for each in rest:
        out.print(f"{'':17} {text(each)}")
    if line.fix:
        out.print(f"{'':17} [dim]→[/dim] {text(line.fix)}")
