"""What stands in for the network: a function from a request to its answer."""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import httpx
from multidict import CIMultiDict

from soar.connector.network import Answer, current_flight

Handler = Callable[[httpx.Request], httpx.Response | Awaitable[httpx.Response]]
NEVER_CONNECTED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class Played:
    """A `Transport` whose answers a handler gives. What it raises breaks the exchange, before or after sending."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    @asynccontextmanager
    async def send(
        self, method: str, url: str, *, headers: CIMultiDict[str], body: bytes | None
    ) -> AsyncIterator[Answer]:
        flight = current_flight.get()
        assert flight is not None
        flight.began = True
        try:
            response = self._handler(httpx.Request(method, url, headers=list(headers.items()), content=body))
            if inspect.isawaitable(response):
                response = await response
        except httpx.HTTPError as failure:
            flight.began = not isinstance(failure, NEVER_CONNECTED)
            raise aiohttp.ClientError(str(failure)) from failure
        answered = CIMultiDict(response.headers.multi_items())
        yield Answer(response.status_code, answered, aiter(response.stream))

    async def close(self) -> None:
        pass
