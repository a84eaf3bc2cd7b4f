"""One deed to many runs: what a filter finds is shown, confirmed, and then done run by run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from soar.cli.base import CONFLICT, FOUND, err, out, print_json, run, text
from soar.cli.show import when
from soar.cli.stored import stored
from soar.engine.control import Control
from soar.errors import InputError, SoarError, StoreUnavailableError
from soar.model.duration import parse_duration
from soar.model.run import Run, RunKind, RunState
from soar.store.port import Store

MASS_LIMIT = 100
FAILED_STATES = (RunState.FAILED, RunState.DENIED)
OPEN_STATES = (RunState.READY, RunState.RUNNING, RunState.WAITING, RunState.NEEDS_REVIEW)

StateOption = Annotated[RunState | None, typer.Option(help="Filter: runs in this state.", show_default=False)]
PlaybookOption = Annotated[str | None, typer.Option(help="Filter: runs of this playbook.", show_default=False)]
SinceOption = Annotated[
    str | None, typer.Option(help="Filter: runs that began within this time, such as 2h.", show_default=False)
]
MassLimitOption = Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many, the newest first.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before many runs are touched.")]

_SHOWN = 10
_LOOKED_AT = 100_000
_KINDS = frozenset({RunKind.ALERT, RunKind.MANUAL})  # sub-runs follow their callers, an undo is a matter of its own


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which runs."""

    state: RunState | None
    playbook: str | None
    since: str | None
    limit: int

    @property
    def given(self) -> bool:
        """Whether it says anything: nobody means all runs by saying nothing."""
        return any((self.state, self.playbook, self.since))


@dataclass(frozen=True, slots=True)
class Deed:
    """What is done to each run, and in which states runs are looked for where the filter names none."""

    word: str
    states: Sequence[RunState]
    do: Callable[[Control, Run], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class _Refused:
    run: str
    why: str


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of a deed."""

    done: list[str] = field(default_factory=list)
    refused: list[_Refused] = field(default_factory=list)


def together(
    config: Path | None, deed: Deed, wanted: Filter, *, name: str | None, named: str | None, yes: bool, as_json: bool
) -> None:
    """Do it to every run that the filter finds, each in a fact of its own.

    Raises InputError for a filter that is none; ends with CONFLICT where a run refused.
    """
    if name is not None:
        raise InputError("name one run, or give a filter (--state, --playbook, --since), not both")
    if not wanted.given:
        raise InputError("which runs? Name one, or give a filter: --state, --playbook, --since")
    outcome = run(_together(config, deed, wanted, named=named, yes=yes))
    if as_json:
        print_json(outcome)
    else:
        refused = f", {len(outcome.refused)} refused" if outcome.refused else ""
        out.print(f"{deed.word}: {len(outcome.done)} done{refused}")
    if outcome.refused:
        raise typer.Exit(CONFLICT)


async def _together(config: Path | None, deed: Deed, wanted: Filter, *, named: str | None, yes: bool) -> _Outcome:
    outcome = _Outcome()
    async with stored(config) as opened:
        control = opened.control(opened.person(named))
        found = await _find(opened.store, deed, wanted, now=opened.scribe.clock.now())
        chosen = found[: wanted.limit]
        if chosen and not yes:
            _consider(deed, chosen, left=len(found) - len(chosen))
        for number, each in enumerate(chosen, 1):
            at = f"{number}/{len(chosen)} {each.id}"
            try:
                await deed.do(control, each)
            except StoreUnavailableError:
                raise
            except SoarError as refusal:
                outcome.refused.append(_Refused(each.id, str(refusal)))
                err.print(text(f"{at} refused: {refusal}"))
            else:
                outcome.done.append(each.id)
                err.print(text(f"{at} done"))
    return outcome


async def _find(store: Store, deed: Deed, wanted: Filter, *, now: datetime) -> list[Run]:
    """Newest first."""
    earliest = now - _span(wanted.since) if wanted.since else None
    found: list[Run] = []
    for state in deed.states if wanted.state is None else (wanted.state,):
        for each in await store.runs(state=state, playbook_id=wanted.playbook, limit=_LOOKED_AT):
            if each.kind in _KINDS and (earliest is None or each.created_at >= earliest):
                found.append(each)  # noqa: PERF401 - a comprehension over two conditions reads worse
    return sorted(found, key=lambda each: each.id, reverse=True)


def _span(since: str) -> timedelta:
    try:
        return parse_duration(since)
    except ValueError as failure:
        raise InputError(f"--since: {failure}") from failure


def _consider(deed: Deed, chosen: Sequence[Run], *, left: int) -> None:
    kinds = Counter(f"{each.playbook_id}, {each.state}" for each in chosen)
    err.print(text(f"{deed.word}: {len(chosen)} runs ({'; '.join(f'{kinds[kind]} {kind}' for kind in sorted(kinds))})"))
    for each in chosen[:_SHOWN]:
        err.print(text(f"  {each.id}  {when(each.created_at)}  {each.playbook_id}, {each.state}"))
    if len(chosen) > _SHOWN:
        err.print(f"  and {len(chosen) - _SHOWN} more")
    if left:
        err.print(f"{left} older runs fit too and are left out; more with --limit")
    if not typer.confirm(f"{deed.word} them?", err=True):
        raise typer.Exit(FOUND)
