"""JSON Schema of a playbook file, for editors that complete and check while one types.

It is made from the model, so that it cannot say something else; where YAML spells a thing differently than the model
holds it (`playbook`, `wait`, `match`, `dedupe.mode`), the difference is written here. Lint remains the judge.
"""

from __future__ import annotations

from typing import Any

from soar.library.forms import FORMS
from soar.library.scope import STEP_FIELDS
from soar.model.playbook import Playbook

Schema = dict[str, Any]

_DURATION = {
    "type": "string",
    "pattern": r"^(\d+(\.\d+)?(ms|s|m|h|d|w))+$",
    "description": "A number and a unit: 30s, 15m, 2h, 7d; or several: 1h30m.",
}
_EXPRESSION = f"A bare JMESPath expression over alert, steps.<id>.({'|'.join(STEP_FIELDS)}), run, vars and item."


def playbook_schema() -> Schema:
    """The schema, draft 2020-12."""
    schema: Schema = _durations(Playbook.model_json_schema(by_alias=True))
    definitions: Schema = schema["$defs"]
    for form, model in FORMS.items():
        _step(definitions[model.__name__], form)
    definitions["Step"] = {"anyOf": [{"$ref": f"#/$defs/{model.__name__}"} for model in FORMS.values()]}
    _wait(definitions["WaitStep"])
    _match(definitions)
    _dedupe(definitions["Dedupe"])
    properties: Schema = schema["properties"]
    for name in ("digest", "file"):
        del properties[name]
    schema["properties"] = {"playbook": properties.pop("id"), **properties}
    schema["required"] = ["playbook", "description", "owner", "steps"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_plain_steps(schema), "title": "soar playbook"}


def _step(definition: Schema, form: str) -> None:
    properties: Schema = definition["properties"]
    for name in ("kind", "line"):
        properties.pop(name, None)
    properties["if"] = {"type": "string", "description": _EXPRESSION}
    required = {*definition.get("required", ()), form} | ({"if"} if form == "then" else set())
    definition["required"] = sorted(required)


def _wait(definition: Schema) -> None:
    properties: Schema = definition["properties"]
    for name in ("for_", "until", "for_alert"):
        del properties[name]
    one_of = {"for": _DURATION, "until": {"type": "string"}, "for_alert": {"$ref": "#/$defs/Trigger"}}
    spelt = [_DURATION, *({"type": "object", "properties": {k: v}, "required": [k]} for k, v in one_of.items())]
    properties["wait"] = {"anyOf": spelt}


def _match(definitions: Schema) -> None:
    """An operator takes a value or a list; a bare one is `any_of`."""
    operators: Schema = definitions["Match"]
    scalar = {"type": ["string", "integer", "boolean"]}
    some = {"anyOf": [scalar, {"type": "array", "items": scalar, "minItems": 1}]}
    for name in ("any_of", "none_of", "prefix", "suffix", "cidr"):
        operators["properties"][name] = some
    definitions["Match"] = {"anyOf": [*some["anyOf"], operators]}


def _dedupe(definition: Schema) -> None:
    properties: Schema = definition["properties"]
    del properties["count"]
    properties["key"] = {"anyOf": [{"type": "string"}, properties["key"]]}
    count = {"type": "object", "properties": {"count": {"type": "integer", "minimum": 1}}, "required": ["count"]}
    threshold = {"type": "object", "properties": {"threshold": count}, "required": ["threshold"]}
    properties["mode"] = {"anyOf": [{"enum": ["first", "collect"]}, threshold]}


def _durations(node: Any) -> Any:
    """Durations are text with units here, not ISO 8601."""
    if isinstance(node, dict):
        if node.get("format") == "duration":
            return dict(_DURATION)
        return {key: _durations(value) for key, value in node.items()}
    return [_durations(item) for item in node] if isinstance(node, list) else node


def _plain_steps(node: Any) -> Any:
    """A step's form shows in its keys; the model's tag for it stands in no file."""
    if isinstance(node, dict):
        if "discriminator" in node:
            return {"$ref": "#/$defs/Step"}
        return {key: _plain_steps(value) for key, value in node.items()}
    return [_plain_steps(item) for item in node] if isinstance(node, list) else node
