"""The OPA server engine against a real OPA, and against servers that misbehave."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, nullcontext, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from soar.errors import PolicyError, PolicyUnavailableError
from soar.policy.address import OpaAddress
from soar.policy.bundle import Bundle, load_bundle
from soar.policy.collect import Collector
from soar.policy.embedded import EmbeddedEngine
from soar.policy.gate import Gate
from soar.policy.input import PlaybookFacts
from soar.policy.port import UNDEFINED, Answer
from soar.policy.server import OpaEngine
from soar.policy.spawn import SpawnedOpa

from .opa_server import serve
from .policy_questions import ROOT, Ask, CountingIds, Write


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
    questions = [ask("host.isolate", f"host:{name}").document() for name in ("ws-1", "dc-01")]
    allowed, denied = await gate.decide_many(questions)
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
        (http(200, b'{"provenance": {"version": "1.21.2"}}'), "1.21.3 or newer is required"),
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
    async with replying(http(200, json.dumps({"provenance": {"version": "1.22.2", **provenance}}).encode())) as url:
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


@pytest.mark.parametrize(
    "url",
    [
        *("", "opa:8181", "ftp://opa", "http://", "http://opa/v1/data", "http://opa:x"),
        *("unix://opa.sock", "unix:///", "http://user:pass@opa", "https://opa?x=1"),
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(PolicyError, match="is no address of an OPA server"):
        OpaEngine(url, revision="r")


async def test_a_token_never_goes_out_in_the_open() -> None:
    with pytest.raises(PolicyError, match="use https") as caught:
        OpaAddress(url="http://opa:8181", token="the-token")
    assert "the-token" not in str(caught.value)
    for url in (
        "https://opa:8181",
        "http://127.0.0.1:8181",
        "http://[::1]:8181",
        "http://localhost",
        "unix:///opa.sock",
    ):
        assert not OpaAddress(url=url, token="the-token").in_the_open
    assert OpaAddress(url="http://opa:8181").in_the_open


async def test_a_real_opa_behind_tls_that_asks_for_a_token(opa_binary: Path, starters: Bundle, tmp_path: Path) -> None:
    """Only with the token, and only where the authority is known."""
    starters.export(tmp_path / "bundle")
    certificate, key = self_signed(tmp_path)
    (tmp_path / "bundle" / "authz.rego").write_text(
        'package system.authz\n\ndefault allow := false\n\nallow if input.identity == "the-token"\n\n'
        'allow if input.path == ["health"]\n'
    )
    options = [f"--tls-cert-file={certificate}", f"--tls-private-key-file={key}", "--authentication=token"]
    options += ["--authorization=basic"]
    with serve(opa_binary, tmp_path / "bundle", *options, ca=certificate) as url:
        for address, says in (
            (OpaAddress(url=url, token="the-token", ca=certificate), ""),
            (OpaAddress(url=url, token="another", ca=certificate), "answered 401"),
            (OpaAddress(url=url, token="the-token"), "cannot be reached: .*certificate"),
        ):
            engine = OpaEngine(address, revision=starters.revision)
            with pytest.raises(PolicyUnavailableError, match=says) if says else nullcontext():
                assert await engine.check() >= "1.21.3"
            await engine.close()


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that vouches for itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "opa of a test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(certificate.public_bytes(encoding))
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(private)
    return folder / "cert.pem", folder / "key.pem"


async def test_questions_that_come_meanwhile_go_together_in_one_request(starters: Bundle, ask: Ask) -> None:
    """The first goes alone; those that come while it is answered share requests, and each gets its own answer."""
    sizes: list[int] = []
    first, go = asyncio.Event(), asyncio.Event()

    async def answers(documents: list[dict[str, Any]]) -> list[Answer]:
        sizes.append(len(documents))
        first.set()
        await go.wait()
        return [Answer("r", document["n"]) for document in documents]

    collector = Collector(answers, largest=10, under_way=1)
    begun = asyncio.create_task(collector.answers([{"n": -1}]))
    await first.wait()
    others = [asyncio.create_task(collector.answers([{"n": number}])) for number in range(25)]
    await asyncio.sleep(0)
    others[3].cancel()
    await asyncio.sleep(0)
    go.set()
    assert [answer.value for answer in await begun] == [-1]
    found = await asyncio.gather(*others, return_exceptions=True)
    assert isinstance(found.pop(3), asyncio.CancelledError)
    assert [answer.value for (answer,) in found] == [number for number in range(25) if number != 3]  # type: ignore[misc]
    assert sizes == [1, 10, 10, 4]


async def test_one_request_decides_many_of_many_callers_alike(opa_url: str, starters: Bundle, ask: Ask) -> None:
    engine, embedded = OpaEngine(opa_url, revision=starters.revision), EmbeddedEngine(starters)
    documents = [ask("host.isolate", f"host:{name}-01").document() for name in ("dc", "ws", "srv")] * 70
    alone = [engine.evaluate(document) for document in documents]
    assert await asyncio.gather(*alone) == await embedded.evaluate_many(documents)
    assert await engine.evaluate_many([]) == []
    for each in (engine, embedded):
        await each.close()


CONFLICT = """
package soar.main

import data.soar.lib

decision := {"schema": "soar.decision/v1", "effect": effect, "controls_evaluated": []}

effect := "allow"

effect := "deny" if input.playbook.id == "bad"
"""


async def test_a_question_that_cannot_be_answered_takes_no_other_with_it(
    opa_binary: Path, write: Write, ask: Ask, tmp_path: Path
) -> None:
    """Two rules disagree on it, so OPA answers 500 to the whole request; the embedded engine calls it a fault too."""
    bundle = load_bundle(write(main_rego=CONFLICT.replace("import data.soar.lib\n\n", "")))
    bundle.export(tmp_path / "bundle")
    bad = ask("ticket.create", playbook=PlaybookFacts(id="bad", sha256="00")).document()
    documents = [ask("ticket.create").document(), bad, ask("ticket.create").document()]
    embedded = EmbeddedEngine(bundle)
    with serve(opa_binary, tmp_path / "bundle") as url:
        engine = OpaEngine(url, revision=bundle.revision)
        effects = {}
        for each in (engine, embedded):
            gate = Gate(each, mandatory_controls=(), ids=CountingIds())
            decisions = await gate.decide_many(documents)
            effects[each.name] = [(d.effect, [reason.code for reason in d.reasons]) for d in decisions]
            await gate.close()
    assert effects["opa"] == [("allow", []), ("deny", ["gate.fault"]), ("allow", [])]
    assert effects["embedded"] == effects["opa"]


async def test_a_server_is_watched_while_it_serves(opa_binary: Path, starters: Bundle, tmp_path: Path) -> None:
    """Health knows that it went away, and that it is back, with no action asking."""
    starters.export(tmp_path)
    with serve(opa_binary, tmp_path) as url:
        engine = OpaEngine(url, revision=starters.revision, watch_seconds=0.05)
        await engine.open()
        assert engine.problem is None
    await until(lambda: engine.problem == "cannot be reached")
    with serve(opa_binary, tmp_path, port=int(url.rpartition(":")[2])):
        await until(lambda: engine.problem is None)
    await engine.close()


async def test_a_server_that_is_away_at_the_start_is_waited_for(starters: Bundle) -> None:
    async with replying(stall) as url:
        pass
    engine = OpaEngine(url, revision=starters.revision, start_seconds=0)
    await engine.open()
    assert engine.problem == "cannot be reached"
    await engine.close()


async def test_a_server_with_another_policy_is_refused_at_the_start(opa: str, starters: Bundle) -> None:
    engine = OpaEngine(opa, revision=starters.revision, start_seconds=0)
    with pytest.raises(PolicyError, match="serves revision none"):
        await engine.open()


async def test_an_opa_of_our_own_comes_back_when_it_is_killed(opa_binary: Path, starters: Bundle, ask: Ask) -> None:
    spawned = SpawnedOpa(opa_binary, starters)
    engine = OpaEngine(spawned, revision=starters.revision)
    await engine.open()
    question = ask("host.isolate", "host:dc-01").document()
    assert (await engine.evaluate(question)).value["effect"] == "deny"
    first = spawned.pid
    assert first
    assert environment(first) <= {"GOGC", "LC_CTYPE"}  # Python itself may add the second
    os.kill(first, signal.SIGKILL)
    with pytest.raises(PolicyUnavailableError, match="cannot be reached"):
        await engine.evaluate(question)
    await until(lambda: spawned.pid not in {None, first})
    await until_away_no_more(engine)
    assert (await engine.evaluate(question)).value["effect"] == "deny"
    last, folder = spawned.pid, spawned._folder
    assert folder.stat().st_mode & 0o077 == 0
    await engine.close()
    assert last
    assert not alive(last)
    assert not folder.exists()


async def test_an_opa_of_our_own_ends_with_us_however_we_end(opa_binary: Path, tmp_path: Path) -> None:
    """SIGKILL gives no time to end it."""
    code = (
        "import asyncio, pathlib, sys\n"
        "from soar.policy.bundle import load_bundle\n"
        "from soar.policy.spawn import SpawnedOpa\n"
        "async def main():\n"
        "    spawned = SpawnedOpa(pathlib.Path(sys.argv[1]), load_bundle(pathlib.Path(sys.argv[2])))\n"
        "    await spawned.start()\n"
        "    print(spawned.pid, spawned._folder, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-c", code, opa_binary, ROOT / "policies"]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    pid, folder = (await process.stdout.readline()).decode().split()
    await until(lambda: b"opa" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0])
    process.kill()
    await process.wait()
    await until(lambda: not alive(int(pid)))
    shutil.rmtree(folder)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_a_program_that_is_no_opa_is_told_with_its_last_words(starters: Bundle, tmp_path: Path) -> None:
    program = tmp_path / "opa"
    program.write_text("#!/bin/sh\necho no OPA here\nexit 1\n")
    program.chmod(0o755)
    spawned = SpawnedOpa(program, starters)
    with pytest.raises(PolicyError, match="does not come up: no OPA here"):
        await OpaEngine(spawned, revision=starters.revision).open()
    assert not spawned._folder.exists()


def environment(pid: int) -> set[str]:
    """The names of the variables that a process was given."""
    variables = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return {variable.partition("=")[0] for variable in variables if variable}


async def until_away_no_more(engine: OpaEngine) -> None:
    async with asyncio.timeout(60):
        while True:
            with suppress(PolicyUnavailableError):
                await engine.check()
                return
            await asyncio.sleep(0.02)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - another process has no event of ours
            await asyncio.sleep(0.02)
