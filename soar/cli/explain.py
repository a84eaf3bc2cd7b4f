"""`soar explain`: why a playbook answered an alert, or why not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from soar.cli.base import ConfigOption, JsonOption, LimitOption, out, print_json, run, service, text
from soar.cli.find import find_alert
from soar.cli.show import fact, heading
from soar.cli.suppress import told
from soar.cli.waits import waits_of
from soar.engine.wording import brief
from soar.errors import NotFoundError
from soar.expr.compile import compile_expression
from soar.library.describe import gathering
from soar.library.fields import values_at
from soar.library.index import Check
from soar.library.index import explain as checks_of
from soar.model.alert import Outcome
from soar.model.duration import format_duration
from soar.model.entry import EntryType
from soar.model.playbook import Playbook
from soar.model.run import Run, RunState
from soar.service import Service
from soar.store.port import AlertMatch, AlertRow

_VALUE = 200
_ADMISSIONS_READ = 20_000

_OUTCOMES = {
    Outcome.MATCHED: "answered",
    Outcome.SUPPRESSED: "suppressed: an alert of the same key came before, or too few have come yet",
    Outcome.CORRELATED: "correlated: it joined the run of an earlier alert of the same key",
    Outcome.EXPIRED: "expired: the alert was too old when it came",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one playbook made of the alert, and its conditions as it stands now; `outcome` None: no answer."""

    playbook: str
    outcome: Outcome | None
    run: str | None
    state: RunState | None
    checks: tuple[Check, ...]
    gathering: tuple[str, ...]
    held_back: str | None = None  # by which suppression, whose, until when
    note: str | None = None
    waits_for: tuple[str, ...] = ()

    @property
    def refusals(self) -> int:
        """How many conditions said no."""
        return sum(not check.held for check in self.checks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """An alert, what became of it, and every playbook's verdict: answers first, then near misses."""

    alert: str
    title: str
    outcome: Outcome
    repeat_of: str | None
    verdicts: tuple[Verdict, ...]


def explain(
    alert: Annotated[
        str, typer.Argument(metavar="ALERT", help="An alert's id, or a run's; its beginning or its end will do.")
    ],
    playbook: Annotated[str | None, typer.Option(help="Only what this playbook says.", show_default=False)] = None,
    limit: LimitOption = 20,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Which conditions of which playbook held for an alert, and which said no.

    Example: soar explain X42R7JM0
    """
    explanation = run(_explain(config, alert, playbook))
    if as_json:
        print_json(explanation)
        return
    heading(f"{explanation.alert}: {explanation.outcome}")
    fact("title", explanation.title)
    if explanation.outcome is Outcome.DUPLICATE:
        which = explanation.repeat_of or "an earlier alert"
        fact("repeats", f"{which}: same id and content within 24 hours, so no playbook was asked")
    for verdict in explanation.verdicts[:limit]:
        _print(verdict)
    left = len(explanation.verdicts) - limit
    if left > 0:
        out.print(f"[dim]and {left} playbooks more that did not answer; --limit shows them[/dim]")


async def _explain(config: Path | None, name: str, only: str | None) -> Explanation:
    async with service(config) as opened:
        row = await find_alert(opened.store, name)
        alert = await opened.store.alert(row.id)
        if alert is None:
            raise NotFoundError(f"the body of alert {row.id} was erased, so its playbooks cannot be asked again")
        document = alert.model_dump(mode="json")
        playbooks = opened.library.playbooks
        if only is not None and only not in playbooks:
            raise NotFoundError(f"no playbook {only!r} is loaded; `soar playbook lint` names those left out")
        matches = {match.playbook_id: match for match in row.matches}
        asked = [each for each in playbooks.values() if each.on is not None and only in {None, each.id}]
        verdicts = [await _verdict(opened, each, row, document) for each in asked]
        gone = [match for id_, match in matches.items() if id_ not in playbooks and only is None]
        verdicts += [await _gone(opened, match) for match in gone]
        repeat = await _repeat_of(opened, row.id) if row.outcome is Outcome.DUPLICATE else None
    return Explanation(
        alert=row.id,
        title=row.title,
        outcome=row.outcome,
        repeat_of=repeat,
        verdicts=tuple(sorted(verdicts, key=lambda verdict: (verdict.outcome is None, verdict.refusals))),
    )


async def _verdict(opened: Service, playbook: Playbook, row: AlertRow, document: Mapping[str, Any]) -> Verdict:
    match = next((each for each in row.matches if each.playbook_id == playbook.id), None)
    found = await opened.store.run(match.run_id) if match and match.run_id else None
    where = playbook.on.where if playbook.on else None
    checks = [_read(check, document) if check.condition == where else check for check in checks_of(playbook, document)]
    checks += _age(playbook, row.time, row.received_at)
    return Verdict(
        playbook=playbook.id,
        outcome=match.outcome if match else None,
        run=match.run_id if match else None,
        state=found.state if found else None,
        checks=tuple(checks),
        gathering=tuple(gathering(playbook)),
        held_back=await _held_back(opened, match),
        note=_changed(match, checks, row.outcome),
        waits_for=await _waits(opened, found),
    )


async def _gone(opened: Service, match: AlertMatch) -> Verdict:
    found = await opened.store.run(match.run_id) if match.run_id else None
    return Verdict(
        playbook=match.playbook_id,
        outcome=match.outcome,
        run=match.run_id,
        state=found.state if found else None,
        checks=(),
        gathering=(),
        held_back=await _held_back(opened, match),
        note="it is no longer loaded",
    )


async def _held_back(opened: Service, match: AlertMatch | None) -> str | None:
    """The suppression that held the alert back from a playbook, in words."""
    if match is None or match.suppression is None:
        return None
    found = next((each for each in await opened.store.suppressions() if each.id == match.suppression), None)
    return f"{match.suppression}, which is over; its entry in the journal says why" if found is None else told(found)


async def _waits(opened: Service, found: Run | None) -> tuple[str, ...]:
    if found is None or found.state is not RunState.WAITING:
        return ()
    return await waits_of(opened.store, (await opened.store.steps(found.id)).values())


def _read(check: Check, document: Mapping[str, Any]) -> Check:
    """The check of a `where` with what the alert has in the fields that it reads: its value alone explains nothing."""
    fields = {".".join(path): values_at(document, path) for path in compile_expression(check.condition).references()}
    return Check(check.condition, check.held, {name: _one(values) for name, values in fields.items()})


def _one(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else values or None


def _age(playbook: Playbook, time: datetime, received: datetime) -> list[Check]:
    limit = playbook.on.max_age if playbook.on else None
    if limit is None:
        return []
    age = received - time
    return [Check(f"not older than {format_duration(limit)}", held=age <= limit, actual=f"it was {_old(age)} old")]


def _old(age: timedelta) -> str:
    return format_duration(timedelta(seconds=max(0, round(age.total_seconds()))))


def _changed(match: AlertMatch | None, checks: Sequence[Check], outcome: Outcome) -> str | None:
    """A word where the conditions of today do not explain what happened then."""
    holds = all(check.held for check in checks)
    if match is None and holds and outcome is not Outcome.DUPLICATE:
        return "it would answer now: it was changed, added or switched on after the alert came"
    if match is not None and not holds and match.outcome is not Outcome.EXPIRED:
        return "it would not answer now: it was changed after the alert came"
    return None


async def _repeat_of(opened: Service, alert_id: str) -> str | None:
    """The alert that a duplicate repeats, as the entry of its admission says, if that is among the newest."""
    wanted = alert_id.encode()
    async for row in opened.store.entries(newest=_ADMISSIONS_READ):
        if row.type == EntryType.ALERT_ADMITTED and wanted in row.leaf:
            leaf = json.loads(row.leaf)
            if leaf["subject"] == alert_id:
                return str(leaf["data"]["repeat_of"])
    return None


def _print(verdict: Verdict) -> None:
    outcome = _OUTCOMES.get(verdict.outcome, str(verdict.outcome)) if verdict.outcome else "no answer"
    outcome = f"suppressed by {verdict.held_back}" if verdict.held_back else outcome
    where = f", run {verdict.run} {verdict.state or ''}" if verdict.run else ""
    colour = "green" if verdict.outcome is Outcome.MATCHED else "yellow" if verdict.outcome else "default"
    words = text(f"{outcome}{where}")
    out.print(f"\n[bold]{text(verdict.playbook)}[/bold]  [{colour}]{words}[/{colour}]", emoji=False)
    for wait in verdict.waits_for:
        out.print(f"  [yellow]waits for[/yellow] {text(wait)}", emoji=False)
    for check in sorted(verdict.checks, key=lambda check: check.held):
        mark = "[green]yes[/green]" if check.held else "[red]no [/red]"
        out.print(f"  {mark} {text(check.condition)}  [dim]{text(brief(check.actual, _VALUE))}[/dim]", emoji=False)
    for line in verdict.gathering:
        out.print(f"  [dim]and {text(line)}[/dim]", emoji=False)
    if verdict.note:
        out.print(f"  [yellow]{text(verdict.note)}[/yellow]")
