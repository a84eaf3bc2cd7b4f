"""`soar audit continue`: after a backup was restored, the journal goes on under a new name that names what was lost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from soar.cli.base import AsOption, ConfigOption, ReasonOption, run
from soar.cli.keys import find, take_over, tell
from soar.cli.stored import Stored, stored
from soar.engine.publishing import prover, stands
from soar.errors import ConfigError, ConnectorError, JournalError, StateConflictError
from soar.journal.leaf import parse_leaf
from soar.journal.nodes import keep_nodes
from soar.journal.note import Signer
from soar.journal.standing import Comparison, Standing, continued, continues
from soar.journal.trust import TrustPolicy, claimed
from soar.logs import configure
from soar.model.entry import EntryType
from soar.service.assembly import anchors_of, witnesses_of
from soar.service.keys import hold_key, next_path, passphrase, read_key, read_key_at, write_key

CheckpointOption = Annotated[
    Path | None,
    typer.Option("--checkpoint", help="The last one under the old name, if no anchor has it.", show_default=False),
]


def add_to(group: typer.Typer) -> None:
    """Add the command to `soar audit`."""
    group.command(name="continue")(go_on)


def go_on(
    reason: ReasonOption, checkpoint: CheckpointOption = None, named: AsOption = None, config: ConfigOption = None
) -> None:
    """Sign a restored backup under a new name, with the service stopped; set journal.origin to that name before.

    The journal then tells which entries were published and are lost, who let it go on, and why. A new key takes over
    from the old one. Only a journal that is not what others have seen of it is continued.

    Example: soar audit continue --reason "disk of 3 May lost, backup of 2 May restored"
    """
    configure(level="warning")
    told, key, certificate = run(_go_on(reason, checkpoint, named, config))
    typer.echo(key)
    typer.echo(told, err=True)
    typer.echo(f"proof of the handover: {certificate}", err=True)
    typer.echo(
        "give the new key to the witnesses, beside the old one, and to auditors; then start the service", err=True
    )


async def _go_on(reason: str, given: Path | None, named: str | None, config: Path | None) -> tuple[str, str, Path]:
    async with stored(config) as opened:
        loaded = opened.loaded
        origin, person, path = loaded.settings.journal.origin, opened.person(named), next_path(loaded)
        with hold_key(loaded, alone=True):
            old = read_key(loaded)
            passphrase(loaded)  # before anything is written
            if old.name == origin:
                place = loaded.place("journal", "origin")
                raise ConfigError(f"journal.origin is still {origin}, the name that is given up; set a new one", place)
            new = read_key_at(loaded, path) if path.exists() else Signer.generate(origin)
            kept = max([claimed(note).size for note in await opened.store.checkpoints(newest=1)], default=0)
            row = await find(opened, new.verifier)
            if row is None:
                lost = await _published(opened, old, given)
                data = continued(lost, old=old.verifier, new=new.verifier)
                # If we stop anywhere from here on, the next call finds this key and goes on with it.
                write_key(loaded, path, new)
                row = await tell(opened, person, reason, kind=EntryType.JOURNAL_CONTINUED, data=data)
            certificate = await take_over(opened, row, old=old, new=new)
        told = continues(parse_leaf(row.leaf), index=row.index, kept=kept)
        return str(told), str(new.verifier), certificate


async def _published(opened: Stored, old: Signer, given: Path | None) -> str:
    """The checkpoint over the most entries that others know; raises unless it shows that this is another journal."""
    notes = await _kept(opened, old) if given is None else [_read(given)]
    size, _ = await opened.store.tree()
    await keep_nodes(opened.store, size)
    known = await _witnessed(opened)
    largest = max(notes, key=lambda note: claimed(note).size, default=None)
    if largest is None or claimed(largest).size < known:
        saw = f"a witness saw {known} entries" if known else "no anchor holds one"
        raise JournalError(
            f"the last checkpoint under the name {old.name} is missing: {saw}. Ask the keeper of a witness, who has it"
            " in the folder of `soar witness run --memory`, and name the file with --checkpoint"
        )
    found = await stands(largest, opened.store, size=size)
    if found.standing is Standing.OK:
        raise StateConflictError(
            f"this journal is what others have seen of {old.name}: there is nothing to give up. Set journal.origin back"
        )
    return largest


async def _kept(opened: Stored, old: Signer) -> list[str]:
    policy = TrustPolicy.of([old.verifier])
    found = [await anchor.newest(policy) for anchor in anchors_of(opened.loaded, origin=old.name)]
    return [note for note in found if note is not None]


async def _witnessed(opened: Stored) -> int:
    """How many entries a witness has seen that we do not have, 0 where none says so."""
    known = 0
    for note in await opened.store.checkpoints(newest=1):
        for witness in witnesses_of(opened.loaded):
            try:
                found = (await witness.cosign(note, prove=prover(opened.store))).comparison
            except (ConnectorError, JournalError):
                found = Comparison(Standing.OK)  # a witness that is away cannot hold this up for ever
            known = max(known, found.known)
    return known


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as failure:
        raise ConfigError(f"--checkpoint {path} cannot be read: {failure}") from failure
