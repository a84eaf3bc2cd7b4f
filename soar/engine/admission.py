"""What becomes of alerts: a pure decision over what the store knows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import orjson

from soar.engine.awaited import Awaited
from soar.engine.naming import Names
from soar.engine.redaction import masked_notes
from soar.engine.scribe import Data, Payload, Scribe
from soar.engine.suppressing import holding_back
from soar.errors import ExpressionError
from soar.expr.compile import compile_expression
from soar.library.index import TriggerIndex
from soar.model.alert import AlertDocument, DeadLetter, Outcome, Record
from soar.model.entry import Entry, EntryType
from soar.model.playbook import Dedupe, DedupeMode, Playbook
from soar.model.run import Run, RunKind, RunState, StepState
from soar.model.suppression import Suppression
from soar.store import port
from soar.store.matches import AlertMatch

_STRENGTH = (Outcome.MATCHED, Outcome.CORRELATED, Outcome.SUPPRESSED, Outcome.EXPIRED)
"""An alert that several playbooks answer has the strongest of their outcomes."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An alert with the playbooks whose triggers it meets, worked out before the transaction."""

    alert: AlertDocument
    content: str  # name of the raw payload
    text: bytes | None  # the alert's JSON, where the quick writer knows all that is in it
    playbooks: tuple[Playbook, ...]

    @classmethod
    def of(cls, alert: AlertDocument, playbooks: Sequence[Playbook], names: Names) -> Candidate:
        """An alert, written out once for all that is to be done with it."""
        raw = alert.body["raw"]
        try:
            written = orjson.dumps(raw, option=orjson.OPT_SORT_KEYS)
            text = orjson.dumps({**alert.body, "raw": orjson.Fragment(written)}, option=orjson.OPT_SORT_KEYS)
            content = names.of_text(written)
        except TypeError:  # a computed integer of more than 64 bits
            text, content = None, names.of(raw)
        return cls(alert=alert, content=content, text=text, playbooks=tuple(playbooks))

    @property
    def uid(self) -> tuple[str, str]:
        """Its source and the product's own name for it."""
        return self.alert.body["source"], self.alert.body["uid"]

    @property
    def sameness(self) -> tuple[str, str, str]:
        """What a repeat has in common with it."""
        return *self.uid, self.content


@dataclass(frozen=True, kw_only=True)
class Consumed:
    """One record and what normalisation made of it."""

    record: Record
    candidates: tuple[Candidate, ...] = ()
    letters: tuple[DeadLetter, ...] = ()
    index: TriggerIndex | None = None  # by which the candidates' playbooks were found

    @property
    def alerts(self) -> int:
        """How many alerts and dead letters it is."""
        return len(self.candidates) + len(self.letters)

    def matched(self, index: TriggerIndex) -> Consumed:
        """The same by the playbooks that are in force now."""
        candidates = (replace(each, playbooks=tuple(index.match(each.alert.body))) for each in self.candidates)
        return replace(self, candidates=tuple(candidates), index=index)


@dataclass(frozen=True, kw_only=True)
class Admitted:
    """What became of one alert or dead letter."""

    coordinates: str
    outcome: Outcome
    alert_id: str | None = None
    run_ids: tuple[str, ...] = ()
    reason: str | None = None


Admit = Callable[[Sequence[Record]], Awaitable[Sequence[Admitted]]]
"""The door as sources see it: once it returns, all is durable; StoreUnavailableError means that nothing was stored."""


@dataclass
class _Batch:
    """What the batch adds to what the store knows, as it goes."""

    known: port.Known
    awaited: Awaited
    coordinates: set[str] = field(default_factory=set)
    uids: dict[tuple[str, str], str] = field(default_factory=dict)
    contents: dict[tuple[str, str, str], str] = field(default_factory=dict)
    windows: dict[str, port.Window] = field(default_factory=dict)
    writes: list[port.Write] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    admitted: list[Admitted] = field(default_factory=list)

    def window(self, key: str) -> port.Window | None:
        return self.windows.get(key) or self.known.windows.get(key)


class Admission:
    """Decides a batch. Pure but for the names and times its scribe hands out."""

    def __init__(self, *, scribe: Scribe, names: Names, now: datetime) -> None:
        self._scribe = scribe
        self._names = names
        self._now = now

    def decide(self, consumed: Sequence[Consumed], known: port.Known) -> tuple[port.Fact, list[Admitted]]:
        """One fact for the whole batch, and what became of each alert.

        A record whose coordinates are known was consumed before: it has its outcome, nothing is added.
        """
        batch = _Batch(known, Awaited(known.waits))
        for item in consumed:
            coordinates = item.record.coordinates
            if coordinates in known.coordinates or coordinates in batch.coordinates:
                continue
            batch.coordinates.add(coordinates)
            batch.writes.append(port.InsertRecord(coordinates=coordinates, at=self._now))
            for letter in item.letters:
                self._bury(batch, letter)
            for candidate in item.candidates:
                self._admit(batch, candidate, coordinates)
        batch.writes += [port.PutWindow(window=window) for window in batch.windows.values()]
        return port.Fact(writes=tuple(batch.writes), entries=tuple(batch.entries)), batch.admitted

    def _bury(self, batch: _Batch, letter: DeadLetter) -> None:
        coordinates = letter.record.coordinates
        batch.writes.append(port.InsertDeadLetter(letter=letter))
        payload = {"reason": letter.reason, "coordinates": coordinates}
        batch.entries.append(
            self._scribe.entry(EntryType.RECORD_DEAD_LETTERED, letter.id, payload=payload, data={"code": letter.code})
        )
        batch.admitted.append(
            Admitted(coordinates=coordinates, outcome=Outcome.DEAD_LETTER, reason=f"{letter.code}: {letter.reason}")
        )

    def _admit(self, batch: _Batch, candidate: Candidate, coordinates: str) -> None:
        alert, uid, content = candidate.alert.body, candidate.uid, candidate.sameness
        namesake = batch.known.uids.get(uid) or batch.uids.get(uid)
        # The same name with other content is a conflict, not a repeat: an attacker who knew an id could
        # otherwise send it first and hide the real alert. Either content counts once.
        repeat = batch.known.repeats.get(content) or batch.contents.get(content)
        matches: list[AlertMatch] = []
        if repeat is None:
            batch.uids.setdefault(uid, alert["id"])
            batch.contents[content] = alert["id"]
            suppressed = holding_back(batch.known.suppressions, candidate.alert.body, self._now)
            matches = [self._match(batch, candidate, playbook, suppressed) for playbook in candidate.playbooks]
            if all(each.playbooks for each in suppressed):  # what is held back from all ends no run's wait either
                matches += self._end_waits(batch, candidate)
        outcome = Outcome.DUPLICATE if repeat else _strongest(matches)
        relation = {"repeat_of": repeat} if repeat else {"conflicts_with": namesake} if namesake else {}
        held = next((match.suppression for match in matches if match.suppression), None)
        if held is not None:
            relation = {**relation, "suppressed_by": held}
        entry = self._scribe.entry(
            EntryType.ALERT_ADMITTED,
            alert["id"],
            payload=_told(candidate, coordinates, matches),
            data={
                "outcome": outcome.value,
                "source": alert["source"],
                "severity": alert["severity"],
                **relation,
            },
        )
        batch.entries.append(entry)
        batch.writes.append(
            port.InsertAlert(
                alert=candidate.alert,
                outcome=outcome,
                matches=tuple(matches),
                coordinates=coordinates,
                content=candidate.content,
                entry_id=entry.id,
            )
        )
        runs = tuple(m.run_id for m in matches if m.run_id and m.outcome is Outcome.MATCHED)
        batch.admitted.append(Admitted(coordinates=coordinates, outcome=outcome, alert_id=alert["id"], run_ids=runs))

    def _match(
        self, batch: _Batch, candidate: Candidate, playbook: Playbook, suppressed: Sequence[Suppression]
    ) -> AlertMatch:
        outcome, window = Outcome.MATCHED, None
        max_age = playbook.on.max_age if playbook.on else None
        if max_age is not None and candidate.alert.time + max_age < self._now:
            return AlertMatch(playbook_id=playbook.id, outcome=Outcome.EXPIRED)
        held = next((each.id for each in suppressed if each.covers(playbook.id)), None)
        if held is not None:  # before its dedupe window, which it neither opens nor fills
            return AlertMatch(playbook_id=playbook.id, outcome=Outcome.SUPPRESSED, suppression=held)
        if playbook.dedupe is not None:
            outcome, window = self._in_window(batch, playbook, playbook.dedupe, candidate.alert.body)
        run_id = window.run_id if window else None
        if outcome is Outcome.MATCHED:
            run = self._run(candidate, playbook)
            run_id = run.id
            batch.writes.append(port.InsertRun(run=run))
            batch.entries.append(run_created(self._scribe, run))
            if window is not None:
                window = _with(window, run_id=run.id)
        elif outcome is Outcome.CORRELATED and run_id is not None:
            batch.writes.append(port.SignalRun(run_id=run_id))
        if window is not None:
            batch.windows[window.key] = window
        number = window.count if window else None
        return AlertMatch(playbook_id=playbook.id, outcome=outcome, run_id=run_id, number=number)

    def _in_window(
        self, batch: _Batch, playbook: Playbook, dedupe: Dedupe, document: Mapping[str, Any]
    ) -> tuple[Outcome, port.Window]:
        key = window_key(playbook, document, self._names)
        open_window = batch.window(key)
        if open_window is None:
            open_window = port.Window(
                key=key, started_at=self._now, until=self._now + dedupe.within, count=0, run_id=None
            )
        window = _with(open_window, count=open_window.count + 1)
        due = window.run_id is None and (dedupe.mode is not DedupeMode.THRESHOLD or window.count >= dedupe.count)
        if due:
            return Outcome.MATCHED, window
        joins = dedupe.mode is not DedupeMode.FIRST and window.run_id is not None
        return (Outcome.CORRELATED if joins else Outcome.SUPPRESSED), window

    def _run(self, candidate: Candidate, playbook: Playbook) -> Run:
        return Run(
            id=self._scribe.ids.new("run"),
            kind=RunKind.ALERT,
            state=RunState.READY,
            playbook_id=playbook.id,
            playbook_digest=playbook.digest,
            alert_id=candidate.alert.body["id"],
            vars=playbook.vars,
            priority=candidate.alert.body["severity_score"],
            lock_key=lock_key(playbook, candidate.alert.body, self._names),
            created_at=self._now,
        )

    def _end_waits(self, batch: _Batch, candidate: Candidate) -> list[AlertMatch]:
        """Runs that wait for such an alert go on with it: it has joined them."""
        waits = batch.awaited.ended_by(candidate.alert.body)
        for wait in waits:
            record = wait.model_copy(
                update={
                    "state": StepState.SUCCEEDED,
                    "result": {"alert": candidate.alert.body},
                    "finished_at": self._now,
                }
            )
            batch.writes += [port.PutStep(record=record), port.SignalRun(run_id=record.run_id)]
            batch.entries.append(
                self._scribe.entry(
                    EntryType.STEP_FINISHED,
                    record.path,
                    run_id=record.run_id,
                    data={"state": record.state.value, "alert": candidate.alert.body["id"]},
                )
            )
        return [
            AlertMatch(
                playbook_id=wait.data.get("playbook", ""),
                outcome=Outcome.CORRELATED,
                run_id=wait.run_id,
                path=wait.path,
            )
            for wait in waits
        ]


def _told(candidate: Candidate, coordinates: str, matches: Sequence[AlertMatch]) -> Payload:
    """What the journal keeps of an alert."""
    rows = [match.as_row() for match in matches]
    if candidate.text is None:
        return {"alert": candidate.alert.body, "coordinates": coordinates, "matches": rows}
    return b'{"alert":%b,"coordinates":%b,"matches":%b}' % (
        candidate.text,
        orjson.dumps(coordinates),
        orjson.dumps(rows),
    )


def run_created(scribe: Scribe, run: Run) -> Entry:
    """The entry that tells of a new run."""
    data: Data = {
        "kind": run.kind.value,
        "playbook": run.playbook_id,
        "playbook_digest": run.playbook_digest,
    }
    origin = {"alert": run.alert_id, "parent": run.parent_run_id, "parent_path": run.parent_path}
    data |= {name: value for name, value in origin.items() if value is not None}
    payload = {"vars": masked_notes(run.vars)} if run.vars else None
    return scribe.entry(EntryType.RUN_CREATED, run.id, run_id=run.id, payload=payload, data=data)


def window_key(playbook: Playbook, document: Mapping[str, Any], names: Names) -> str:
    """The dedupe window that an alert falls into: playbook and values of its key."""
    assert playbook.dedupe is not None
    values = [_value(source, document) for source in playbook.dedupe.key]
    return f"{playbook.id}:{names.of(values)}"


def lock_key(playbook: Playbook, document: Mapping[str, Any], names: Names) -> str | None:
    """The value whose runs go one at a time; none where the alert has no such value."""
    value = None if playbook.lock is None else _value(playbook.lock, document)
    return None if value is None else names.of(value)


def _value(source: str, document: Mapping[str, Any]) -> Any:
    try:
        return compile_expression(source).evaluate(document)
    except ExpressionError:
        return None  # lint compiled it; what fails on this alert alone has no value here


def _with(window: port.Window, *, count: int | None = None, run_id: str | None = None) -> port.Window:
    return port.Window(
        key=window.key,
        started_at=window.started_at,
        until=window.until,
        count=window.count if count is None else count,
        run_id=run_id or window.run_id,
    )


def _strongest(matches: Sequence[AlertMatch]) -> Outcome:
    outcomes = {match.outcome for match in matches}
    return next((outcome for outcome in _STRENGTH if outcome in outcomes), Outcome.NO_MATCH)
