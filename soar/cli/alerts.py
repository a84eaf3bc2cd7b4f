"""`soar alerts`: what came in, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from soar.cli.base import ConfigOption, JsonOption, LimitOption, out, print_json, run, table, text
from soar.cli.find import find_alert
from soar.cli.show import fact, heading, short_id, title, visible, when
from soar.cli.stored import stored
from soar.engine.wording import brief, clip, moment
from soar.errors import NotFoundError
from soar.model.alert import Alert, Outcome
from soar.model.run import Run
from soar.store.port import AlertRow

app = typer.Typer(no_args_is_help=True, help="Alerts: what came in, and what became of it.")

AlertArgument = Annotated[
    str, typer.Argument(metavar="ALERT", help="Its id, the beginning of it, or its last 6 or more characters.")
]

_TITLE = 60
_ENTITIES = 10


@app.command(name="list")
def list_alerts(
    outcome: Annotated[Outcome | None, typer.Option(help="Only with this outcome.", show_default=False)] = None,
    source: Annotated[
        str | None, typer.Option(help="Only from this source: the mapping's name.", show_default=False)
    ] = None,
    limit: LimitOption = 50,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """The newest alerts.

    Example: soar alerts list --outcome no_match
    """
    rows = run(_list(config, outcome, source, limit))
    if as_json:
        print_json(rows)
        return
    table(
        title(len(rows), "alerts", limit),
        ("alert", "received", "severity", "source", "outcome", "title"),
        (
            (
                short_id(row.id),
                when(row.received_at),
                row.severity,
                row.source,
                row.outcome,
                clip(row.title, _TITLE),
            )
            for row in rows
        ),
    )


@app.command()
def show(
    alert: AlertArgument,
    raw: Annotated[bool, typer.Option("--raw", help="Print the product's own payload and nothing else.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """One alert with its outcome and its runs.

    Example: soar alerts show alert-01JD3Z
    """
    row, body, runs = run(_show(config, alert))
    if raw:
        if body is None:
            raise NotFoundError(f"the body of alert {row.id} was erased")
        typer.echo(visible(body.raw, indent=2))
    elif as_json:
        print_json({"alert": body, "outcome": row.outcome, "matches": row.matches, "runs": runs})
    else:
        _print(row, body, runs)


async def _list(config: Path | None, outcome: Outcome | None, source: str | None, limit: int) -> list[AlertRow]:
    async with stored(config) as opened:
        return await opened.store.alerts(outcome=outcome, source=source, limit=limit)


async def _show(config: Path | None, name: str) -> tuple[AlertRow, Alert | None, list[Run]]:
    async with stored(config) as opened:
        row = await find_alert(opened.store, name)
        return row, await opened.store.alert(row.id), await opened.store.runs(alert_id=row.id)


def _print(row: AlertRow, alert: Alert | None, runs: Sequence[Run]) -> None:
    heading(f"{row.id}: {row.outcome}")
    fact("title", row.title)
    score = f" ({alert.severity_score} of 100)" if alert else ""
    sure = f", confidence {alert.confidence} of 100" if alert and alert.confidence is not None else ""
    fact("severity", f"{row.severity}{score}{sure}")
    fact("source", f"{row.source}{f', {alert.product}' if alert else ''}, record {row.coordinates}")
    fact("rule", ", ".join(filter(None, (row.rule_id, row.rule_name))))
    fact("time", f"{moment(row.time)}, received {moment(row.received_at)}")
    if alert is None:
        fact("body", "erased; the journal keeps that it was there")
    else:
        _print_body(alert)
    states = {each.id: each.state for each in runs}
    for match in row.matches:
        where = f", run {match.run_id} {states.get(match.run_id, '')}" if match.run_id else ""
        by = f" by {match.suppression}" if match.suppression else ""
        fact("playbook", f"{match.playbook_id}: {match.outcome}{by}{where}")
    for each in runs:
        if each.parent_run_id:
            fact(f"{each.kind} run", f"{each.id}: {each.state}, of run {each.parent_run_id}")
    out.print(f"  why: [bold]soar explain {text(short_id(row.id))}[/bold]")


def _print_body(alert: Alert) -> None:
    attack = (*alert.attack.tactics, *alert.attack.techniques)
    if attack:
        fact("ATT&CK", ", ".join(attack))
    if alert.description:
        fact("says", clip(alert.description, 400))
    for kind in type(alert.entities).model_fields:
        entities = getattr(alert.entities, kind)
        for entity in entities[:_ENTITIES]:
            fact(kind, brief(_known(entity.model_dump(mode="json"))))
        if len(entities) > _ENTITIES:
            fact("", f"and {len(entities) - _ENTITIES} more {kind}")
    if alert.labels:
        fact("labels", brief(alert.labels))


def _known(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, [])}
