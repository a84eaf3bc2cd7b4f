"""`soar audit export`, `prove` and `check`: what leaves the house, and how it is verified without the store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from soar.cli.base import FOUND, ConfigOption, JsonOption, err, out, print_json, run, text
from soar.cli.ground import counted
from soar.cli.stored import Stored, stored
from soar.engine.audit import stored as as_stored
from soar.errors import ConfigError, JournalError, NotFoundError
from soar.journal.archive import PAYLOAD_ARCHIVED
from soar.journal.export import Export
from soar.journal.folder import Opened, open_export
from soar.journal.merkle import Nodes, inclusion_proof
from soar.journal.nodes import keep_nodes, read_tile
from soar.journal.proof import ENTRY_PROOF, EntryProof, prove_entry, prove_run, read_nodes, verify_run
from soar.journal.trust import TrustPolicy, claimed
from soar.journal.verify import StoredEntry
from soar.service import read_key
from soar.service.storage import archive_of

_LONG = 20_000  # entries from which on it takes seconds, and a bar says how many

PolicyOption = Annotated[
    Path | None,
    typer.Option("--policy", help="Keys of log and witnesses, a file after c2sp.org/tlog-policy.", show_default=False),
]


def add_to(group: typer.Typer) -> None:
    """Add the commands to `soar audit`."""
    group.command()(export)
    group.command()(prove)
    group.command()(check)


def export(
    folder: Annotated[Path, typer.Argument(help="Where to; what was exported there before is continued.")],
    payloads: Annotated[
        bool, typer.Option("--payloads", help="All payloads too: personal data leaves the house.")
    ] = False,
    payloads_of: Annotated[
        list[str] | None, typer.Option("--payloads-of", help="The payloads of this run too.", show_default=False)
    ] = None,
    policy: PolicyOption = None,
    config: ConfigOption = None,
) -> None:
    """Write the signed journal into a folder that anybody can verify.

    It holds all up to the newest checkpoint, payloads only where they are asked for, and verify.py, which verifies it.

    Example: soar audit export /media/auditor --payloads-of run-01JD
    """
    wanted = None if payloads else frozenset(payloads_of or ())
    run(_export(folder, wanted, policy, config))


async def _export(folder: Path, wanted: frozenset[str] | None, policy: Path | None, config: Path | None) -> None:
    async with stored(config) as held:
        trust = _policy(policy) or TrustPolicy.of([read_key(held.loaded).verifier])
        note = await _newest(held)
        size = claimed(note).size
        writing = Export(folder, policy=trust)
        before = writing.size
        with Progress(console=err, transient=True, disable=size - before < _LONG or not err.is_terminal) as progress:
            bar = progress.add_task("exporting", total=size - before)
            async for entry in _entries(held, size, start=before):
                writing.take(entry, payload=wanted is None or entry.copies["run"] in wanted)
                progress.advance(bar)
        for run_id in (None,) if wanted is None else wanted:
            async for entry in _entries(held, before, run_id=run_id):
                writing.put_payload(entry)
        writing.finish(note)
    out.print(f"{counted(size, 'entry', 'entries')} in {text(folder)}, {size - before} of them new")
    out.print(f"verify with: python {text(folder / 'verify.py')}")


def prove(
    named: Annotated[str, typer.Argument(metavar="RUN|INDEX", help="A run's id, or an entry's index.")],
    payloads: Annotated[bool, typer.Option("--payloads", help="A run's payloads too.")] = False,
    config: ConfigOption = None,
) -> None:
    """Print a proof that stands alone: of one entry (a .tlog-proof), or of a whole run (JSON).

    Example: soar audit prove run-01JD --payloads > run.json
    """
    typer.echo(run(_prove(named, payloads, config)), nl=False)


async def _prove(named: str, payloads: bool, config: Path | None) -> str:
    async with stored(config) as held:
        note = await _newest(held)
        size = claimed(note).size
        if named.isdecimal():
            picked = [entry async for entry in _entries(held, min(size, int(named) + 1), start=int(named))]
        else:
            picked = [entry async for entry in _entries(held, size, run_id=named)]
        if not picked:
            raise NotFoundError(f"the {size} signed entries have no run and no index {named}")

        def make(nodes: Nodes) -> list[list[bytes]]:
            return [inclusion_proof(entry.index, size, nodes) for entry in picked]

        await keep_nodes(held.store, size)
        nodes = await read_nodes(size, make, lambda tile: read_tile(held.store, tile))
    if named.isdecimal():
        return prove_entry(picked[0].index, picked[0].leaf, note=note, nodes=nodes).to_text()
    if not payloads:
        picked = [StoredEntry(index=each.index, leaf=each.leaf) for each in picked]
    return prove_run(picked, note=note, nodes=nodes)


def check(
    path: Annotated[Path, typer.Argument(help="An exported folder, or a file with a proof.", exists=True)],
    policy: Annotated[Path, typer.Option("--policy", help="Whose signatures to believe (c2sp.org/tlog-policy).")],
    earlier: Annotated[
        list[Path] | None,
        typer.Option("--earlier", help="A checkpoint kept from before, which the export must continue."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Verify an export or a proof, without store and configuration; exit code 1 if it does not verify.

    Example: soar audit check /media/auditor --policy trusted --earlier last-year
    """
    trust = _policy(policy)
    assert trust is not None
    if path.is_dir():
        opened = open_export(path, policy=trust, earlier=[_read(each) for each in earlier or ()])
        _tell(opened, as_json=as_json)
        return
    found = _checked(_read(path), trust)
    if as_json:
        print_json({"ok": True, **found})
    else:
        out.print(", ".join(f"{name} {text(value)}" for name, value in found.items()) + ": verified")


def _tell(opened: Opened, *, as_json: bool) -> None:
    report, witnessed = opened.report, dict(opened.trusted.witnessed) if opened.trusted else {}
    if as_json:
        print_json({"ok": opened.ok, "witnessed": witnessed, "report": report})
    else:
        out.print(f"{counted(report.entries, 'entry', 'entries')}, {report.erased} without payload")
        out.print(f"witnessed by {text(', '.join(witnessed) or 'nobody')}; root {report.root.hex()}")
        for problem in report.problems:
            out.print(f"- {text(problem.message)}")
        out.print("[green]the export verifies[/green]" if opened.ok else "[red]the export does not verify[/red]")
    if not opened.ok:
        raise typer.Exit(FOUND)


def _checked(proof: str, trust: TrustPolicy) -> dict[str, object]:
    if proof.startswith(ENTRY_PROOF):
        entry = EntryProof.from_text(proof)
        return {"entry": entry.index, "of": entry.verify(trust).checkpoint.size}
    proven = verify_run(proof, trust)
    return {"run": proven.run, "entries": len(proven.entries), "ended": proven.ended}


async def _newest(held: Stored) -> str:
    """The newest checkpoint. It may be damaged: whoever uses it checks it."""
    for note in await held.store.checkpoints(newest=1):
        return note
    raise JournalError("no checkpoint is signed yet; the service signs one a second after it starts")


async def _entries(held: Stored, size: int, *, start: int = 0, run_id: str | None = None) -> AsyncIterator[StoredEntry]:
    archive = archive_of(held.loaded).knowing(await held.store.leaves(PAYLOAD_ARCHIVED)).reading()
    async for row in held.store.entries(start=start, run_id=run_id):
        if row.index >= size:
            return
        yield archive.fill(as_stored(row))


def _policy(path: Path | None) -> TrustPolicy | None:
    try:
        return None if path is None else TrustPolicy.from_text(_read(path))
    except JournalError as error:
        raise ConfigError(f"{path}: {error}") from error


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as text: {error}") from error
