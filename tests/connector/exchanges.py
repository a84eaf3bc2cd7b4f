"""A call that ends in five seconds, and servers on loopback that misbehave."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from soar.connector.base import Call
from soar.model.action import Effect

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def make_call(effect: Effect = Effect.UNSAFE, *, seconds: float = 5, dry_run: bool = False) -> Call:
    return Call(
        idempotency_key="key-1",
        run_id="run-1",
        path="0",
        deadline=datetime.now(UTC) + timedelta(seconds=seconds),
        effect=effect,
        dry_run=dry_run,
    )


@asynccontextmanager
async def serving(talk: Talk) -> AsyncIterator[str]:
    """A TCP server that says what `talk` says; its base URL."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """One request's head and body."""
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            return head + await reader.readexactly(int(line.split(b":")[1]))
    return head


def answer(body: bytes = b"{}", *, status: str = "200 OK", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body
