"""`soar audit query`: who did what, when, and under which policy; for people, spreadsheets and SIEMs."""

from __future__ import annotations

import csv
import io
import json
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

import typer

from soar.cli.base import ConfigOption, LimitOption, print_json, settings, table
from soar.errors import ConfigError, JournalError, StoreUnavailableError
from soar.journal.leaf import parse_leaf
from soar.journal.ocsf import remediation
from soar.journal.verify import StoredEntry
from soar.model.action import Effect
from soar.model.base import from_rfc3339, to_rfc3339
from soar.model.clock import SystemClock
from soar.model.duration import parse_duration
from soar.model.entry import EntryType
from soar.store.sqlite.evidence import open_evidence

_COLUMNS = ("index", "at", "type", "who", "run", "what", "action", "result", "policy")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_FOREVER = "9999"


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
    written: Annotated[Format, typer.Option("--format", help="How the answer is written.")] = Format.TABLE,
    limit: LimitOption = 1000,
    config: ConfigOption = None,
) -> None:
    """Ask the journal who did what, when, and which policy revision decided; the newest so many, oldest first.

    OCSF gives the outcomes of actions as remediation activity (classes 7001 to 7004), one event a line.

    Example: soar audit query --what isolate --when 7d --format csv
    """
    loaded = settings(config)
    since, until = _span(when, SystemClock().now())
    question = Question(who=who, what=what, since=since, until=until, policy=policy, run=run_id, kind=kind)
    with open_evidence(loaded.path(loaded.settings.store.path)) as evidence:
        story = _Story(evidence.entries())
        answer = story.events(question) if written is Format.OCSF else story.rows(question)
        found = list(deque(answer, maxlen=limit))
        if evidence.damage:
            raise StoreUnavailableError(f"store {evidence.path}: {'; '.join(evidence.damage)}; run: soar audit verify")
    _write(found, written)


class _Story:
    """Entries in order, each with what earlier ones of its run said of its action; what a run said ends with it."""

    def __init__(self, entries: Iterable[StoredEntry]) -> None:
        self._entries = entries
        self._policies: dict[str, dict[str, str]] = {}  # run -> path -> policy revision
        self._intents: dict[str, dict[str, tuple[str, list[dict[str, Any]]]]] = {}  # run -> path -> key, targets

    def rows(self, question: Question) -> Iterator[Row]:
        """Entries that the question asks for."""
        return (row for _, row in self._all() if question.holds(row))

    def events(self, question: Question) -> Iterator[dict[str, Any]]:
        """Outcomes of actions that changed something, as OCSF."""
        for leaf, row in self._all():
            run, path = self._intents.get(row.run, {}), str(leaf["subject"])
            if row.type == EntryType.ACTION_INTENT:
                request = _request(row.payload)
                if request.get("effect") != Effect.READ:
                    intent = (str(leaf["data"].get("key", "")), list(request.get("targets", ())))
                    self._intents.setdefault(row.run, {})[path] = intent
            elif row.type == EntryType.ACTION_OUTCOME and path in run and question.holds(row):
                command, targets = run[path]
                detail = row.payload.get("error") if isinstance(row.payload, dict) else None
                yield remediation(
                    leaf, index=row.index, targets=targets, command=command, policy=row.policy, detail=detail
                )

    def _all(self) -> Iterator[tuple[dict[str, Any], Row]]:
        for entry in self._entries:
            try:
                leaf = parse_leaf(entry.leaf)
                payload = json.loads(entry.payload) if entry.payload else None
            except (JournalError, ValueError) as failure:
                raise JournalError(
                    f"entry {entry.index} cannot be read: {failure}; run: soar audit verify", entry.index
                ) from failure
            run, path, data = str(leaf.get("run", "")), str(leaf["subject"]), leaf["data"]
            if "revision" in data:
                self._policies.setdefault(run, {})[path] = str(data["revision"])
            about = {
                "policy": self._policies.get(run, {}).get(path, ""),
                "action": str(data.get("action", "")),
                "result": str(data.get("state") or data.get("effect") or data.get("decision") or ""),
            }
            yield (
                leaf,
                Row(
                    index=entry.index,
                    at=leaf["at"],
                    type=leaf["type"],
                    who=leaf["actor"],
                    run=run,
                    what=path,
                    data=data,
                    payload=payload,
                    **about,
                ),
            )
            if leaf["type"] == EntryType.RUN_FINISHED:
                self._policies.pop(run, None)
                self._intents.pop(run, None)


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


def _write(found: list[Any], written: Format) -> None:
    match written:
        case Format.JSON:
            print_json(found)
        case Format.OCSF:
            for event in found:
                typer.echo(json.dumps(event, separators=(",", ":")))
        case Format.CSV:
            typer.echo(_csv(found), nl=False)
        case Format.TABLE:
            table("", _COLUMNS, ([getattr(row, name) for name in _COLUMNS] for row in found))


def _csv(rows: list[Row]) -> str:
    """Rows after RFC 4180. A cell that a spreadsheet would take for a formula is led by an apostrophe."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for row in rows:
        writer.writerow(_harmless(str(getattr(row, name))) for name in _COLUMNS)
    return text.getvalue()


def _harmless(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA) else cell
