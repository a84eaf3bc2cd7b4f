"""What one operator of a trigger's `match` asks of the values at its field."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from soar.expr.functions import network_of
from soar.library.fields import Parts, split_path, values_at
from soar.model.alert import Severity
from soar.model.playbook import Match

_RANKS = MappingProxyType({str(word): word.rank for word in Severity})


@dataclass(frozen=True, slots=True)
class Predicate:
    """One operator on one field; `holds` takes every value found there."""

    field: str
    operator: str
    text: str
    parts: Parts
    operand: Any
    holds: Callable[[Sequence[Any]], bool]

    def check(self, document: Any) -> bool:
        """Whether it holds for an alert."""
        return self.holds(values_at(document, self.parts))


def predicates(field: str, match: Match) -> Iterator[Predicate]:
    """Every operator that a match gives, in a fixed order."""
    for operator, (words, build) in _OPERATORS.items():
        operand = getattr(match, operator)
        if operand is not None:
            text = f"{field} {words} {shown(operand)}".rstrip()
            yield Predicate(field, operator, text, split_path(field) or (field,), operand, build(operand))


def shown(operand: Any) -> str:
    """An operand as a person would write it."""
    if operand is True:
        return ""
    if isinstance(operand, tuple):
        return ", ".join(map(str, operand[:5])) + (f" and {len(operand) - 5} more" if len(operand) > 5 else "")
    return str(operand)


def same(value: Any) -> Hashable:
    """A key under which equal JSON values, and only those, are equal: Python takes 1 and true as one."""
    return ("boolean", value) if isinstance(value, bool) else value


def rank(value: Any) -> tuple[str, float] | None:
    """The scale and the position of a value on it: severities by rank, numbers by size; None for anything else."""
    if isinstance(value, str):
        return ("severity", _RANKS[value]) if value in _RANKS else None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return ("number", value)
    return None


def _any_of(wanted: tuple[Any, ...]) -> Callable[[Sequence[Any]], bool]:
    keys = frozenset(map(same, wanted))
    return lambda values: any(same(value) in keys for value in _scalars(values))


def _none_of(unwanted: tuple[Any, ...]) -> Callable[[Sequence[Any]], bool]:
    within = _any_of(unwanted)
    return lambda values: not within(values)


def _bound(limit: Any, sign: int) -> Callable[[Sequence[Any]], bool]:
    scale, bound = rank(limit) or ("", 0.0)

    def holds(values: Sequence[Any]) -> bool:
        ranks = (rank(value) for value in values)
        return any(one is not None and one[0] == scale and sign * (one[1] - bound) >= 0 for one in ranks)

    return holds


def _text(wanted: tuple[str, ...], test: Callable[[str, tuple[str, ...]], bool]) -> Callable[[Sequence[Any]], bool]:
    return lambda values: any(isinstance(value, str) and test(value, wanted) for value in values)


def _cidr(networks: tuple[str, ...]) -> Callable[[Sequence[Any]], bool]:
    inside = [network_of(network, network) for network in networks]

    def holds(values: Sequence[Any]) -> bool:
        return any(address in network for address in _addresses(values) for network in inside)

    return holds


def _addresses(values: Sequence[Any]) -> Iterator[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    for value in values:
        try:
            yield ipaddress.ip_address(value if isinstance(value, str) else "")
        except ValueError:  # what a product puts where an address should be is not ours to choose
            continue


def _exists(wanted: bool) -> Callable[[Sequence[Any]], bool]:  # noqa: FBT001 - the operand of `exists:` is a boolean
    return lambda values: bool(values) is wanted


def _scalars(values: Sequence[Any]) -> Iterator[Any]:
    return (value for value in values if not isinstance(value, dict | list))


_OPERATORS: Mapping[str, tuple[str, Callable[[Any], Callable[[Sequence[Any]], bool]]]] = MappingProxyType(
    {
        "any_of": ("is any of", _any_of),
        "at_least": ("is at least", lambda limit: _bound(limit, 1)),
        "at_most": ("is at most", lambda limit: _bound(limit, -1)),
        "none_of": ("is none of", _none_of),
        "prefix": ("starts with", lambda wanted: _text(wanted, str.startswith)),
        "suffix": ("ends with", lambda wanted: _text(wanted, str.endswith)),
        "cidr": ("is within", _cidr),
        "exists": ("exists", _exists),
    }
)
INDEXED = frozenset({"any_of", "at_least", "at_most", "prefix", "suffix"})
"""The operators that the index answers without looking at a playbook."""
