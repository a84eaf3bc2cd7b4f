"""Group commit: what concurrent runs want to record goes to the store together."""

from __future__ import annotations

import asyncio

import structlog

from soar.errors import StoreError, StoreUnavailableError
from soar.store.port import Fact, Store

log = structlog.get_logger(__name__)

_LANES = 2
_FEW, _MANY = 25, 500  # facts: too few for a second batch beside one that is under way; too many for one
_FORGOTTEN_SECONDS = 60.0


class Pulse:
    """How the last write to the store went, as health tells it."""

    def __init__(self) -> None:
        self._failed: tuple[str, float] | None = None

    def well(self) -> None:
        """Something was written."""
        self._failed = None

    def failed(self, failure: StoreUnavailableError) -> None:
        """Something could not be written."""
        words = str(failure).lower()
        full = "is full" in words or "no space left" in words
        self._failed = ("the disk is full" if full else "see the log", asyncio.get_running_loop().time())

    @property
    def problem(self) -> str | None:
        """Why nothing can be written; None once something was, or where nobody has tried for a while."""
        if self._failed is None or asyncio.get_running_loop().time() - self._failed[1] > _FORGOTTEN_SECONDS:
            return None
        return f"cannot be written: {self._failed[0]}"


class Recorder:
    """Collects facts while the previous batches commit; every caller waits for its own.

    Nothing lingers on purpose: under load the batch grows by itself while the store is busy, and alone a
    fact is committed at once. Where many wait, two batches are under way: the next is with the store before those
    who waited for the first go on, so that the store and the runs work at the same time.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.pulse = Pulse()
        self._waiting: list[tuple[Fact, asyncio.Future[None]]] = []
        self._bell = asyncio.Event()
        self._under_way = 0  # batches
        self._stopping = False
        self._lanes: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to commit."""
        self._stopping = False
        self._lanes = [asyncio.create_task(self._run(), name=f"recorder-{lane}") for lane in range(_LANES)]

    async def stop(self) -> None:
        """Commit what was handed over, then end."""
        self._stopping = True
        self._bell.set()
        await asyncio.gather(*self._lanes, return_exceptions=True)
        self._lanes = []

    async def record(self, fact: Fact) -> None:
        """Return when the fact is durable; raises the StoreError that refused it, or StoreUnavailableError."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((fact, done))
        self._bell.set()
        await done

    async def _run(self) -> None:
        while self._waiting or not self._stopping:
            if len(self._waiting) < (_FEW if self._under_way else 1):
                self._bell.clear()
                await self._bell.wait()
                continue
            # Half is left to the other lane, which takes all that there is by then.
            most = _MANY if self._under_way else min(max(_FEW, len(self._waiting) // 2), _MANY)
            batch, self._waiting = self._waiting[:most], self._waiting[most:]
            self._under_way += 1
            try:
                results = await self._commit([fact for fact, _ in batch])
            finally:
                self._under_way -= 1
                self._bell.set()
            for (_, done), result in zip(batch, results, strict=True):
                if done.done():  # the caller was cancelled; the fact stands all the same
                    continue
                if result is None:
                    done.set_result(None)
                else:
                    done.set_exception(result)

    async def _commit(self, facts: list[Fact]) -> list[StoreError | None]:
        try:
            results = await self._store.commit(facts)
        except StoreUnavailableError as failure:
            self.pulse.failed(failure)
            return [failure] * len(facts)
        except Exception as bug:
            # Whoever waits must hear of it: a recorder that died would let every run wait for ever.
            log.exception("recorder.bug", facts=len(facts))
            return [StoreUnavailableError(f"nothing was written: {type(bug).__name__}: {bug}")] * len(facts)
        self.pulse.well()
        return results


async def record_alone(store: Store, fact: Fact) -> None:
    """Commit one fact outside any batch, as people's deeds are; raises the StoreError that refused it.

    If we crash before it returns, all of the fact stands or none.
    """
    (refusal,) = await store.commit([fact])
    if refusal is not None:
        raise refusal
