"""What a trigger's `match` means, said once more without any of soar: slow, and as the manual has it."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

WORDS = ["informational", "low", "medium", "high", "critical"]


def holds(match: dict[str, Any], document: dict[str, Any]) -> bool:
    """Whether every operator of every field holds, for a `match` as YAML gives it."""
    for field, wanted in match.items():
        operators = wanted if isinstance(wanted, dict) else {"any_of": wanted}
        values = at(document, field.replace("[]", "").split("."))
        for name, operand in operators.items():
            if name == "exists":
                held = (values != []) == operand
            elif name == "none_of" or name.startswith("not_"):
                positive = {"none_of": "any_of"}.get(name, name.removeprefix("not_"))
                held = not any(one(positive, each, value) for each in as_list(operand) for value in values)
            else:
                held = any(one(name, each, value) for each in as_list(operand) for value in values)
            if not held:
                return False
    return True


def at(node: Any, names: list[str]) -> list[Any]:
    """Every value at a path, through lists; null is nothing."""
    if isinstance(node, list):
        return [value for each in node for value in at(each, names)]
    if not names:
        return [] if node is None else [node]
    return at(node[names[0]], names[1:]) if isinstance(node, dict) and names[0] in node else []


def as_list(operand: Any) -> list[Any]:
    return operand if isinstance(operand, list) else [operand]


def one(operator: str, operand: Any, value: Any) -> bool:
    """Whether one value meets one operand."""
    if operator == "any_of":
        return type(operand) is type(value) and operand == value
    if operator in {"at_least", "at_most"}:
        return ordered(operand, value) if operator == "at_least" else ordered(value, operand)
    return isinstance(value, str) and text(operator, operand, value)


def ordered(least: Any, most: Any) -> bool:
    """Whether two values are on one scale, in this order."""
    if isinstance(least, str) and isinstance(most, str):
        return least in WORDS and most in WORDS and WORDS.index(least) <= WORDS.index(most)
    numbers = all(isinstance(each, int | float) and not isinstance(each, bool) for each in (least, most))
    return numbers and least <= most


def text(operator: str, operand: str, value: str) -> bool:
    """Whether a text meets an operand that is one too."""
    if operator == "cidr":
        try:
            return ipaddress.ip_address(value) in ipaddress.ip_network(operand, strict=False)
        except ValueError:
            return False
    if operator == "wildcard":
        pattern = ".*".join(re.escape(piece) for piece in operand.split("*"))
        return re.fullmatch(pattern, value, re.DOTALL) is not None
    return value.startswith(operand) if operator == "prefix" else value.endswith(operand)
