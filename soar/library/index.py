"""Which playbooks answer an alert, at a cost that does not grow with those that do not.

Every playbook is one bit. For each operator on each field a finder gives the bits of all whose operand an alert meets;
with those that want nothing there they are the ones that hold. An alert's candidates are the AND over operators and
fields, so ten thousand playbooks are a few ANDs of 1,250 bytes. Only candidates run what is left, the compiled `where`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import and_
from typing import Any, NamedTuple

from soar.errors import ExpressionError
from soar.expr.compile import Expression, compile_expression, truthy
from soar.library.fields import Parts, split_path, values_at
from soar.library.finders import Finder, finder
from soar.library.predicates import NEGATIVES, Predicate, predicates, rank, same
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
        self._wheres = [_compiled(playbook) for playbook in able]
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
        return [self._playbooks[bit] for bit in _bits(candidates) if _holds(self._wheres[bit], document)]


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


def _compiled(playbook: Playbook) -> Expression | None:
    where = playbook.on.where if playbook.on else None
    return None if where is None else compile_expression(where)


def _holds(where: Expression | None, document: Mapping[str, Any]) -> bool:
    try:
        return where is None or truthy(where.evaluate(document))
    except ExpressionError:
        return False


@dataclass(frozen=True, slots=True)
class _Want:
    """One operator on one field, for all playbooks that give it; the others are indifferent to what is there."""

    finder: Finder
    others: int
    denies: int  # the bits of those that want no value to be so; all of one operator do, or none

    def holding(self, values: Sequence[Any]) -> int:
        return self.others | (self.finder.hit(values) ^ self.denies)


@dataclass(frozen=True, slots=True)
class _Field:
    """What all playbooks want of one field, an operator each."""

    parts: Parts
    wants: tuple[_Want, ...]

    def holding(self, document: Mapping[str, Any]) -> int:
        values = values_at(document, self.parts)
        return reduce(and_, (want.holding(values) for want in self.wants))


class _Kind(NamedTuple):
    """What shares a finder: an operator, for thresholds the scale that they are on, and whether it is denied."""

    operator: str
    scale: str = ""
    denied: bool = False


class _Wanting:
    """The playbooks that give one operator on one field."""

    def __init__(self) -> None:
        self.bits = 0
        self.bits_at: dict[Any, int] = {}

    def add(self, bit: int, operands: Iterable[Any]) -> None:
        self.bits |= bit
        for operand in map(same, operands):
            self.bits_at[operand] = self.bits_at.get(operand, 0) | bit


def _build(playbooks: Sequence[Playbook]) -> list[_Field]:
    everyone = (1 << len(playbooks)) - 1
    # By spelling, so that `a.b` and `a[].b` in one playbook are two conditions.
    wanted: dict[str, dict[_Kind, _Wanting]] = {}
    for number, playbook in enumerate(playbooks):
        assert playbook.on is not None
        for name, match in playbook.on.match.items():
            kinds = wanted.setdefault(name, {})
            for predicate in predicates(name, match):
                kind, operands = _kind(predicate)
                kinds.setdefault(kind, _Wanting()).add(1 << number, operands)
    return [
        _Field(split_path(name) or (name,), tuple(_want(*item, everyone) for item in kinds.items()))
        for name, kinds in wanted.items()
    ]


def _kind(predicate: Predicate) -> tuple[_Kind, Iterable[Any]]:
    """Which finder answers a predicate, and the operands of which any will do."""
    operator, operand = predicate.operator, predicate.operand
    if operator == "exists":
        return _Kind("exists", denied=not operand), (True,)
    if operator in {"at_least", "at_most"}:
        scale, _ = rank(operand) or ("number", 0.0)
        return _Kind(operator, scale=scale), (operand,)
    return _Kind(NEGATIVES.get(operator, operator), denied=operator in NEGATIVES), operand


def _want(kind: _Kind, wanting: _Wanting, everyone: int) -> _Want:
    found = finder(kind.operator, kind.scale, wanting.bits_at)
    return _Want(found, everyone & ~wanting.bits, wanting.bits if kind.denied else 0)


def _bits(number: int) -> Iterator[int]:
    """The positions of the bits that are set, ascending, a byte at a time: one long AND per bit would cost more."""
    for index, byte in enumerate(number.to_bytes((number.bit_length() + 7) // 8, "little")):
        while byte:
            low = byte & -byte
            yield 8 * index + low.bit_length() - 1
            byte ^= low
