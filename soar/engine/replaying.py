"""Dead letters through the front door again: after a mapping was mended, or the fault that broke them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from soar.engine.admission import Admit, Admitted
from soar.model.alert import DeadLetter, Record
from soar.store.port import Store

_AT_ONCE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterFilter:
    """Which dead letters; what is None does not matter."""

    code: str | None = None
    source: str | None = None
    topic: str | None = None  # with or without the cluster behind its name
    since: datetime | None = None

    def fits(self, letter: DeadLetter) -> bool:
        """Whether it is one of them."""
        record = letter.record
        return (
            self.code in {None, letter.code}
            and self.source in {None, record.source}
            and self.topic in {None, record.topic, record.topic.rpartition("@")[0]}
            and (self.since is None or letter.at >= self.since)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What became of letters that were replayed."""

    letters: int
    known: int  # of those, the ones that had been replayed before
    outcomes: Mapping[str, int] = field(default_factory=dict)
    dead: Sequence[Admitted] = ()  # as dead as before


def replay_of(letter: DeadLetter, *, at: datetime, mapping: str | None = None) -> Record:
    """The record that replays a letter.

    Its coordinates are made of the letter's name, so the store's own rule, a record counts once, holds for replays too:
    each letter can be replayed once, by whomever. One that fails again is a new letter, which can be.
    """
    change = {"topic": f"replay@{letter.id}", "received_at": at, "mapping": mapping or letter.record.mapping}
    return letter.record.model_copy(update=change)


async def replayed(store: Store, letters: Sequence[DeadLetter]) -> set[str]:
    """Of these letters, the ids of those that were replayed."""
    coordinates = {replay_of(letter, at=letter.at).coordinates: letter.id for letter in letters}
    return {coordinates[each] for each in await store.consumed(coordinates)}


async def replay(
    letters: Sequence[DeadLetter], *, store: Store, admit: Admit, at: datetime, mapping: str | None = None
) -> Replayed:
    """Admit them, oldest first. If we crash, what was admitted is known, and the same command does the rest."""
    known = await replayed(store, letters)
    records = [replay_of(letter, at=at, mapping=mapping) for letter in reversed(letters) if letter.id not in known]
    admitted: list[Admitted] = []
    for start in range(0, len(records), _AT_ONCE):
        admitted += await admit(records[start : start + _AT_ONCE])
    return Replayed(
        letters=len(letters),
        known=len(known),
        outcomes=Counter(each.outcome.value for each in admitted),
        dead=[each for each in admitted if each.alert_id is None],
    )
