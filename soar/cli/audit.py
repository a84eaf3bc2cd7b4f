"""`soar audit`: verify, status, show. Nothing here writes to the store or needs the service to be up or down."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from itertools import islice
from typing import Annotated, Any

import typer
from rich.progress import track

from soar.cli import archive, continuing, erase, exports, query
from soar.cli.anchored import kept_elsewhere
from soar.cli.base import FOUND, ConfigOption, JsonOption, LimitOption, err, out, print_json, run, settings, text
from soar.cli.ground import counted
from soar.cli.reading import LONG, reading
from soar.errors import ConfigError, JournalError
from soar.journal.checkpoint import Checkpoint, open_checkpoint
from soar.journal.leaf import parse_leaf
from soar.journal.note import Verifier
from soar.journal.verify import StoredEntry
from soar.service import read_key
from soar.service.exposure import not_anchored, not_cosigned
from soar.service.storage import evidence_of
from soar.settings import Loaded
from soar.store.evidence import Evidence, Examination, Finding, examine

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
    continuing.add_to(group)
    query.add_to(group)
    archive.add_to(group)
    app.add_typer(group, name="audit")


def verify(
    with_archive: Annotated[
        bool, typer.Option("--archive", help="Every file of the archive must be here too.")
    ] = False,
    config: ConfigOption = None,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rebuild the tree from the stored leaves and check it against every signed checkpoint; exit code 1 if it differs.

    Checked too: each run's chain, each payload, also in the archive, the columns that repeat a leaf's fields, the
    stored frontier, and whether state names entries that the journal does not have. What configured anchors keep must
    be continued too.

    Example: soar audit verify --json
    """
    loaded = settings(config)
    verifier = _verifier(loaded, key)
    anchors = run(kept_elsewhere(loaded, verifier, whole=True))
    with evidence_of(loaded) as (evidence, folder):
        found = examine(
            evidence,
            key=verifier,
            kept=[each.note for each in anchors if each.note is not None],
            archive=folder,
            watch=_watched if not as_json else _unwatched,
        )
    if with_archive:
        away = (Finding(f"archive file {x.name} is not in {folder.path}") for x in folder.files if not folder.holds(x))
        found = replace(found, findings=(*found.findings, *away))
    if as_json:
        print_json(_plain(found) | {"anchors": anchors})
    else:
        _print(found)
        for each in anchors:
            out.print(f"anchor {text(each)}")
    if not found.ok or any(each.damaged for each in anchors):
        raise typer.Exit(FOUND)


def _watched(entries: Iterable[StoredEntry], expected: int) -> Iterable[StoredEntry]:
    quiet = expected < LONG or not err.is_terminal
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
        "archived": found.archived,
        "away": found.away,
        "root": report.root,
        "continued": [str(each) for each in report.continued],
        "first_bad": found.first_bad,
        "findings": found.findings,
    }


def _print(found: Examination) -> None:
    report = found.report
    out.print(
        f"{counted(report.entries, 'entry', 'entries')}, {counted(report.checkpoints, 'good checkpoint')},"
        f" {report.covered} covered, {report.exposed} exposed, {report.erased} erased"
    )
    if found.archived or found.away:
        out.print(f"{counted(found.archived, 'payload')} in the archive, {found.away} in files that are not here")
    out.print(f"root {report.root.hex()}")
    for each in report.continued:
        out.print(f"[yellow]{text(each)}[/yellow]")
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
    """Say how long the journal is, what is signed, cosigned and anchored, and what is not yet.

    Example: soar audit status
    """
    loaded = settings(config)
    verifier = _verifier(loaded, key)
    anchors = run(kept_elsewhere(loaded, verifier))
    with reading(loaded) as (evidence, folder):
        size, _ = evidence.tree()
        signed, problem = _last_checkpoint(evidence, verifier)
        covered = signed.size if signed else 0
        last = next(iter(evidence.entries(start=covered - 1, end=covered)), None) if covered else None
        cosigned = evidence.cosigned()
    found = {
        "origin": loaded.settings.journal.origin,
        "key": str(verifier),
        "size": size,
        "checkpoint_size": covered,
        "checkpoint_root": signed.root if signed else None,
        "signed_up_to": last.copies["at"] if last else None,
        "exposed": size - covered,
        "not_cosigned": not_cosigned(loaded, size, cosigned),
        "not_anchored": not_anchored([each.size or 0 for each in anchors], size),
        "anchors": anchors,
        "archived": sum(file.payloads for file in folder.files),
        "archive_files": len(folder.files),
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
        ("not cosigned", _entries(found["not_cosigned"], "no witness is configured")),
        ("not anchored", _entries(found["not_anchored"], "no anchor is configured")),
        *(("anchor", str(each)) for each in found["anchors"]),
        ("archived", f"{counted(found['archived'], 'payload')} in {counted(found['archive_files'], 'file')}"),
    ]
    for name, value in rows:
        out.print(f"{name:15} {text('' if value is None else value)}")
    if found["problem"]:
        out.print(f"[red]the last checkpoint is not good:[/red] {text(found['problem'])}; run: soar audit verify")


def _entries(number: int | None, without: str) -> str:
    return without if number is None else counted(number, "entry", "entries")


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
    with reading(settings(config)) as (evidence, folder):
        newest = evidence.entries(run_id=run_id, kind=kind, newest_first=True)
        archived = folder.reading()
        entries = [archived.fill(entry) for entry in islice(newest, limit)][::-1]
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


def _verifier(loaded: Loaded, key: str | None) -> Verifier:
    if key is None:
        return read_key(loaded).verifier
    try:
        return Verifier.from_text(key)
    except JournalError as failure:
        raise ConfigError(f"--key: {failure}") from failure
