"""The OPA server engine against a real OPA, and against servers that misbehave."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from soar.errors import PolicyError, PolicyUnavailableError
from soar.policy.bundle import Bundle, load_bundle
from soar.policy.gate import Gate
from soar.policy.port import UNDEFINED
from soar.policy.server import OpaEngine

from .opa_server import serve
from .policy_questions import ROOT, Ask, CountingIds


@pytest.fixture(scope="module")
def opa_url(opa_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("bundle")
    load_bundle(ROOT / "policies").export(folder)
    with serve(opa_binary, folder) as url:
        yield url


async def test_a_real_opa_decides_under_the_pinned_revision(opa_url: str, starters: Bundle, ask: Ask) -> None:
    engine = OpaEngine(opa_url, revision=starters.revision)
    assert await engine.check() >= "1.21.3"
    gate = Gate(engine, mandatory_controls=starters.mandatory_controls, ids=CountingIds())
    asked = [ask("host.isolate", f"host:{name}").document() for name in ("ws-1", "dc-01")]
    allowed, denied = await gate.decide_many(asked)
    assert (allowed.effect, denied.effect) == ("allow", "deny")
    assert (denied.engine, denied.revision) == ("opa", starters.revision)
    await engine.close()


async def test_another_revision_is_found_at_start_and_denied_later(opa_url: str, starters: Bundle, ask: Ask) -> None:
    engine = OpaEngine(opa_url, revision="f" * 64)
    with pytest.raises(PolicyError, match=f"serves revision {starters.revision}, not ffff"):
        await engine.check()
    decision = await Gate(engine, mandatory_controls=(), ids=CountingIds()).decide(ask("ticket.create").document())
    assert [reason.code for reason in decision.reasons] == ["gate.revision"]
    await engine.close()


async def test_an_opa_without_the_bundle_allows_nothing(opa: str, ask: Ask) -> None:
    """It answers 200 without a result."""
    engine = OpaEngine(opa, revision="f" * 64)
    assert (await engine.evaluate(ask("ticket.create").document())).value is UNDEFINED
    with pytest.raises(PolicyError, match="serves revision none"):
        await engine.check()
    await engine.close()


Reply = Callable[[asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def replying(reply: Reply) -> AsyncIterator[str]:
    """A server that reads a request and answers as told."""

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.append(asyncio.current_task())
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        await reply(writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    handlers: list[Any] = []
    server = await asyncio.start_server(serve_one, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await asyncio.gather(*handlers)


def http(status: int, body: bytes, content_type: str = "application/json") -> Reply:
    async def reply(writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()

    return reply


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")


async def stall(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(0.5)


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (http(500, b'{"code": "internal_error"}'), "answered 500"),
        (http(503, b""), "answered 503"),
        (http(401, b"{}"), "answered 401"),
        (http(200, b"<html>", "text/html"), "something that is not JSON"),
        (http(200, b"{"), "something that is not JSON"),
        (http(200, b"\xff\xfe", "application/json; charset=utf-8"), "something that is not JSON"),
        (http(200, b"[]"), "JSON that is no object"),
        (hang_up, "cannot be reached"),
        (stall, "gave no answer within 0.2 s"),
    ],
)
async def test_a_server_that_cannot_answer_gives_no_answer(ask: Ask, reply: Reply, says: str) -> None:
    """Nothing is sent, the run parks and asks again; none of this is a denial that would end the run."""
    async with replying(reply) as url:
        engine = OpaEngine(url, revision="r", timeout_seconds=0.2)
        with pytest.raises(PolicyUnavailableError) as caught:
            await Gate(engine, mandatory_controls=(), ids=CountingIds()).decide(ask("ticket.create").document())
        await engine.close()
    assert says in str(caught.value)


async def test_no_server_gives_no_answer(ask: Ask) -> None:
    async with replying(stall) as url:
        pass
    engine = OpaEngine(url, revision="r")
    with pytest.raises(PolicyUnavailableError, match="cannot be reached"):
        await engine.evaluate(ask("ticket.create").document())
    await engine.close()


async def test_an_input_that_opa_refuses_is_a_fault(ask: Ask) -> None:
    """Asking again would fail again, so it does not park."""
    async with replying(http(400, b"{}")) as url:
        engine = OpaEngine(url, revision="r")
        decision = await Gate(engine, mandatory_controls=(), ids=CountingIds()).decide(ask("ticket.create").document())
        await engine.close()
    assert [reason.code for reason in decision.reasons] == ["gate.fault"]


@pytest.mark.parametrize(
    ("provenance", "code"),
    [
        ({}, "gate.revision"),
        ({"bundles": {}}, "gate.revision"),
        ({"bundles": {"a": {"revision": "r"}, "b": {"revision": "other"}}}, "gate.revision"),
        ({"bundles": {"a": None}}, "gate.revision"),
        ({"bundles": {"a": {"revision": "r"}}}, "gate.undefined"),
    ],
)
async def test_only_the_pinned_revision_alone_counts(ask: Ask, provenance: dict[str, object], code: str) -> None:
    async with replying(http(200, json.dumps({"provenance": provenance}).encode())) as url:
        engine = OpaEngine(url, revision="r")
        decision = await Gate(engine, mandatory_controls=(), ids=CountingIds()).decide(ask("ticket.create").document())
        await engine.close()
    assert [reason.code for reason in decision.reasons] == [code]


@pytest.mark.parametrize("version", ["1.21.2", "0.70.0", "", "new"])
async def test_an_old_opa_is_refused(version: str) -> None:
    body = {"result": {}, "provenance": {"version": version, "bundles": {"a": {"revision": "r"}}}}
    async with replying(http(200, json.dumps(body).encode())) as url:
        engine = OpaEngine(url, revision="r")
        with pytest.raises(PolicyError, match=r"1\.21\.3 or newer is required"):
            await engine.check()
        await engine.close()


@pytest.mark.parametrize("url", ["", "opa:8181", "ftp://opa", "http://", "http://opa/v1/data"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(PolicyError, match="is no address of an OPA server"):
        OpaEngine(url, revision="r")
