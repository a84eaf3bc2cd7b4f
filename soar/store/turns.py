"""Who may call a limited instance now: places, tokens and the queue. Pure: a store reads rows, asks here, writes rows.

The rate is kept by the generic cell rate algorithm (ITU-T I.371, annex A; a token bucket as one instant): each call
moves `due` on by one interval, and none goes out earlier than `due` less what the burst allows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from soar.errors import BusyError, StateConflictError
from soar.model.base import from_rfc3339, to_rfc3339
from soar.model.limits import Limits
from soar.store.queueing import Calls, CallTurn

ANSWER_WITHIN = timedelta(seconds=5)
"""So long a turn is kept for a run that was called; then the next may have it."""
FAIR_EVERY = 10
"""Each turn of this number goes to who has waited longest, so that a flood of critical alerts starves nobody."""
SKEW = timedelta(minutes=1)
"""Workers' clocks may differ by less. A clock that is further behind what was seen was set back, and is believed."""
WINDOW = 100
"""So many of a queue are looked at together, and a tenth of it of those who have waited longest."""

_ENDLESS = 1_000_000

Key = tuple[str, str]
"""Run and path."""


def hold_key(instance: str) -> str:
    """The name under which `control` has the instant until which an instance is held."""
    return f"hold:{instance}"


def check_held(instance: str, until: str | None, now: datetime) -> None:
    """Raise BusyError while the instance is held."""
    if until is not None and now < from_rfc3339(until):
        raise BusyError(f"{instance} asked to be left alone until {until}")


def later(until: datetime, held: str | None) -> str:
    """The later of two instants, as `control` holds it."""
    text = to_rfc3339(until)
    return text if held is None or held < text else held


class Waiting(NamedTuple):
    """One who waits for a turn."""

    priority: int
    arrived: datetime
    run_id: str
    path: str

    @property
    def key(self) -> Key:
        """What it is for."""
        return self.run_id, self.path


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """An instance as its rows have it. Whoever changes it holds its row; each change is a new one."""

    instance: str
    limits: Limits
    due: datetime | None = None
    seen: datetime | None = None  # the latest time that any worker's clock has shown here
    given: int = 0
    held_until: datetime | None = None
    taken: Mapping[Key, datetime] = field(default_factory=dict)  # under way, each at most until then
    called: Mapping[Key, datetime] = field(default_factory=dict)  # a turn is kept for it until then
    queue: tuple[Waiting, ...] = ()

    def take(self, asker: Waiting, *, now: datetime, lasts: timedelta) -> Pace:
        """The turn that was kept for the asker, or one that is free and belongs to nobody before; else BusyError."""
        now = self._time(now)
        free = self._free(now, besides=asker.key)
        kept = now < self.called.get(asker.key, now)
        others = [waiting for waiting in self.queue if waiting.key != asker.key]
        if not (free > 0 if kept else asker in self._first(free, [*others, asker])):
            raise BusyError(self._why(now, free))
        return replace(
            self,
            due=self._next_due(now),
            seen=now,
            given=self.given + (not kept),
            taken={**self.taken, asker.key: now + lasts},
            called={key: until for key, until in self.called.items() if key != asker.key},
            queue=tuple(others),
        )

    def call(self, key: Key, *, now: datetime) -> Pace:
        """Keep a turn for one who waits; raises StateConflictError where none is free."""
        now = self._time(now)
        if self._free(now) <= 0:
            raise StateConflictError(f"no turn is free at {self.instance}")
        return replace(
            self,
            seen=now,
            given=self.given + 1,
            called={**self.called, key: now + ANSWER_WITHIN},
            queue=tuple(waiting for waiting in self.queue if waiting.key != key),
        )

    def with_queue(self, queue: Iterable[Waiting]) -> Pace:
        """Knowing who waits."""
        return replace(self, queue=tuple(queue))

    def without(self, key: Key) -> Pace:
        """Its turn is over."""
        return replace(self, taken={each: until for each, until in self.taken.items() if each != key})

    def first(self, now: datetime) -> list[Waiting]:
        """Whose turn it is now, of those who wait."""
        now = self._time(now)
        return self._first(self._free(now), self.queue)

    def room(self, now: datetime) -> bool:
        """Whether there is a turn for somebody."""
        return self._free(self._time(now)) > 0

    def again_at(self, now: datetime) -> datetime | None:
        """When the next turn may come free by itself."""
        now = self._time(now)
        if self.held_until is not None and now < self.held_until:
            return self.held_until
        moments = [*self.taken.values(), *self.called.values()]
        if self.limits.interval is not None:
            moments.append(self._due(now) - self._slack)
        return min((moment for moment in moments if moment > now), default=None)

    def _time(self, now: datetime) -> datetime:
        return self.seen if self.seen is not None and now < self.seen < now + SKEW else now

    def _free(self, now: datetime, besides: Key | None = None) -> int:
        """Turns that are neither taken nor kept for others."""
        if self.held_until is not None and now < self.held_until:
            return 0
        kept = sum(now < until and key != besides for key, until in self.called.items())
        free = _ENDLESS
        if self.limits.concurrency is not None:
            taken = sum(now < until and key != besides for key, until in self.taken.items())
            free = self.limits.concurrency - taken - kept
        if self.limits.interval is not None:
            free = min(free, self._tokens(now) - kept)
        return free

    @property
    def _slack(self) -> timedelta:
        return (self.limits.interval or timedelta()) * (self.limits.burst - 1)

    def _due(self, now: datetime) -> datetime:
        """Where it lies further ahead than any call could have moved it, the clock was set back: one token is there."""
        latest = now + self._slack
        interval = self.limits.interval or timedelta()
        return now if self.due is None else latest if self.due > latest + interval else self.due

    def _tokens(self, now: datetime) -> int:
        ahead = now + self._slack - self._due(now)
        assert self.limits.interval is not None
        return min(ahead // self.limits.interval + 1, self.limits.burst)

    def _next_due(self, now: datetime) -> datetime | None:
        interval = self.limits.interval
        return None if interval is None else max(self._due(now), now) + interval

    def _first(self, free: int, line: Sequence[Waiting]) -> list[Waiting]:
        """The next in line for so many turns: the most urgent, then the earliest; now and then the earliest of all."""
        left = sorted(line, key=lambda waiting: (-waiting.priority, *waiting[1:]))
        first: list[Waiting] = []
        for number in range(self.given, self.given + min(free, len(left))):
            oldest = number % FAIR_EVERY == FAIR_EVERY - 1
            pick = min(left, key=lambda waiting: waiting[1:]) if oldest else left[0]
            left.remove(pick)
            first.append(pick)
        return first

    def _why(self, now: datetime, free: int) -> str:
        if free > 0:
            return f"others wait before it at {self.instance}"
        if self.held_until is not None and now < self.held_until:
            return f"{self.instance} asked to be left alone until {to_rfc3339(self.held_until)}"
        return f"{self.instance} is at its limits ({self.limits})"


def calls_of(paces: Sequence[Pace], now: datetime) -> Calls:
    """Whom to call at these instances, and when to look again."""
    turns = [
        CallTurn(instance=pace.instance, run_id=waiting.run_id, path=waiting.path, at=now)
        for pace in paces
        for waiting in pace.first(now)
    ]
    moments = [moment for pace in paces if (moment := pace.again_at(now)) is not None]
    return Calls(turns=tuple(turns), again_at=min(moments, default=None))
