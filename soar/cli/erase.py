"""`soar audit erase`: somebody's data leaves the store, and the journal still proves everything else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from soar.cli.base import FOUND, AsOption, ConfigOption, JsonOption, ReasonOption, err, out, print_json, run, text
from soar.cli.ground import counted
from soar.cli.stored import stored
from soar.errors import ConfigError, NotFoundError
from soar.model.entry import Entry, EntryType
from soar.store.erasure import Erases, Touched

_SHORTEST = 3  # below that, nearly everything tells of them

YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask again.")]
SubjectOption = Annotated[
    str, typer.Option("--subject", help="The person, host or address, as alerts spell it; in any case.")
]


def add_to(group: typer.Typer) -> None:
    """Add the command to `soar audit`."""
    group.command()(erase)


def erase(
    subject: SubjectOption,
    reason: ReasonOption,
    named: AsOption = None,
    yes: YesOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Erase what tells of somebody, payloads whole with their salts; every proof stands, and the journal says so.

    Text is found wherever it stands, also within longer words. What was exported or logged elsewhere is not reached.

    Example: soar audit erase --subject merry@example.com --reason "request 4711"
    """
    if len(subject.strip()) < _SHORTEST:
        raise ConfigError(f"--subject {subject!r} is too short: nearly everything would tell of it")
    if subject.casefold() in reason.casefold():
        raise ConfigError("--reason names the subject; it goes into the journal, so name a case or request instead")
    taken = run(_erase(subject, reason, named, config, yes=yes))
    if as_json:
        print_json(taken)
        return
    out.print(f"erased: {_told(taken)}")
    out.print("the store's files are written anew; exports, logs and backups made before still hold it")


async def _erase(subject: str, reason: str, named: str | None, config: Path | None, *, yes: bool) -> Touched:
    async with stored(config) as opened:
        store = opened.store
        if not isinstance(store, Erases):
            raise ConfigError("the store that is configured cannot erase yet")
        scribe = opened.scribe.acting_as(f"person:{opened.person(named)}")
        _consider(await store.touched(subject), yes=yes)

        def tell(entry_id: str) -> Entry:
            return scribe.entry(EntryType.PAYLOAD_ERASED, entry_id, payload={"reason": reason})

        try:
            taken = await store.erase(subject, tell)
        except NotFoundError:
            await store.scrub()  # of what an earlier call erased while the file was in use
            raise
        await store.scrub()
        return taken


def _consider(found: Touched, *, yes: bool) -> None:
    if found.leaves:
        err.print(f"note: {counted(len(found.leaves), 'entry', 'entries')} name it in their public part, which stays")
    if found.playbooks:
        err.print(f"note: playbooks name it, which stay: {text(', '.join(found.playbooks))}")
    if not found.anything or yes:
        return
    err.print(f"erases: {_told(found)}")
    if not typer.confirm("This cannot be taken back. Erase it?", err=True):
        raise typer.Exit(FOUND)


def _told(found: Touched) -> str:
    return (
        f"{counted(len(found.entries), 'payload')}; touches {counted(found.alerts, 'alert')},"
        f" {counted(len(found.runs), 'run')}, {counted(found.dead_letters, 'dead letter')},"
        f" {counted(found.other, 'other row')}"
    )
