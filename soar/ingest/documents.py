"""What is in a record: a JSON document, JSON lines, CloudEvents, or JSON framed for a schema registry.

External formats: CloudEvents 1.0, structured mode and batches (cloudevents.io; in binary mode the value is the data
already); ndjson.org; and what serializers of schema registries put before the value: Confluent a zero byte and a schema
id of four bytes, Apicurio (before version 3) one of eight, AWS Glue the byte 3, one for the compression, and a UUID.
"""

from __future__ import annotations

import base64
import binascii
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from soar.errors import RecordError
from soar.ingest.payload import MAX_ELEMENTS, objects, parse, too_many

_FRAMES = (("Confluent", 1, 5), ("Apicurio", 1, 9), ("AWS Glue", 2, 18))
"""Whose frame, where the schema's id begins in it, and where the value."""
_GLUE = (b"\3\0", b"\3\5")  # as it is, and compressed by zlib
_UUID = 16
_ENVELOPE = ("id", "source", "type")


@dataclass(frozen=True, slots=True)
class Broken:
    """A line that cannot be read; those around it can."""

    line: bytes
    failure: RecordError


def documents(value: bytes) -> list[Any]:
    """The payloads of a record's value, a Broken among them for each bad line; raises RecordError for all of it."""
    if not value.strip():
        raise RecordError("is empty (Kafka calls it a tombstone); there is no alert in it", "empty")
    if value[:1] == b"\0" or value[:2] in _GLUE:
        value = _unframed(value)
    try:
        found = objects(parse(value))
    except RecordError as failure:
        lines = _lines(value) if failure.code == "not_json" else None
        if lines is None:
            raise
        found = lines
    if any(isinstance(each, dict) and "specversion" in each for each in found):
        found = [inner for each in found for inner in _opened(each)]
        if len(found) > MAX_ELEMENTS:
            raise too_many()
    return found


def _unframed(value: bytes) -> bytes:
    """The JSON behind a registry's frame; raises RecordError for anything else behind it."""
    registries = _FRAMES[2:] if value[:2] in _GLUE else _FRAMES[:2]
    for _, _, size in registries:
        inner = value[size:]
        if inner.lstrip()[:1] in {b"{", b"["}:
            return inner
    name, begins, size = registries[0]
    schema = value[begins:size]
    named = uuid.UUID(bytes=schema) if len(schema) == _UUID else int.from_bytes(schema, "big")
    raise RecordError(
        f"is framed for a schema registry (schema id {named}, as {name} writes it) and is no JSON behind that, so Avro "
        "or Protobuf, which are not read; have its producer, or a connector between, send JSON or JSON Schema",
        "schema_registry",
    )


def _lines(value: bytes) -> list[Any] | None:
    """A payload for each line; None where this is one broken document, whose first and last lines are none."""
    lines = [line for line in value.split(b"\n") if line.strip()]
    if len(lines) < 2:
        return None
    if len(lines) > MAX_ELEMENTS:
        raise too_many()
    found = [each for line in lines for each in _line(line)]
    return None if isinstance(found[0], Broken) and isinstance(found[-1], Broken) else found


def _line(line: bytes) -> list[Any]:
    try:
        return objects(parse(line))
    except RecordError as failure:
        return [Broken(line, failure)]


def _opened(payload: Any) -> Iterator[Any]:
    """What an event is about; anything else, and an event with nothing to open in it, stays as it is."""
    if not isinstance(payload, dict) or not all(isinstance(payload.get(name), str) for name in _ENVELOPE):
        yield payload
        return
    data = payload.get("data")
    encoded = payload.get("data_base64")
    if data is None and isinstance(encoded, str):
        try:
            data = parse(base64.b64decode(encoded, validate=True))
        except (binascii.Error, RecordError) as failure:
            raise RecordError(f"is a CloudEvent whose data_base64 is no JSON: {failure}", "not_json") from failure
    if isinstance(data, list):
        yield from objects(data)
    else:
        yield data if isinstance(data, dict) else payload
