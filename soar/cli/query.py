"""`soar audit query`: who did what, when, and under which policy; for people, spreadsheets and SIEMs."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import islice
from typing import Annotated, Any, TypeAlias, TypeVar

import typer
from rich.progress import track

from soar.cli.base import ConfigOption, LimitOption, as_json, err, settings, table
from soar.cli.reading import LONG, reading
from soar.errors import ConfigError, JournalError
from soar.journal.archive import ArchiveFolder
from soar.journal.leaf import parse_leaf
from soar.journal.ocsf import remediation
from soar.journal.verify import StoredEntry
from soar.model.action import Effect
from soar.model.base import from_rfc3339, to_rfc3339
from soar.model.clock import SystemClock
from soar.model.duration import parse_duration
from soar.model.entry import EntryType
from soar.store.evidence import Evidence, first_from

_COLUMNS = ("index", "at", "type", "who", "run", "what", "action", "result", "policy")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_FOREVER = "9999"
_PAGE = 1000
_CLOCKS_APART = timedelta(days=1)  # how far the clocks of those who write one journal may differ
_PLOT = (EntryType.POLICY_DECIDED, EntryType.ACTION_INTENT)

Intent: TypeAlias = tuple[str, list[dict[str, Any]]]  # idempotency key and targets
T = TypeVar("T")


class Format(StrEnum):
    """How the answer is written."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    OCSF = "ocsf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One entry, and the policy revision under which its action was decided."""

    index: int
    at: str
    type: str
    who: str
    run: str
    what: str
    action: str
    result: str
    policy: str
    data: dict[str, Any]
    payload: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked; None asks for everything."""

    who: str | None
    what: str | None
    since: str
    until: str
    policy: str | None
    run: str | None
    kind: str | None

    def holds(self, row: Row) -> bool:
        """Whether this entry is part of the answer."""
        return (
            self.since <= row.at < self.until
            and self.kind in {None, row.type}
            and self.run in {None, row.run}
            and (self.who is None or self.who in {row.who, row.who.partition(":")[2]})
            and row.policy.startswith(self.policy or "")
            and (self.what or "").casefold() in f"{row.what} {row.action} {row.result}".casefold()
        )


def add_to(group: typer.Typer) -> None:
    """Add the command to `soar audit`."""
    group.command()(query)


def query(  # noqa: PLR0913, PLR0917 - each is an option of the command line
    who: Annotated[str | None, typer.Option("--who", help="Who did it: alice, or worker:NAME.")] = None,
    what: Annotated[str | None, typer.Option("--what", help="Part of the action, subject or result.")] = None,
    when: Annotated[
        str | None, typer.Option("--when", help="A day, FROM..TO with both days, or 24h for the time up to now.")
    ] = None,
    policy: Annotated[str | None, typer.Option("--policy", help="Begin of the policy revision that decided.")] = None,
    run_id: Annotated[str | None, typer.Option("--run", help="Entries of this run.", show_default=False)] = None,
    kind: Annotated[str | None, typer.Option("--type", help="Entries of this type.", show_default=False)] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All of it from the oldest on, as it is read; --limit does not count.")
    ] = False,
    written: Annotated[Format, typer.Option("--format", help="How the answer is written.")] = Format.TABLE,
    limit: LimitOption = 1000,
    config: ConfigOption = None,
) -> None:
    """Ask the journal who did what, when, and which policy revision decided; the newest so many, oldest first.

    OCSF gives the outcomes of actions as remediation activity (classes 7001 to 7004), one event a line.

    Example: soar audit query --what isolate --when 7d --format csv
    """
    since, until = _span(when, SystemClock().now())
    question = Question(who=who, what=what, since=since, until=until, policy=policy, run=run_id, kind=kind)
    with reading(settings(config)) as (evidence, archive):
        story = _Story(evidence, archive, question, as_events=written is Format.OCSF)
        found = story.answer() if everything else reversed(list(islice(story.answer(newest_first=True), limit)))
        _write(found, written)


class _Story:
    """Entries that a question asks for, each with what earlier ones of its run said of its action.

    Memory holds a page of entries and what the runs in it decided and intended.
    """

    def __init__(self, evidence: Evidence, archive: ArchiveFolder, question: Question, *, as_events: bool) -> None:
        self._evidence = evidence
        self._archive = archive
        self._question = question
        self._as_events = as_events

    def answer(self, *, newest_first: bool = False) -> Iterator[Any]:
        """Rows, or events after OCSF, in tree order or against it."""
        payloads = self._archive.reading()
        entries = self._entries(newest_first=newest_first)
        while page := [payloads.fill(entry) for entry in islice(entries, _PAGE)]:
            leaves = [_leaf(entry) for entry in page]
            plots = self._plots({str(leaf["run"]) for leaf in leaves if "run" in leaf})
            for entry, leaf in zip(page, leaves, strict=True):
                row = _row(entry, leaf, plots.get(str(leaf.get("run")), _Plot()))
                if self._question.holds(row):
                    told = self._event(leaf, row, plots.get(row.run)) if self._as_events else row
                    if told is not None:
                        yield told

    def _entries(self, *, newest_first: bool) -> Iterator[StoredEntry]:
        """What the store itself can tell apart is asked of it, and of times only what may be near."""
        asked = self._question
        size, _ = self._evidence.tree()
        start, end = 0, size
        if asked.since:
            start = first_from(self._evidence, to_rfc3339(from_rfc3339(asked.since) - _CLOCKS_APART), size)
        if asked.until != _FOREVER:
            end = first_from(self._evidence, to_rfc3339(from_rfc3339(asked.until) + _CLOCKS_APART), size)
        kind = EntryType.ACTION_OUTCOME.value if self._as_events else asked.kind
        if self._as_events and asked.kind not in {None, kind}:
            return iter(())
        mentions = None if asked.who is None else json.dumps(asked.who, ensure_ascii=False)[1:-1]
        found = self._evidence.entries(
            start=start, end=end, run_id=asked.run, kind=kind, mentions=mentions, newest_first=newest_first
        )
        quiet = end - start < LONG or not err.is_terminal
        return iter(track(found, "reading", total=end - start, console=err, transient=True, disable=quiet))

    def _plots(self, runs: set[str]) -> dict[str, _Plot]:
        plots: dict[str, _Plot] = {}
        if not runs:
            return plots
        payloads = self._archive.reading()
        for entry in self._evidence.of_runs(runs, _PLOT):
            leaf = _leaf(entry)
            plots.setdefault(str(leaf["run"]), _Plot()).take(payloads.fill(entry) if self._as_events else entry, leaf)
        return plots

    def _event(self, leaf: dict[str, Any], row: Row, plot: _Plot | None) -> dict[str, Any] | None:
        """The outcome of an action that changed something."""
        intent = plot and plot.intent(row.what, row.index)
        if not intent:
            return None
        command, targets = intent
        detail = row.payload.get("error") if isinstance(row.payload, dict) else None
        return remediation(leaf, index=row.index, targets=targets, command=command, policy=row.policy, detail=detail)


class _Plot:
    """What a run decided and intended, by path, each with its index in the journal."""

    def __init__(self) -> None:
        self._policies: dict[str, list[tuple[int, str]]] = {}
        self._intents: dict[str, list[tuple[int, Intent | None]]] = {}

    def take(self, entry: StoredEntry, leaf: dict[str, Any]) -> None:
        """Note the next entry of the run."""
        path, data = str(leaf["subject"]), leaf["data"]
        if "revision" in data:
            self._policies.setdefault(path, []).append((entry.index, str(data["revision"])))
        if leaf["type"] == EntryType.ACTION_INTENT:
            request = _request(_payload(entry))
            meant = (str(data.get("key", "")), list(request.get("targets", ())))
            self._intents.setdefault(path, []).append(
                (entry.index, None if request.get("effect") == Effect.READ else meant)
            )

    def policy(self, path: str, index: int) -> str:
        """The revision that had decided on this path when this entry was written."""
        return _latest(self._policies.get(path, ()), index) or ""

    def intent(self, path: str, index: int) -> Intent | None:
        """Key and targets of what was sent, None for a mere reading."""
        return _latest(self._intents.get(path, ()), index)


def _latest(noted: Sequence[tuple[int, T]], index: int) -> T | None:
    return next((what for at, what in reversed(noted) if at <= index), None)


def _leaf(entry: StoredEntry) -> dict[str, Any]:
    try:
        return parse_leaf(entry.leaf)
    except JournalError as failure:
        raise _unreadable(entry, failure) from failure


def _payload(entry: StoredEntry) -> Any:
    try:
        return json.loads(entry.payload) if entry.payload else None
    except ValueError as failure:
        raise _unreadable(entry, failure) from failure


def _unreadable(entry: StoredEntry, failure: Exception) -> JournalError:
    return JournalError(f"entry {entry.index} cannot be read: {failure}; run: soar audit verify", entry.index)


def _row(entry: StoredEntry, leaf: dict[str, Any], plot: _Plot) -> Row:
    data, path = leaf["data"], str(leaf["subject"])
    return Row(
        index=entry.index,
        at=leaf["at"],
        type=leaf["type"],
        who=leaf["actor"],
        run=str(leaf.get("run", "")),
        what=path,
        action=str(data.get("action", "")),
        result=str(data.get("state") or data.get("effect") or data.get("decision") or ""),
        policy=plot.policy(path, entry.index),
        data=data,
        payload=_payload(entry),
    )


def _request(payload: Any) -> dict[str, Any]:
    """What was sent; nothing where that was erased."""
    request = payload.get("request") if isinstance(payload, dict) else None
    return request if isinstance(request, dict) else {}


def _span(when: str | None, now: datetime) -> tuple[str, str]:
    """From (included) and until (excluded) as the journal spells times."""
    if when is None:
        return "", _FOREVER
    try:
        if ".." in when:
            first, _, last = when.partition("..")
            return _moment(first) if first else "", _after(last) if last else _FOREVER
        if when[-1:].isalpha() and "T" not in when:
            return to_rfc3339(now - parse_duration(when)), _FOREVER
        return _moment(when), _after(when)
    except ValueError as failure:
        raise ConfigError(f"--when {when!r}: {failure}; write 2026-01-31, 2026-01-01..2026-01-31, or 24h") from failure


def _moment(text: str) -> str:
    return to_rfc3339(_day(text) or from_rfc3339(text))


def _after(text: str) -> str:
    day = _day(text)
    return to_rfc3339(day + timedelta(days=1) if day else from_rfc3339(text) + timedelta(microseconds=1))


def _day(text: str) -> datetime | None:
    return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC) if len(text) == len("2026-01-31") else None


def _write(found: Iterable[Any], written: Format) -> None:
    """Write each as it comes: an answer may be longer than memory."""
    match written:
        case Format.JSON:
            _write_json(found)
        case Format.OCSF:
            for event in found:
                typer.echo(json.dumps(event, separators=(",", ":")))
        case Format.CSV:
            writer = csv.writer(_Echo())
            writer.writerow(_COLUMNS)
            for row in found:
                writer.writerow(_harmless(str(getattr(row, name))) for name in _COLUMNS)
        case Format.TABLE:
            table("", _COLUMNS, ([getattr(row, name) for name in _COLUMNS] for row in found))


def _write_json(found: Iterable[Any]) -> None:
    separator = "["
    for row in found:
        typer.echo(f"{separator}\n{as_json(row)}", nl=False)
        separator = ","
    typer.echo("[]" if separator == "[" else "\n]")


class _Echo:
    """Standard output, as the CSV writer wants it (lines after RFC 4180)."""

    def write(self, text: str) -> None:
        typer.echo(text, nl=False)


def _harmless(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA) else cell
