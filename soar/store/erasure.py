"""The part of a store's port by which it forgets somebody; a store that cannot is still a store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from soar.model.entry import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Touched:
    """What in a store tells of somebody, found by the text of their name."""

    entries: tuple[str, ...]  # whose payloads are erased
    alerts: int
    runs: tuple[str, ...]
    open_runs: tuple[str, ...]  # of those, the ones that have not ended
    dead_letters: int
    other: int  # dedupe windows, blast-radius counts, coordinates, switches
    leaves: tuple[str, ...]  # entries whose public part tells of them, which cannot be erased
    playbooks: tuple[str, ...]  # files whose pinned text does: it is the author's to change

    @property
    def anything(self) -> bool:
        """Whether there is anything to erase."""
        return bool(self.entries or self.alerts or self.runs or self.dead_letters or self.other)


@runtime_checkable
class Erases(Protocol):
    """A store that can forget somebody, and stay provable."""

    async def touched(self, subject: str) -> Touched:
        """What `erase` would take; changes nothing."""
        ...

    async def erase(self, subject: str, tell: Callable[[str], Entry]) -> Touched:
        """Erase every payload that holds this text, in any case, with its salt; blank the state that repeats it.

        `tell` makes the entry that accounts for the payload of the entry with this id; all of it is one transaction.
        Raises `NotFoundError` where there is nothing, `StateConflictError` while a run that has not ended needs it.
        """
        ...

    async def scrub(self) -> None:
        """Let nothing that was deleted stay in the store's files; raises `StoreUnavailableError` while it cannot."""
        ...
