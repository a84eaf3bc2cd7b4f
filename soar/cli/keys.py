"""`soar keys`: the key that signs the journal, made, shown, and followed by another."""

from __future__ import annotations

from pathlib import Path

import typer

from soar.cli.base import AsOption, ConfigOption, JsonOption, ReasonOption, out, print_json, run, settings, text
from soar.cli.stored import Stored, stored
from soar.engine.audit import stored as as_stored
from soar.errors import ConfigError, JournalError
from soar.journal.checkpoint import Checkpoint
from soar.journal.durable import replace_file
from soar.journal.leaf import parse_leaf
from soar.journal.merkle import Frontier, Nodes, inclusion_proof
from soar.journal.nodes import keep_nodes, read_tile
from soar.journal.note import Signer
from soar.journal.proof import EntryProof, prove_entry, read_nodes
from soar.journal.rotation import handover, sign_handover
from soar.model.entry import EntryType
from soar.service.assembly import anchors_of, sequencer_of
from soar.service.keys import hold_key, key_path, next_path, passphrase, read_key, read_key_at, write_key
from soar.store.port import EntryRow, Fact


def add_to(app: typer.Typer) -> None:
    """Add `keys` and its commands."""
    group = typer.Typer(help="The key that signs the journal.", no_args_is_help=True)
    group.command()(init)
    group.command()(show)
    group.command()(rotate)
    app.add_typer(group, name="keys")


def init(config: ConfigOption = None) -> None:
    """Make the journal's key, locked if journal.passphrase is set, and print the verifier key; never over another.

    Example: soar keys init
    """
    loaded = settings(config)
    path = key_path(loaded)
    if path.exists():
        raise ConfigError(f"{path} is there already; a key is never written over: soar keys rotate replaces it")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    signer = Signer.generate(loaded.settings.journal.origin)
    write_key(loaded, path, signer)
    typer.echo(str(signer.verifier))


def show(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Print the verifier key, which anybody may know, and whether the private one is locked.

    Example: soar keys show
    """
    loaded = settings(config)
    verifier, path = read_key(loaded).verifier, key_path(loaded)
    locked = path.read_text().startswith("LOCKED+")
    if as_json:
        print_json({"verifier": str(verifier), "id": verifier.key_id, "file": path, "locked": locked})
        return
    out.print(text(verifier))
    out.print(f"in {text(path)}, {'locked with journal.passphrase' if locked else 'not locked'}")


def rotate(reason: ReasonOption, named: AsOption = None, config: ConfigOption = None) -> None:
    """Let a new key follow, with the service stopped: the journal tells it, and a checkpoint is signed by both.

    The old key is gone then. The proof of the handover stands beside the new one, for those who know only the old.

    Example: soar keys rotate --reason "yearly"
    """
    new, certificate = run(_rotate(reason, named, config))
    typer.echo(new)
    typer.echo(f"proof of the handover: {certificate}", err=True)


async def _rotate(reason: str, named: str | None, config: Path | None) -> tuple[str, Path]:
    async with stored(config) as opened:
        loaded = opened.loaded
        person, path = opened.person(named), next_path(loaded)
        with hold_key(loaded, alone=True):
            old = read_key(loaded)
            passphrase(loaded)  # before anything is written
            sequencer = sequencer_of(loaded, opened.store, old)
            await sequencer.check(anchors_of(loaded))
            if sequencer.disowned:
                raise JournalError(sequencer.disowned)
            # If we stop anywhere from here on, the next call finds this key and goes on with it.
            new = read_key_at(loaded, path) if path.exists() else Signer.generate(old.name)
            write_key(loaded, path, new)
            told = await _told(opened, person, reason, data=handover(old.verifier, new.verifier))
            proof = await _hand_over(opened, told, old=old, new=new)
            await sequencer.check(anchors_of(loaded))  # shows it to witnesses and anchors, who know the old key
            certificate = key_path(loaded).with_name(f"{key_path(loaded).name}.{new.key_id.hex()}.tlog-proof")
            replace_file(certificate, proof.to_text().encode())
            path.replace(key_path(loaded))
        return str(new.verifier), certificate


async def _told(opened: Stored, person: str, reason: str, *, data: dict[str, str | int | bool]) -> EntryRow:
    """The entry that names both keys: that of a call that did not come to its end, or a new one."""
    if (found := await _find(opened, data)) is None:
        scribe = opened.scribe.acting_as(f"person:{person}")
        entry = scribe.entry(
            EntryType.JOURNAL_KEY_ROTATED, opened.loaded.settings.journal.origin, payload={"reason": reason}, data=data
        )
        for refusal in await opened.store.commit([Fact(entries=(entry,))]):
            if refusal is not None:
                raise refusal
        found = await _find(opened, data)
    assert found is not None
    return found


async def _find(opened: Stored, data: dict[str, str | int | bool]) -> EntryRow | None:
    async for row in opened.store.entries():
        if row.type == EntryType.JOURNAL_KEY_ROTATED and parse_leaf(row.leaf)["data"] == data:
            return row
    return None


async def _hand_over(opened: Stored, told: EntryRow, *, old: Signer, new: Signer) -> EntryProof:
    """Sign the tree with both keys, and prove the entry under that checkpoint."""
    store, entry = opened.store, as_stored(told)
    size, raw = await store.tree()
    checkpoint = Checkpoint(origin=old.name, size=size, root=Frontier.from_bytes(raw).root())
    note = sign_handover(checkpoint, old=old, new=new)
    await store.add_checkpoint(size, note)
    await keep_nodes(store, size)

    def make(nodes: Nodes) -> list[bytes]:
        return inclusion_proof(entry.index, size, nodes)

    nodes = await read_nodes(size, make, lambda tile: read_tile(store, tile))
    return prove_entry(entry.index, entry.leaf, note=note, nodes=nodes)
