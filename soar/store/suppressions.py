"""Suppressions as rows of `control`: one for each, found by the beginning of its key."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from pydantic import ValidationError

from soar.model.suppression import Suppression

PREFIX = "suppression:"
BEHIND = "suppression;"
"""The first key behind all of theirs, in the order of characters."""


def key_of(suppression_id: str) -> str:
    """Under which key a suppression is kept."""
    return f"{PREFIX}{suppression_id}"


def read_all(values: Iterable[str]) -> list[Suppression]:
    """The suppressions in these rows; one that was blanked because it named somebody holds nothing back any more."""
    return [each for each in map(_read, values) if each is not None]


@lru_cache(maxsize=1024)  # every admission reads the same few texts
def _read(value: str) -> Suppression | None:
    try:
        return Suppression.model_validate_json(value)
    except ValidationError:
        return None
