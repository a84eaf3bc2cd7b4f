"""Field paths of triggers: `rule.id`, `entities.hosts[].name`, `raw."kubernetes.io/name"`.

A path walks into an alert as JSON (`alert.model_dump(mode="json")`). Where it meets a list it means any of its
elements, whether or not `[]` is written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, get_args

from pydantic import BaseModel

from soar.located import did_you_mean
from soar.model.alert import Alert

Parts = tuple[str, ...]

_PART = re.compile(r'(?:"((?:[^"\\]|\\.)+)"|([A-Za-z_][A-Za-z0-9_-]*))((?:\[\])?)(\.|$)')


@lru_cache(maxsize=1024)
def split_path(path: str) -> Parts | None:
    """The names of a path, or None where it is none."""
    parts, at = [], 0
    while at < len(path):
        found = _PART.match(path, at)
        if found is None:
            return None
        parts.append(found[1].replace('\\"', '"') if found[1] else found[2])
        at = found.end()
    return tuple(parts) if parts and not path.endswith(".") else None


def values_at(document: Any, parts: Parts) -> list[Any]:
    """Every value that stands at a path; null counts as nothing."""
    found = [document]
    for part in parts:
        found = [item[part] for item in found if isinstance(item, Mapping) and part in item]
        if any(isinstance(item, list) for item in found):
            found = _spread(found)
    return [item for item in found if item is not None]


def _spread(items: list[Any]) -> list[Any]:
    flat: list[Any] = []
    for item in items:
        flat.extend(_spread(item) if isinstance(item, list) else [item])
    return flat


def trouble_with(path: str) -> str | None:
    """Why a path can never stand in an alert, with the remedy; None where it can. Below `raw` and `labels` all can."""
    parts = split_path(path)
    if parts is None:
        return f'{path!r} is no field; write such as rule.id, entities.hosts[].name or raw."a.b"'
    model: type[BaseModel] | None = Alert
    for index, part in enumerate(parts):
        if model is None:
            return f"{'.'.join(parts[:index])!r} has no fields below it"
        if part not in model.model_fields:
            where = ".".join(parts[:index]) or "an alert"
            hint = did_you_mean(part, model.model_fields) or f"; it has {', '.join(model.model_fields)}"
            return f"{where} has no field {part!r}{hint}"
        annotation = model.model_fields[part].annotation
        if _is_free(annotation):
            return None
        model = _model_in(annotation)
    return (
        None
        if model is None
        else f"{path!r} is a whole object; name one of its fields: {', '.join(model.model_fields)}"
    )


def _is_free(annotation: Any) -> bool:
    return getattr(annotation, "__origin__", None) is dict


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for argument in get_args(annotation) if (model := _model_in(argument))), None)
