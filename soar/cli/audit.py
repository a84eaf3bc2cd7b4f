"""`soar audit`: verify, status, show. Nothing here writes to the store or needs the service to be up or down."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import track

from soar.cli import erase, exports, query
from soar.cli.base import FOUND, ConfigOption, JsonOption, LimitOption, err, out, print_json, run, settings, text
from soar.cli.ground import counted
from soar.cli.stored import stored as opened
from soar.engine.audit import verify_store
from soar.errors import ConfigError, InputError, JournalError, StoreUnavailableError
from soar.journal.checkpoint import Checkpoint, open_checkpoint
from soar.journal.leaf import parse_leaf
from soar.journal.note import Verifier
from soar.journal.rotation import first_key
from soar.journal.verify import StoredEntry
from soar.model.entry import EntryType
from soar.service import read_key
from soar.service.storage import database_url
from soar.settings import Loaded
from soar.store.sqlite.evidence import Evidence, Examination, Finding, examine, open_evidence

_LONG = 20_000  # entries from which on it takes seconds, and a bar says how many

KeyOption = Annotated[
    str | None,
    typer.Option("--key", help="The verifier key, for who has no private one: NAME+ID+KEY.", show_default=False),
]


def add_to(app: typer.Typer) -> None:
    """Add `audit` and its commands."""
    group = typer.Typer(help="Verify and read the journal.", no_args_is_help=True)
    group.command()(verify)
    group.command()(status)
    group.command()(show)
    exports.add_to(group)
    erase.add_to(group)
    query.add_to(group)
    app.add_typer(group, name="audit")


def verify(config: ConfigOption = None, key: KeyOption = None, as_json: JsonOption = False) -> None:
    """Rebuild the tree from the stored leaves and check it against every signed checkpoint; exit code 1 if it differs.

    Checked too: each run's chain, each payload, the columns that repeat a leaf's fields, the stored frontier, and
    whether state names entries that the journal does not have.

    Example: soar audit verify --json
    """
    loaded = settings(config)
    if database_url(loaded) is not None:
        found = run(_examine_database(config, _verifier(loaded, key)))
    else:
        found = examine(
            _store(loaded),
            origin=loaded.settings.journal.origin,
            key=_verifier(loaded, key),
            watch=_watched if not as_json else _unwatched,
        )
    if as_json:
        print_json(_plain(found))
    else:
        _print(found)
    if not found.ok:
        raise typer.Exit(FOUND)


async def _examine_database(config: Path | None, key: Verifier) -> Examination:
    """The journal of a database: the same proof, over what it hands out."""
    async with opened(config) as at:
        leaves = [row.leaf async for row in at.store.entries() if row.type == EntryType.JOURNAL_KEY_ROTATED]
        first = first_key(leaves, key)
        report = await verify_store(at.store, verifier=first, origin=at.loaded.settings.journal.origin)
    return Examination(report, tuple(Finding(problem.message, problem.index) for problem in report.problems))


def _watched(entries: Iterable[StoredEntry], expected: int) -> Iterable[StoredEntry]:
    quiet = expected < _LONG or not err.is_terminal
    return track(entries, "verifying", total=expected, console=err, transient=True, disable=quiet)


def _unwatched(entries: Iterable[StoredEntry], _: int) -> Iterable[StoredEntry]:
    return entries


def _plain(found: Examination) -> dict[str, Any]:
    report = found.report
    return {
        "ok": found.ok,
        "entries": report.entries,
        "checkpoints": report.checkpoints,
        "covered": report.covered,
        "exposed": report.exposed,
        "erased": report.erased,
        "root": report.root,
        "first_bad": found.first_bad,
        "findings": found.findings,
    }


def _print(found: Examination) -> None:
    report = found.report
    out.print(
        f"{counted(report.entries, 'entry', 'entries')}, {counted(report.checkpoints, 'good checkpoint')},"
        f" {report.covered} covered, {report.exposed} exposed, {report.erased} erased"
    )
    out.print(f"root {report.root.hex()}")
    if found.ok:
        out.print("[bold green]the journal verifies[/bold green]")
        return
    bad = found.first_bad
    out.print(f"[bold red]the journal does not verify[/bold red]: {text(_first(bad))}")
    for finding in found.findings:
        out.print(f"- {text(finding.message)}")
    hidden = report.problem_count - len(report.problems)
    if hidden:
        out.print(f"and {hidden} more of the kind")


def _first(bad: Finding | None) -> str:
    if bad is None:
        return "no entry is known to be bad; what is wrong stands beside the entries"
    name = f", {bad.id}, {bad.type}" if bad.id else ", which cannot be read"
    return f"the first bad entry is {bad.index}{name}"


def status(config: ConfigOption = None, key: KeyOption = None, as_json: JsonOption = False) -> None:
    """Say how long the journal is, what is signed, and what is not yet.

    Example: soar audit status
    """
    loaded = settings(config)
    verifier = _verifier(loaded, key)
    with open_evidence(_store(loaded)) as evidence:
        size, _ = evidence.tree()
        signed, problem = _last_checkpoint(evidence, verifier)
        covered = signed.size if signed else 0
        last = evidence.entry(covered - 1) if covered else None
        _refuse_damage(evidence)
    found = {
        "origin": loaded.settings.journal.origin,
        "key": str(verifier),
        "size": size,
        "checkpoint_size": covered,
        "checkpoint_root": signed.root if signed else None,
        "signed_up_to": last.copies["at"] if last else None,
        "exposed": size - covered,
        "problem": problem,
    }
    if as_json:
        print_json(found)
    else:
        _print_status(found)
    if problem:
        raise typer.Exit(FOUND)


def _print_status(found: dict[str, Any]) -> None:
    rows = [
        ("log", found["origin"]),
        ("verifier key", found["key"]),
        ("entries", found["size"]),
        ("last checkpoint", f"over {found['checkpoint_size']} entries" if found["checkpoint_size"] else "none yet"),
        ("signed up to", found["signed_up_to"]),
        ("exposed", f"{found['exposed']} entries after it"),
    ]
    for name, value in rows:
        out.print(f"{name:15} {text('' if value is None else value)}")
    if found["problem"]:
        out.print(f"[red]the last checkpoint is not good:[/red] {text(found['problem'])}; run: soar audit verify")


def _last_checkpoint(evidence: Evidence, verifier: Verifier) -> tuple[Checkpoint | None, str | None]:
    """The last checkpoint if its signature is good, and what is wrong with it if not."""
    for note in evidence.checkpoints(newest=1):
        try:
            return open_checkpoint(note, [verifier]), None
        except JournalError as failure:
            return None, str(failure)
    return None, None


def show(
    run_id: Annotated[str | None, typer.Option("--run", help="Entries of this run.", show_default=False)] = None,
    kind: Annotated[
        str | None, typer.Option("--type", help="Entries of this type, such as action.intent.", show_default=False)
    ] = None,
    limit: LimitOption = 50,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read the newest entries, oldest of them first; --json gives their payloads too.

    Example: soar audit show --type policy.decided --limit 5
    """
    with open_evidence(_store(settings(config))) as evidence:
        entries = evidence.newest(limit=limit, run_id=run_id, kind=kind)
        _refuse_damage(evidence)
    if as_json:
        print_json([_readable(entry) for entry in entries])
        return
    for row in map(_readable, entries):
        about = [row.get("subject"), row.get("actor"), _data(row), row.get("problem")]
        shown = "  ".join(str(part) for part in about if part)
        out.print(f"{row['index']:>7} {text(row['at'])} {text(row['type']):20} {text(shown)}")


def _data(row: dict[str, Any]) -> str:
    data = row.get("data")
    return " ".join(f"{name}={value}" for name, value in data.items()) if isinstance(data, dict) else ""


def _readable(entry: StoredEntry) -> dict[str, Any]:
    """The leaf's fields and the payload; what cannot be read is said so, as this is where people look for it."""
    try:
        fields = parse_leaf(entry.leaf)
    except JournalError as failure:
        return {"index": entry.index, **entry.copies, "problem": str(failure)}
    digest = {"payload_digest": fields.pop("payload")} if "payload" in fields else {}
    return {"index": entry.index, **fields, **digest, "payload": _payload(entry.payload)}


def _payload(raw: bytes | None) -> Any:
    if raw is None:
        return None
    try:
        return json.loads(raw)
    except ValueError:
        return {"problem": "the payload is no JSON; run: soar audit verify"}


def _refuse_damage(evidence: Evidence) -> None:
    if evidence.damage:
        raise StoreUnavailableError(f"store {evidence.path}: {'; '.join(evidence.damage)}; run: soar audit verify")


def _store(loaded: Loaded) -> Path:
    if loaded.settings.store.url is not None:
        remedy = "for a database there is `soar audit verify` and `soar status`"
        raise InputError(f"this reads the file of the embedded store; {remedy}", loaded.place("store", "url"))
    return loaded.path(loaded.settings.store.path)


def _verifier(loaded: Loaded, key: str | None) -> Verifier:
    if key is None:
        return read_key(loaded).verifier
    try:
        return Verifier.from_text(key)
    except JournalError as failure:
        raise ConfigError(f"--key: {failure}") from failure
