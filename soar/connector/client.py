"""The one HTTP client: every call of every connector goes through it, and ends as a Response or one clear error."""

from __future__ import annotations

import asyncio
import hashlib
import time
import zlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from json import dumps
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

import aiohttp
import httpx
import structlog
from multidict import CIMultiDict
from pydantic import AfterValidator, Field

from soar import __version__
from soar.connector.auth import Auth, BasicAuth, BearerAuth, HeaderAuth
from soar.connector.call import Call, Model
from soar.connector.network import Answer, Flight, GuardedTransport, Transport, current_flight, refusal
from soar.connector.response import Exchange, Response, printable, refused, strike
from soar.connector.secret import SecretResolver
from soar.errors import ConnectorError, RejectedError
from soar.model.action import Effect
from soar.model.clock import Clock

__all__ = ["Auth", "BaseUrl", "BasicAuth", "BearerAuth", "Client", "Endpoint", "HeaderAuth", "Response"]

log = structlog.get_logger(__name__)

MAX_BODY_BYTES = 10 * 1024 * 1024
MAX_ERROR_BYTES = 16 * 1024
MAX_CONCURRENT = 8
_ENCODINGS = ("", "identity", "gzip")
_GZIP = 16 + zlib.MAX_WBITS  # zlib's word for gzip with its header


def check_base_url(text: str) -> str:
    """The URL without its last slash; raises ValueError with the remedy where it cannot be a base."""
    try:
        parts = urlsplit(text)
        _ = parts.port, httpx.URL(text)
    except (ValueError, httpx.InvalidURL) as failure:
        raise ValueError(f"{text!r} is no URL: {failure}") from None
    if parts.scheme not in {"https", "http"} or not parts.hostname:
        raise ValueError(f"{printable(text)!r} is no base URL; write https://HOST, with port and path if needed")
    if parts.username is not None or parts.password is not None:
        raise ValueError("a base URL carries no user or password; name them as secrets")
    if parts.query or parts.fragment or not text.isascii() or printable(text) != text or "\\" in text:
        raise ValueError(f"{printable(text)!r} is no base URL; leave query and fragment out, plain ASCII only")
    return text.rstrip("/")


BaseUrl = Annotated[str, AfterValidator(check_base_url)]


class Endpoint(Model):
    """What the configuration of every HTTP connector holds; inherit from it."""

    base_url: BaseUrl = Field(description="Where the product is: the only host this instance talks to.")
    allow_private: bool = Field(
        default=False, description="Whether that host may have a private or loopback address, or speak plain http."
    )
    ca_file: str | None = Field(default=None, description="PEM file of a private authority to trust as well.")
    max_concurrent: int = Field(default=MAX_CONCURRENT, ge=1, le=100, description="Calls in flight at once.")

    def client_options(self, auth: Auth | None = None, **more: Any) -> dict[str, Any]:
        """Keyword arguments for `Client`."""
        return {
            "base_url": self.base_url,
            "allow_private": self.allow_private,
            "ca_file": self.ca_file,
            "max_concurrent": self.max_concurrent,
            "auth": auth,
            **more,
        }


@dataclass(frozen=True, kw_only=True)
class Content:
    """What one request carries besides method and path."""

    params: Mapping[str, Any] | None = None
    json: Any = None
    form: Mapping[str, Any] | None = None
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def encoded(self) -> tuple[bytes | None, str | None]:
        """The body and its type, where it has one; raises ValueError for a number that JSON does not have."""
        if self.json is not None:
            text = dumps(self.json, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
            return text.encode(), "application/json"
        if self.form is not None:
            return str(httpx.QueryParams(self.form)).encode(), "application/x-www-form-urlencoded"
        return self.content, None


class Client:
    """HTTP to one configured host.

    Whatever happens is told apart by what may have reached the other side: NotSentError is proven, an answer
    is what `refused` says, and everything else depends on the call's effect. Redirects are not followed,
    cookies not kept, the environment's proxies not used. Raises ConfigError from `ValueError` at construction
    only through the registry.
    """

    def __init__(  # noqa: PLR0913 - one instance's whole configuration, all of it by keyword
        self,
        *,
        instance: str,
        base_url: str,
        resolver: SecretResolver,
        clock: Clock,
        auth: Auth | None = None,
        allow_private: bool = False,
        ca_file: str | None = None,
        headers: Mapping[str, str] | None = None,
        max_body_bytes: int = MAX_BODY_BYTES,
        max_concurrent: int = MAX_CONCURRENT,
        transport: Transport | None = None,
    ) -> None:
        self.instance = instance
        self.base_url = check_base_url(base_url)
        _refuse_early(self.base_url, allow_private=allow_private)
        self._resolver = resolver
        self._clock = clock
        self._auth = auth
        self._max_body_bytes = max_body_bytes
        self._slots = asyncio.Semaphore(max_concurrent)
        self._headers = {"User-Agent": f"soar/{__version__}", "Accept-Encoding": "gzip", **(headers or {})}
        self._transport = transport or GuardedTransport(
            allow_private=allow_private, ca_file=ca_file, connections=max_concurrent
        )

    def __repr__(self) -> str:
        return f"Client({self.instance}, {self.base_url})"

    async def get(self, path: str, *, call: Call, params: Mapping[str, Any] | None = None) -> Response:
        """A GET, which changes nothing: a broken exchange is a failure even where the action itself is a write."""
        return await self.request("GET", path, call=call.reading(), params=params)

    async def request(  # noqa: PLR0913 - the parts of a request, all of them by keyword
        self,
        method: str,
        path: str,
        *,
        call: Call,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        form: Mapping[str, Any] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Send one request below the base URL and return its 2xx answer.

        `path` begins with a slash and is already encoded (`soar.connector.sinks.path_segment`). Raises
        ConnectorError: see `soar.connector.response`. The call's deadline covers waiting for a free slot,
        connecting, sending and reading to the last byte.
        """
        exchange = Exchange(self.instance, method, path, call.effect)
        _check_path(exchange)
        if call.dry_run and call.effect is not Effect.READ:
            raise exchange.not_sent("this is a dry run, which only reads")
        body = Content(params=params, json=json, form=form, content=content, headers=headers or {})
        started = time.monotonic()
        outcome = "cancelled"
        try:
            response = await self._within_deadline(exchange, body, call)
            outcome = str(response.status)
        except ConnectorError as failure:
            outcome = failure.code
            raise
        finally:
            log.info(
                "connector.call",
                instance=self.instance,
                method=method,
                path=printable(path),
                outcome=outcome,
                run=call.run_id,
                seconds=round(time.monotonic() - started, 4),
            )
        if call.effect is Effect.READ:
            return response
        call.trail.changes += 1
        return replace(response, trail=call.trail)

    async def close(self) -> None:
        """End all connections."""
        await self._transport.close()

    async def _within_deadline(self, exchange: Exchange, body: Content, call: Call) -> Response:
        begun = asyncio.get_running_loop().time()  # before the clock: a stop between the two must not grant more time
        remaining = (call.deadline - self._clock.now()).total_seconds()
        if remaining <= 0:
            raise exchange.not_sent("its deadline had passed")
        flight = Flight(until=begun + remaining)
        token = current_flight.set(flight)
        try:
            async with asyncio.timeout(remaining), self._slots:
                return await self._send(exchange, body, call, flight)
        except TimeoutError:
            if flight.began:
                raise exchange.broken(f"no answer within {remaining:.1f} s") from None
            raise exchange.not_sent(f"no free connection within {remaining:.1f} s") from None
        finally:
            current_flight.reset(token)

    async def _send(self, exchange: Exchange, body: Content, call: Call, flight: Flight) -> Response:
        credential = self._auth.credential(self._resolver.reveal) if self._auth else None
        headers = CIMultiDict(self._headers, traceparent=_traceparent(call, exchange))
        payload, kind = body.encoded()
        if kind:
            headers["Content-Type"] = kind
        headers.update(body.headers)
        if credential:
            headers[credential.name] = credential.value
        sensitive = credential.sensitive if credential else ()
        url = f"{self.base_url}{exchange.path}"
        if body.params:
            url = f"{url}?{httpx.QueryParams(body.params)}"
        try:
            async with self._transport.send(exchange.method, url, headers=headers, body=payload) as answer:
                good = 200 <= answer.status < 300
                received = await (self._read(exchange, answer) if good else _beginning(exchange, answer))
        except (aiohttp.ClientError, OSError) as failure:
            if isinstance(failure, TimeoutError) and not isinstance(failure, aiohttp.ClientError):
                raise
            raise _broken(exchange, failure, flight, sensitive=sensitive) from None
        clean = strike(received, sensitive)
        if not good:
            raise refused(exchange, answer.status, headers=answer.headers, body=clean, now=self._clock.now())
        shown = [
            (name, strike(value.encode(errors="replace"), sensitive).decode()) for name, value in answer.headers.items()
        ]
        return Response(exchange, answer.status, httpx.Headers(shown), clean)

    async def _read(self, exchange: Exchange, answer: Answer) -> bytes:
        """The whole body, unpacked, or an error: beyond the cap the connection is dropped."""
        body = bytearray()
        async for chunk in _unpacked(exchange, answer):
            body += chunk
            if len(body) > self._max_body_bytes:
                limit = self._max_body_bytes
                raise exchange.broken(f"the answer is larger than {limit} bytes", status=answer.status)
        return bytes(body)


async def _unpacked(exchange: Exchange, answer: Answer) -> AsyncIterator[bytes]:
    encoding = answer.headers.get("content-encoding", "").strip().lower()
    if encoding not in _ENCODINGS:  # others can unpack to any size within one step
        raise exchange.broken(f"the answer's encoding is {printable(encoding[:40])!r}, which was not asked for")
    unpacking = zlib.decompressobj(wbits=_GZIP) if encoding == "gzip" else None
    came = False
    async for chunk in answer.chunks:
        came = True
        try:
            yield unpacking.decompress(chunk) if unpacking else chunk
        except zlib.error as failure:
            raise exchange.broken(f"the answer is no gzip, as it says it is: {failure}") from None
    if unpacking and came and not unpacking.eof:
        raise exchange.broken("the answer is gzip and ends too early")


async def _beginning(exchange: Exchange, answer: Answer) -> bytes:
    """As much of an error's body as a message shows. Its status counts even where its body breaks."""
    body = b""
    try:
        async for chunk in _unpacked(exchange, answer):
            body += chunk
            if len(body) >= MAX_ERROR_BYTES:
                break
    except (ConnectorError, aiohttp.ClientError) as failure:
        log.debug("connector.error_body_broken", instance=exchange.instance, error=type(failure).__name__)
    return body


def _refuse_early(base_url: str, *, allow_private: bool) -> None:
    """Say at start what the socket would refuse later; raises ValueError."""
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    try:
        why = refusal(host, allow_private=allow_private)
    except ValueError:  # a name: judged when it is resolved
        why = None
    if why:
        raise ValueError(f"base_url {base_url!r}: {why}")
    if parts.scheme == "http" and not allow_private:
        raise ValueError(f"base_url {base_url!r} is not encrypted; use https, or set allow_private: true")


def _check_path(exchange: Exchange) -> None:
    """A path cannot leave the base URL; raises RejectedError before anything is sent."""
    path = exchange.path
    parts = [unquote(part) for part in path.split("/")]
    odd = any(mark in path for mark in "?#\\ ") or printable(path) != path or not path.isascii()
    if not path.startswith("/") or path.startswith("//") or odd or "." in parts or ".." in parts:
        raise RejectedError(
            f"{exchange} was not sent: the path must be encoded, begin with one slash and stay below it"
        )


def _broken(exchange: Exchange, failure: Exception, flight: Flight, *, sensitive: tuple[str, ...]) -> ConnectorError:
    """An exchange that ended without an answer.

    What aiohttp calls it is no guide: one word can stand for a connection that broke before sending and after. The
    flight saw whether a connection was ever in hand.
    """
    why = strike(f"{failure or type(failure).__name__}".encode(), sensitive).decode()
    return exchange.broken(why) if flight.began else exchange.not_sent(why)


def _traceparent(call: Call, exchange: Exchange) -> str:
    """W3C Trace Context: one trace per run, one span per request, both derived and therefore found again."""
    trace = hashlib.sha256(call.run_id.encode()).hexdigest()[:32]
    span = hashlib.sha256(f"{call.idempotency_key}\n{call.deadline}\n{exchange}".encode()).hexdigest()[:16]
    return f"00-{trace}-{span}-01"
