"""`soar explain`: why a playbook answered an alert, or why not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from soar.cli.base import ConfigOption, JsonOption, LimitOption, out, print_json, run, service, text
from soar.cli.find import find_alert, find_letter
from soar.cli.outcomes import Made, refused, sentence
from soar.cli.show import fact, heading
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
from soar.model.playbook import Playbook
from soar.model.run import Run, RunState
from soar.service import Service
from soar.store.matches import AlertMatch, Namesake
from soar.store.port import AlertRow, Store

_VALUE = 200
_NAMED = 3  # conflicting alerts that are named


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one playbook made of the alert, and its conditions as it stands now; `outcome` None: no answer."""

    playbook: str
    outcome: Outcome | None
    because: str  # what it made of it, in a sentence
    run: str | None
    state: RunState | None
    checks: tuple[Check, ...]
    gathering: tuple[str, ...]
    note: str | None = None
    waits_for: tuple[str, ...] = ()

    @property
    def distance(self) -> tuple[bool, int, int]:
        """Answers come first, then what fewest conditions refused, of those what most others let through."""
        refusals = sum(not check.held for check in self.checks)
        return self.outcome is None, refusals, refusals - len(self.checks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """An alert, what became of it, and every playbook's verdict: answers first, then near misses."""

    alert: str
    title: str
    outcome: Outcome
    repeat_of: str | None
    conflicts_with: tuple[str, ...]  # alerts of the same id and other content that came before
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
    elif explanation.conflicts_with:
        known = ", ".join(explanation.conflicts_with[:_NAMED])
        fact("conflicts", f"with {known}: same id, other content; both are answered, as either may be the forgery")
    for verdict in explanation.verdicts[:limit]:
        _print(verdict)
    left = len(explanation.verdicts) - limit
    if left > 0:
        out.print(f"[dim]and {left} playbooks more that did not answer; --limit shows them[/dim]")


async def _explain(config: Path | None, name: str, only: str | None) -> Explanation:
    async with service(config) as opened:
        row = await _row(opened.store, name)
        alert = await opened.store.alert(row.id)
        if alert is None:
            raise NotFoundError(f"the body of alert {row.id} was erased, so its playbooks cannot be asked again")
        document = alert.model_dump(mode="json")
        playbooks = opened.library.playbooks
        if only is not None and only not in playbooks:
            raise NotFoundError(f"no playbook {only!r} is loaded; `soar playbook lint` names those left out")
        answered = {match.playbook_id: match for match in row.matches if match.path is None}
        asked = [each for each in playbooks.values() if each.on is not None and only in {None, each.id}]
        verdicts = [await _verdict(opened, each, row, answered.get(each.id), document) for each in asked]
        more = [each for each in row.matches if each.path or each.playbook_id not in {one.id for one in asked}]
        verdicts += [await _told(opened, each) for each in more if only in {None, each.playbook_id}]
        names = [each for each in await opened.store.namesakes(row.id) if each.outcome is not Outcome.DUPLICATE]
    return Explanation(
        alert=row.id,
        title=row.title,
        outcome=row.outcome,
        repeat_of=_repeated(row, names),
        conflicts_with=tuple(each.id for each in names if not each.repeats),
        verdicts=tuple(sorted(verdicts, key=lambda verdict: verdict.distance)),
    )


async def _row(store: Store, name: str) -> AlertRow:
    """The alert; raises NotFoundError, which for a record that could not become one says why."""
    try:
        return await find_alert(store, name)
    except NotFoundError:
        try:
            letter = await find_letter(store, name)
        except NotFoundError:
            letter = None
        if letter is None:
            raise
    raise NotFoundError(
        f"{letter.id} is a dead letter, it became no alert: {letter.reason}; `soar deadletters show` has its bytes"
    )


async def _verdict(
    opened: Service, playbook: Playbook, row: AlertRow, match: AlertMatch | None, document: Mapping[str, Any]
) -> Verdict:
    found = await opened.store.run(match.run_id) if match and match.run_id else None
    where = playbook.on.where if playbook.on else None
    checks = [_read(check, document) if check.condition == where else check for check in checks_of(playbook, document)]
    checks += _age(playbook, row, match)
    made = Made(match=match, playbook=playbook, run=found) if match else None
    return Verdict(
        playbook=playbook.id,
        outcome=match.outcome if match else None,
        because=await sentence(opened.store, made) if made else refused(checks, row.outcome),
        run=match.run_id if match else None,
        state=found.state if found else None,
        checks=tuple(checks),
        gathering=tuple(gathering(playbook)),
        note=_changed(match, checks, row.outcome),
        waits_for=await _waits(opened, found),
    )


async def _told(opened: Service, match: AlertMatch) -> Verdict:
    """Of what cannot be asked again: a run that waited, a playbook that is gone."""
    found = await opened.store.run(match.run_id) if match.run_id else None
    return Verdict(
        playbook=match.playbook_id,
        outcome=match.outcome,
        because=await sentence(opened.store, Made(match=match, playbook=None, run=found)),
        run=match.run_id,
        state=found.state if found else None,
        checks=(),
        gathering=(),
        note=None if match.path or match.playbook_id in opened.library.playbooks else "it is no longer loaded",
    )


def _repeated(row: AlertRow, names: Sequence[Namesake]) -> str | None:
    """The alert that a duplicate repeats."""
    return next((each.id for each in names if each.repeats), None) if row.outcome is Outcome.DUPLICATE else None


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


def _age(playbook: Playbook, row: AlertRow, match: AlertMatch | None) -> list[Check]:
    limit = playbook.on.max_age if playbook.on else None
    if limit is None:
        return []
    age = row.received_at - row.time
    # It may have waited since for a store that was away; what was found then counts.
    held = age <= limit if match is None else match.outcome is not Outcome.EXPIRED
    return [Check(f"not older than {format_duration(limit)}", held=held, actual=f"it was {_old(age)} old when it came")]


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


def _print(verdict: Verdict) -> None:
    where = f", run {verdict.run} {verdict.state or ''}" if verdict.run else ""
    colour = "green" if verdict.outcome is Outcome.MATCHED else "yellow" if verdict.outcome else "default"
    words = text(f"{verdict.because}{where}")
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
