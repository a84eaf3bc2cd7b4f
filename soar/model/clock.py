"""Time and names are passed in, so that tests and simulations own them."""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = tuple(first + second for first in _CROCKFORD for second in _CROCKFORD)
_HEAD_SHIFTS = range(120, 19, -10)


class Clock(Protocol):
    """Where the time comes from."""

    def now(self) -> datetime:
        """This instant, in UTC."""
        ...


class Ids(Protocol):
    """Where names come from."""

    def new(self, kind: str) -> str:
        """A fresh name such as `run-01JD...`, ordered by time of creation within one process."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """This instant, in UTC."""
        return datetime.now(UTC)


class SharedClock:
    """The clock that several machines share, carried on between two looks at it by a counter that never jumps.

    Until the first look it stands as the machine's own clock did when this was made; whatever becomes of that one
    afterwards does not matter.
    """

    TOLERATED = timedelta(seconds=0.5)

    def __init__(self, machine: Clock, *, steady: Callable[[], float] = time.monotonic) -> None:
        self._steady = steady
        self._zero = machine.now().timestamp() - steady()  # what the time is where the counter is 0

    def now(self) -> datetime:
        """This instant, in UTC."""
        return datetime.fromtimestamp(self._zero + self._steady(), UTC)

    def heed(self, shared: datetime) -> timedelta:
        """Go by what the shared clock says; returns how far ahead ours was, zero where that is too little to matter."""
        ahead = self.now() - shared
        if abs(ahead) <= self.TOLERATED:
            return timedelta()
        self._zero = shared.timestamp() - self._steady()
        return ahead


class UlidSource:
    """ULIDs (github.com/ulid/spec): 48 bits of milliseconds, 80 random bits, monotonic within a millisecond.

    The milliseconds are the machine's, or those of a clock that several machines share: then names of all are in order.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        # Names must differ, not be secret; asking the system for each millisecond's bits costs more than the rest.
        self._random = random.Random(secrets.randbits(128))  # noqa: S311
        self._last_ms = 0
        self._last_random = 0
        self._head = (0, _spelled(0, _HEAD_SHIFTS))  # all but the last 20 bits, which mostly alone differ

    def new(self, kind: str) -> str:
        """A fresh `<kind>-<ULID>`."""
        with self._lock:
            now_ms = time.time_ns() // 1_000_000 if self._clock is None else _millis(self._clock.now())
            if now_ms > self._last_ms:
                self._last_ms, self._last_random = now_ms, self._random.getrandbits(79)
            else:  # same millisecond, or the clock went back: stay ordered
                self._last_random += 1
            value = self._last_ms << 80 | self._last_random
            if self._head[0] != value >> 20:
                self._head = (value >> 20, _spelled(value, _HEAD_SHIFTS))
            return f"{kind}-{self._head[1]}{_PAIRS[value >> 10 & 1023]}{_PAIRS[value & 1023]}"


def earliest(kind: str, at: datetime) -> str:
    """A name below all that `UlidSource` gives from this time on, and above those that it gave before."""
    return f"{kind}-{_spelled(_millis(at) << 80, range(120, -1, -10))}"


def _millis(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def _spelled(value: int, shifts: range) -> str:
    return "".join([_PAIRS[value >> shift & 1023] for shift in shifts])
