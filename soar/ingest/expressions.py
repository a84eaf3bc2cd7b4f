"""Expressions of a mapping: JMESPath, compiled when the mapping is loaded.

Plain paths (`rule.level`, `"id.orig_h"`) are most of what a mapping holds, so they are walked directly. A projection
(`evidence[?url].url`) is evaluated only where what it projects is there. The results are what JMESPath would give.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BeforeValidator, PlainValidator

from soar.errors import ExpressionError
from soar.expr.compile import Expression, compile_expression

_STEP = r'(?:[A-Za-z_][A-Za-z0-9_]*|"(?:[^"\\]|\\.)*")'
_STEPS = re.compile(_STEP)
_START = re.compile(rf"({_STEP}(?:\.{_STEP})*)\[")
_BRACKETS = re.compile(r"\[[^\[\]]*\]")
_PROJECTED = re.compile(rf"{_STEP}(?:\.(?:{_STEP}|\*))*")


Path = tuple[str, ...]
Read = Callable[[dict[str, Any]], Any]


@dataclass(frozen=True, slots=True)
class Getter:
    """One expression, ready to read from a payload.

    `path` are its keys; where it is more than a plain path, `expression` is evaluated if something stands at `path`.
    """

    source: str
    path: Path
    expression: Expression | None
    get: Read = field(init=False, compare=False, repr=False)
    """What stands there, or None; also where the expression cannot be computed: an odd payload is no reason to stop."""
    _walk: Read = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        walk = _walk(self.path)
        object.__setattr__(self, "_walk", walk)
        object.__setattr__(self, "get", walk if self.expression is None else self._computed)

    def read(self, scope: dict[str, Any]) -> Any:
        """What stands there, None where nothing does; raises ExpressionError as `Expression.evaluate` does."""
        value = self._walk(scope)
        return value if self.expression is None or value is None else self.expression.evaluate(scope)

    @property
    def projects(self) -> bool:
        """Whether it computes nothing but a projection of what stands at `path`."""
        return self.expression is not None and bool(self.path)

    def fixed(self, around: dict[str, Any]) -> Getter:
        """One that gives what this one does for every scope with these keys, where it projects from one of them."""
        if not self.projects or self.path[0] not in around:
            return self
        value = self.get(around)
        same = replace(self)
        object.__setattr__(same, "get", lambda _: value)
        return same

    def _computed(self, scope: dict[str, Any]) -> Any:
        try:
            return self.read(scope)
        except ExpressionError:
            return None


class Getters(tuple[Getter, ...]):
    """Several expressions for one thing, tried in order."""

    __slots__ = ()

    def among(self, keys: frozenset[str]) -> Getters:
        """Those that a payload with no other keys than these may have something for."""
        return Getters(getter for getter in self if not getter.path or getter.path[0] in keys)


NOTHING = Getters()


def _walk(path: Path) -> Read:
    """Down these keys; None as soon as one is not there. Nearly all paths of mappings are this short."""
    if len(path) == 1:
        (only,) = path
        return lambda scope: scope.get(only)
    if len(path) == 2:
        first, second = path

        def walk_two(scope: dict[str, Any]) -> Any:
            inner = scope.get(first)
            return inner.get(second) if isinstance(inner, dict) else None

        return walk_two

    def walk(scope: dict[str, Any]) -> Any:
        value: Any = scope
        for key in path:
            if not isinstance(value, dict):
                return None
            value = value.get(key)
        return value

    return walk


def _compile(value: Any) -> Getter:
    if isinstance(value, Getter):
        return value
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no expression; write JMESPath as text")  # noqa: TRY004  pydantic wants ValueError
    try:
        expression = compile_expression(value)
    except ExpressionError as failure:
        raise ValueError(failure.message) from failure
    if expression.path is not None:
        return Getter(value, expression.path, None)
    return Getter(value, _projected(value), expression)


def _keys(path: str) -> Path:
    return tuple(json.loads(step) if step[0] == '"' else step for step in _STEPS.findall(path))


def _projected(source: str) -> Path:
    """The path at which an expression is certainly null where nothing stands there, or () where none is certain.

    That holds for a path followed by nothing but brackets and more path: null projects, filters and indexes to null.
    """
    start = _START.match(source)
    shorter = source
    while (stripped := _BRACKETS.sub("", shorter)) != shorter:
        shorter = stripped
    return _keys(start[1]) if start and _PROJECTED.fullmatch(shorter) else ()


def _listed(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else (value,)


OneExpression = Annotated[Getter, PlainValidator(_compile)]
if TYPE_CHECKING:
    Expressions = Getters
else:  # pydantic checks them one by one, so that an error has its place in the list
    Expressions = Annotated[tuple[OneExpression, ...], BeforeValidator(_listed), AfterValidator(Getters)]
Words = Annotated[tuple[str, ...], BeforeValidator(_listed)]
