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

Holds = Callable[[Sequence[Any]], bool]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_RANKS = MappingProxyType({str(word): word.rank for word in Severity})


@dataclass(frozen=True, slots=True)
class Predicate:
    """One operator on one field; `holds` takes every value found there."""

    field: str
    operator: str
    text: str
    parts: Parts
    operand: Any
    holds: Holds

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


def network(text: str) -> Network:
    """A network as a trigger names it; raises ExpressionError."""
    return network_of(text, text)


def addresses(values: Sequence[Any]) -> Iterator[Address]:
    """The addresses among values: what a product puts where an address should be is not ours to choose."""
    for value in values:
        try:
            yield ipaddress.ip_address(value if isinstance(value, str) else "")
        except ValueError:
            continue


def fits(pieces: Sequence[str], text: str) -> bool:
    """Whether a text is a wildcard, given as the pieces between its stars: the first at the left, the last right."""
    if not pieces[1:]:
        return text == pieces[0]
    head, *inner, tail = pieces
    if len(text) < len(head) + len(tail) or not (text.startswith(head) and text.endswith(tail)):
        return False
    at, end = len(head), len(text) - len(tail)
    for piece in inner:
        found = text.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True


def _any_of(wanted: tuple[Any, ...]) -> Holds:
    keys = frozenset(map(same, wanted))
    return lambda values: any(same(value) in keys for value in values if not isinstance(value, dict | list))


def _bound(limit: Any, sign: int) -> Holds:
    scale, bound = rank(limit) or ("", 0.0)

    def holds(values: Sequence[Any]) -> bool:
        ranks = (rank(value) for value in values)
        return any(one is not None and one[0] == scale and sign * (one[1] - bound) >= 0 for one in ranks)

    return holds


def _text(test: Callable[[str, Any], bool]) -> Callable[[Any], Holds]:
    return lambda wanted: lambda values: any(isinstance(value, str) and test(value, wanted) for value in values)


def _wildcard(wanted: tuple[str, ...]) -> Holds:
    pieces = [each.split("*") for each in wanted]
    return _text(lambda value, _: any(fits(each, value) for each in pieces))(wanted)


def _cidr(networks: tuple[str, ...]) -> Holds:
    inside = [network(each) for each in networks]
    return lambda values: any(address in each for address in addresses(values) for each in inside)


def _exists(wanted: bool) -> Holds:  # noqa: FBT001 - the operand of `exists:` is a boolean
    return lambda values: bool(values) is wanted


def _not(build: Callable[[Any], Holds]) -> Callable[[Any], Holds]:
    """No value there does it; so it holds too where nothing is there."""

    def built(operand: Any) -> Holds:
        held = build(operand)
        return lambda values: not held(values)

    return built


_starts, _ends = _text(str.startswith), _text(str.endswith)

_OPERATORS: Mapping[str, tuple[str, Callable[[Any], Holds]]] = MappingProxyType(
    {
        "any_of": ("is any of", _any_of),
        "at_least": ("is at least", lambda limit: _bound(limit, 1)),
        "at_most": ("is at most", lambda limit: _bound(limit, -1)),
        "none_of": ("is none of", _not(_any_of)),
        "prefix": ("starts with", _starts),
        "not_prefix": ("starts not with", _not(_starts)),
        "suffix": ("ends with", _ends),
        "not_suffix": ("ends not with", _not(_ends)),
        "wildcard": ("is like", _wildcard),
        "not_wildcard": ("is not like", _not(_wildcard)),
        "cidr": ("is within", _cidr),
        "not_cidr": ("is not within", _not(_cidr)),
        "exists": ("exists", _exists),
    }
)
LISTS = tuple(operator for operator in _OPERATORS if operator not in {"at_least", "at_most", "exists"})
"""The operators that take several values, any of which will do; a bare one is a list of one."""

NEGATIVES: Mapping[str, str] = MappingProxyType(
    {
        "none_of": "any_of",
        "not_prefix": "prefix",
        "not_suffix": "suffix",
        "not_wildcard": "wildcard",
        "not_cidr": "cidr",
    }
)
"""What each operator that asks for an absence denies."""
