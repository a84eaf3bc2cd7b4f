"""Records become Alerts; what cannot becomes a dead letter that says why. Nothing else can happen.

A record is one JSON object or an array of them. Each object's mapping is named by its source or found by its shape,
and unpacks it into one or more elements; one bad element does not keep the others from becoming Alerts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from soar.errors import RecordError
from soar.ingest import values
from soar.ingest.documents import Broken, documents
from soar.ingest.extract import Extract
from soar.ingest.mapping import Mapping, Mappings
from soar.ingest.payload import MAX_ELEMENTS, too_many
from soar.ingest.unpack import Chooser, Element, elements_of, not_an_object
from soar.model.alert import AlertDocument, DeadLetter, Record
from soar.model.base import digest
from soar.model.clock import Clock, Ids

MAX_AHEAD = timedelta(hours=24)  # a clock that is wrong by more says nothing about when

log = structlog.get_logger(__name__)


class Normaliser:
    """Turns records into Alerts by the mappings in force. It holds no state and is safe to share."""

    def __init__(self, mappings: Mappings, ids: Ids, clock: Clock) -> None:
        self._chooser = Chooser(mappings)
        self._ids = ids
        self._clock = clock

    def normalise(self, record: Record) -> Iterator[AlertDocument | DeadLetter]:
        """At least one Alert or dead letter, in the order of the record's elements, as they are asked for."""
        dead: list[DeadLetter] = []
        parts = self._parts(record)
        for part in parts:
            made = part if isinstance(part, DeadLetter) else self._made(record, part)
            if isinstance(made, DeadLetter):
                dead.append(made)
            yield made
        if dead:
            first = dead[0]
            log.warning(
                "record.dead_letters",
                record=record.coordinates,
                count=len(dead),
                of=len(parts),
                code=first.code,
                reason=first.reason,
            )

    def _parts(self, record: Record) -> list[_Part | DeadLetter]:
        """All that is in a record, before anything is made of it: a record of too many parts is one dead letter."""
        if record.unreadable is not None:
            return [self._dead(record, RecordError(record.unreadable, "unreadable"), "the record")]
        try:
            payloads = documents(record.value)
        except RecordError as failure:
            return [self._dead(record, failure, "the record")]
        parts: list[_Part | DeadLetter] = []
        of_many = len(payloads) > 1
        for number, payload in enumerate(payloads, start=1):
            subject = f"element {number} of {len(payloads)}" if of_many else "the record"
            if isinstance(payload, Broken):
                alone = record.model_copy(update={"value": payload.line})
                parts.append(self._dead(alone, payload.failure, subject))
                continue
            parts += self._parts_of(record, payload, subject, of_many=of_many)
            if len(parts) > MAX_ELEMENTS:
                return [self._dead(record, too_many(), "the record")]
        return parts

    def _parts_of(self, record: Record, payload: Any, subject: str, *, of_many: bool) -> list[_Part | DeadLetter]:
        try:
            if not isinstance(payload, dict):
                raise not_an_object(payload)
            choice = self._chooser.choose(payload, record.mapping)
            elements = elements_of(payload, choice)
        except RecordError as failure:
            return [self._dead(_alone(record, payload) if of_many else record, failure, subject)]
        if len(elements) == 1:
            return [_Part(choice.mapping, elements[0], subject, alone=of_many)]
        return [
            _Part(choice.mapping, element, f"{subject}, alert {number} of {len(elements)},", alone=True)
            for number, element in enumerate(elements, start=1)
        ]

    def _made(self, record: Record, part: _Part) -> AlertDocument | DeadLetter:
        """One element's Alert; where a mistake of ours keeps it from becoming one, it alone is buried."""
        try:
            return build(record, part.mapping, part.element, alert_id=self._ids.new("alert"))
        except RecordError as failure:
            refused = failure
        except Exception as bug:
            log.exception("record.bug", record=record.coordinates)
            refused = RecordError(f"met a mistake of soar's: {type(bug).__name__}: {bug}; please report it", "bug")
        return self._dead(_alone(record, part.element.raw) if part.alone else record, refused, part.subject)

    def _dead(self, record: Record, failure: RecordError, subject: str) -> DeadLetter:
        reason = values.shorten(f"{subject} {failure}", values.MAX_NAME)
        now = self._clock.now()
        return DeadLetter(id=self._ids.new("dead"), record=record, code=failure.code, reason=reason, at=now)


@dataclass(frozen=True, slots=True)
class _Part:
    """One element on its way; `alone` where its record holds others as well."""

    mapping: Mapping
    element: Element
    subject: str
    alone: bool


def _alone(record: Record, element: Any) -> Record:
    """The record with one of its elements as its value.

    A dead letter holds no more than what failed: a batch whose every element is bad must not be stored once for each,
    and replaying one element must not repeat the others.
    """
    return record.model_copy(update={"value": json.dumps(element).encode()})


def build(
    record: Record, mapping: Mapping, element: Element, *, alert_id: str, trace: dict[str, str] | None = None
) -> AlertDocument:
    """The Alert of one element; raises RecordError. A `trace` receives which expression filled each field."""
    if element.scope is None:
        raise not_an_object(element.raw)
    extract = Extract(mapping, element.scope, trace)
    rule, title, description = _names(extract, record)
    time, time_label = _time(extract, record.received_at)
    severity = extract.severity("severity", mapping.severity)
    word, score = severity or (mapping.default_severity, mapping.default_severity.score)
    confidence = extract.severity("confidence", mapping.confidence)
    entities = extract.entities()
    ours = {**time_label, **({} if severity else {"soar.severity_source": "default"})}
    body = {
        "id": alert_id,
        "uid": extract.one("uid", mapping.uid, values.name) or _digest(element.raw),
        "source": mapping.name,
        "product": extract.one("product", mapping.product_from, values.line) or mapping.product,
        "rule": rule,
        "title": title,
        "description": description,
        "severity": word.value,
        "severity_score": score,
        "confidence": confidence[1] if confidence else None,
        "status": extract.one("status", mapping.status, values.label),
        "time": _text(time),
        "received_at": _text(record.received_at),
        "attack": extract.attack(),
        "entities": entities,
        "observables": extract.observables(entities),
        "labels": {**extract.labels(), **ours},
        "raw": element.raw,
    }
    return AlertDocument(body, time, record.received_at)


def _digest(raw: dict[str, Any]) -> str:
    """What stands for an alert's own name where its product gives none; raises RecordError."""
    try:
        return f"sha256:{digest(raw)}"
    except ValueError as failure:  # canonical JSON cannot hold what a computing `split` made
        raise RecordError(f"has no digest: {failure}", "invalid") from failure


def _text(moment: datetime) -> str:
    """An instant as an Alert's JSON has it."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _names(extract: Extract, record: Record) -> tuple[dict[str, str | None], str, str | None]:
    """Rule, title and description; each missing one is taken from its neighbours."""
    mapping = extract.mapping
    rule_id, rule_name = extract.rule()
    description = extract.one("description", mapping.description, values.block)
    title = (
        extract.one("title", mapping.title, values.line)
        or rule_name
        or rule_id
        or values.line((description or "").split("\n", 1)[0])
        or values.line(f"Unrecognised alert from {record.source}")
    )
    assert title, "the last alternative is never empty"
    return {"id": rule_id, "name": rule_name or title}, title, description


def _time(extract: Extract, received_at: datetime) -> tuple[datetime, dict[str, str]]:
    time = extract.time()
    if time is None or time - received_at > MAX_AHEAD:
        return received_at, {"soar.time_source": "received"}
    return time, {}
