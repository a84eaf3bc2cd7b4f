"""The Store port's words for turns at limited instances: what is written, and what is told."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from soar.model.limits import Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What an intent at a limited instance asks for, besides: the right to be one of those under way.

    It ends with the attempt, and after `lasts` in any case: whoever holds it may have died.
    """

    limits: Limits
    priority: int
    lasts: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinQueue:
    """Wait for a turn at an instance, by priority, then by arrival; who waited there before keeps the old place."""

    instance: str
    limits: Limits
    run_id: str
    path: str
    priority: int
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTurn:
    """Keep a turn free, for a short time, for one who waits; refused where none is free or nobody waits there."""

    instance: str
    run_id: str
    path: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldInstance:
    """No intent at this instance before `until`; of several such instants the latest counts."""

    instance: str
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepTurns:
    """Forget the places in queues of runs and steps that have ended, and their turns that were over by `before`."""

    before: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """Whom to call now, first in line first, and when to look again if nothing else happens."""

    turns: tuple[CallTurn, ...] = ()
    again_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """How an instance stands that has limits, or was told to wait."""

    instance: str
    under_way: int
    queued: int
    held_until: datetime | None


class KeepsTurns(Protocol):
    """What a store tells of turns."""

    async def calls(self, now: datetime) -> Calls:
        """Who waits for a turn that is free; nobody while the kill switch is set."""
        ...

    async def before(self, run_id: str, path: str) -> int | None:
        """How many wait before this step for a turn, counted to 1,000; None where it does not wait to be called."""
        ...

    async def traffic(self, now: datetime) -> list[Traffic]:
        """What goes on at instances with limits, by name."""
        ...
