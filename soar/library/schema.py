"""The JSON Schema of a playbook file, for editors: the frozen types as YAML spells them (`forms.py`, `parse.py`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from soar.library.forms import FORMS
from soar.library.predicates import LISTS
from soar.model.playbook import Playbook

Schema = dict[str, Any]

_DURATION: Schema = {"type": "string", "pattern": r"^(\d+(\.\d+)?(ms|s|m|h|d|w))+$", "examples": ["30s", "15m", "2h"]}
_STEP: Schema = {"$ref": "#/$defs/Step"}
_SCALAR: Schema = {"type": ["string", "integer", "boolean"]}


def playbook_schema() -> Schema:
    """What an editor needs to complete and check a playbook; `soar playbook lint` checks far more."""
    schema: Schema = _as_written(Playbook.model_json_schema(by_alias=True))
    types: dict[str, Schema] = schema["$defs"]
    _without(schema, "digest", "file")
    fields = schema["properties"]
    schema["properties"] = {"playbook": fields.pop("id"), **fields}
    schema["required"] = ["playbook" if name == "id" else name for name in schema["required"]]
    for form, model in FORMS.items():
        step = types[model.__name__]
        _without(step, "kind", "line")
        step["required"] = sorted({*step.get("required", ()), form, *(["if"] if form == "then" else [])})
    types["Step"] = {"anyOf": [{"$ref": f"#/$defs/{model.__name__}"} for model in FORMS.values()]}
    for instant in ("SetStep", "StopStep"):
        _without(types[instant], "timeout")
    _wait(types["WaitStep"])
    _dedupe(types["Dedupe"])
    types["Match"] = _match(types["Match"])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "soar playbook"}


def _as_written(node: Any) -> Any:
    """Durations as people write them, and one name for what may stand in a list of steps."""
    if isinstance(node, list):
        return [_as_written(child) for child in node]
    if not isinstance(node, dict):
        return node
    if node.get("format") == "duration":
        return _DURATION
    if node.get("discriminator", {}).get("propertyName") == "kind":
        return _STEP
    return {key: _as_written(child) for key, child in node.items()}


def _without(schema: Schema, *names: str) -> None:
    for name in names:
        del schema["properties"][name]
    schema["required"] = [name for name in schema.get("required", ()) if name not in names]


def _wait(step: Schema) -> None:
    """`wait: 10m`, or a mapping with exactly one of what can be waited for."""
    kinds = {"for": _DURATION, "until": {"type": "string"}, "for_alert": {"$ref": "#/$defs/Trigger"}}
    _without(step, "for_", "until", "for_alert")
    step["properties"]["wait"] = {"anyOf": [_DURATION, *_one_of(kinds.items())]}


def _one_of(kinds: Iterable[tuple[str, Schema]]) -> list[Schema]:
    return [
        {"type": "object", "properties": {name: kind}, "required": [name], "additionalProperties": False}
        for name, kind in kinds
    ]


def _dedupe(dedupe: Schema) -> None:
    fields = dedupe["properties"]
    (threshold,) = _one_of([("threshold", _one_of([("count", fields["count"])])[0])])
    fields["mode"] = {"anyOf": [{"enum": ["first", "collect"]}, threshold], "default": "first"}
    fields["key"] = {"anyOf": [{"type": "string"}, fields["key"]]}
    _without(dedupe, "count")


def _match(match: Schema) -> Schema:
    """A bare value or list is `any_of`, and a bare value is a list of one."""
    for name in LISTS:
        match["properties"][name] = {"anyOf": [_SCALAR, *match["properties"][name]["anyOf"]]}
    return {"anyOf": [_SCALAR, {"type": "array", "items": _SCALAR}, match]}
