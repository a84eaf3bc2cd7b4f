"""Expressions of a mapping: JMESPath, compiled when the mapping is loaded.

Plain paths (`rule.level`, `"id.orig_h"`) are most of what a mapping holds, so they are walked directly; the result is
what JMESPath would give.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, PlainValidator

from soar.errors import ExpressionError
from soar.expr.compile import Expression, compile_expression

_STEP = r'(?:[A-Za-z_][A-Za-z0-9_]*|"(?:[^"\\]|\\.)*")'
_PLAIN = re.compile(rf"{_STEP}(?:\.{_STEP})*")
_STEPS = re.compile(_STEP)


@dataclass(frozen=True, slots=True)
class Getter:
    """One expression, ready to read from a payload. `path` are its keys where it is a plain path."""

    source: str
    expression: Expression
    path: tuple[str, ...] | None

    def read(self, scope: Mapping[str, Any]) -> Any:
        """What stands there, None where nothing does; raises ExpressionError as `Expression.evaluate` does."""
        if self.path is None:
            return self.expression.evaluate(scope)
        value: Any = scope
        for key in self.path:
            if not isinstance(value, dict):
                return None
            value = value.get(key)
        return value

    def get(self, scope: Mapping[str, Any]) -> Any:
        """As `read`, and None where the expression cannot be computed: an odd payload is no reason to stop."""
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
    plain = _PLAIN.fullmatch(value)
    path = tuple(json.loads(step) if step[0] == '"' else step for step in _STEPS.findall(value)) if plain else None
    return Getter(value, expression, path)


def _listed(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else (value,)


ARBITRARY = ConfigDict(arbitrary_types_allowed=True)

OneExpression = Annotated[Getter, PlainValidator(_compile)]
Expressions = Annotated[tuple[OneExpression, ...], BeforeValidator(_listed)]
Words = Annotated[tuple[str, ...], BeforeValidator(_listed)]
