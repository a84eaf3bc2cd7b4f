"""The live view of a running service: what comes in, what runs, what waits for people."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from soar.cli.base import out, text
from soar.engine.control import HALT
from soar.model.approval import Approval, ApprovalState
from soar.model.entry import EntryType
from soar.model.run import Run, RunState
from soar.store.port import AlertRow, Store
from soar.store.seen import Counts, EntryRow

REFRESH_SECONDS = 0.5
_ROWS = 6
_RECENT = 150  # entries looked through for the latest decisions
_COLOURS = {
    "matched": "green",
    "correlated": "cyan",
    "suppressed": "cyan",
    "duplicate": "cyan",
    "no_match": "dim",
    "expired": "yellow",
    "dead_letter": "red",
    "succeeded": "green",
    "running": "blue",
    "ready": "blue",
    "waiting": "yellow",
    "needs_review": "red",
    "failed": "red",
    "denied": "magenta",
    "cancelled": "dim",
    "allow": "green",
    "deny": "magenta",
    "require_approval": "yellow",
}


async def watch(store: Store, *, hints: Sequence[str]) -> None:
    """Redraw until cancelled: on a terminal in place, elsewhere one line per change."""
    if not out.is_terminal:
        await _lines(store)
        return
    with Live(console=Console(highlight=False, emoji=False), auto_refresh=False) as live:
        while True:
            live.update(await picture(store, hints), refresh=True)
            await asyncio.sleep(REFRESH_SECONDS)


async def picture(store: Store, hints: Sequence[str]) -> RenderableType:
    """One frame."""
    counts = await store.counts()
    alerts = await store.alerts(limit=_ROWS)
    runs = await store.runs(limit=_ROWS)
    decided = [e async for e in store.entries(newest=_RECENT) if e.type == EntryType.POLICY_DECIDED]
    pending = await store.approvals(state=ApprovalState.PENDING, limit=_ROWS)
    head = Text.from_markup(_summary(counts, halted=await store.control(HALT)))
    parts: list[RenderableType] = [
        head,
        Panel(_alerts(alerts), title="alerts", title_align="left", border_style="dim"),
        Panel(_runs(runs), title="runs", title_align="left", border_style="dim"),
        Panel(_decisions(decided), title="policy decisions", title_align="left", border_style="dim"),
        Panel(_approvals(pending), title="waiting for people", title_align="left", border_style="yellow"),
    ]
    parts += [Text.from_markup(hint) for hint in hints]
    return Group(*parts)


async def _lines(store: Store) -> None:
    last = ""
    while True:
        line = Text.from_markup(_summary(await store.counts(), halted=await store.control(HALT))).plain
        if line != last:
            out.print(line)
            last = line
        await asyncio.sleep(REFRESH_SECONDS * 4)


def _summary(counts: Counts, *, halted: str | None) -> str:
    alerts, runs = sum(counts.alerts.values()), sum(counts.runs.values())
    waiting = counts.approvals.get(ApprovalState.PENDING, 0)
    states = ", ".join(f"{number} {_coloured(state)}" for state, number in sorted(counts.runs.items()))
    halt = f"  [bold red]HALTED: {text(halted)}[/bold red]" if halted else ""
    return (
        f"[bold]soar[/bold]  {alerts} alerts  {runs} runs ({states or 'none'})  {waiting} waiting for people  "
        f"{counts.entries} journal entries{halt}"
    )


def _grid(*widths: int | None) -> Table:
    grid = Table.grid(padding=(0, 1), expand=True)
    for width in widths:
        grid.add_column(width=width, no_wrap=True, overflow="ellipsis", ratio=None if width else 1)
    return grid


def _alerts(rows: Sequence[AlertRow]) -> Table:
    grid = _grid(8, 11, 13, 14, None)
    for row in rows:
        at = row.received_at.astimezone().strftime("%H:%M:%S")
        grid.add_row(at, _coloured(row.outcome), row.severity, text(row.source), text(row.title))
    return grid


def _runs(runs: Sequence[Run]) -> Table:
    grid = _grid(30, 20, 13, None)
    for run in runs:
        grid.add_row(run.id, run.playbook_id, _coloured(run.state), text(_why(run)))
    return grid


def _why(run: Run) -> str:
    if run.state is RunState.WAITING and run.wake_at is not None:
        return f"until {run.wake_at.astimezone():%H:%M:%S}"
    return run.error or ("takes back an action" if run.kind == "undo" else "")


def _decisions(entries: Sequence[EntryRow]) -> Table:
    grid = _grid(8, 16, 28, None)
    for entry in reversed(entries[-_ROWS:]):
        if entry.payload is None:  # erased
            continue
        payload = json.loads(entry.payload)
        decision, action = payload["decision"], payload["input"]["action"]
        why = "; ".join(reason["msg"] for reason in decision["reasons"])
        verb = f"{action['connector']}.{action['verb']}"
        grid.add_row(entry.at.astimezone().strftime("%H:%M:%S"), _coloured(decision["effect"]), text(verb), text(why))
    return grid


def _approvals(approvals: Sequence[Approval]) -> RenderableType:
    if not approvals:
        return Text("nothing", style="dim")
    grid = _grid(35, None, 28)
    for approval in approvals:
        bound = approval.binding
        what = bound.get("question") or f"{bound.get('action')} {bound.get('params')}"
        groups = ", ".join(f"{quorum.min} x {quorum.group}" for quorum in approval.requirement.groups)
        grid.add_row(approval.id, text(what), groups)
    return grid


def _coloured(word: str) -> str:
    colour = _COLOURS.get(word)
    return f"[{colour}]{word}[/{colour}]" if colour else str(word)
