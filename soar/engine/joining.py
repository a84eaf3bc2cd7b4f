"""Admissions that come together go together: one transaction, and one wait for the disk, for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from soar.engine.admission import Admitted, Consumed
from soar.errors import StoreError, StoreUnavailableError

MOST = 500


@dataclass(slots=True, eq=False)
class _Asked:
    """What one caller wants admitted, and what became of it."""

    consumed: Sequence[Consumed]
    outcome: Sequence[Admitted] | StoreError | None = None


class Joint:
    """Collects what comes while an admission is under way, up to `MOST` records; alone, one is begun at once."""

    def __init__(self, admit: Callable[[Sequence[Consumed]], Awaitable[list[Admitted]]]) -> None:
        self._admit = admit
        self._waiting: list[_Asked] = []
        self._turn = asyncio.Lock()

    async def admit(self, consumed: Sequence[Consumed]) -> Sequence[Admitted]:
        """Return when it is durable; raises the StoreError that refused it, or StoreUnavailableError."""
        asked = _Asked(consumed)
        self._waiting.append(asked)
        try:
            async with self._turn:
                while asked.outcome is None:
                    # Still here where whoever took it along was cancelled: to admit it twice does no harm.
                    await self._go(self._next(asked))
        finally:
            if asked in self._waiting:
                self._waiting.remove(asked)
        if isinstance(asked.outcome, StoreError):
            raise asked.outcome
        return asked.outcome

    def _next(self, first: _Asked) -> list[_Asked]:
        batch, room = [first], MOST - len(first.consumed)
        for each in self._waiting:
            if each is not first and each.outcome is None and len(each.consumed) <= room:
                batch.append(each)
                room -= len(each.consumed)
        return batch

    async def _go(self, batch: Sequence[_Asked]) -> None:
        try:
            admitted = await self._admit([one for each in batch for one in each.consumed])
        except StoreUnavailableError as failure:
            for each in batch:
                each.outcome = failure
        except StoreError as refusal:
            if len(batch) == 1:
                batch[0].outcome = refusal
                return
            for each in batch:
                await self._go([each])
        else:
            whose = {one.record.coordinates: each for each in reversed(batch) for one in each.consumed}
            for each in batch:
                each.outcome = [one for one in admitted if whose[one.coordinates] is each]
