"""JMESPath expressions, compiled once and evaluated within bounds.

The language is JMESPath (jmespath.org/specification.html) with the functions of `soar.expr.functions`. Only text
from a playbook or a mapping is ever compiled; what an alert says is data and stays data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from jmespath import exceptions
from jmespath.visitor import Options

from soar.errors import ExpressionError
from soar.expr.bounds import BoundedInterpreter, Budget, own, refuse
from soar.expr.functions import Functions
from soar.expr.references import FieldPath, plain_path, references
from soar.expr.syntax import Tree, parse

CACHED = 4_096


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression; immutable, shared between runs and threads."""

    source: str
    _tree: Tree = field(repr=False, compare=False)
    _references: tuple[FieldPath, ...] = field(repr=False, compare=False)
    path: FieldPath | None = field(repr=False, compare=False)
    """Its keys, where it is nothing but a path, as most are."""

    def evaluate(self, context: Mapping[str, Any]) -> Any:
        """Its value over JSON values; a field that is not there is None.

        The value shares nothing with the context. Raises ExpressionError where a function is given what it does not
        take, or where the work or the result exceeds the bounds of `soar.expr.bounds`.
        """
        if self.path is not None:
            return own(_at(context, self.path), self.source)
        budget = Budget(self.source)
        interpreter = BoundedInterpreter(budget, Options(custom_functions=Functions(budget)))
        try:
            value = interpreter.visit(self._tree, context)
        except exceptions.JMESPathTypeError as failure:
            raise refuse(self.source, _type_trouble(failure)) from failure
        except (ArithmeticError, TypeError, ValueError) as failure:
            raise refuse(self.source, f"cannot be computed on this input ({failure})") from failure
        return own(value, self.source)

    def references(self) -> list[FieldPath]:
        """The field paths it reads, indexes left out, as far as its text tells.

        `steps.intel.result.tags[0]` is `("steps", "intel", "result", "tags")`.
        """
        return list(self._references)


@lru_cache(maxsize=CACHED)
def compile_expression(source: str) -> Expression:
    """The compiled expression; raises ExpressionError naming the expression, the column and the remedy."""
    tree = parse(source)
    return Expression(source, tree, tuple(references(tree)), plain_path(tree))


def truthy(value: Any) -> bool:
    """Whether JMESPath takes a value as true: all but null, false, and empty text, lists and objects. 0 is true."""
    return not (value is None or value is False or (isinstance(value, str | list | dict | tuple) and not value))


def _at(value: Any, path: FieldPath) -> Any:
    for name in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def _type_trouble(failure: exceptions.JMESPathTypeError) -> str:
    """What a function was given and what it takes."""
    takes = " or ".join(_TYPE_WORDS.get(name, name) for name in failure.expected_types)
    given = _TYPE_WORDS.get(failure.actual_type, failure.actual_type)
    remedy = "; use default(value, otherwise) where a field may be missing" if given == "null" else ""
    return f"{failure.function_name}() takes {takes}, not {given}{remedy}"


_TYPE_WORDS = MappingProxyType(
    {
        "string": "text",
        "array": "a list",
        "object": "an object",
        "number": "a number",
        "boolean": "true or false",
        "expref": "an &expression",
        "array-string": "a list of text",
        "array-number": "a list of numbers",
    }
)

__all__ = ["Expression", "ExpressionError", "compile_expression", "truthy"]
