"""Which playbooks answer an alert, at a cost that does not grow with those that do not.

Every playbook is one bit. For a field and a value there is an integer with the bits of all playbooks that hold
there: those that want this value, and those that want nothing of this field. An alert's candidates are the
AND over the fields, so ten thousand playbooks are a few ANDs of 1,250 bytes. Thresholds are sorted, and each position
carries the bits of all thresholds up to it, so that one bisection answers them all. Only candidates run what is left:
prefix, suffix, cidr, none_of, exists, and the compiled `where`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import or_
from typing import Any

from soar.errors import ExpressionError
from soar.expr.compile import Expression, compile_expression, truthy
from soar.library.fields import Parts, values_at
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
        self._rest = [_Rest.of(playbook.on) for playbook in able if playbook.on is not None]
        self._fields = _build(able)

    def __len__(self) -> int:
        return len(self._playbooks)

    def match(self, document: Mapping[str, Any]) -> list[Playbook]:
        """The playbooks whose trigger holds for an alert as JSON, in the order given.

        A `where` that cannot be computed on this alert does not hold; `explain` says why.
        """
        candidates = self._all
        for field in self._fields:
            candidates &= field.holding(values_at(document, field.parts))
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
    def of(cls, trigger: Trigger) -> _Rest:
        left = [one for name, match in trigger.match.items() for one in predicates(name, match)]
        where = None if trigger.where is None else compile_expression(trigger.where)
        return cls(tuple(one for one in left if one.operator not in INDEXED), where)

    def holds(self, document: Mapping[str, Any]) -> bool:
        if not all(predicate.check(document) for predicate in self.predicates):
            return False
        if self.where is None:
            return True
        try:
            return truthy(self.where.evaluate(document))
        except ExpressionError:
            return False


class _Field:
    """The bits of all playbooks by what they want of one field."""

    def __init__(self, parts: Parts, everyone: int) -> None:
        self.parts = parts
        self.everyone = everyone
        self.wanted: dict[Hashable, int] = defaultdict(int)
        self.limits: dict[tuple[str, str], dict[float, int]] = defaultdict(lambda: defaultdict(int))
        self.by_value: dict[Hashable, int] = {}
        self.indifferent = everyone
        self.ordered: list[_Ordered] = []

    def add(self, predicate: Predicate, bit: int) -> None:
        if predicate.operator == "any_of":
            for value in predicate.operand:
                self.wanted[same(value)] |= bit
            return
        scale, limit = rank(predicate.operand) or ("number", 0.0)
        self.limits[predicate.operator, scale][limit] |= bit

    def freeze(self) -> None:
        """Turn what was collected into the form that is asked."""
        equal = 0
        for bits in self.wanted.values():
            equal |= bits
        self.indifferent = self.everyone & ~equal
        self.by_value = {value: bits | self.indifferent for value, bits in self.wanted.items()}
        self.ordered = [
            _Ordered.of(operator, scale, bits, self.everyone) for (operator, scale), bits in self.limits.items()
        ]

    def holding(self, values: Sequence[Any]) -> int:
        """The bits of the playbooks that hold for the values at this field."""
        holding = self.indifferent
        if self.by_value:
            for value in values:
                if not isinstance(value, dict):
                    holding |= self.by_value.get(same(value), 0)
        for ordered in self.ordered:
            holding &= ordered.holding(values)
        return holding


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


def _build(playbooks: Sequence[Playbook]) -> list[_Field]:
    everyone = (1 << len(playbooks)) - 1
    fields: dict[str, _Field] = {}  # by spelling: a.b and a[].b of one playbook must both hold
    for number, playbook in enumerate(playbooks):
        assert playbook.on is not None
        for name, match in playbook.on.match.items():
            for predicate in predicates(name, match):
                if predicate.operator in INDEXED:
                    field = fields.setdefault(name, _Field(predicate.parts, everyone))
                    field.add(predicate, 1 << number)
    for field in fields.values():
        field.freeze()
    return list(fields.values())


def _bits(number: int) -> Iterator[int]:
    """The positions of the bits that are set, ascending, a byte at a time: one long AND per bit would cost more."""
    for index, byte in enumerate(number.to_bytes((number.bit_length() + 7) // 8, "little")):
        while byte:
            low = byte & -byte
            yield 8 * index + low.bit_length() - 1
            byte ^= low
