"""The local service that actions reach: it takes POSTs of JSON with an `id`, and keeps when each came."""

import asyncio
import json
import time

import httptools

ANSWER = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{"ok":true}'


class Sink:
    """Listens on a port of its own while it is open."""

    def __init__(self):
        self.times = {}  # id -> time.time() of its first arrival
        self.repeated = 0
        self._arrived = asyncio.Event()

    async def __aenter__(self):
        server = await asyncio.get_running_loop().create_server(lambda: _Line(self), "127.0.0.1", 0)
        self._server = server
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self._server.close()

    def take(self, body):
        name = json.loads(body)["id"]
        if name in self.times:
            self.repeated += 1
            return
        self.times[name] = time.time()
        self._arrived.set()

    async def wait(self, count, seconds):
        """Until so many ids have come; raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while len(self.times) < count:
                self._arrived.clear()
                await self._arrived.wait()


class _Line(asyncio.Protocol):
    """One connection."""

    def __init__(self, sink):
        self._sink = sink
        self._parser = httptools.HttpRequestParser(self)
        self._body = b""

    def connection_made(self, transport):
        self._transport = transport

    def data_received(self, data):
        self._parser.feed_data(data)

    def on_message_begin(self):
        self._body = b""

    def on_body(self, body):
        self._body += body

    def on_message_complete(self):
        self._sink.take(self._body)
        self._transport.write(ANSWER)
