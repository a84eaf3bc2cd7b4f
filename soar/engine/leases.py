"""How long a run is leased, what follows from that, and when a lease is over."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from soar.model.run import Run
from soar.store.port import Store


@dataclass(frozen=True)
class LeaseTimes:
    """A worker that renewed in time has two thirds of its lease left, and a call ends within those.

    So a call that was begun in time is over before anybody else can hold its run.
    """

    lease: timedelta = timedelta(seconds=30)

    @property
    def renew_every(self) -> timedelta:
        """Between two renewals."""
        return self.lease / 3

    @cached_property
    def send_within(self) -> timedelta:
        """An intent that became durable later than this is not sent: the lease may be another's by now."""
        return self.lease / 3

    @cached_property
    def call_within(self) -> timedelta:
        """A call's deadline, counted from its intent, however long its step may take."""
        return 2 * self.lease / 3

    @property
    def watched(self) -> timedelta:
        """A living worker's renewal comes within this."""
        return self.lease / 2


class LeaseWatch:
    """Whose lease is over, also where clocks disagree or jump.

    A lease that ended a moment ago is over. One whose end is further from now than a lease is long, before or after,
    was given by a clock that differs from ours: its worker may be alive, or dead for a day. Then the clock is not
    asked, but the lease is watched; over it is once nobody renewed it in time for another renewal to come.
    """

    def __init__(self, *, store: Store, times: LeaseTimes) -> None:
        self._store = store
        self._times = times
        self._since: dict[tuple[str, int, datetime], float] = {}

    async def over(self, now: datetime, limit: int) -> list[Run]:
        """The runs to take back now; each has an owner and the lease that was looked at."""
        lease = self._times.lease
        moment = asyncio.get_running_loop().time()
        over, since = [], {}
        for run in await self._store.expired_leases(now, limit, beyond=now + lease):
            assert run.lease_until is not None, "a running run has a lease"
            if now - lease <= run.lease_until < now:
                over.append(run)
                continue
            key = (run.id, run.epoch, run.lease_until)
            since[key] = self._since.get(key, moment)
            if moment - since[key] >= self._times.watched.total_seconds():
                over.append(run)
        self._since = since  # those that were renewed, or are gone, are forgotten
        return over
