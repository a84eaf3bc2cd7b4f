"""What a reason rests on: which values of the input and of the data it needs, and what would take it away.

Rules are pure, so this is found by asking again: a value without which a control no longer says a thing is a value
that it turned on. That holds for any bundle, whatever its rules look like.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import orjson

from soar.errors import Place
from soar.located import Located
from soar.model.decision import Reason
from soar.policy.bundle import Bundle, input_schema, located_data
from soar.policy.port import ENTRY_POINT
from soar.policy.rego import EngineFault, evaluate, new_engine

CONTROLS: Final = ("soar", "controls")
"""The package under which the starters keep one control a module."""
_SAYS = ("deny", "approval", "warn")
_TRIALS = 600  # questions asked to explain one reason; data of any size is searched by halves
_GONE: Final = object()

At = tuple[str | int, ...]
Holds = Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class Turned:
    """A value that a reason needs, with its place where a file holds it."""

    path: At
    value: Any
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Otherwise:
    """Another value that would take the reason away, in words, and what the decision would be then."""

    path: At
    words: str
    effect: str


@dataclass(frozen=True, slots=True)
class Grounds:
    """What one reason rests on. `rule` is where its control begins."""

    reason: Reason
    rule: Place | None
    data: tuple[Turned, ...]
    fields: tuple[Turned, ...]
    otherwise: tuple[Otherwise, ...]


class Inquiry:
    """Asks one bundle about one question again and again; to be used in the thread that made it."""

    def __init__(self, bundle: Bundle, folder: Path, question: Mapping[str, Any]) -> None:
        self._bundle = bundle
        self._question = dict(question)
        self._documents = located_data(folder)
        self._engine = new_engine(bundle.modules, bundle.data_json)
        self._schema = input_schema()
        self._left = 0

    def decision(self, question: Any = None) -> dict[str, Any] | None:
        """What the bundle decides; None where it is undefined or fails."""
        value = self._value(ENTRY_POINT, self._question if question is None else question)
        return value if isinstance(value, dict) else None

    def grounds(self, reason: Reason) -> Grounds | None:
        """What a reason rests on; None where this bundle does not give it."""
        self._left = _TRIALS
        wanted = self._given(reason, self._question)
        if not wanted:
            return None
        fields = self._fields(reason, wanted)
        return Grounds(
            reason=reason,
            rule=self._rule(reason),
            data=self._data(reason, wanted),
            fields=fields,
            otherwise=tuple(self._otherwise(reason, wanted, fields)),
        )

    def differences(self) -> tuple[Otherwise, ...]:
        """Single fields of the input that would make the decision another one, for one that no control objects to."""
        self._left = _TRIALS
        now = (self.decision() or {}).get("effect")
        found = []
        for path in sorted(self._bundle.reads):
            value = _at(self._question, path)
            others = () if value is _GONE else _others(value, _schema_at(self._schema, path))
            effects = [(words, self._effect(_with(self._question, path, other))) for words, other in others]
            found += [
                Otherwise(path, " or ".join(words for words, then in effects if then == effect), str(effect))
                for effect in dict.fromkeys(effect for _, effect in effects if effect not in {now, None})
            ]
        return tuple(found)

    def _fields(self, reason: Reason, wanted: int) -> tuple[Turned, ...]:
        read = _projected(self._question, self._bundle.reads)
        paths = essential(read, lambda without: self._asked(lambda: self._given(reason, without) >= wanted))
        return tuple(Turned(path, _at(read, path)) for path in paths)

    def _data(self, reason: Reason, wanted: int) -> tuple[Turned, ...]:
        def holds(data: Any) -> bool:
            self._engine.clear_data()
            self._engine.add_data_json(orjson.dumps(data).decode())
            return self._given(reason, self._question) >= wanted

        try:
            paths = essential(self._bundle.data, lambda data: self._asked(lambda: holds(data)))
        finally:
            self._engine.clear_data()
            self._engine.add_data_json(self._bundle.data_json.decode())
        return tuple(Turned(path, _at(self._bundle.data, path), self._place(path)) for path in paths)

    def _place(self, path: At) -> Place | None:
        located: Located | None = self._documents.get(str(path[0]))
        return located.place(path[1:]) if located else None

    def _rule(self, reason: Reason) -> Place | None:
        name = ".".join(("data", *CONTROLS, reason.control))
        return next((self._bundle.rules[rule] for rule in self._names(reason) if rule.startswith(f"{name}.")), None)

    def _names(self, reason: Reason) -> list[str]:
        """The rules of the control that can say so, else the whole decision."""
        names = (".".join(("data", *CONTROLS, reason.control, kind)) for kind in _SAYS)
        return [name for name in names if name in self._bundle.rules] or [ENTRY_POINT]

    def _given(self, reason: Reason, question: Any) -> int:
        """How often the control says this."""
        found = 0
        for name in self._names(reason):
            value = self._value(name, question)
            said = value.get("reasons", ()) if isinstance(value, dict) else value or ()
            found += sum(
                isinstance(each, dict) and (each.get("code"), each.get("control")) == (reason.code, reason.control)
                for each in said
            )
        return found

    def _otherwise(self, reason: Reason, wanted: int, fields: Sequence[Turned]) -> Iterator[Otherwise]:
        """Ways to be rid of a reason by one field alone."""

        def gone(path: At, value: Any) -> bool:
            changed = _with(self._question, path, value)
            return self._asked(lambda: self._given(reason, changed) < wanted, otherwise=False)

        for field in fields:
            schema = _schema_at(self._schema, field.path)
            others = [
                *_limits(field.value, schema, partial(gone, field.path)),
                *((words, value) for words, value in _others(field.value, schema) if gone(field.path, value)),
            ]
            effects = [(words, self._effect(_with(self._question, field.path, value))) for words, value in others]
            for effect in dict.fromkeys(effect for _, effect in effects):
                words = " or ".join(dict.fromkeys(word for word, then in effects if then == effect))
                yield Otherwise(field.path, words, str(effect or "undefined"))

    def _effect(self, question: Any) -> Any:
        return (self.decision(question) or {}).get("effect")

    def _asked(self, ask: Callable[[], bool], *, otherwise: bool = True) -> bool:
        """The answer while there are trials left."""
        self._left -= 1
        return ask() if self._left > 0 else otherwise

    def _value(self, rule: str, question: Any) -> Any:
        try:
            return evaluate(self._engine, rule, orjson.dumps(question))[1]
        except EngineFault:
            return None


def essential(document: Any, holds: Holds) -> list[At]:
    """The smallest parts of a document without which `holds` is false; parts that stand in for each other come whole.

    Searched by halves: so many questions as the parts found have ancestors, times the logarithm of their breadth.
    """
    return [path for path in _search(document, (), holds) if path]


def _search(document: Any, path: At, holds: Holds) -> list[At]:
    node = _at(document, path)
    names: list[str | int] = (
        [*node] if isinstance(node, dict) else [*range(len(node))] if isinstance(node, list) else []
    )
    needed = _needed(document, path, names, holds) if names else []
    if not needed:
        return [path]
    return [found for name in needed for found in _search(document, (*path, name), holds)]


def _needed(document: Any, path: At, names: Sequence[str | int], holds: Holds) -> list[str | int]:
    if holds(_without(document, path, names)):
        return []
    if len(names) == 1:
        return list(names)
    middle = len(names) // 2
    return [name for half in (names[:middle], names[middle:]) for name in _needed(document, path, half, holds)]


def _at(document: Any, path: Iterable[str | int]) -> Any:
    for part in path:
        try:
            document = document[part]
        except (KeyError, IndexError, TypeError):
            return _GONE
    return document


def _with(document: Any, path: At, value: Any) -> Any:
    """A copy with another value at a path."""
    if not path:
        return value
    changed = copy.copy(document)
    changed[path[0]] = _with(document[path[0]], path[1:], value)
    return changed


def _without(document: Any, path: At, names: Sequence[str | int]) -> Any:
    """A copy in which the node at a path has lost these children."""
    node = _at(document, path)
    gone = set(names)
    left = (
        {name: child for name, child in node.items() if name not in gone}
        if isinstance(node, dict)
        else [child for number, child in enumerate(node) if number not in gone]
    )
    return _with(document, path, left)


def _projected(document: Mapping[str, Any], reads: Iterable[tuple[str, ...]]) -> Any:
    """Only what rules can read."""
    projected: dict[str, Any] = {}
    for path in reads:
        if not path:
            return dict(document)
        if _at(document, path) is not _GONE:
            here = projected
            for part in path[:-1]:
                here = here.setdefault(part, {})
            here[path[-1]] = _at(document, path)
    return projected


def _schema_at(schema: Mapping[str, Any], path: Iterable[str | int]) -> Mapping[str, Any]:
    """The JSON Schema of a field; empty where it is free."""
    definitions = schema.get("$defs", {})

    def plain(part: Any) -> Mapping[str, Any]:
        while isinstance(part, dict) and ("$ref" in part or "anyOf" in part):
            if "$ref" in part:
                part = definitions[part["$ref"].rpartition("/")[2]]
            else:
                part = next((each for each in part["anyOf"] if each.get("type") != "null"), {})
        return part if isinstance(part, dict) else {}

    here = plain(schema)
    for name in path:
        if isinstance(name, int):
            here = plain(here.get("items", {}))
        else:
            here = plain(here.get("properties", {}).get(name, here.get("additionalProperties", {})))
    return here


def _others(value: Any, schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Other values that a field could have, each in words."""
    if "enum" in schema:
        yield from ((str(other), other) for other in schema["enum"] if other != value)
    elif isinstance(value, bool):
        yield str(not value).lower(), not value
    elif isinstance(value, str):
        yield f"not {value}", "another"
    elif isinstance(value, list):
        yield "empty", []


def _limits(value: Any, schema: Mapping[str, Any], gone: Callable[[int], bool]) -> Iterator[tuple[str, int]]:
    """How far below or above a number the reason goes away, found by halves."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    for end, words in ((schema.get("minimum", 0), "or less"), (schema.get("maximum"), "or more")):
        if end is None or end == value or not gone(end):
            continue
        there, here = int(end), int(value)  # gone there, not here
        while abs(there - here) > 1:
            middle = (there + here) // 2
            there, here = (middle, here) if gone(middle) else (there, middle)
        yield f"{there} {words}", there
