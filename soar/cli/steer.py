"""What people do to runs: `soar runs cancel`, `retry`, `pause`, `resume`, `skip`, `resolve`, `undo`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from soar.cli.base import AsOption, ConfigOption, JsonOption, ReasonOption, out, print_json, run, text
from soar.cli.find import find_run
from soar.cli.runs import RunArgument
from soar.cli.stored import stored
from soar.cli.together import (
    FAILED_STATES,
    MASS_LIMIT,
    OPEN_STATES,
    Deed,
    Filter,
    MassLimitOption,
    PlaybookOption,
    SinceOption,
    StateOption,
    YesOption,
    together,
)
from soar.engine.control import Control
from soar.errors import InputError
from soar.model.run import Run

OneRunArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[RUN]",
        help="Its id, the beginning of it, or its last 6 or more characters; or none, and a filter.",
        show_default=False,
    ),
]


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (cancel, retry, pause, resume, skip, resolve, undo):
        app.command()(command)


def cancel(  # noqa: PLR0913, PLR0917 - each is an option of the command line
    reason: ReasonOption,
    name: OneRunArgument = None,
    state: StateOption = None,
    playbook: PlaybookOption = None,
    since: SinceOption = None,
    limit: MassLimitOption = MASS_LIMIT,
    yes: YesOption = False,
    named: AsOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask for the end of a run, or of all that fit a filter; what was sent stays sent.

    A filter concerns runs that alerts or people started: sub-runs end with their callers, and an undo is only
    cancelled by name.

    Example: soar runs cancel KBJ61M --reason "false alarm"

    Example: soar runs cancel --state waiting --playbook contain --since 2h --reason "the rule was wrong"
    """
    wanted = Filter(state=state, playbook=playbook, since=since, limit=limit)
    if name is None or wanted.given:
        deed = Deed("cancel", OPEN_STATES, lambda control, each: control.cancel(each.id, reason=reason))
        together(config, deed, wanted, name=name, named=named, yes=yes, as_json=as_json)
        return

    async def work(control: Control, found: Run) -> _Done:
        await control.cancel(found.id, reason=reason)
        return _Done(found.id, "ends before its next step")

    _act(config, name, named, work, as_json=as_json)


def retry(  # noqa: PLR0913, PLR0917 - each is an option of the command line
    reason: ReasonOption,
    name: OneRunArgument = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Forget this step of the playbook's own, those after it and on_error, and do them again.",
            show_default=False,
        ),
    ] = None,
    yes_again: Annotated[
        bool, typer.Option("--yes-again", help="Also repeat an action that took effect; journalled.")
    ] = False,
    state: StateOption = None,
    playbook: PlaybookOption = None,
    since: SinceOption = None,
    limit: MassLimitOption = MASS_LIMIT,
    yes: YesOption = False,
    named: AsOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Do the failed and denied steps of a run, or of all that fit a filter, again; or all from a step on.

    A filter concerns runs that alerts or people started. What would repeat an action that took effect is refused.

    Example: soar runs retry KBJ61M --reason "EDR is back"

    Example: soar runs retry KBJ61M --from isolate --reason "the host was renamed"

    Example: soar runs retry --state failed --since 2h --reason "EDR is back"
    """
    wanted = Filter(state=state, playbook=playbook, since=since, limit=limit)
    if name is None or wanted.given:
        if start is not None or yes_again:
            raise InputError("--from and --yes-again are for one run; name it, and leave the filter out")
        deed = Deed("retry", FAILED_STATES, lambda control, each: control.retry(each.id, reason=reason))
        together(config, deed, wanted, name=name, named=named, yes=yes, as_json=as_json)
        return

    async def work(control: Control, found: Run) -> _Done:
        paths = await control.retry(found.id, reason=reason, start=start, repeat=yes_again)
        what = "what failed or was denied" if start is None else f"everything from {start} on"
        return _Done(found.id, f"goes on and does again {what}", paths)

    _act(config, name, named, work, as_json=as_json)


def pause(
    name: RunArgument,
    reason: ReasonOption,
    named: AsOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hold one run and its sub-runs: nothing more is sent until `soar runs resume`; people may still decide.

    Example: soar runs pause KBJ61M --reason "maintenance on that host"
    """

    async def work(control: Control, found: Run) -> _Done:
        held = await control.pause(found.id, reason=reason)
        return _Done(found.id, "is paused; nothing is sent until `soar runs resume`", _besides(found, held))

    _act(config, name, named, work, as_json=as_json)


def resume(
    name: RunArgument,
    reason: ReasonOption,
    named: AsOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let one paused run go on; `soar resume` is for the kill switch.

    Example: soar runs resume KBJ61M --reason "maintenance is over"
    """

    async def work(control: Control, found: Run) -> _Done:
        released = await control.release(found.id, reason=reason)
        return _Done(found.id, "goes on where it was paused", _besides(found, released))

    _act(config, name, named, work, as_json=as_json)


def skip(
    name: RunArgument,
    step: Annotated[str, typer.Argument(metavar="STEP", help="Its path as `runs show` prints it.")],
    reason: ReasonOption,
    named: AsOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Record a step that failed, was denied, waits or is unknown as skipped; the run goes on after it.

    Example: soar runs skip KBJ61M isolate --reason "isolated by hand"
    """

    async def work(control: Control, found: Run) -> _Done:
        await control.skip(found.id, step, reason=reason)
        return _Done(found.id, "goes on without", [step])

    _act(config, name, named, work, as_json=as_json)


def resolve(
    name: RunArgument,
    happened: Annotated[
        bool, typer.Option("--happened/--did-not-happen", help="Whether the action took effect.", show_default=False)
    ],
    reason: ReasonOption,
    step: Annotated[
        str | None, typer.Option(help="Only the action of this step, by its path.", show_default=False)
    ] = None,
    named: AsOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what became of an action whose outcome is unknown; the run goes on from there.

    Example: soar runs resolve KBJ61M --happened --reason "the EDR shows the host as isolated"
    """

    async def work(control: Control, found: Run) -> _Done:
        paths = await control.resolve(found.id, happened=happened, reason=reason, path=step)
        return _Done(
            found.id, f"goes on; it is recorded that this {'happened' if happened else 'did not happen'}", paths
        )

    _act(config, name, named, work, as_json=as_json)


def undo(
    name: RunArgument,
    step: Annotated[
        str | None, typer.Option(help="Only what this step did: its path as `runs show` prints it.", show_default=False)
    ] = None,
    named: AsOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take back what a run did, last done first; policy is asked again.

    Example: soar runs undo KBJ61M
    """

    async def work(control: Control, found: Run) -> _Done:
        return _Done(found.id, "is taken back by", await control.undo(found.id, path=step))

    _act(config, name, named, work, as_json=as_json)


@dataclass(frozen=True, slots=True)
class _Done:
    """What a person's word did to a run; `about` are the steps or runs that it concerns."""

    run: str
    what: str
    about: Sequence[str] = ()


def _besides(found: Run, held: Sequence[str]) -> list[str]:
    return [f"and sub-run {each}" for each in held if each != found.id]


def _act(
    config: Path | None,
    name: str,
    named: str | None,
    work: Callable[[Control, Run], Awaitable[_Done]],
    *,
    as_json: bool,
) -> None:
    async def act() -> _Done:
        async with stored(config) as opened:
            person = opened.person(named)
            return await work(opened.control(person), await find_run(opened.store, name))

    done = run(act())
    if as_json:
        print_json(done)
    else:
        about = f": {', '.join(done.about)}" if done.about else ""
        out.print(text(f"run {done.run} {done.what}{about}"), emoji=False)
