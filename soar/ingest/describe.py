"""What a mapping makes of a sample, and why: for whoever writes a mapping."""

from __future__ import annotations

from itertools import count
from typing import Any

from pydantic import Field

from soar.errors import RecordError
from soar.ingest.expressions import Getter
from soar.ingest.mapping import Mapping, Mappings
from soar.ingest.normalise import build
from soar.ingest.payload import objects, parse
from soar.ingest.unpack import Chooser, Element, elements_of, not_an_object
from soar.model.alert import Record
from soar.model.base import Frozen


class DescribedElement(Frozen):
    """One element: its Alert as JSON, or the code and reason why it has none.

    `filled` names for each field the expression that gave it, `warnings` what stayed empty although the mapping
    has expressions for it.
    """

    mapping: str | None = None
    alert: dict[str, Any] | None = None
    code: str | None = None
    reason: str | None = None
    filled: dict[str, str] = Field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class Description(Frozen):
    """A sample's elements; `detected` are the mappings that would be chosen were none named by the source."""

    detected: tuple[str, ...] = ()
    elements: tuple[DescribedElement, ...]


def describe(mappings: Mappings, record: Record) -> Description:
    """What becomes of a record, field by field. To try one mapping, name it in `record.mapping`."""
    chooser = Chooser(mappings)
    try:
        payloads = objects(parse(record.value))
    except RecordError as failure:
        return Description(elements=(_refused(failure),))
    numbers = count(1)
    elements: list[DescribedElement] = []
    for payload in payloads:
        elements += _payload(chooser, record, payload, numbers)
    detected = [chooser.choose(payload, None).mapping.name for payload in payloads if isinstance(payload, dict)]
    return Description(detected=tuple(dict.fromkeys(detected)), elements=tuple(elements))


def _payload(chooser: Chooser, record: Record, payload: Any, numbers: count[int]) -> list[DescribedElement]:
    try:
        if not isinstance(payload, dict):
            raise not_an_object(payload)
        choice = chooser.choose(payload, record.mapping)
        elements = elements_of(payload, choice)
    except RecordError as failure:
        return [_refused(failure)]
    return [_element(record, choice.mapping, element, f"alert-{next(numbers)}") for element in elements]


def _element(record: Record, mapping: Mapping, element: Element, alert_id: str) -> DescribedElement:
    filled: dict[str, str] = {}
    try:
        alert = build(record, mapping, element, alert_id=alert_id, trace=filled)
    except RecordError as failure:
        return _refused(failure, mapping.name)
    empty = {field: sources for field, sources in _expected(mapping).items() if field not in filled}
    warnings = [f"{field} is empty: none of {', '.join(sources)} gives a value" for field, sources in empty.items()]
    if "soar.time_source" in alert.body["labels"] and "time" in filled:
        warnings.append("time is more than 24 hours ahead; the time of receipt was taken")
    return DescribedElement(
        mapping=mapping.name,
        alert=alert.body,
        filled=dict(sorted(filled.items())),
        warnings=tuple(warnings),
    )


def _refused(failure: RecordError, mapping: str | None = None) -> DescribedElement:
    return DescribedElement(mapping=mapping, code=failure.code, reason=str(failure))


def _expected(mapping: Mapping) -> dict[str, list[str]]:
    """Every field that the mapping has expressions for, with their texts."""
    fields: dict[str, tuple[Getter, ...]] = {
        "uid": mapping.uid,
        "rule.id": mapping.rule.id,
        "rule.name": mapping.rule.name,
        "title": mapping.title,
        "description": mapping.description,
        "status": mapping.status,
        "time": mapping.time,
        "attack.tactics": mapping.attack.tactics,
        "attack.techniques": mapping.attack.techniques,
        "severity": tuple(getter for reading in mapping.severity for getter in reading.source),
        "confidence": tuple(getter for reading in mapping.confidence for getter in reading.source),
    }
    for kind, specs in mapping.entities.lists:
        for spec in specs:
            for name, getters in spec.filled:
                fields[f"{kind}.{name}"] = fields.get(f"{kind}.{name}", ()) + getters
    return {field: [getter.source for getter in getters] for field, getters in fields.items() if getters}


__all__ = ["DescribedElement", "Description", "describe"]
