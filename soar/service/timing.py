"""One time for all workers: on a database that several machines share, its clock, not theirs."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import structlog

from soar.errors import StoreUnavailableError
from soar.model.clock import SharedClock
from soar.store.port import Store

log = structlog.get_logger(__name__)

LOOK_SECONDS = 5.0
_TOO_SLOW_SECONDS = 1.0  # an answer that took longer does not say what the time is


async def look(clock: SharedClock, store: Store) -> None:
    """Set our clock by the store's, where it has one; raises StoreUnavailableError."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    shared = await store.now()
    took = loop.time() - began
    if shared is None or took > _TOO_SLOW_SECONDS:
        return
    ahead = clock.heed(shared + timedelta(seconds=took / 2))
    if ahead:
        log.warning("clock.corrected", ahead_seconds=round(ahead.total_seconds(), 1), by="the database's clock")


async def follow(clock: SharedClock, store: Store) -> None:
    """Look every few seconds until cancelled."""
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        try:
            await look(clock, store)
        except StoreUnavailableError as failure:
            log.warning("clock.store_unavailable", error=str(failure))
