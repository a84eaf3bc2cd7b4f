"""Questions made from what bundles know: their data's own names and numbers, in every combination that chance gives.

A bundle turns on the words and limits of its data, so those are what is asked about, on both sides of each limit. The
same bundles always give the same questions.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, TypeVar

from soar.model.action import Impact, Risk
from soar.model.alert import Severity
from soar.model.base import to_rfc3339
from soar.model.run import RunKind
from soar.policy.bundle import Bundle
from soar.policy.input import (
    ActionFacts,
    ActorFacts,
    AlertFacts,
    ApprovalFacts,
    Count,
    Counters,
    PlaybookFacts,
    PolicyInput,
    RunFacts,
    TargetFacts,
    TimeFacts,
)
from soar.policy.rehearsal import rehearsal

QUESTIONS: Final = 2000
_SEED = 20260105
_NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
_DIGEST = "0" * 64
_TYPES = ("host", "user", "ip", "observable")
_HARMS = (
    (Impact.READ, Risk.NONE),
    (Impact.REVERSIBLE, Risk.NONE),
    (Impact.REVERSIBLE, Risk.CONTAIN),
    (Impact.REVERSIBLE, Risk.CONTAIN),
    (Impact.DESTRUCTIVE, Risk.CONTAIN),
    (Impact.DESTRUCTIVE, Risk.DESTRUCTIVE),
)
_LONGEST = 64

T = TypeVar("T")


def corpus(*bundles: Bundle, size: int = QUESTIONS) -> Iterator[PolicyInput]:
    """The rehearsal, then generated questions, `size` in all."""
    yield from rehearsal()
    maker = _Maker([bundle.data for bundle in bundles])
    for number in range(size - len(rehearsal())):
        yield maker.question(number)


class _Maker:
    def __init__(self, data: Sequence[Any]) -> None:
        self._chance = random.Random(_SEED)  # noqa: S311 - the same questions every time
        words, numbers = set[str](), set[int]()
        for document in data:
            _gather(document, words, numbers)
        self._words = sorted(words) or ["word"]
        self._numbers = sorted({around for number in numbers for around in (number - 1, number, number + 1)} | {0, 1})

    def question(self, number: int) -> PolicyInput:
        """One; what is rare in life is rare here too, so that most questions turn on one thing at a time."""
        targets = tuple(self._target() for _ in range(self._one((1, 1, 1, 2, 0))))
        action = self._action(targets)
        playbook = self._rarely(self._word, "corpus")
        return PolicyInput(
            phase="plan" if self._mostly() else "execute",
            action=action,
            alert=AlertFacts(
                id=f"alert-{number}", severity=self._one(tuple(Severity)), confidence=self._rarely(self._percent, None)
            ),
            playbook=PlaybookFacts(id=playbook, sha256=_DIGEST, author="author"),
            run=RunFacts(
                id=f"run-{number}",
                kind=self._rarely(lambda: self._one(tuple(RunKind)), RunKind.ALERT),
                attempt=max(1, self._rarely(self._number, 1)),
                depth=self._rarely(self._number, 0),
            ),
            actor=ActorFacts(id=self._rarely(lambda: "person", "soar")),
            approvals=() if self._mostly() else (self._vote(),),
            time=self._time(),
            counters=self._counters(action, playbook),
            halted=self._chance.random() < 0.02,
        )

    def _action(self, targets: tuple[TargetFacts, ...]) -> ActionFacts:
        effect, risk = self._one(_HARMS)
        capability = self._rarely(self._word, "host.isolate")
        return ActionFacts(
            id="0",
            connector=self._rarely(self._word, "connector"),
            connector_version="1",
            verb=capability.rpartition(".")[2] or "verb",
            capability=capability if self._mostly() else None,
            effect=effect,
            risk=risk,
            digest=_DIGEST,
            targets=targets,
        )

    def _target(self) -> TargetFacts:
        word = self._word()
        name = self._one((word, f"{word}1", f"{word}.example.org", "plain-7", "203.0.113.7", _inside(word)))
        tags = () if self._mostly() else (self._word(),)
        return TargetFacts(type=self._one(_TYPES), id=name, tags=tags, tier=self._rarely(self._word, None))

    def _counters(self, action: ActionFacts, playbook: str) -> Counters:
        def count() -> Count:
            hour = self._rarely(self._number, 0)
            return Count(hour=hour, day=max(hour, self._rarely(self._number, 0)))

        return Counters(
            target={f"{each.type}:{each.id}": count() for each in action.targets},
            connector={action.connector: count()},
            playbook={playbook: count()},
            fleet_percent={self._one(_TYPES): float(min(100, self._number()))} if not self._mostly() else {},
        )

    def _vote(self) -> ApprovalFacts:
        decision: Literal["grant", "deny"] = "grant" if self._mostly() else "deny"
        return ApprovalFacts(
            approver=self._one(("author", "person", "other")),
            method=self._one(("cli", "slack", "teams")),
            at=to_rfc3339(_NOON),
            digest=_DIGEST,
            decision=decision,
        )

    def _time(self) -> TimeFacts:
        instants = [word for word in self._words if _instant(word)]
        moment = _NOON + timedelta(hours=self._chance.randrange(24 * 365))
        if instants and not self._mostly():
            moment = datetime.fromisoformat(self._one(instants)) + timedelta(seconds=self._one((-1, 0, 1)))
        return TimeFacts.of(moment, business_hours=self._mostly(), freeze=() if self._mostly() else ("corpus",))

    def _word(self) -> str:
        return self._one(self._words)

    def _number(self) -> int:
        return max(0, self._one(self._numbers))

    def _percent(self) -> int:
        return min(100, self._number())

    def _mostly(self) -> bool:
        return self._chance.random() < 0.8

    def _rarely(self, make: Any, usual: Any) -> Any:
        return usual if self._chance.random() < 0.8 else make()

    def _one(self, choices: Sequence[T]) -> T:
        return choices[self._chance.randrange(len(choices))]


def _gather(value: Any, words: set[str], numbers: set[int]) -> None:
    """Every word and number in a bundle's data, names included."""
    if isinstance(value, dict):
        words.update(key for key in value if 0 < len(key) <= _LONGEST)
        for child in value.values():
            _gather(child, words, numbers)
    elif isinstance(value, list):
        for child in value:
            _gather(child, words, numbers)
    elif isinstance(value, str) and 0 < len(value) <= _LONGEST:
        words.add(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        numbers.add(int(value))


def _inside(word: str) -> str:
    """The network address of what is a range, else the word itself."""
    return word.partition("/")[0]


def _instant(word: str) -> bool:
    try:
        return datetime.fromisoformat(word).tzinfo is not None
    except ValueError:
        return False
