"""`soar policy backtest`: what a changed policy would have said to what was asked before."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress

from soar import logs
from soar.cli.base import FOUND, ConfigOption, JsonOption, as_json, err, out, settings, table, text
from soar.cli.ground import counted
from soar.cli.reading import LONG, reading
from soar.errors import ConfigError, JournalError
from soar.journal.archive import ArchiveFolder
from soar.journal.leaf import parse_leaf
from soar.journal.verify import StoredEntry
from soar.model.base import from_rfc3339, to_rfc3339
from soar.model.clock import SystemClock
from soar.model.duration import parse_duration
from soar.model.entry import EntryType
from soar.policy.bundle import load_bundle
from soar.policy.replay import Backtest, Flip, Past, UndecidableError, read_past
from soar.service.running import HONOURED
from soar.store.evidence import Evidence, first_from

_CLOCKS_APART = timedelta(days=1)  # how far the clocks of those who write one journal may differ
_TOLD_EVERY = 500
_DAY = len("2026-01-31")

SinceOption = Annotated[str, typer.Option("--since", help="How far back: 30d, 12h, or the day it begins, 2026-01-31.")]


class FailOn(StrEnum):
    """Which flips end the command with exit code 1."""

    ANY = "any"
    LOOSER = "looser"
    STRICTER = "stricter"
    NONE = "none"

    def counts(self, flip: Flip) -> bool:
        """Whether this one does."""
        return (
            self is FailOn.ANY or (self is FailOn.LOOSER and flip.looser) or (self is FailOn.STRICTER and flip.stricter)
        )


@dataclass(slots=True)
class _Tally:
    """What was found so far."""

    flips: Counter[str] = field(default_factory=Counter)
    controls: Counter[tuple[str, str]] = field(default_factory=Counter)
    undecidable: Counter[str] = field(default_factory=Counter)
    examples: dict[str, int] = field(default_factory=dict)  # undecidable reason -> index of the first
    counting: int = 0

    def take(self, flip: Flip, fail_on: FailOn) -> None:
        self.flips[flip.kind] += 1
        self.controls.update((control, flip.kind) for control in flip.controls)
        self.counting += fail_on.counts(flip)

    def give_up(self, index: int, why: str) -> None:
        self.undecidable[why] += 1
        self.examples.setdefault(why, index)


def backtest(
    folder: Annotated[Path, typer.Argument(metavar="NEW", help="The folder of the changed policies.")],
    since: SinceOption = "30d",
    fail_on: Annotated[
        FailOn, typer.Option("--fail-on", help="Which flips end with exit code 1; ask->ask is both.")
    ] = FailOn.ANY,
    brief: Annotated[bool, typer.Option("--brief", help="Only the counts, not every flip.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask a changed policy what was asked before, and list every decision that would differ; exit code 1 if one does.

    The questions are those that the journal kept, with the counters and the time of then. Nothing is changed.

    Example: soar policy backtest policies-new --since 30d --fail-on looser
    """
    logs.configure(level="error")
    bundle = load_bundle(folder)
    begin = begin_of(since)
    tally = _Tally()
    with reading(settings(config)) as (evidence, archive):
        size, _ = evidence.tree()
        start = first_from(evidence, to_rfc3339(from_rfc3339(begin) - _CLOCKS_APART), size)
        processes = min(os.cpu_count() or 1, 8) if size - start > LONG else 1
        replay = Backtest(bundle, honours=HONOURED, processes=processes)
        flips = replay.flips(_pasts(evidence, archive, tally, start=start, size=size, since=begin))
        write = _write_json if as_json else _write_text
        write(_counted(flips, tally, fail_on), tally, replay, brief=brief, since=begin, revision=bundle.revision)
    if tally.counting:
        raise typer.Exit(FOUND)


def _counted(flips: Iterator[Flip], tally: _Tally, fail_on: FailOn) -> Iterator[Flip]:
    for flip in flips:
        tally.take(flip, fail_on)
        yield flip


def _pasts(
    evidence: Evidence, archive: ArchiveFolder, tally: _Tally, *, start: int, size: int, since: str
) -> Iterator[Past]:
    """The journalled decisions; those that cannot be asked again are counted instead."""
    payloads = archive.reading()
    quiet = size - start < LONG or not err.is_terminal
    with Progress(console=err, transient=True, disable=quiet) as progress:
        bar = progress.add_task("deciding again", total=size - start)
        for number, found in enumerate(evidence.entries(start=start, kind=EntryType.POLICY_DECIDED.value)):
            if number % _TOLD_EVERY == 0:
                progress.update(bar, completed=found.index - start)
            if str(found.copies["at"]) < since:
                continue
            entry = payloads.fill(found)
            try:
                yield read_past(leaf_of(entry), entry.payload, index=entry.index, away=entry.payload_erased)
            except UndecidableError as failure:
                tally.give_up(entry.index, str(failure))


def leaf_of(entry: StoredEntry) -> dict[str, Any]:
    """The public part of an entry; raises JournalError where it is none."""
    try:
        return parse_leaf(entry.leaf)
    except JournalError as failure:
        message = f"entry {entry.index} cannot be read: {failure}; run: soar audit verify"
        raise JournalError(message, entry.index) from failure


def begin_of(since: str) -> str:
    """The instant that --since names, as the journal spells it; raises ConfigError."""
    try:
        if len(since) >= _DAY:
            return to_rfc3339(from_rfc3339(since if "T" in since else f"{since}T00:00:00Z"))
        return to_rfc3339(SystemClock().now() - parse_duration(since))
    except (ValueError, OverflowError) as failure:
        raise ConfigError(f"--since {since!r}: {failure}; write 30d, 12h or 2026-01-31") from failure


def plain_flip(flip: Flip) -> dict[str, Any]:
    """One flip for programs."""
    past = flip.past
    reasons = [
        [{"code": code, "control": control, "msg": msg} for code, control, msg in ruling.reasons]
        for ruling in (past.ruling, flip.new)
    ]
    return {
        "kind": flip.kind,
        "index": past.index,
        "at": past.at,
        "run": past.run,
        "path": past.path,
        "decision": past.id,
        "revision": past.revision,
        "action": past.action,
        "controls": flip.controls,
        "old": {"effect": past.ruling.effect, "people": past.ruling.people, "reasons": reasons[0]},
        "new": {"effect": flip.new.effect, "people": flip.new.people, "reasons": reasons[1]},
    }


def _summary(tally: _Tally, replay: Backtest, *, since: str, revision: str) -> dict[str, Any]:
    return {
        "since": since,
        "revision": revision,
        "decided": replay.decided,
        "distinct": replay.distinct,
        "flipped": tally.flips.total(),
        "flips": dict(tally.flips.most_common()),
        "controls": [
            {"control": control, "kind": kind, "count": count}
            for (control, kind), count in tally.controls.most_common()
        ],
        "undecidable": [
            {"why": why, "count": count, "first": tally.examples[why]} for why, count in tally.undecidable.most_common()
        ],
    }


def _write_json(
    flips: Iterator[Flip], tally: _Tally, replay: Backtest, *, brief: bool, since: str, revision: str
) -> None:
    """One document, written as it comes: the flips may be more than memory holds."""
    typer.echo('{"flips": [', nl=False)
    separator = "\n"
    for flip in flips:
        if not brief:
            typer.echo(f"{separator}{as_json(plain_flip(flip))}", nl=False)
            separator = ",\n"
    found = _summary(tally, replay, since=since, revision=revision)
    typer.echo(f'],\n"summary": {as_json(found)}}}')


def _write_text(
    flips: Iterator[Flip], tally: _Tally, replay: Backtest, *, brief: bool, since: str, revision: str
) -> None:
    for flip in flips:
        if not brief:
            _write_flip(flip)
    found = _summary(tally, replay, since=since, revision=revision)
    if found["controls"]:
        table("by control", ("control", "flip", "decisions"), (list(each.values()) for each in found["controls"]))
    kinds = ", ".join(f"{count} {kind}" for kind, count in found["flips"].items())
    flipped = f"{found['flipped']} would differ ({kinds})" if kinds else "none would differ"
    out.print(
        f"{counted(replay.decided, 'decision')} since {text(since)}, {replay.distinct} of them distinct:"
        f" {text(flipped)}; revision {revision[:12]}"
    )
    for each in found["undecidable"]:
        out.print(
            f"[yellow]{each['count']} could not be decided again:[/yellow] {text(each['why'])};"
            f" the first is entry {each['first']}"
        )


def _write_flip(flip: Flip) -> None:
    past = flip.past
    colour = "red" if flip.new.effect == "deny" else "yellow" if flip.stricter else "green"
    out.print(
        f"[{colour}]{flip.kind:11}[/{colour}] {text(past.at[:19])}  {text(past.run)}  {text(past.path)}"
        f"  {text(past.action)}"
    )
    for word, ruling in (("was", past.ruling), ("now", flip.new)):
        said = "; ".join(f"{msg} [{code}]" for code, _, msg in ruling.reasons) or "no control objects"
        asked = f" ({ruling.people})" if ruling.people else ""
        out.print(f"  {word}  {ruling.effect}{text(asked)}: {text(said)}")
