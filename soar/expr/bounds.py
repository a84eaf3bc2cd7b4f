"""How much one evaluation may do, and the JMESPath interpreter that keeps to it.

An expression is written by an analyst, but the values it reads are written by attackers, and both can make it grow:
`[@, @] | [@, @] | ...` doubles with every stage, `join` doubles text, a projection within a projection multiplies.
So every node visited and every element touched is paid for from one budget of `MAX_WORK`, no text made on the way is
longer than `MAX_TEXT`, and a result has at most `MAX_NODES` values, `MAX_DEPTH` levels deep.
"""

from __future__ import annotations

import math
from typing import Any

from jmespath.visitor import TreeInterpreter

from soar.errors import ExpressionError

MAX_WORK = 100_000
MAX_TEXT = 1_000_000
MAX_NODES = 20_000
MAX_DEPTH = 60


def refuse(source: str, why: str, *, column: int | None = None) -> ExpressionError:
    """The error that names the expression, the column (from 1) and the remedy."""
    shown = source if len(source) <= 80 else source[:77] + "..."
    at = f" at column {column}" if column is not None else ""
    return ExpressionError(f"expression {shown!r}{at}: {why}")


class Budget:
    """What one evaluation has left."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.left = MAX_WORK

    def spend(self, amount: int) -> None:
        """Pay; raises ExpressionError where nothing is left."""
        self.left -= amount
        if self.left < 0:
            raise refuse(
                self.source, f"does more than {MAX_WORK} steps on this input; narrow it with a filter or an index"
            )

    def text(self, length: int) -> None:
        """Raises ExpressionError for text longer than is made on the way."""
        if length > MAX_TEXT:
            raise refuse(self.source, f"makes text of more than {MAX_TEXT} characters; select less")

    def weigh(self, value: Any) -> None:
        """Pay for all of a value, as comparing or printing it walks through all of it."""
        stack = [(value, 0)]
        while stack:
            item, depth = stack.pop()
            if depth > MAX_DEPTH:
                raise refuse(self.source, f"handles a value nested deeper than {MAX_DEPTH} levels; select less")
            if isinstance(item, str):
                self.spend(1 + len(item) // 100)
                continue
            inner = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
            self.spend(1 + len(inner))
            stack.extend((child, depth + 1) for child in inner)


class BoundedInterpreter(TreeInterpreter):
    """JMESPath's interpreter, paying for what it does."""

    def __init__(self, budget: Budget, options: Any) -> None:
        super().__init__(options)
        self.budget = budget

    def visit(self, node: Any, *args: Any, **kwargs: Any) -> Any:
        """Every node costs one."""
        self.budget.spend(1)
        return super().visit(node, *args, **kwargs)

    def visit_comparator(self, node: Any, value: Any) -> Any:
        """Equality walks both sides; an order between different types is null, not an exception."""
        left = self.visit(node["children"][0], value)
        right = self.visit(node["children"][1], value)
        operator = node["value"]
        if operator in {"eq", "ne"}:
            self.budget.weigh(left)
            self.budget.weigh(right)
        elif not _ordered(left, right):
            return None
        return self.COMPARATOR_FUNC[operator](left, right)

    def visit_flatten(self, node: Any, value: Any) -> Any:
        """A flattened list costs its length."""
        flat = super().visit_flatten(node, value)
        self.budget.spend(len(flat or ()))
        return flat

    def visit_slice(self, node: Any, value: Any) -> Any:
        """A slice costs its length."""
        cut = super().visit_slice(node, value)
        self.budget.spend(len(cut or ()))
        return cut


def _ordered(left: Any, right: Any) -> bool:
    numbers = [isinstance(side, int | float) and not isinstance(side, bool) for side in (left, right)]
    return all(numbers) or (isinstance(left, str) and isinstance(right, str))


def own(value: Any, source: str) -> Any:
    """A copy of a result that shares nothing with what was read; raises ExpressionError where it is too large.

    Copying is what bounds it: a value made of shared parts is small in memory and huge on paper.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    return _Copy(source).take(value, 0)


class _Copy:
    def __init__(self, source: str) -> None:
        self.source = source
        self.nodes = 0
        self.text = 0

    def take(self, value: Any, depth: int) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES or depth > MAX_DEPTH:
            limits = f"{MAX_NODES} values or {MAX_DEPTH} levels"
            raise refuse(self.source, f"gives a result of more than {limits}; select less")
        if isinstance(value, dict):
            return {str(key): self.take(child, depth + 1) for key, child in value.items()}
        if isinstance(value, list | tuple):
            return [self.take(child, depth + 1) for child in value]
        return self.scalar(value)

    def scalar(self, value: Any) -> Any:
        if isinstance(value, str):
            self.text += len(value)
            if self.text > MAX_TEXT:
                raise refuse(self.source, f"gives more than {MAX_TEXT} characters; select less")
        elif isinstance(value, float) and not math.isfinite(value):
            raise refuse(self.source, "gives a number that JSON cannot hold; check what it computes")
        elif value is not None and not isinstance(value, bool | int | float):
            raise refuse(self.source, "gives an expression (&...), not a value; use & only as a function's argument")
        return value
