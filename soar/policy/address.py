"""Where an OPA server answers, and the client that goes there: TCP, TLS with a token, or a Unix socket."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import orjson
from opa_client import AsyncOpaClient

from soar.errors import PolicyError


@dataclass(frozen=True, kw_only=True)
class OpaAddress:
    """`http://HOST:PORT`, `https://HOST:PORT` or `unix:///PATH/TO/SOCKET`.

    `token` is a bearer token's value, `ca` a file with the authorities that may vouch for the server (else the
    system's). Raises `PolicyError` for what is no such address, and for a token that would go out in the open.
    """

    url: str
    token: str | None = None
    ca: Path | None = None

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            _ = parts.port
        except ValueError:
            parts = urlsplit("")
        http = parts.scheme in {"http", "https"} and parts.hostname and not parts.path.strip("/")
        unix = parts.scheme == "unix" and not parts.netloc and parts.path.strip("/")
        if not (http or unix) or parts.query or parts.fragment or parts.username:
            remedy = "write http://host:8181, https://host:8181 or unix:///path/to/socket"
            raise PolicyError(f"{self.url!r} is no address of an OPA server; {remedy}")
        if self.token is not None and self.in_the_open:
            raise PolicyError(f"{self.url} would show the token to everybody on the way; use https")

    @property
    def in_the_open(self) -> bool:
        """Whether others could read what is said, or answer in OPA's place."""
        parts = urlsplit(self.url)
        if parts.scheme != "http" or parts.hostname == "localhost":
            return False
        try:
            return not ip_address(parts.hostname or "").is_loopback
        except ValueError:
            return True

    def client(self, *, timeout_seconds: float) -> OpaClient:
        """A client that asks once; opened within a running loop."""
        parts = urlsplit(self.url)
        host = parts.hostname or "opa"
        tls = parts.scheme == "https"
        return OpaClient(
            self,
            host=f"[{host}]" if ":" in host else host,
            port=parts.port or (443 if tls else 80),
            ssl=tls,
            token=self.token,
            retries=0,  # the run asks again, with fresh counters
            timeout=timeout_seconds,
        )

    def connector(self) -> aiohttp.BaseConnector:
        """How aiohttp gets there."""
        parts = urlsplit(self.url)
        if parts.scheme == "unix":
            return aiohttp.UnixConnector(path=parts.path)
        if self.ca is None:
            return aiohttp.TCPConnector()
        try:
            return aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=str(self.ca)))
        except OSError as failure:  # ssl.SSLError too
            raise PolicyError(f"{self.ca} holds no certificates that can be read: {failure}") from failure


class OpaClient(AsyncOpaClient):  # type: ignore[misc]  # it has no types
    """The library's client on a connection of ours: it knows no Unix sockets and no authorities of one's own.

    `query` also gives what OPA says beside a refusal, which `query_rule` leaves unread.
    """

    def __init__(self, address: OpaAddress, **options: object) -> None:
        super().__init__(**options)
        self._address = address
        self._session: aiohttp.ClientSession | None = None

    async def query(self, document: object, path: str) -> tuple[int, bytes]:
        """Status and body for `input` asked of a rule, with provenance; raises aiohttp.ClientError."""
        if self._session is None:  # opening needs a running loop, and does not suspend
            await self._init_session()
        url = f"{self.root_url}/data/{path}?provenance=true"
        async with self._request("POST", url, json={"input": document}) as answer:
            return answer.status, await answer.read()

    async def _init_session(self) -> None:
        self._session = aiohttp.ClientSession(
            headers=self.headers,
            connector=self._address.connector(),
            timeout=aiohttp.ClientTimeout(total=self.timeout),
            json_serialize=lambda document: orjson.dumps(document).decode(),
        )
