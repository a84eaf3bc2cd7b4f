"""A process that was stopped (SIGSTOP, a frozen machine) goes on right where it was, also between check and send."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from soar.connector.client import Client
from soar.connector.secret import SecretResolver
from soar.errors import ConnectorError, NotSentError
from soar.model.clock import SystemClock

from .exchanges import answer, make_call

DEADLINE = 0.05
FROZEN = 0.15
TURNS = 30


class Server:
    """A server in a thread of its own, which no freeze of ours holds up; notes when a body came."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.came: list[float] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            while connection.recv(65536):
                self.came.append(time.monotonic())
                connection.sendall(answer())

    def close(self) -> None:
        self._listening.close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.mark.parametrize("kept_alive", [True, False])
async def test_frozen_anywhere_on_its_way_a_request_leaves_in_time_or_not_at_all(
    server: Server, kept_alive: bool
) -> None:
    """The freeze comes at each turn of the event loop in turn; what it came before is proven not sent."""
    loop = asyncio.get_running_loop()
    not_sent = 0
    client = Client(
        instance="x", base_url=server.url, resolver=SecretResolver({}), clock=SystemClock(), allow_private=True
    )
    for turn in range(TURNS):
        if not kept_alive:
            await client.close()
            client = Client(
                instance="x", base_url=server.url, resolver=SecretResolver({}), clock=SystemClock(), allow_private=True
            )
        else:
            await client.request("POST", "/", call=make_call(), json={})
        server.came.clear()

        def freeze(left: int) -> None:
            if left:
                loop.call_soon(freeze, left - 1)
            else:
                time.sleep(FROZEN)

        begun = time.monotonic()
        loop.call_soon(freeze, turn)
        try:
            await client.request("POST", "/", call=make_call(seconds=DEADLINE), json={})
        except NotSentError:
            not_sent += 1
            await asyncio.sleep(0.02)
            assert not server.came, f"frozen at turn {turn}: it was sent all the same"
        except ConnectorError:
            pass  # it had left, and the answer came too late
        assert all(at - begun < FROZEN for at in server.came), f"frozen at turn {turn}: sent after the deadline"
    await client.close()
    assert not_sent >= (1 if kept_alive else 2), "a kept connection may be written to in the very next turn"
