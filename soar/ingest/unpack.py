"""Which mapping reads a payload, and the elements that are in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from soar.errors import ExpressionError, RecordError
from soar.expr.compile import truthy
from soar.ingest.expressions import Getter
from soar.ingest.mapping import Candidate, Mapping, Mappings, PerKeys, Shape
from soar.ingest.payload import MAX_ELEMENTS, kind_of, too_many
from soar.ingest.view import view_of
from soar.located import did_you_mean


@dataclass(frozen=True, slots=True)
class Element:
    """One alert's part of a payload: as it came, and as the mapping's expressions see it.

    `scope` is None where the part is no object and so can be no alert.
    """

    raw: Any
    scope: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Choice:
    """The mapping and shape that read a payload, and the payload as they see it; no shape means no unpacking."""

    mapping: Mapping
    shape: Shape | None
    view: dict[str, Any]


class Chooser:
    """Finds the mapping of a payload: cheap sets of keys first, expressions only where those fit."""

    def __init__(self, mappings: Mappings) -> None:
        self.mappings = mappings
        every = mappings.candidates()
        # By the name of their mapping, and all of them by None.
        self._fitting = {
            name: PerKeys(partial(_that_fit, [one for one in every if name in {None, one.mapping.name}]))
            for name in (None, *mappings.by_name)
        }

    def choose(self, payload: dict[str, Any], name: str | None) -> Choice:
        """By name where the source gives one, else by shape, else the fallback.

        Raises RecordError for a name that is no mapping: the record waits as a dead letter until it is one.
        """
        if name is None:
            return self._first(payload, name) or self._plain(payload, self.mappings.fallback)
        mapping = self.mappings.by_name.get(name)
        if mapping is None:
            near = did_you_mean(name, self.mappings.by_name)
            raise RecordError(f"its source names the mapping {name!r}, which is not loaded{near}", "unknown_mapping")
        return self._first(payload, name) or self._plain(payload, mapping)

    def _first(self, payload: dict[str, Any], name: str | None) -> Choice | None:
        for candidate in self._fitting[name](frozenset(payload)):
            mapping, shape = candidate.mapping, candidate.shape
            view = view_of(payload, mapping.decode, nest=mapping.nest_dotted_keys)
            if shape.where is None or truthy(shape.where.get(view)):
                return Choice(mapping, shape, view)
        return None

    def _plain(self, payload: dict[str, Any], mapping: Mapping) -> Choice:
        return Choice(mapping, None, view_of(payload, mapping.decode, nest=mapping.nest_dotted_keys))


def _that_fit(candidates: Sequence[Candidate], keys: frozenset[str]) -> tuple[Candidate, ...]:
    return tuple(candidate for candidate in candidates if candidate.keys <= keys)


def elements_of(payload: dict[str, Any], choice: Choice) -> list[Element]:
    """The elements of a payload, at least one; raises RecordError where there is none, or far too many."""
    if choice.shape is None or not choice.shape.split:
        return [Element(payload, choice.view)]
    level = [Element(payload, choice.view)]
    for getter in choice.shape.split:
        level = [inner for element in level for inner in _inner(element, getter, choice.view)]
        if len(level) > MAX_ELEMENTS:
            raise too_many()
    if not level:
        paths = " -> ".join(getter.source for getter in choice.shape.split)
        raise RecordError(f"holds no alert at {paths}", "empty")
    return level


def _inner(element: Element, getter: Getter, root: dict[str, Any]) -> list[Element]:
    if element.scope is None:
        return [element]
    try:
        given = getter.read(element.scope)
    except ExpressionError as failure:
        raise RecordError(f"cannot be split: {failure.message}", "too_many") from failure
    if given is None:
        return []
    items = given if isinstance(given, list) else [given]
    if len(items) > MAX_ELEMENTS:
        raise too_many()
    if getter.expression is not None and not getter.path:  # it computes; what selects gives what is there
        _refuse_nonsense(items)
    return [Element(item, _scope(item, root, element.scope)) for item in items]


def _refuse_nonsense(computed: Any) -> None:
    """What an expression made of a payload may hold numbers that no payload can; raises RecordError."""
    try:
        json.dumps(computed, allow_nan=False)
    except ValueError as failure:
        raise RecordError(f"cannot be split: {failure}", "bad_number") from failure


def _scope(item: Any, root: dict[str, Any], parent: dict[str, Any]) -> dict[str, Any] | None:
    return {**item, "_root": root, "_parent": parent} if isinstance(item, dict) else None


def not_an_object(raw: Any) -> RecordError:
    """Why an element of a batch is no alert."""
    return RecordError(f"is {kind_of(raw)}, not an object", "not_an_object")
