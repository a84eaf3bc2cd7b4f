"""Which playbooks answer an alert, at a cost that does not grow with those that do not.

Every playbook is one bit. For a field and a value there is an integer with the bits of all playbooks that hold
there: those that want this value, and those that want nothing of this field. An alert's candidates are the
AND over the fields, so ten thousand playbooks are a few ANDs of 1,250 bytes. Thresholds are sorted, and each position
carries the bits of all thresholds up to it, so that one bisection answers them all. Only candidates run what is left:
cidr, none_of, exists, and the compiled `where`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from itertools import accumulate
from operator import and_, or_
from typing import Any

from soar.errors import ExpressionError
from soar.expr.compile import Expression, compile_expression, truthy
from soar.library.fields import Parts, split_path, values_at
from soar.library.predicates import INDEXED, Predicate, predicates, rank, same
from soar.model.playbook import Mode, Playbook, Trigger


@dataclass(frozen=True, slots=True)
class Check:
    """One condition of a trigger, whether it held, and what the alert has there."""

    condition: str
    held: bool
    actual: Any = None


class TriggerIndex:
    """The triggers of a set of playbooks; those without one, and those switched off, are never found."""

    def __init__(self, playbooks: Iterable[Playbook]) -> None:
        able = [playbook for playbook in playbooks if playbook.on is not None and playbook.mode is not Mode.OFF]
        self._playbooks = able
        self._all = (1 << len(able)) - 1
        self._rest = [_Rest.of(playbook) for playbook in able]
        self._fields = _build(able)

    def __len__(self) -> int:
        return len(self._playbooks)

    def match(self, document: Mapping[str, Any]) -> list[Playbook]:
        """The playbooks whose trigger holds for an alert as JSON, in the order given.

        A `where` that cannot be computed on this alert does not hold; `explain` says why.
        """
        candidates = self._all
        for field in self._fields:
            candidates &= field.holding(document)
            if not candidates:
                return []
        return [self._playbooks[bit] for bit in _bits(candidates) if self._rest[bit].holds(document)]


def explain(playbook: Playbook, document: Mapping[str, Any]) -> list[Check]:
    """Every condition under which a playbook answers an alert, and whether it held."""
    if playbook.on is None:
        return [Check("has a trigger", held=False, actual="only called by other playbooks or by hand")]
    return [
        Check("is not switched off", playbook.mode is not Mode.OFF, str(playbook.mode)),
        *checks(playbook.on, document),
    ]


def checks(trigger: Trigger, document: Mapping[str, Any]) -> list[Check]:
    """Every condition of a trigger, and whether it held."""
    found = []
    for field, match in trigger.match.items():
        for predicate in predicates(field, match):
            values = values_at(document, predicate.parts)
            found.append(Check(predicate.text, predicate.holds(values), values[0] if len(values) == 1 else values))
    if trigger.where is not None:
        found.append(_check_where(trigger.where, document))
    return found


def _check_where(where: str, document: Mapping[str, Any]) -> Check:
    try:
        value = compile_expression(where).evaluate(document)
    except ExpressionError as failure:
        return Check(where, held=False, actual=failure.message)
    return Check(where, truthy(value), value)


@dataclass(frozen=True, slots=True)
class _Rest:
    """What the index does not answer of one trigger."""

    predicates: tuple[Predicate, ...]
    where: Expression | None

    @classmethod
    def of(cls, playbook: Playbook) -> _Rest:
        where = playbook.on.where if playbook.on else None
        left = tuple(one for one in _predicates(playbook) if one.operator not in INDEXED)
        return cls(left, None if where is None else compile_expression(where))

    def holds(self, document: Mapping[str, Any]) -> bool:
        if not all(predicate.check(document) for predicate in self.predicates):
            return False
        if self.where is None:
            return True
        try:
            return truthy(self.where.evaluate(document))
        except ExpressionError:
            return False


class _Words:
    """For one operator on one field: by value, the bits of the playbooks that hold there, the indifferent included.

    A prefix is an equal value too, once the alert's is cut to the same length.
    """

    def __init__(self, operator: str, bits_at: Mapping[Hashable, int], everyone: int) -> None:
        self.indifferent = everyone & ~reduce(or_, bits_at.values())
        self.by_value = {value: bits | self.indifferent for value, bits in bits_at.items()}
        lengths = sorted({len(value) for value in bits_at if isinstance(value, str)})
        self.keys = {"prefix": partial(_heads, lengths), "suffix": partial(_tails, lengths)}.get(operator, _whole)

    def holding(self, values: Sequence[Any]) -> int:
        held = self.indifferent
        for value in values:
            for key in self.keys(value):
                held |= self.by_value.get(key, 0)
        return held


def _whole(value: Any) -> list[Hashable]:
    return [] if isinstance(value, dict) else [same(value)]


def _heads(lengths: Sequence[int], value: Any) -> list[Hashable]:
    return [value[:length] for length in lengths if length <= len(value)] if isinstance(value, str) else []


def _tails(lengths: Sequence[int], value: Any) -> list[Hashable]:
    size = len(value) if isinstance(value, str) else -1
    return [value[size - length :] for length in lengths if length <= size]


@dataclass(frozen=True, slots=True)
class _Ordered:
    """Thresholds of one operator on one scale, in ascending order, with the bits of all that a value there passes."""

    at_least: bool
    scale: str
    limits: tuple[float, ...]
    passing: tuple[int, ...]
    indifferent: int

    @classmethod
    def of(cls, operator: str, scale: str, bits_at: Mapping[float, int], everyone: int) -> _Ordered:
        at_least = operator == "at_least"
        pairs = sorted(bits_at.items(), reverse=not at_least)
        passing = list(accumulate((bits for _, bits in pairs), or_, initial=0))
        limits = [limit for limit, _ in pairs]
        if not at_least:
            limits.reverse()
            passing.reverse()
        indifferent = everyone & ~(passing[-1] if at_least else passing[0])
        return cls(at_least, scale, tuple(limits), tuple(passing), indifferent)

    def holding(self, values: Sequence[Any]) -> int:
        held = self.indifferent
        for scale, position in filter(None, map(rank, values)):
            if scale == self.scale:
                find = bisect_right if self.at_least else bisect_left
                held |= self.passing[find(self.limits, position)]
        return held


@dataclass(frozen=True, slots=True)
class _Field:
    """What all playbooks want of one field, an operator each."""

    parts: Parts
    wants: tuple[_Words | _Ordered, ...]

    def holding(self, document: Mapping[str, Any]) -> int:
        values = values_at(document, self.parts)
        return reduce(and_, (want.holding(values) for want in self.wants))


def _build(playbooks: Sequence[Playbook]) -> list[_Field]:
    everyone = (1 << len(playbooks)) - 1
    # By spelling, so that `a.b` and `a[].b` in one playbook are two conditions; then by operator and scale.
    wanted: dict[str, dict[tuple[str, str], dict[Any, int]]] = {}
    for number, playbook in enumerate(playbooks):
        for predicate in _predicates(playbook):
            if predicate.operator in INDEXED:
                operators = wanted.setdefault(predicate.field, {})
                for scale, key in _keys(predicate):
                    bits_at = operators.setdefault((predicate.operator, scale), {})
                    bits_at[key] = bits_at.get(key, 0) | 1 << number
    return [
        _Field(split_path(name) or (name,), tuple(_want(*kind, bits, everyone) for kind, bits in operators.items()))
        for name, operators in wanted.items()
    ]


def _predicates(playbook: Playbook) -> Iterator[Predicate]:
    assert playbook.on is not None
    for name, match in playbook.on.match.items():
        yield from predicates(name, match)


_NEVER = object()  # equals nothing that an alert can hold: a list of no values is held by none


def _keys(predicate: Predicate) -> list[tuple[str, Any]]:
    """Under which scale and key a predicate's bit is kept."""
    if predicate.operator in {"at_least", "at_most"}:
        return [rank(predicate.operand) or ("number", 0.0)]
    return [("", same(value)) for value in predicate.operand] or [("", _NEVER)]


def _want(operator: str, scale: str, bits_at: Mapping[Any, int], everyone: int) -> _Words | _Ordered:
    return _Ordered.of(operator, scale, bits_at, everyone) if scale else _Words(operator, bits_at, everyone)


def _bits(number: int) -> Iterator[int]:
    """The positions of the bits that are set, ascending, a byte at a time: one long AND per bit would cost more."""
    for index, byte in enumerate(number.to_bytes((number.bit_length() + 7) // 8, "little")):
        while byte:
            low = byte & -byte
            yield 8 * index + low.bit_length() - 1
            byte ^= low
