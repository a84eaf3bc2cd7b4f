"""The view of a payload that a mapping's expressions see: JSON texts parsed in place, dotted keys nested.

A view shares what it does not change with the payload; the payload itself is never changed.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import PlainValidator

from soar.errors import RecordError
from soar.ingest.payload import MAX_DEPTH, parse

_STEP = re.compile(r'([A-Za-z_][A-Za-z0-9_]*|"(?:[^"\\]|\\.)*")(\[\])?(?:\.|$)')


@dataclass(frozen=True, slots=True)
class DecodePath:
    """Where a JSON text stands: keys, and None for "every element of this list"."""

    source: str
    steps: tuple[str | None, ...]


def _decode_path(value: Any) -> DecodePath:
    steps: list[str | None] = []
    position = 0
    while isinstance(value, str) and position < len(value):
        match = _STEP.match(value, position)
        if not match:
            break
        key, every = match.groups()
        steps += [json.loads(key) if key[0] == '"' else key, *([None] if every else [])]
        position = match.end()
    if not steps or position < len(value) or value.endswith("."):
        raise ValueError(f"{value!r} is no path; write keys joined by dots, with [] for every element of a list")
    return DecodePath(value, tuple(steps))


OneDecodePath = Annotated[DecodePath, PlainValidator(_decode_path)]


def view_of(payload: dict[str, Any], decode: tuple[DecodePath, ...], *, nest: bool) -> dict[str, Any]:
    """The payload with the JSON texts at `decode` parsed and, with `nest`, its dotted keys nested."""
    view: Any = payload
    for path in decode:
        view = _decoded(view, path.steps)
    whole: dict[str, Any] = _nested(view) if nest else view
    return whole


def _decoded(value: Any, steps: tuple[str | None, ...]) -> Any:
    if not steps:
        return _parsed(value)
    head, rest = steps[0], steps[1:]
    if head is None:
        return [_decoded(item, rest) for item in value] if isinstance(value, list) else value
    if not isinstance(value, dict) or head not in value:
        return value
    inner = _decoded(value[head], rest)
    return value if inner is value[head] else {**value, head: inner}


def _parsed(value: Any) -> Any:
    """Text that is no JSON object or array stays text: a product may also put a plain sentence there."""
    if not isinstance(value, str) or value.lstrip()[:1] not in {"{", "["}:
        return value
    try:
        return parse(value.encode())
    except RecordError:
        return value


def _nested(value: Any, depth: int = 1) -> Any:
    if isinstance(value, list):
        return [_nested(item, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value
    result: dict[str, Any] = {}
    for key in sorted(value, key=lambda key: key.count(".")):  # what is nested already is there to be added to
        parts = key.split(".")
        if depth + len(parts) > MAX_DEPTH:  # dots in a key must not nest deeper than brackets may
            parts = [key]
        _place(result, parts, key, _nested(value[key], depth + len(parts)))
    return result


def _place(into: dict[str, Any], parts: list[str], key: str, value: Any) -> None:
    target = into
    for part in parts[:-1]:
        step = target.setdefault(part, {})
        if not isinstance(step, dict):  # `host: x` beside `host.name: y`: the second keeps its dotted key
            into[key] = value
            return
        target = step
    last = target.get(parts[-1])
    if isinstance(last, dict) and isinstance(value, dict):
        last.update(value)
    else:
        target.setdefault(parts[-1], value)
