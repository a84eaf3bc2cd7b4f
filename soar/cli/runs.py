"""`soar runs`: what each playbook did for each alert, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from soar.cli.base import (
    ConfigOption,
    JsonOption,
    LimitOption,
    out,
    print_json,
    run,
    table,
    text,
)
from soar.cli.find import find_alert, find_run
from soar.cli.show import fact, heading, short_id, title, when
from soar.cli.stored import Stored, stored
from soar.cli.waits import waits_of
from soar.engine.redaction import shown
from soar.engine.timeline import Line, Tone, timeline
from soar.engine.wording import brief, clip, moment
from soar.library.parse import parse
from soar.model.action import Attempt
from soar.model.run import Run, RunKind, RunState, StepRecord

app = typer.Typer(no_args_is_help=True, help="Runs: what a playbook did for an alert, and why.")

RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="Its id, the beginning of it, or its last 6 or more characters.")
]

_COLOURS = {Tone.PLAIN: "default", Tone.GOOD: "green", Tone.BAD: "red", Tone.WAIT: "yellow"}
_LINE = 400
_RESULT = 100
_NAMED = 5
_JOINED = 1000
_SLACK = timedelta(hours=1)  # an alert is named when it is read, and may then have waited for the store


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """A run with everything that explains it."""

    run: Run
    waits_for: tuple[str, ...]
    timeline: list[Line]
    steps: list[StepRecord]
    attempts: list[Attempt]
    children: list[Run]  # sub-runs and undo runs
    joined: list[str]  # later alerts that were taken together with the first, or that it waited for


@app.command(name="list")
def list_runs(
    state: Annotated[RunState | None, typer.Option(help="Only in this state.", show_default=False)] = None,
    playbook: Annotated[str | None, typer.Option(help="Only of this playbook.", show_default=False)] = None,
    alert: Annotated[str | None, typer.Option(help="Only for this alert.", show_default=False)] = None,
    limit: LimitOption = 50,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """The newest runs.

    Example: soar runs list --state waiting
    """
    runs = run(_list(config, state=state, playbook=playbook, alert=alert, limit=limit))
    if as_json:
        print_json(runs)
        return
    table(
        title(len(runs), "runs", limit),
        ("run", "began", "playbook", "state", "alert", "error"),
        (
            (
                short_id(each.id),
                when(each.created_at),
                each.playbook_id if each.kind is RunKind.ALERT else f"{each.playbook_id} ({each.kind})",
                _standing(each),
                short_id(each.alert_id),
                clip(each.error or "", _RESULT),
            )
            for each in runs
        ),
    )


@app.command()
def show(name: RunArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """What happened in a run, when and why, what it waits for.

    Example: soar runs show KBJ61M
    """
    story = run(_story(config, name))
    if as_json:
        print_json(story)
        return
    _print_head(story)
    _print_timeline(story.timeline)
    _print_steps(story)


async def _list(
    config: Path | None, *, state: RunState | None, playbook: str | None, alert: str | None, limit: int
) -> list[Run]:
    async with stored(config) as opened:
        alert_id = (await find_alert(opened.store, alert)).id if alert else None
        return await opened.store.runs(state=state, playbook_id=playbook, alert_id=alert_id, limit=limit)


async def _story(config: Path | None, name: str) -> Story:
    async with stored(config) as opened:
        store = opened.store
        found = await find_run(store, name)
        steps = sorted((await store.steps(found.id)).values(), key=lambda step: step.started_at)
        return Story(
            run=found,
            waits_for=await waits_of(store, steps),
            timeline=timeline([row async for row in store.entries(run_id=found.id)]),
            steps=steps,
            attempts=[shown(each) for each in await store.attempts(found.id)],
            children=[child for step in steps for child in await store.runs(parent=(found.id, step.path))],
            joined=await _joined(opened, found),
        )


async def _joined(opened: Stored, found: Run) -> list[str]:
    """Looked for from the run's beginning for as long as its window was open, or it was itself."""
    pinned = await opened.store.playbook_text(found.playbook_digest)
    playbook = parse(pinned[1], pinned[0]).playbook if pinned else None
    window = playbook.dedupe.within if playbook and playbook.dedupe else timedelta()
    until = max(found.finished_at or opened.scribe.clock.now(), found.created_at + window)
    return await opened.store.joined(found.id, since=found.created_at - _SLACK, until=until + _SLACK, limit=_JOINED)


def _print_head(story: Story) -> None:
    found = story.run
    heading(f"{found.id}: {_standing(found)}")
    fact("playbook", f"{found.playbook_id} (digest {found.playbook_digest[:12]})")
    if found.alert_id:
        fact("alert", f"{found.alert_id}{_later(story.joined)}")
    if found.parent_run_id:
        fact(f"{found.kind} of", f"run {found.parent_run_id}, step {found.parent_path}")
    ended = f", ended {moment(found.finished_at)}" if found.finished_at else ""
    fact("began", f"{moment(found.created_at)}{ended}{_begins(found)}")
    if found.error:
        fact("because", found.error)
    if found.outputs:
        fact("outputs", brief(found.outputs))
    if found.cancel_requested and not found.final:
        fact("cancelled", "asked for; it ends before its next step")
    for wait in story.waits_for:
        fact("waits for", wait)
    if found.paused:
        fact("paused", "nothing is sent until `soar runs resume`")
    elif found.state is RunState.READY:
        turn = " and the runs of the same lock before it have ended" if found.lock_key else ""
        fact("waits for", f"a worker: it goes on as soon as the service runs{turn}")
    for child in story.children:
        fact(f"{child.kind} run", f"{child.id}: {_standing(child)}, of step {child.parent_path}{_begins(child)}")


def _later(joined: Sequence[str]) -> str:
    if not joined:
        return ""
    named = ", ".join(map(short_id, joined[:_NAMED])) + ", ..." * (len(joined) > _NAMED)
    return f", joined by {len(joined)}{' or more' * (len(joined) == _JOINED)} later: {named}"


def _standing(found: Run) -> str:
    return f"{found.state}, paused" if found.paused else found.state


def _begins(found: Run) -> str:
    if found.state is not RunState.WAITING or found.wake_at is None:
        return ""
    return f", wakes {moment(found.wake_at)}"


def _print_timeline(lines: Sequence[Line]) -> None:
    width = min(max((len(line.path) for line in lines), default=0), 28)
    day = ""
    for line in lines:
        if f"{line.at:%Y-%m-%d}" != day:
            day = f"{line.at:%Y-%m-%d}"
            out.print(f"\n[bold]{day}[/bold] (UTC)")
        times = f" ({line.times} times)" if line.times > 1 else ""
        colour = _COLOURS[line.tone]
        at = f"{line.at:%H:%M:%S}.{line.at.microsecond // 1000:03}"
        words = text(clip(line.text, _LINE))
        out.print(
            f"  [dim]{at}[/dim]  [cyan]{text(f'{line.path:<{width}}')}[/cyan]  [{colour}]{words}[/{colour}]{times}",
            emoji=False,
        )
        for note in line.notes:
            out.print(f"{' ' * (18 + width)}[dim]{text(clip(note, _LINE))}[/dim]", emoji=False)
    out.print()


def _print_steps(story: Story) -> None:
    tries: dict[str, int] = {}
    for attempt in story.attempts:
        tries[attempt.path] = max(tries.get(attempt.path, 0), attempt.number)
    table(
        "steps",
        ("step", "kind", "state", "tries", "result"),
        (
            (
                step.path,
                step.kind,
                step.state,
                tries.get(step.path),
                clip(step.error, _RESULT) if step.error else brief(step.result, _RESULT) if step.result else "",
            )
            for step in story.steps
        ),
    )
