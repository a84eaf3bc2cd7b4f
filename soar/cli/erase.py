"""`soar audit erase`: somebody's data leaves the store, and the journal still proves everything else."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from soar.cli.base import (
    FOUND,
    AsOption,
    ConfigOption,
    JsonOption,
    ReasonOption,
    err,
    out,
    plain,
    print_json,
    run,
    text,
)
from soar.cli.ground import counted
from soar.cli.stored import stored
from soar.errors import ConfigError, NotFoundError
from soar.journal.archive import PAYLOAD_ARCHIVED, ArchiveFolder
from soar.model.entry import Entry, EntryType
from soar.service.storage import archive_of
from soar.store.erasure import Subject, Touched
from soar.store.port import Store

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
        print_json({**plain(taken.store), "archived": taken.archived, "remains": taken.remains})
        return
    out.print(f"erased: {_told(taken)}")
    for each in taken.remains:
        out.print(f"[yellow]not reached:[/yellow] {text(each)}")
    out.print("the store's files are written anew; exports, logs and backups made before still hold it")


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What was erased in the store and of the archive; `remains` is what could not be reached, and why."""

    store: Touched
    archived: tuple[str, ...]  # entries whose payloads stood in the archive
    remains: tuple[str, ...] = ()


async def _erase(subject: str, reason: str, named: str | None, config: Path | None, *, yes: bool) -> Taken:
    async with stored(config) as opened:
        scribe = opened.scribe.acting_as(f"person:{opened.person(named)}")

        def tell(entry_id: str) -> Entry:
            return scribe.entry(EntryType.PAYLOAD_ERASED, entry_id, payload={"reason": reason})

        store, archive = opened.store, archive_of(opened.loaded)
        with archive.alone() if archive.path.is_dir() else nullcontext():
            archive = archive.knowing(await store.leaves(PAYLOAD_ARCHIVED))
            old = list(archive.without(Subject(subject).named_in))
            archived = tuple(kept.id for _, taken, _ in old for kept in taken)
            _consider(Taken(store=await store.touched(subject), archived=archived), yes=yes)
            elsewhere = [tell(each) for each in archived]
            for file, _, rest in old:
                new = archive.put(rest) if rest else replace(file, payloads=0)
                data = {**new.data, "replaces": file.name}
                elsewhere.append(scribe.entry(EntryType.PAYLOAD_ARCHIVED, new.name, data=data))
            try:
                taken = await store.erase(subject, tell, elsewhere=elsewhere)
            except NotFoundError:
                await _scrub(store, archive)  # of what an earlier call erased while the store was in use
                raise
            return Taken(store=taken, archived=archived, remains=await _scrub(store, archive))


async def _scrub(store: Store, archive: ArchiveFolder) -> tuple[str, ...]:
    archive.knowing(await store.leaves(PAYLOAD_ARCHIVED)).sweep()
    return await store.scrub()


def _consider(found: Taken, *, yes: bool) -> None:
    if found.store.leaves:
        number = counted(len(found.store.leaves), "entry", "entries")
        err.print(f"note: {number} name it in their public part, which stays")
    if found.store.playbooks:
        err.print(f"note: playbooks name it, which stay: {text(', '.join(found.store.playbooks))}")
    if yes or not (found.store.anything or found.archived):
        return
    err.print(f"erases: {_told(found)}")
    if not typer.confirm("This cannot be taken back. Erase it?", err=True):
        raise typer.Exit(FOUND)


def _told(found: Taken) -> str:
    store = found.store
    return (
        f"{counted(len(store.entries), 'payload')}, {len(found.archived)} in the archive;"
        f" touches {counted(store.alerts, 'alert')}, {counted(len(store.runs), 'run')},"
        f" {counted(store.dead_letters, 'dead letter')}, {counted(store.other, 'other row')}"
    )
