"""Where a client may connect to: the configured host's public addresses, checked on the very address dialled.

An alert can make a name resolve to anything, and a name can resolve differently twice. So the check stands
where the socket is made: no address is dialled that was not judged, however it was spelled or found.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import math
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import aiohttp
import httpx
import yarl
from aiohttp.abc import AbstractResolver, ResolveResult
from multidict import CIMultiDict

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))  # RFC 6052, RFC 8215
_COMPATIBLE = ipaddress.IPv6Network("::/96")  # RFC 4291 2.5.5.1, deprecated
_TRANSLATED = ipaddress.IPv6Network("::ffff:0:0:0/96")  # RFC 2765
# Of the IANA special-purpose registries, what `is_global` of older Pythons lets pass; and site-local (RFC 3879).
_SPECIAL = tuple(
    ipaddress.ip_network(each)
    for each in ("192.0.0.0/24", "192.88.99.0/24", "100::/64", "2001::/23", "3fff::/20", "5f00::/16", "fec0::/10")
)
# Clouds' own services. Most are link-local; these two are not, and no product we talk to lives there.
_CLOUD = (ipaddress.ip_address("168.63.129.16"), ipaddress.ip_address("fd00:ec2::254"))

KEEP_ALIVE_SECONDS = 4.0
"""Below the 5 s after which common servers hang up: a request sent into a closing connection is an unknown."""
CONNECT_SECONDS = 10.0
_CHUNK_BYTES = 16 * 1024


class AddressRefusedError(OSError):
    """The address may not be dialled; `strerror` says which and why, as aiohttp shows nothing else of an OSError."""

    def __init__(self, why: str) -> None:
        super().__init__(errno.EACCES, why)


def embedded(address: Address) -> tuple[Address, ...]:
    """The IPv4 addresses that an IPv6 address leads to: mapped, compatible, translated, NAT64, 6to4, Teredo."""
    if isinstance(address, ipaddress.IPv4Address):
        return ()
    if address.ipv4_mapped:
        return (address.ipv4_mapped,)
    if address.sixtofour:
        return (address.sixtofour,)
    if address.teredo:
        return address.teredo
    tail = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    inside = (*_NAT64, _TRANSLATED, _COMPATIBLE)
    if int(address) > 1 and any(address in network for network in inside):
        return (tail,)
    return ()


def refusal(text: str, *, allow_private: bool) -> str | None:
    """Why the address in `text` may not be dialled, or None where it may.

    `allow_private` opens loopback and private networks. Link-local, multicast, unspecified and the clouds'
    metadata addresses stay shut: no product lives there.
    """
    address = ipaddress.ip_address(text.partition("%")[0])
    for each in embedded(address) or (address,):
        kind = _never(each) or (None if allow_private else _private(each))
        if kind:
            shown = str(address) if each == address else f"{address} (that is {each})"
            remedy = "" if _never(each) else "; if it is meant, set allow_private: true"
            return f"{shown} is {kind}{remedy}"
    return None


def _never(address: Address) -> str | None:
    if address.is_link_local or address in _CLOUD:
        return "a link-local or cloud metadata address"
    if address.is_multicast or address.is_unspecified:
        return "no host's address"
    return None


def _private(address: Address) -> str | None:
    if address.is_loopback:
        return "a loopback address"
    if not address.is_global or address.is_reserved or any(address in each for each in _SPECIAL):
        return "not a public address"
    return None


class GuardedResolver(AbstractResolver):
    """Resolves once per connection, and refuses the name if any of its addresses is refused."""

    def __init__(self, *, allow_private: bool, inner: AbstractResolver | None = None) -> None:
        self._allow_private = allow_private
        self._inner = inner or aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of `host`; raises AddressRefusedError, or OSError where it does not resolve."""
        found = await self._inner.resolve(host, port, family)
        for answer in found:
            why = refusal(answer["host"], allow_private=self._allow_private)
            if why:
                raise AddressRefusedError(f"{host} resolves to {why}")
        return found

    async def close(self) -> None:
        """End the inner resolver."""
        await self._inner.close()


@dataclass
class Flight:
    """Whether bytes of one request may have left: from when it holds an open connection, unless it was too late then.

    `until` is the loop's time after which none may begin to: a process that was stopped goes on right where it was.
    """

    until: float = math.inf
    began: bool = False


current_flight: ContextVar[Flight | None] = ContextVar("current_flight", default=None)


async def _began(*_: Any) -> None:
    if flight := current_flight.get():
        flight.began = True


async def _begins(*_: Any) -> None:
    """Looks are here and below only: aiohttp closes a connection then, and would lose it anywhere before."""
    if flight := current_flight.get():
        _check_in_time(flight)


async def _leaves(*_: Any) -> None:
    """The first bytes leave right after this, without another turn of the loop; a body's later parts are let go."""
    if flight := current_flight.get():
        _check_in_time(flight)
        flight.until = math.inf


def _check_in_time(flight: Flight) -> None:
    if asyncio.get_running_loop().time() > flight.until:
        flight.began = False  # it holds a connection, and nothing has left on it
        raise TooLateError("its deadline passed before anything was sent")


class TooLateError(aiohttp.ClientError):
    """The time to begin is over: nothing is sent."""


class ConnectionLostError(aiohttp.ClientError):
    """The connection broke after it was handed a request."""


async def send_once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending a PUT or DELETE again by itself when a kept-alive connection breaks.

    It repeats what it deems idempotent on ClientOSError and ServerDisconnectedError; whether an action may be
    repeated is its declared effect's business.
    """
    try:
        return await handler(request)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as failure:
        raise ConnectionLostError(f"{type(failure).__name__}: {failure}") from failure


@lru_cache(maxsize=16)
def tls_context(ca_file: str | None = None) -> ssl.SSLContext:
    """Verifying TLS: the usual authorities, and those in `ca_file` (PEM). It cannot be turned off."""
    context = httpx.create_ssl_context(trust_env=False)
    if ca_file:
        context.load_verify_locations(cafile=ca_file)
    return context


@dataclass(frozen=True)
class Answer:
    """An answer whose body is still to be read; `chunks` are as they came, packed where the sender packed them."""

    status: int
    headers: Mapping[str, str]  # names in any case; one that came several times stands several times
    chunks: AsyncIterator[bytes]


class Transport(Protocol):
    """What carries requests: the network, or what stands in for it."""

    def send(
        self, method: str, url: str, *, headers: CIMultiDict[str], body: bytes | None
    ) -> AbstractAsyncContextManager[Answer]:
        """One request and its answer; raises aiohttp.ClientError or OSError, and tells `current_flight`."""
        ...

    async def close(self) -> None:
        """End all connections."""
        ...


class GuardedTransport:
    """The network as far as `refusal` lets it pass: HTTP/1.1 by aiohttp, whose session is made with the first request.

    Raises OSError at once where `ca_file` cannot be read.
    """

    def __init__(
        self,
        *,
        allow_private: bool,
        ca_file: str | None = None,
        connections: int = 100,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._allow_private = allow_private
        self._tls = tls_context(ca_file)
        self._connections = connections
        self._resolver = resolver
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def send(
        self, method: str, url: str, *, headers: CIMultiDict[str], body: bytes | None
    ) -> AsyncIterator[Answer]:
        """See `Transport.send`."""
        # Encoded it is already: aiohttp would decode what a server may read as more than a part of a name, such as `;`.
        target = yarl.URL(url, encoded=True)
        sending = self.session().request(method, target, headers=headers, data=body, allow_redirects=False)
        async with sending as response:
            yield Answer(response.status, response.headers, response.content.iter_chunked(_CHUNK_BYTES))

    async def close(self) -> None:
        """See `Transport.close`."""
        if self._session is not None:
            await self._session.close()

    def session(self) -> aiohttp.ClientSession:
        """The session, within the running loop."""
        if self._session is None:
            trace = aiohttp.TraceConfig()
            trace.on_connection_create_end.append(_began)
            trace.on_connection_reuseconn.append(_began)
            trace.on_request_headers_sent.append(_begins)
            trace.on_request_chunk_sent.append(_leaves)
            connector = aiohttp.TCPConnector(
                limit=self._connections,
                ssl=self._tls,
                resolver=GuardedResolver(allow_private=self._allow_private, inner=self._resolver),
                use_dns_cache=False,
                socket_factory=self._judged_socket,
                keepalive_timeout=KEEP_ALIVE_SECONDS,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                trace_configs=[trace],
                middlewares=(send_once,),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
                auto_decompress=False,
                trust_env=False,
            )
        return self._session

    def _judged_socket(self, info: aiohttp.AddrInfoType) -> socket.socket:
        why = refusal(str(info[4][0]), allow_private=self._allow_private)
        if why:
            raise AddressRefusedError(why)
        return socket.socket(family=info[0], type=info[1], proto=info[2])
