"""The part of a store's port by which it lets go of what is old: in small batches, each told to the journal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Protocol

from soar.journal.archive import Kept
from soar.model.entry import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class OldPayloads:
    """Payloads that may leave. `after` is where to look on, None where there is nothing more."""

    payloads: tuple[Kept, ...]
    after: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """How many rows have left."""

    runs: int = 0  # with their steps, attempts and approvals
    alerts: int = 0
    dead_letters: int = 0
    records: int = 0
    windows: int = 0
    acted: int = 0

    def __add__(self, other: Forgotten) -> Forgotten:
        return Forgotten(**{each.name: getattr(self, each.name) + getattr(other, each.name) for each in fields(self)})

    @property
    def rows(self) -> int:
        """All of them."""
        return sum(getattr(self, each.name) for each in fields(self))


class Ages(Protocol):
    """A store that lets go of what is old. Age is told by names, which are ULIDs, and by the times beside them."""

    async def old_payloads(self, before: datetime, *, after: str, limit: int) -> OldPayloads:
        """Payloads of entries made before a time, among the next `limit` after an entry's name.

        Those of runs that are still there stay, and those of alerts that are.
        """
        ...

    async def archive(self, names: Sequence[str], told: Entry) -> None:
        """Delete the payloads of these entries, and tell; all of it is one transaction.

        Raises `StateConflictError` where one of them has gone meanwhile: what was written of it must not count.
        """
        ...

    async def leaves(self, kind: str) -> list[bytes]:
        """The leaves of entries of this type, oldest first."""
        ...

    async def forget(self, before: datetime, *, limit: int, tell: Callable[[Forgotten], Entry]) -> Forgotten:
        """Delete up to `limit` rows of each kind that ended before a time, and tell; all of it is one transaction.

        A run leaves with its steps, attempts and approvals once it, those that it called and the one that called it
        have ended so long ago; an alert once none of its runs is there. Nothing old is nothing told.
        """
        ...
