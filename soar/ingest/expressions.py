"""Expressions of a mapping: JMESPath, compiled when the mapping is loaded.

Plain paths (`rule.level`, `"id.orig_h"`) are most of what a mapping holds, so they are walked directly. A projection
(`evidence[?url].url`) is evaluated only where what it projects is there. The results are what JMESPath would give.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainValidator

from soar.errors import ExpressionError
from soar.expr.compile import Expression, compile_expression

_STEP = r'(?:[A-Za-z_][A-Za-z0-9_]*|"(?:[^"\\]|\\.)*")'
_PLAIN = re.compile(rf"{_STEP}(?:\.{_STEP})*")
_STEPS = re.compile(_STEP)
_START = re.compile(rf"({_STEP}(?:\.{_STEP})*)\[")
_BRACKETS = re.compile(r"\[[^\[\]]*\]")
_PROJECTED = re.compile(rf"{_STEP}(?:\.(?:{_STEP}|\*))*")


Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Getter:
    """One expression, ready to read from a payload.

    `path` are its keys; where it is more than a plain path, `expression` is evaluated if something stands at `path`.
    """

    source: str
    path: Path
    expression: Expression | None

    def read(self, scope: Mapping[str, Any]) -> Any:
        """What stands there, None where nothing does; raises ExpressionError as `Expression.evaluate` does."""
        value: Any = scope
        for key in self.path:
            if not isinstance(value, dict):
                return None
            value = value.get(key)
        if self.expression is None or value is None:
            return value
        return self.expression.evaluate(scope)

    def get(self, scope: Mapping[str, Any]) -> Any:
        """As `read`, and None where the expression cannot be computed: an odd payload is no reason to stop."""
        if self.path and self.path[0] not in scope:
            return None
        try:
            return self.read(scope)
        except ExpressionError:
            return None


def _compile(value: Any) -> Getter:
    if isinstance(value, Getter):
        return value
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no expression; write JMESPath as text")  # noqa: TRY004  pydantic wants ValueError
    try:
        expression = compile_expression(value)
    except ExpressionError as failure:
        raise ValueError(failure.message) from failure
    if _PLAIN.fullmatch(value):
        return Getter(value, _keys(value), None)
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
Expressions = Annotated[tuple[OneExpression, ...], BeforeValidator(_listed)]
Words = Annotated[tuple[str, ...], BeforeValidator(_listed)]
