"""Turns at connector instances that have limits, or asked to be left alone: waiting for one, and being called."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from soar.engine.context import Park, RunContext
from soar.engine.recorder import Recorder
from soar.engine.retry import LONGEST
from soar.engine.scribe import Scribe
from soar.engine.steps import waiting
from soar.errors import BusyError, ConnectorError, RateLimitedError, StoreError, StoreUnavailableError
from soar.model.action import ActionRequest
from soar.model.catalogue import Catalogue
from soar.model.limits import Limits
from soar.model.run import StepRecord
from soar.store.port import Fact, InsertAttempt, SignalRun, Store
from soar.store.queueing import CallTurn, HoldInstance, JoinQueue, SweepTurns, Turn

log = structlog.get_logger(__name__)

QUEUED = "queued"
"""The phase of a step that waits for its turn."""
LOOK_SECONDS = 0.2
SWEEP_SECONDS = 60.0
_SHORTEST_SECONDS = 0.005
_GRACE = timedelta(seconds=10)  # clocks differ, and the call ends a little after its deadline

_NONE = Limits()


def turn_for(
    context: RunContext, catalogue: Catalogue, record: StepRecord, *, instance: str, lasts: timedelta
) -> Turn | None:
    """The turn that an intent at this instance must have; None, and no cost, where it has no limits.

    A step that was queued while its instance was held has a place there, which its intent takes along.
    """
    limits = catalogue.limits.get(instance)
    if limits is None and record.data.get("phase") != QUEUED:
        return None
    return Turn(limits=limits or _NONE, priority=context.run.priority, lasts=lasts + _GRACE)


async def hold_place(context: RunContext, store: Store, record: StepRecord) -> None:
    """Raise Park while the step waits to be called: no question to policy, no entry, nothing but this look."""
    if record.data.get("phase") == QUEUED and await store.before(context.run.id, record.path) is not None:
        raise Park


async def join_queue(context: RunContext, record: StepRecord, intent: InsertAttempt, busy: BusyError) -> Park:
    """Wait in the queue, in the old place where the step had one; noted once. Returns the Park to raise.

    If we crash before it is recorded, the next worker asks again; after that, whoever calls the step wakes its run.
    """
    instance = intent.attempt.request.instance
    join = JoinQueue(
        instance=instance,
        limits=intent.turn.limits if intent.turn else _NONE,
        run_id=context.run.id,
        path=record.path,
        priority=context.run.priority,
        at=intent.attempt.intended_at,
    )
    noted = record.data.get("phase") == QUEUED
    note = None if noted else waiting(record, phase=QUEUED, instance=instance, why=str(busy))
    await context.save(join, record=note)
    return Park()


def held_by(failure: ConnectorError, request: ActionRequest, now: datetime) -> tuple[HoldInstance, ...]:
    """What an answer such as 429 with Retry-After means for everybody who wants to call there."""
    for said in (failure, failure.__cause__):  # an action that was carried out in part hides it
        if isinstance(said, RateLimitedError) and said.retry_after_seconds is not None:
            pause = min(timedelta(seconds=min(said.retry_after_seconds, 1e8)), LONGEST)
            return (HoldInstance(instance=request.instance, until=now + pause),)
    return ()


class Usher:
    """Calls those whose turn it is. All it knows is rows; any number of ushers may be at work on one store."""

    def __init__(self, *, store: Store, recorder: Recorder, scribe: Scribe, woken: Callable[[], None]) -> None:
        self._store = store
        self._recorder = recorder
        self._clock = scribe.clock
        self._woken = woken
        self._bell = asyncio.Event()

    def ring(self) -> None:
        """A turn may have come free, or somebody waits for one: look now."""
        self._bell.set()

    async def run(self) -> None:
        """Call until cancelled."""
        swept = self._clock.now()
        while True:
            self._bell.clear()  # before looking: what comes after this line rings again
            pause = LOOK_SECONDS
            try:
                pause = await self.call()
                if abs(self._clock.now() - swept).total_seconds() > SWEEP_SECONDS:
                    swept = self._clock.now()
                    await self._recorder.record(Fact(writes=(SweepTurns(before=swept),)))
            except StoreUnavailableError as failure:
                log.warning("usher.store_unavailable", error=str(failure))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._bell.wait()

    async def call(self) -> float:
        """Call whose turn it is now; returns the seconds after which to look again if nobody rings."""
        now = self._clock.now()
        calls = await self._store.calls(now)
        called = await asyncio.gather(*(self._call(turn) for turn in calls.turns))
        if any(called):
            self._woken()
        if calls.again_at is None:
            return LOOK_SECONDS
        return min(max((calls.again_at - now).total_seconds(), _SHORTEST_SECONDS), LOOK_SECONDS)

    async def _call(self, turn: CallTurn) -> bool:
        # One fact: who is called is also woken, and nobody is woken in vain.
        fact = Fact(writes=(turn, SignalRun(run_id=turn.run_id)))
        try:
            await self._recorder.record(fact)
        except StoreUnavailableError:
            raise
        except StoreError as lost:
            log.debug("usher.too_late", run=turn.run_id, path=turn.path, why=str(lost))
            return False
        return True
