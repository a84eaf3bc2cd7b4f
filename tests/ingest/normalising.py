"""What the tests of normalisation share: a record at a fixed time, and counted names."""

import json
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from soar.ingest.mapping import Mapping, Mappings, load_mappings, parse_mapping
from soar.ingest.normalise import Normaliser
from soar.model.alert import Alert, AlertDocument, DeadLetter, Record

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
BUILT_IN = load_mappings()


class CountedIds:
    def __init__(self) -> None:
        self.numbers = count(1)

    def new(self, kind: str) -> str:
        return f"{kind}-{next(self.numbers)}"


class StoppedClock:
    def now(self) -> datetime:
        return NOW


def record(value: Any, mapping: str | None = None) -> Record:
    """A record of these bytes, or of the JSON of any other value."""
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Record(source="probe", topic="t", offset=0, value=data, mapping=mapping, received_at=NOW)


def normalise(value: Any, mapping: str | None = None, mappings: Mappings = BUILT_IN) -> list[Alert | DeadLetter]:
    found = list(Normaliser(mappings, CountedIds(), StoppedClock()).normalise(record(value, mapping)))
    return [one if isinstance(one, DeadLetter) else checked(one) for one in found]


def checked(document: AlertDocument) -> Alert:
    """The Alert that a document is of; it must be exactly what the Alert dumps."""
    alert = Alert.model_validate(document.body)
    assert AlertDocument.of(alert) == document
    return alert


def alerts(value: Any, mapping: str | None = None, mappings: Mappings = BUILT_IN) -> list[Alert]:
    """The alerts of a value that must become nothing else."""
    found = normalise(value, mapping, mappings)
    assert all(isinstance(one, Alert) for one in found), found
    return [one for one in found if isinstance(one, Alert)]


def alert(value: Any, mapping: str | None = None, mappings: Mappings = BUILT_IN) -> Alert:
    (one,) = alerts(value, mapping, mappings)
    return one


def dead(value: Any, mapping: str | None = None, mappings: Mappings = BUILT_IN) -> DeadLetter:
    (one,) = normalise(value, mapping, mappings)
    assert isinstance(one, DeadLetter), one
    return one


def mapping_of(text: str) -> Mapping:
    parsed = parse_mapping(text, "probe.yaml")
    assert parsed.mapping, [str(error) for error in parsed.errors]
    return parsed.mapping


def sample(shared_data: Path, path: str) -> Any:
    """One of the shared alerts, as a JSON value."""
    return json.loads((shared_data / "alerts" / path).read_bytes())
