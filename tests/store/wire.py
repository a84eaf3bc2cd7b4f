"""A wire to a real server that a test can cut."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from urllib.parse import urlsplit

Cut = Callable[[bytes], str | None]
"""Looks at what the client sends; says "before" or "after" to cut before or after the server has it."""


class Wire:
    """Passes bytes both ways between `port` on this machine and a server."""

    def __init__(self, dsn: str) -> None:
        self._server = urlsplit(dsn)
        self._open: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.cut: Cut = lambda _: None
        self.cuts = 0

    @property
    def dsn(self) -> str:
        """How to reach the server through the wire."""
        parts = self._server
        return parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{self.port}").geturl()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there = await asyncio.open_connection(self._server.hostname, self._server.port)
        self._open |= {writer, there}
        with contextlib.suppress(OSError):
            back = asyncio.create_task(self._back(there_reader, writer))
            while data := await reader.read(65536):
                where = self.cut(data)
                if where:
                    self.cuts += 1
                    writer.transport.abort()
                if where == "before":
                    break
                there.write(data)
                await there.drain()
                if where == "after":
                    await asyncio.sleep(0.05)  # let the server read it before its client is gone
                    break
            back.cancel()
        for each in (writer, there):
            each.transport.abort()

    async def _back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.transport.abort()

    def hang_up(self) -> None:
        """Cut every connection that is there now."""
        for each in self._open:
            each.transport.abort()


@contextlib.asynccontextmanager
async def wire(dsn: str) -> AsyncIterator[Wire]:
    """A wire to the server of `dsn`, for as long as the test needs it."""
    line = Wire(dsn)
    server = await asyncio.start_server(line._serve, "127.0.0.1", 0)
    line.port = server.sockets[0].getsockname()[1]
    try:
        yield line
    finally:
        server.close()
        line.hang_up()
        await server.wait_closed()
