"""`soar keys`: the key that signs the journal, made, shown, and followed by another."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import typer

from soar.cli.base import AsOption, ConfigOption, JsonOption, ReasonOption, out, print_json, run, settings, text
from soar.cli.stored import Stored, stored
from soar.engine.audit import stored as as_stored
from soar.engine.recorder import record_alone
from soar.engine.timekeeper import Sequencer
from soar.errors import ConfigError, JournalError, NotSentError
from soar.journal.checkpoint import Checkpoint
from soar.journal.durable import replace_file
from soar.journal.leaf import parse_leaf
from soar.journal.merkle import Frontier, Nodes, inclusion_proof
from soar.journal.nodes import keep_nodes, read_tile
from soar.journal.note import Signer, Verifier
from soar.journal.proof import prove_entry, read_nodes
from soar.journal.rotation import HANDOVERS, handover, sign_handover
from soar.model.entry import EntryType
from soar.service.assembly import sequencer_of
from soar.service.keys import hold_key, key_path, next_path, passphrase, read_key, read_key_at, write_key
from soar.settings import Loaded
from soar.store.port import Fact, Store
from soar.store.seen import EntryRow


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
            async with publishing(loaded, opened.store, old) as sequencer:
                if sequencer.disowned:
                    raise JournalError(sequencer.disowned)
            # If we stop anywhere from here on, the next call finds this key and goes on with it.
            new = read_key_at(loaded, path) if path.exists() else Signer.generate(old.name)
            data = handover(old.verifier, new.verifier)
            write_key(loaded, path, new)
            told = await find(opened, new.verifier)
            if told is None:
                told = await tell(opened, person, reason, kind=EntryType.JOURNAL_KEY_ROTATED, data=data)
            certificate = await take_over(opened, told, old=old, new=new)
        return str(new.verifier), certificate


@contextlib.asynccontextmanager
async def publishing(loaded: Loaded, store: Store, signer: Signer) -> AsyncIterator[Sequencer]:
    """Show the newest checkpoint to witnesses and anchors, and see it arrive.

    Raises ConnectorError where an anchor cannot be asked: it would hold a checkpoint by another key afterwards.
    """
    sequencer = sequencer_of(loaded, store, signer)
    try:
        await sequencer.check()
        if sequencer.unasked:
            raise NotSentError(f"{', '.join(sequencer.unasked)} cannot be asked; the key changes when they can")
        yield sequencer
    finally:
        await sequencer.close()


async def tell(
    opened: Stored, person: str, reason: str, *, kind: EntryType, data: dict[str, str | int | bool]
) -> EntryRow:
    """Append the entry that names the key that follows."""
    scribe = opened.scribe.acting_as(f"person:{person}")
    entry = scribe.entry(kind, opened.loaded.settings.journal.origin, payload={"reason": reason}, data=data)
    await record_alone(opened.store, Fact(entries=(entry,)))
    found = await find(opened, Verifier.from_text(str(data["new"])))
    assert found is not None
    return found


async def find(opened: Stored, new: Verifier) -> EntryRow | None:
    """The entry that names this key as the one that follows: that of a call that did not come to its end."""
    async for row in opened.store.entries():
        if row.type in HANDOVERS and parse_leaf(row.leaf)["data"].get("new") == str(new):
            return row
    return None


async def take_over(opened: Stored, told: EntryRow, *, old: Signer, new: Signer) -> Path:
    """Sign the tree with both keys, show that, keep the proof of the entry beside the key, and let the old one go."""
    loaded, store, entry = opened.loaded, opened.store, as_stored(told)
    size, raw = await store.tree()
    checkpoint = Checkpoint(origin=new.name, size=size, root=Frontier.from_bytes(raw).root())
    note = sign_handover(checkpoint, old=old, new=new)
    await store.add_checkpoint(size, note)
    await keep_nodes(store, size)

    def make(nodes: Nodes) -> list[bytes]:
        return inclusion_proof(entry.index, size, nodes)

    nodes = await read_nodes(size, make, lambda tile: read_tile(store, tile))
    proof = prove_entry(entry.index, entry.leaf, note=note, nodes=nodes)
    sequencer = sequencer_of(loaded, store, new)
    await sequencer.publish(note)
    await sequencer.close()
    certificate = key_path(loaded).with_name(f"{key_path(loaded).name}.{new.key_id.hex()}.tlog-proof")
    replace_file(certificate, proof.to_text().encode())
    next_path(loaded).replace(key_path(loaded))
    return certificate
