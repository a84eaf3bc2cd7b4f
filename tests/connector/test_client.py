"""The client: what each answer and each broken exchange is called, what it never shows, and what it never does."""

import asyncio
import base64
import gzip
import json
import logging
import tracemalloc
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from urllib.parse import quote

import httpx
import pytest
import structlog

from soar.connector.client import Auth, BasicAuth, BearerAuth, Client, HeaderAuth
from soar.connector.secret import Secret, SecretResolver
from soar.connector.sinks import path_segment
from soar.errors import (
    AuthenticationError,
    ConnectorError,
    NotSentError,
    OutcomeUnknownError,
    RateLimitedError,
    RejectedError,
    RemoteConflictError,
    RemoteFailureError,
    RemoteNotFoundError,
)
from soar.model.action import Effect
from soar.model.clock import SystemClock

from .exchanges import answer, make_call, read_request, serving
from .played import Played

CANARY = 'canary/"5f1d"+d41d'
TOKEN = Secret("secret://env/TOKEN")
WRITES = [effect for effect in Effect if effect is not Effect.READ]


def client(handler=None, *, base_url="https://a.example/api", auth: Auth | None = None, **options) -> Client:
    return Client(
        instance="x",
        base_url=base_url,
        resolver=SecretResolver({"TOKEN": CANARY}),
        clock=SystemClock(),
        auth=auth,
        allow_private=True,
        transport=Played(handler) if handler else None,
        **options,
    )


def replying(status: int, *, headers=None, body: bytes = b"no") -> Client:
    return client(lambda _: httpx.Response(status, headers=headers, content=body))


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, RejectedError),
        (401, AuthenticationError),
        (403, AuthenticationError),
        (404, RemoteNotFoundError),
        (409, RemoteConflictError),
        (410, RejectedError),
        (422, RejectedError),
        (429, RateLimitedError),
        (301, RejectedError),
        (304, RejectedError),
        (307, RejectedError),
    ],
)
@pytest.mark.parametrize("effect", list(Effect))
async def test_a_trustworthy_refusal_has_one_name_for_every_effect(status, error, effect):
    with pytest.raises(ConnectorError) as caught:
        await replying(status).request("POST", "/things", call=make_call(effect))
    assert type(caught.value) is error
    assert caught.value.status == status
    assert f"x: POST /things answered {status}" in str(caught.value)


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504, 599])
async def test_a_server_error_is_a_failure_for_a_read_and_unknown_for_anything_else(status):
    with pytest.raises(RemoteFailureError):
        await replying(status).request("POST", "/a", call=make_call(Effect.READ))
    for effect in WRITES:
        with pytest.raises(OutcomeUnknownError):
            await replying(status).request("POST", "/a", call=make_call(effect))


async def test_503_with_retry_after_says_that_it_did_nothing():
    with pytest.raises(RemoteFailureError):
        await replying(503, headers={"Retry-After": "3"}).request("POST", "/a", call=make_call())


@pytest.mark.parametrize(
    ("header", "low", "high"),
    [
        ("7", 7, 7),
        (timedelta(seconds=3600), 3000, 3600),
        (timedelta(seconds=-90), 0, 0),
        ("soon", None, None),
        ("-5", None, None),
        ("", None, None),
    ],
)
async def test_retry_after_is_read_as_seconds_or_as_a_date(header, low, high):
    if isinstance(header, timedelta):
        header = format_datetime(datetime.now(UTC) + header, usegmt=True)
    with pytest.raises(RateLimitedError) as caught:
        await replying(429, headers={"Retry-After": header}).get("/a", call=make_call())
    seconds = caught.value.retry_after_seconds
    assert seconds is None if low is None else low <= seconds <= high


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"a":', b'{"a": NaN}', b"\xff\xfe", b"[" * 100_000])
async def test_a_success_that_is_no_json_is_a_broken_exchange(body):
    for effect, error in ((Effect.READ, RemoteFailureError), (Effect.KEYED, OutcomeUnknownError)):
        response = await replying(200, body=body).request("POST", "/a", call=make_call(effect))
        with pytest.raises(error, match="no JSON"):
            response.json()


@pytest.mark.parametrize(
    "failure", [httpx.ConnectError("refused"), httpx.ConnectTimeout("late"), httpx.PoolTimeout("")]
)
async def test_what_never_connected_is_proven_not_sent(failure):
    def fail(_):
        raise failure

    with pytest.raises(NotSentError):
        await client(fail).request("POST", "/a", call=make_call())


@pytest.mark.parametrize(
    "failure", [httpx.ReadTimeout("late"), httpx.ReadError("reset"), httpx.RemoteProtocolError("")]
)
async def test_what_broke_later_is_a_failure_or_unknown(failure):
    def fail(_):
        raise failure

    with pytest.raises(OutcomeUnknownError):
        await client(fail).request("POST", "/a", call=make_call())
    with pytest.raises(RemoteFailureError):
        await client(fail).get("/a", call=make_call())


async def test_an_error_shows_method_path_status_and_a_clean_excerpt_but_no_query():
    body = b'{"error":"\x1b[2J bad\xe2\x80\xae ' + b"x" * 5000 + b'"}'
    with pytest.raises(RejectedError) as caught:
        await replying(400, body=body).get("/a/b", call=make_call(), params={"q": "private-value"})
    text = str(caught.value)
    assert text.startswith("x: GET /a/b answered 400: ")
    assert len(text) < 400
    assert text.isprintable()
    assert "private-value" not in text


@pytest.mark.parametrize(
    ("auth", "name", "value"),
    [
        (BearerAuth(TOKEN), "authorization", f"Bearer {CANARY}"),
        (HeaderAuth("X-Key", TOKEN), "x-key", CANARY),
        (HeaderAuth("Authorization", TOKEN, "Splunk "), "authorization", f"Splunk {CANARY}"),
        (BasicAuth("me@x", TOKEN), "authorization", "Basic " + base64.b64encode(f"me@x:{CANARY}".encode()).decode()),
    ],
)
async def test_a_credential_is_sent_and_then_shown_nowhere(auth, name, value, caplog):
    """Not in answers that echo it, errors, reprs or logs."""
    seen = []

    def echo(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers[name])
        status = 400 if request.url.path.endswith("bad") else 200
        echoed = {"raw": value, "secret": CANARY, "all": dict(request.headers)}
        return httpx.Response(status, json=echoed, headers={"X-Echo": value})

    x = client(echo, auth=auth)
    with structlog.testing.capture_logs() as events, caplog.at_level(logging.DEBUG):
        response = await x.request("POST", "/good", call=make_call(), json={"a": 1})
        with pytest.raises(RejectedError) as caught:
            await x.request("POST", "/bad", call=make_call(), json={"a": 1})
    assert seen == [value, value]
    shown = [response.text, response.json(), dict(response.headers), response, caught.value, repr(caught.value)]
    shown += [auth, x, events, caplog.text, caught.value.__cause__, caught.value.__context__]
    for spelling in (CANARY, json.dumps(CANARY)[1:-1], value.removeprefix("Basic ")):
        assert spelling not in repr(shown)


async def test_a_missing_secret_is_not_sent_and_named():
    x = client(lambda _: httpx.Response(200), auth=BearerAuth(Secret("secret://env/OTHER")))
    with pytest.raises(NotSentError, match="secret://env/OTHER"):
        await x.request("POST", "/a", call=make_call())


async def test_one_trace_per_run_and_one_span_per_request():
    seen = []

    def note(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["traceparent"].split("-"))
        return httpx.Response(200)

    x = client(note)
    for path in ("/a", "/b"):
        await x.get(path, call=make_call())
    assert seen[0][1] == seen[1][1]
    assert seen[0][2] != seen[1][2]
    assert [len(part) for part in seen[0]] == [2, 32, 16, 2]


async def test_a_dry_run_only_reads():
    seen = []
    x = client(lambda request: seen.append(request.method) or httpx.Response(200))
    with pytest.raises(NotSentError, match="dry run"):
        await x.request("POST", "/a", call=make_call(Effect.KEYED, dry_run=True))
    await x.get("/a", call=make_call(dry_run=True))
    assert seen == ["GET"]


async def test_a_deadline_that_passed_sends_nothing():
    seen = []
    x = client(lambda request: seen.append(request) or httpx.Response(200))
    with pytest.raises(NotSentError, match="deadline"):
        await x.request("POST", "/a", call=make_call(seconds=-1))
    assert seen == []


async def test_waiting_for_a_slot_beyond_the_deadline_is_proven_not_sent():
    free = asyncio.Event()
    seen = []

    async def hold(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.path)
        await free.wait()
        return httpx.Response(200)

    x = client(hold, max_concurrent=1)
    first = asyncio.create_task(x.request("POST", "/first", call=make_call()))
    await asyncio.sleep(0)
    with pytest.raises(NotSentError, match="no free connection"):
        await x.request("POST", "/second", call=make_call(seconds=0.05))
    free.set()
    assert (await first).status == 200
    assert seen == ["/api/first"]


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://a.example", "not encrypted"),
        ("https://user:pass@a.example", "no user or password"),
        ("https://a.example/?q=1", "leave query"),
        ("https://a.example/#f", "leave query"),
        ("ftp://a.example", "write https://HOST"),
        ("a.example", "write https://HOST"),
        ("https://", "write https://HOST"),
        ("https://a.example:port", "no URL"),
        ("https://127.0.0.1", "allow_private"),
        ("https://a.example\\@evil.example", "URL"),
        ("https://ex\u00e4mple.example", "ASCII"),
    ],
)
def test_a_base_url_that_is_none_is_refused_with_the_remedy(url, why):
    with pytest.raises(ValueError, match=why):
        Client(instance="x", base_url=url, resolver=SecretResolver({}), clock=SystemClock())


# From here on: real servers on loopback that break in the middle.


async def exchange(talk, *, effect: Effect = Effect.UNSAFE, seconds: float = 5, **options) -> ConnectorError:
    """The error that one POST to `talk` ends with."""
    async with serving(talk) as url:
        x = client(base_url=url, **options)
        try:
            with pytest.raises(ConnectorError) as caught:
                await x.request("POST", "/a", call=make_call(effect, seconds=seconds), json={"a": 1})
        finally:
            await x.close()
    return caught.value


async def reset_after_reading(reader, writer):
    await read_request(reader)
    writer.transport.abort()


async def close_after_reading(reader, writer):
    await read_request(reader)


async def close_at_once(reader, writer):
    pass


async def half_a_body(reader, writer):
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    await writer.drain()


async def not_http(reader, writer):
    await read_request(reader)
    writer.write(b"SSH-2.0-OpenSSH_9.9\r\n")
    await writer.drain()


async def endless_header(reader, writer):
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1_000_000 + b"\r\n\r\n")
    await writer.drain()


async def broken_gzip(reader, writer):
    await read_request(reader)
    writer.write(answer(b"not gzip", headers="Content-Encoding: gzip\r\n"))
    await writer.drain()


async def truncated_gzip(reader, writer):
    await read_request(reader)
    writer.write(answer(gzip.compress(b"{}" * 1000)[:-9], headers="Content-Encoding: gzip\r\n"))
    await writer.drain()


async def unasked_encoding(reader, writer):
    await read_request(reader)
    writer.write(answer(b"\x00" * 10, headers="Content-Encoding: br\r\n"))
    await writer.drain()


async def no_answer(reader, writer):
    await read_request(reader)
    await reader.read()


async def drip(reader, writer):
    """A byte every 20 ms: no single read times out, the whole call must."""
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


BREAKS = [
    reset_after_reading, close_after_reading, close_at_once, half_a_body, not_http, endless_header, broken_gzip,
    truncated_gzip, unasked_encoding,
]  # fmt: skip


@pytest.mark.parametrize("talk", BREAKS)
async def test_a_connection_that_breaks_after_sending_is_unknown_for_a_write_and_a_failure_for_a_read(talk):
    assert type(await exchange(talk)) is OutcomeUnknownError
    assert type(await exchange(talk, effect=Effect.READ)) is RemoteFailureError


@pytest.mark.parametrize("talk", [no_answer, drip])
async def test_the_deadline_covers_the_whole_call(talk):
    assert type(await exchange(talk, seconds=0.3)) is OutcomeUnknownError
    assert type(await exchange(talk, seconds=0.3, effect=Effect.READ)) is RemoteFailureError


async def test_refused_unresolvable_and_failed_handshakes_are_proven_not_sent():
    async with serving(close_at_once) as url:
        pass  # closed again: nobody listens there
    handshake_heard = []

    async def no_tls(reader, writer):
        handshake_heard.append(await reader.read(3))
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    async with serving(no_tls) as plain:
        for base_url in (url, "https://no-such-host.invalid", plain.replace("http:", "https:")):
            x = client(base_url=base_url)
            with pytest.raises(NotSentError):
                await x.request("POST", "/a", call=make_call())
            await x.close()
    assert handshake_heard == [b"\x16\x03\x01"]  # a TLS hello, and no request after it


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_a_kept_alive_connection_that_breaks_is_not_used_for_a_blind_second_try(method):
    """The aiohttp library would send PUT and DELETE again by itself; only the declared effect may say so."""
    requests = []

    async def once_then_hang_up(reader, writer):
        requests.append(await read_request(reader))
        writer.write(answer())
        await writer.drain()
        requests.append(await read_request(reader))

    async with serving(once_then_hang_up) as url:
        x = client(base_url=url)
        await x.request(method, "/first", call=make_call())
        with pytest.raises(OutcomeUnknownError):
            await x.request(method, "/second", call=make_call())
        await x.close()
    assert len(requests) == 2


async def test_cookies_are_not_kept():
    requests = []

    async def set_cookie(reader, writer):
        for _ in range(2):
            requests.append(await read_request(reader))
            writer.write(answer(headers="Set-Cookie: session=stolen; Path=/\r\n"))
            await writer.drain()

    async with serving(set_cookie) as url:
        x = client(base_url=url.replace("127.0.0.1", "localhost"))  # jars keep none for bare addresses anyway
        for _ in range(2):
            await x.get("/a", call=make_call())
        await x.close()
    assert b"cookie" not in requests[1].lower()


async def test_a_gigabyte_is_refused_in_bounded_memory():
    sent = 0

    async def gigabyte(reader, writer):
        nonlocal sent
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
        for _ in range(16_384):
            writer.write(b"x" * 65_536)
            await writer.drain()
            sent += 65_536

    tracemalloc.start()
    error = await exchange(gigabyte)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert type(error) is OutcomeUnknownError
    assert "larger than 10485760 bytes" in str(error)
    assert sent < 100_000_000
    assert peak < 60_000_000


async def test_a_packed_bomb_is_cut_while_it_is_unpacked():
    bomb = gzip.compress(b"\x00" * 200_000_000, compresslevel=9)

    async def talk(reader, writer):
        await read_request(reader)
        writer.write(answer(bomb, headers="Content-Encoding: gzip\r\n"))
        await writer.drain()

    tracemalloc.start()
    error = await exchange(talk, effect=Effect.READ)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert type(error) is RemoteFailureError
    assert peak < 100_000_000


async def test_an_error_with_an_endless_body_keeps_its_name():
    async def talk(reader, writer):
        await read_request(reader)
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 1073741824\r\n\r\n")
        for _ in range(16_384):
            writer.write(b"no " * 20_000)
            await writer.drain()

    assert type(await exchange(talk)) is AuthenticationError


async def test_an_error_whose_body_breaks_keeps_its_name():
    async def talk(reader, writer):
        await read_request(reader)
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 100\r\n\r\ngone")
        await writer.drain()

    error = await exchange(talk)
    assert type(error) is RemoteNotFoundError


async def test_what_is_sent_is_what_was_asked_for():
    """Path, query, body and unicode arrive byte for byte, below the base path."""
    requests = []

    async def talk(reader, writer):
        requests.append(await read_request(reader))
        writer.write(answer(gzip.compress(b'{"ok":true}'), headers="Content-Encoding: gzip\r\n"))
        await writer.drain()

    async with serving(talk) as url:
        x = client(base_url=f"{url}/base/")
        response = await x.request(
            "POST", "/a%2Fb%20c%3Fd", call=make_call(), params={"q": "a&b=c ü"}, json={"text": "日本 \u202e"}
        )
        await x.close()
    head, _, body = requests[0].partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0] == b"POST /base/a%2Fb%20c%3Fd?q=a%26b%3Dc+%C3%BC HTTP/1.1"
    assert json.loads(body) == {"text": "日本 \u202e"}
    assert response.json() == {"ok": True}


@pytest.mark.parametrize("name", ["web-1;jsessionid=x", "..;", "a:b@c,d=e&f", "(a)!*'", "a+b", "100%25", "é"])
async def test_a_part_of_a_path_arrives_as_encoded_as_it_was(name):
    """A server may take `;` and the like for more than a part of a name, once they are decoded."""
    lines = []

    async def talk(reader, writer):
        lines.append((await read_request(reader)).split(b"\r\n")[0])
        writer.write(answer())
        await writer.drain()

    async with serving(talk) as url:
        x = client(base_url=url)
        await x.request("POST", f"/hosts/{path_segment(name)}/isolate", call=make_call(), params={"q": name})
        await x.close()
    query = str(httpx.QueryParams({"q": name}))
    assert lines == [f"POST /hosts/{quote(name, safe='')}/isolate?{query} HTTP/1.1".encode()]
