"""The part of a store's port that says what is still to be sent elsewhere, and who sends it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from soar.model.alert import DeadLetter


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsent:
    """How much waits to be sent."""

    letters: int
    entries: int | None  # of the journal, by an outbox; None where nobody has it yet


class Sends(Protocol):
    """A store with outboxes. Each has one holder at a time, so that what leaves it keeps its order."""

    async def hold_outbox(self, name: str, *, owner: str, now: datetime, until: datetime) -> int | None:
        """Take an outbox, or keep it: the index of the entry to be sent next, None where another holds it.

        A new outbox begins at the journal's end.
        """
        ...

    async def advance_outbox(self, name: str, *, owner: str, position: int) -> bool:
        """Remember that all entries before `position` were sent; False where the outbox has another holder now."""
        ...

    async def release_outbox(self, name: str, *, owner: str) -> None:
        """Let others take it at once, if it is ours."""
        ...

    async def unsent_letters(self, limit: int) -> list[DeadLetter]:
        """Dead letters that were not sent yet, oldest first."""
        ...

    async def letters_sent(self, ids: Sequence[str]) -> None:
        """Remember that these were sent."""
        ...

    async def unsent(self, name: str) -> Unsent:
        """How much waits, in this outbox."""
        ...

    async def consumed(self, coordinates: Collection[str]) -> set[str]:
        """Of these coordinates, those of records that were consumed."""
        ...
