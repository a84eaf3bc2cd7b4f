"""`soar policy promote` and `shadow`: another revision comes into force, and how a candidate would have decided."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from soar.cli.base import (
    FOUND,
    AsOption,
    ConfigOption,
    JsonOption,
    LimitOption,
    ReasonOption,
    out,
    print_json,
    run,
    settings,
    table,
    text,
)
from soar.cli.ground import counted, plain_faults, print_faults
from soar.cli.policy_history import SinceOption, begin_of, leaf_of
from soar.cli.reading import reading
from soar.cli.stored import stored
from soar.engine.promotion import Promoted
from soar.engine.promotion import promote as promote_revision
from soar.errors import PolicyError
from soar.model.entry import EntryType
from soar.policy.bundle import Bundle
from soar.policy.testing import proven


def promote(
    reason: ReasonOption, named: AsOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Bring the configured policies into force on all workers, without a restart; exit code 1 if they are not fit.

    Fit is what loads, keeps to the dialect, decides, and passes its tests. Each worker checks its own copy again; one
    that is not fit, or is another revision, changes nothing there. Journalled.

    Example: soar policy promote --reason "isolation asks on servers"
    """
    loaded = settings(config)
    folder = loaded.path(loaded.settings.policy.path)
    try:
        bundle = proven(folder)
    except PolicyError as failure:
        if as_json:
            print_json({"promoted": None, "errors": plain_faults([failure])})
        else:
            print_faults([failure])
            out.print("[red]not promoted[/red]: the revision in force stays")
        raise typer.Exit(FOUND) from None
    person, before = run(_promote(config, named, bundle, reason))
    if as_json:
        print_json(
            {"promoted": bundle.revision, "was": before.revision if before else None, "by": person, "errors": []}
        )
        return
    was = f", {before.revision[:12]} was promoted before" if before else ""
    out.print(f"[green]promoted[/green] revision {bundle.revision[:12]}{was}; workers follow within seconds")
    out.print("[dim]soar audit show --type policy.loaded tells which have it in force[/dim]")


async def _promote(config: Path | None, named: str | None, bundle: Bundle, reason: str) -> tuple[str, Promoted | None]:
    async with stored(config) as opened:
        person = opened.person(named)
        before = await promote_revision(
            opened.store, opened.scribe, person=person, revision=bundle.revision, reason=reason
        )
        return person, before


def shadow(
    since: SinceOption = "30d",
    candidate: Annotated[
        str | None, typer.Option("--candidate", help="Begin of the candidate's revision.", show_default=False)
    ] = None,
    limit: LimitOption = 10,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show where the candidate of policy.shadow would have decided otherwise: how often, and the newest examples.

    Only differences are journalled; /metrics counts what was the same, and what came too fast to be compared.

    Example: soar policy shadow --since 7d
    """
    begin = begin_of(since)
    kinds: Counter[tuple[str, str]] = Counter()
    examples: list[dict[str, Any]] = []
    with reading(settings(config)) as (evidence, archive):
        payloads = archive.reading()
        for found in evidence.entries(kind=EntryType.POLICY_DIFFERED.value, newest_first=True):
            if str(found.copies["at"]) < begin:
                break
            leaf = leaf_of(found)
            data = leaf["data"]
            if not str(data["candidate"]).startswith(candidate or ""):
                continue
            kinds[str(data["kind"]), str(data["candidate"])] += 1
            if len(examples) < limit:
                examples.append(_example(leaf, payloads.fill(found).payload))
    if as_json:
        found_kinds = [{"kind": kind, "candidate": revision, "count": n} for (kind, revision), n in kinds.most_common()]
        print_json({"since": begin, "differed": kinds.total(), "kinds": found_kinds, "examples": examples})
        return
    if not kinds:
        out.print(f"no decision since {text(begin)} differs, or policy.shadow is not set")
        return
    rows = ((kind, revision[:12], count) for (kind, revision), count in kinds.most_common())
    table(f"{counted(kinds.total(), 'decision')} since {begin}", ("flip", "candidate", "decisions"), rows)
    for each in islice(examples, limit):
        _show(each)


def _example(leaf: dict[str, Any], payload: bytes | None) -> dict[str, Any]:
    data = leaf["data"]
    return {
        "at": leaf["at"],
        "run": leaf.get("run"),
        "path": data["path"],
        "decision": leaf["subject"],
        "kind": data["kind"],
        "revision": data["revision"],
        "candidate": data["candidate"],
        "details": orjson.loads(payload) if payload is not None else None,
    }


def _show(each: dict[str, Any]) -> None:
    details = each["details"] or {"action": "what it was about was erased"}
    out.print(f"{each['kind']:11} {text(each['at'][:19])}  {text(each['run'])}  {text(each['path'])}")
    out.print(f"  {text(details['action'])}")
    for word in ("live", "candidate"):
        if word in details:
            said = "; ".join(f"{msg} [{code}]" for code, _, msg in details[word]["reasons"]) or "no control objects"
            out.print(f"  {word:10} {text(said)}")
