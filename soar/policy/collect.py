"""Questions that come while others are being answered go to the engine together.

Nothing lingers on purpose: alone a question is asked at once; under load the requests grow by themselves.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from soar.errors import PolicyUnavailableError
from soar.policy.port import Answer

Document = dict[str, Any]
_Waiting = list[tuple[Document, asyncio.Future[Answer]]]
Ask = Callable[[list[Document]], Awaitable[Sequence[Answer | PolicyUnavailableError]]]

LARGEST: Final = 64
"""Questions in one request: few enough that their answers come well within a deadline."""
UNDER_WAY: Final = 2
"""Requests at once: an engine evaluates each on one core."""


class Collector:
    """Turns many callers' questions into few requests; `ask` says of each what it got, and raises nothing."""

    def __init__(self, ask: Ask, *, largest: int = LARGEST, under_way: int = UNDER_WAY) -> None:
        self._ask = ask
        self._largest = largest
        self._under_way = under_way
        self._waiting: deque[tuple[Document, asyncio.Future[Answer]]] = deque()
        self._requests: set[asyncio.Task[None]] = set()
        self._busy = 0

    async def answers(self, documents: Sequence[Document]) -> list[Answer]:
        """The answers in order; a caller that is cancelled is asked for no longer.

        Raises `PolicyUnavailableError` where one of them has none.
        """
        loop = asyncio.get_running_loop()
        asked: _Waiting = [(document, loop.create_future()) for document in documents]
        self._waiting.extend(asked)
        if self._busy < self._under_way:
            self._busy += 1
            request = asyncio.create_task(self._drain(), name="policy-request")
            self._requests.add(request)
            request.add_done_callback(self._requests.discard)
        return await asyncio.gather(*(answer for _, answer in asked))

    async def finish(self) -> None:
        """Wait for what is under way."""
        await asyncio.gather(*self._requests, return_exceptions=True)

    async def _drain(self) -> None:
        try:
            while batch := self._take():
                await self._answer(batch)
        finally:  # in the same breath as the look at an empty queue: what comes next begins a request of its own
            self._busy -= 1

    async def _answer(self, batch: _Waiting) -> None:
        answers = await self._ask([document for document, _ in batch])
        for (_, waiting), answer in zip(batch, answers, strict=True):
            if waiting.done():  # its caller gave up
                continue
            if isinstance(answer, Answer):
                waiting.set_result(answer)
            else:
                waiting.set_exception(PolicyUnavailableError(str(answer)))

    def _take(self) -> _Waiting:
        batch: _Waiting = []
        while self._waiting and len(batch) < self._largest:
            asked = self._waiting.popleft()
            if not asked[1].done():
                batch.append(asked)
        return batch
