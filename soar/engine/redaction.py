"""Masking what policy wants nobody to read: in the journal and in what people are shown, not in what is sent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from soar.model.action import Attempt

MASK = "[redacted]"


def masked(value: Any, fields: Iterable[str]) -> Any:
    """A copy without the values at these dotted paths; `*` stands for every name or place. The rest is shared."""
    for field in fields:
        value = _masked(value, field.split("."))
    return value


def shown(attempt: Attempt) -> Attempt:
    """An attempt as people may see it."""
    if not attempt.redacted:
        return attempt
    params = masked(attempt.request.params, attempt.redacted)
    return attempt.model_copy(update={"request": attempt.request.model_copy(update={"params": params})})


def masked_notes(notes: dict[str, Any]) -> dict[str, Any]:
    """What a run or a step keeps of an undo (`params`, `redacted`), as the journal may tell it."""
    if "undo" in notes:
        return {**notes, "undo": masked_notes(notes["undo"])}
    if "redacted" not in notes:
        return notes
    return {**notes, "params": masked(notes["params"], notes["redacted"])}


def _masked(value: Any, path: Sequence[str]) -> Any:
    if not path:
        return MASK
    first, rest = path[0], path[1:]
    if isinstance(value, dict):
        return {name: _masked(child, rest) if first in {name, "*"} else child for name, child in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(child, rest) if first in {str(at), "*"} else child for at, child in enumerate(value)]
    return value
