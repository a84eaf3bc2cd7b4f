"""The Store port's words for limits on how much is done: what was counted, and up to what an intent may be recorded."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """An intent counts under `key`, and is refused where more than `most` other actions were counted there `since`.

    `most` is what its decision saw, so that no decision stands on a count that has grown meanwhile.
    """

    key: str
    since: datetime
    most: int


def fleet_key(kind: str) -> str:
    """The key of all actions on targets of one type."""
    return f"fleet:{kind}"


class CountsActions(Protocol):
    """What a store tells of what was done."""

    async def action_counts(
        self, keys: Sequence[str], since: datetime, *, besides: tuple[str, str] | None = None
    ) -> dict[str, int]:
        """How many actions each key (`target:host:ws-17`, `connector:jira`, `playbook:x`, `rate:mail`) saw since.

        Actions that can harm count, and those that a rate limits, each once however often it was tried; `besides`
        leaves one out by its (run id, path).
        """
        ...

    async def targets_acted_on(self, kind: str, since: datetime, *, besides: Collection[str]) -> int:
        """How many targets of a type (`host`) actions that can harm had since; `besides` leaves out some, by id."""
        ...
