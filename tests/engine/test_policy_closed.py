"""Whatever an OPA does that is no decision, nothing reaches the lab; what waits goes on by itself when OPA is well."""

import asyncio
import json
import os
import signal
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from soar.model.run import RunState
from soar.policy.bundle import load_bundle

from ..policy.opa_server import serve  # noqa: TID252 - tests are no package that has another name
from .house import ALLOW, House

SAY = 'steps: [{id: say, use: notify.send, with: {channel: soc, text: "${{ alert.title }}"}}]\n'
CONTROLS = "mandatory: [test]\n"

Body = dict[str, Any]
Meddle = Callable[[Body], bytes | None]


class Meddler:
    """Stands between soar and a real OPA, and changes its answers from when it is told."""

    def __init__(self, opa: str) -> None:
        self._opa = opa
        self.status = 200
        self.meddle: Meddle | None = None
        self.asked = 0
        self._serving: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        serving = asyncio.current_task()
        assert serving
        self._serving.add(serving)
        try:
            await self._serve(reader, writer)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def end(self) -> None:
        for serving in self._serving:
            serving.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = int(head.lower().partition("content-length: ")[2].partition("\r\n")[0])
                question = await reader.readexactly(length)
                self.asked += 1
                body: bytes | None = await asyncio.to_thread(self._forward, head.split()[1], question)
                if self.meddle is not None:
                    body = self.meddle(json.loads(body or b""))
                if body is None:
                    break
                if body == STALL:
                    await asyncio.sleep(1)
                answer = f"HTTP/1.1 {self.status if self.meddle else 200} X\r\ncontent-length: {len(body)}\r\n\r\n"
                writer.write(answer.encode() + body)
                await writer.drain()

    def _forward(self, path: str, question: bytes) -> bytes:
        request = urllib.request.Request(self._opa + path, question, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            found: bytes = answer.read()
        return found


STALL = b"stall"


def with_decisions(**changes: Any) -> Meddle:
    """Every decision, with these parts of it changed; those that are None are left out."""

    def meddle(body: Body) -> bytes:
        for number, decision in body["result"].items():
            changed = {**decision, **changes}
            body["result"][number] = {name: value for name, value in changed.items() if value is not None}
        return json.dumps(body).encode()

    return meddle


def with_body(**changes: Any) -> Meddle:
    return lambda body: json.dumps(
        {name: value for name, value in {**body, **changes}.items() if value is not None}
    ).encode()


def provenance(version: str, revision: str) -> Body:
    return {"version": version, "bundles": {"b": {"revision": revision}}}


@contextmanager
def meddling(house: House, binary: Path, folder: Path) -> Iterator[Meddler]:
    """A house that asks a real OPA through a meddler; its policies are in force there."""
    house.policy(ALLOW)
    (house.folder / "policies/data").mkdir(exist_ok=True)
    (house.folder / "policies/data/controls.yaml").write_text(CONTROLS)
    load_bundle(house.folder / "policies").export(folder / "bundle")
    with serve(binary, folder / "bundle") as opa:
        yield Meddler(opa)


@asynccontextmanager
async def begun(house: House, meddler: Meddler) -> AsyncIterator[None]:
    server = await asyncio.start_server(meddler.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    house.environ = {
        "SOAR_POLICY__ENGINE": "opa",
        "SOAR_POLICY__URL": f"http://127.0.0.1:{port}",
        "SOAR_POLICY__TIMEOUT_SECONDS": "0.5",
    }
    house.playbook(SAY)
    await house.start()
    yield
    server.close()
    await meddler.end()


@pytest.fixture
async def meddler(house: House, opa_binary: Path, tmp_path: Path) -> AsyncIterator[Meddler]:
    with meddling(house, opa_binary, tmp_path) as meddler:
        async with begun(house, meddler):
            yield meddler


@pytest.mark.parametrize(
    ("meddle", "code"),
    [
        pytest.param(with_body(result=None), "gate.undefined", id="no result"),
        pytest.param(with_body(result={}), "gate.undefined", id="undefined"),
        pytest.param(with_body(result=[]), "gate.undefined", id="another shape"),
        pytest.param(with_decisions(controls_evaluated=None), "gate.invalid", id="part missing"),
        pytest.param(with_decisions(effect="maybe"), "gate.invalid", id="unknown effect"),
        pytest.param(with_decisions(surprise=1), "gate.invalid", id="unknown part"),
        pytest.param(with_decisions(schema="soar.decision/v9"), "gate.invalid", id="unknown schema"),
        pytest.param(with_decisions(obligations=[{"type": "dance"}]), "gate.", id="unknown obligation"),
        pytest.param(with_decisions(effect="require_approval"), "gate.contradiction", id="nobody to ask"),
        pytest.param(with_decisions(controls_evaluated=[]), "gate.control_missing", id="mandatory control missing"),
        pytest.param(
            with_body(provenance=provenance("1.22.2", "f" * 64)), "gate.revision", id="wrong revision"
        ),
        pytest.param(with_body(provenance={"version": "1.22.2"}), "gate.revision", id="no revision"),
    ],
)  # fmt: skip
async def test_an_answer_that_is_no_decision_ends_the_run_unsent(
    house: House, meddler: Meddler, meddle: Meddle, code: str
) -> None:
    meddler.meddle, before = meddle, meddler.asked
    run = await house.go()
    assert meddler.asked > before
    assert run.state is RunState.DENIED
    assert house.sent() == []
    (decided,) = await house.told(run, "policy.decided")
    (reason,) = decided["body"]["decision"]["reasons"]
    assert reason["code"].startswith(code)
    assert await house.told(run, "action.") == []


@pytest.mark.parametrize(
    ("status", "meddle"),
    [
        pytest.param(500, lambda _: b'{"code": "internal_error"}', id="500"),
        pytest.param(503, lambda _: b"", id="503"),
        pytest.param(401, lambda _: b"{}", id="401"),
        pytest.param(404, with_body(), id="404 that says allow"),
        pytest.param(200, lambda _: STALL, id="timeout"),
        pytest.param(200, lambda _: None, id="hangs up"),
        pytest.param(200, lambda body: json.dumps(body).encode()[:-1], id="malformed"),
        pytest.param(200, lambda _: b"[]", id="no object"),
        pytest.param(200, with_body(provenance=provenance("1.21.2", "r")), id="too old"),
    ],
)
async def test_without_an_answer_the_run_waits_unsent_and_goes_on_when_opa_is_well(
    house: House, meddler: Meddler, status: int, meddle: Meddle
) -> None:
    meddler.status, meddler.meddle = status, meddle
    run = await house.go()
    await house.pass_time(6)
    assert (await house.run(run.id)).state is RunState.WAITING
    assert house.sent() == []
    assert house.running.gate.problem is not None
    meddler.meddle = None
    await house.pass_time(6)
    assert (await house.run(run.id)).state is RunState.SUCCEEDED
    assert len(house.effects()) == 1
    assert house.running.gate.problem is None


@pytest.fixture
async def spawning(house: House, opa_binary: Path) -> House:
    house.environ = {
        "SOAR_POLICY__ENGINE": "opa",
        "SOAR_POLICY__SPAWN": "true",
        "SOAR_POLICY__TIMEOUT_SECONDS": "0.5",
        "PATH": str(opa_binary.parent),
    }
    house.playbook(SAY)
    await house.start()
    return house


def opa_of(house: House) -> int | None:
    return house.running.gate._force.engine._spawned.pid  # type: ignore[attr-defined,no-any-return]


async def test_a_spawned_opa_killed_in_the_middle_loses_no_run_and_sends_nothing_twice(spawning: House) -> None:
    """SIGKILL, again and again, while runs come in: each of them performs its one action, once."""
    house = spawning
    killed: set[int] = set()
    for number in range(60):
        await house.admit(title=f"t-{number}")
        pid = opa_of(house)
        if number % 7 == 3 and pid is not None:
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
        await asyncio.sleep(0.01)
    async with asyncio.timeout(60):
        while (await house.store.counts()).runs != {RunState.SUCCEEDED: 60}:
            await house.pass_time(6)
            await asyncio.sleep(0.1)
    assert len(killed) >= 2
    assert sorted(line["body"]["text"] for line in house.sent("POST")) == sorted(f"t-{n}" for n in range(60))
    assert (await house.verify()).ok


async def test_while_a_spawned_opa_hangs_nothing_is_sent(spawning: House) -> None:
    house = spawning
    pid = opa_of(house)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    run = await house.go()
    assert (run.state, house.sent()) == (RunState.WAITING, [])
    assert house.running.gate.problem == "is too slow"
    os.kill(pid, signal.SIGCONT)
    await house.pass_time(6)
    assert (await house.run(run.id)).state is RunState.SUCCEEDED
    assert len(house.effects()) == 1


async def test_the_journal_names_the_engine_that_decided(spawning: House) -> None:
    run = await spawning.go()
    (decided,) = await spawning.told(run, "policy.decided")
    assert decided["body"]["decision"]["engine"] == "opa"
    assert decided["body"]["decision"]["revision"] == spawning.service.bundle.revision
