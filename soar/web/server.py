"""Serving the API: one port, no access log, no signal handlers, an orderly end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
import uvicorn
from starlette.types import ASGIApp

from soar.errors import ConfigError

log = structlog.get_logger(__name__)

STOP_SECONDS = 10
"""How long requests under way may take to end once the server is told to stop."""


class WebServer:
    """A server that listens. `host` and `port` are what it listens on, also where port 0 was asked for."""

    def __init__(self, server: _Server, listener: socket.socket) -> None:
        self.host, self.port = listener.getsockname()[:2]
        self._server = server
        self._serving = asyncio.create_task(server.serve(sockets=[listener]), name="web")

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"

    async def wait(self) -> None:
        """Until it ends, which it does only when stopped; raises what else ended it."""
        await asyncio.shield(self._serving)

    async def stop(self) -> None:
        """Take no more requests, finish those under way, close the port; stopping twice is stopping once."""
        self._server.should_exit = True
        await self._serving


async def serve(app: ASGIApp, *, host: str, port: int) -> WebServer:
    """Listen from now on; raises ConfigError where the port cannot be had."""
    config = uvicorn.Config(
        app,
        lifespan="off",
        ws="none",
        access_log=False,
        log_config=None,  # its few words go where the process's logs go
        log_level="warning",
        server_header=False,
        proxy_headers=False,  # the peer is who connects, whatever a header says
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    server = WebServer(_Server(config), _listen(host, port))
    log.info("web.listening", url=server.url)
    return server


def _listen(host: str, port: int) -> socket.socket:
    # asyncio turns Nagle's algorithm off only where the protocol is named; with it on, each answer waits 40 ms.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()
    except OSError as failure:
        listener.close()
        raise ConfigError(
            f"cannot listen on {host}:{port}: {failure.strerror}; end what listens there, or set web.host and web.port"
        ) from failure
    return listener


class _Server(uvicorn.Server):
    """Leaves signals to whoever runs the process."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
