"""The lab's server: one port, a path prefix per system, and the switches and windows that tests and people use.

A request passes through `_answer` in one order: token, fault, act, log (fsynced), answer. A body beyond 1 MiB is
refused (413) before all that. aiohttp rather than an ASGI server, because cutting a connection on purpose needs the
transport, which ASGI hides.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web
from pydantic import ValidationError

from soar.lab.exchange import Answer, Request, refuse
from soar.lab.faults import Fault, FaultBoard, Mode
from soar.lab.log import RequestLog, read_log
from soar.lab.overview import overview
from soar.lab.range import Range
from soar.model.base import from_rfc3339, to_rfc3339
from soar.model.clock import Clock, SystemClock

log = structlog.get_logger(__name__)

_CHUNK = 64 * 1024
_STOP_SECONDS = 0.5  # an answer that a fault holds back longer is not waited for


class LabServer:
    """The lab on one port of this machine; port 0 takes a free one, `url` says which.

    A log that exists already is replayed: the lab goes on where it stopped, or was killed.
    """

    def __init__(
        self, *, port: int, log_path: Path, token: str, host: str = "127.0.0.1", clock: Clock | None = None
    ) -> None:
        self.log_path = log_path
        self.faults = FaultBoard()
        self._host, self._port, self._token = host, port, token
        self._clock = clock or SystemClock()
        self._range = Range()
        self._log: RequestLog | None = None
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where the lab listens; raises RuntimeError before `start`."""
        if self._runner is None or not self._runner.addresses:
            raise RuntimeError("the lab has no address before it is started")
        host, port = self._runner.addresses[0][:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def start(self) -> None:
        """Bring the state back from the log and listen; raises OSError where the port is taken."""
        self._log = RequestLog(self.log_path)
        self._range.replay(read_log(self.log_path))
        self._runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=_STOP_SECONDS)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()
        log.info("lab.started", url=self.url, log=str(self.log_path))

    async def stop(self) -> None:
        """Close the port and the log; stopping twice is stopping once."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        if self._log is not None:
            self._log.close()
            self._log = None

    def snapshot(self) -> dict[str, Any]:
        """The whole state, by system."""
        return self._range.snapshot()

    def _app(self) -> web.Application:
        app = web.Application()
        app.add_routes(
            [
                web.get("/", self._overview),
                web.get("/_log", self._show_log),
                web.get("/_state", self._show_state),
                web.get("/_faults", self._show_faults),
                web.delete("/_faults", self._clear_faults),
                web.put("/_faults/{where:.+}", self._put_fault),
                web.delete("/_faults/{where:.+}", self._clear_faults),
                *(web.route("*", f"/{name}/{{rest:.*}}", self._answer) for name in self._range.systems),
            ]
        )
        return app

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        """Serve one request to a system."""
        system, _, rest = request.raw_path.removeprefix("/").partition("/")
        body, readable = await _body(request)
        asked = Request(
            at=from_rfc3339(to_rfc3339(self._clock.now())),  # as the log will tell it
            method=request.method,
            path=f"/{rest}",
            body=body,
            idempotency_key=request.headers.get("Idempotency-Key"),
        )
        fault: Fault | None = None
        if not self._knows(request):
            answer = refuse(401, "this lab wants its token: Authorization: Bearer <lab-token>")
        else:
            fault = self.faults.take(request.method, request.path)
            answer = _instead(fault) or (
                self._range.handle(system, asked) if readable else refuse(400, "the body is not JSON")
            )
        # From here to the end of the append a crash undoes the act as well: the state is only in memory, and
        # the caller has been told nothing.
        await self._record(system, asked, answer, fault)
        return await _reply(request, answer, fault)

    def _knows(self, request: web.Request) -> bool:
        sent = request.headers.get("Authorization", "")
        return hmac.compare_digest(sent.encode(errors="surrogateescape"), f"Bearer {self._token}".encode())

    async def _record(self, system: str, asked: Request, answer: Answer, fault: Fault | None) -> None:
        cut = fault is not None and fault.mode in {Mode.DROP_BEFORE, Mode.DROP_AFTER}
        assert self._log is not None
        await self._log.append(
            at=to_rfc3339(asked.at),
            system=system,
            method=asked.method,
            path=asked.path,
            idempotency_key=asked.idempotency_key,
            body=asked.body,
            status=None if cut else answer.status,
            applied=answer.effect is not None,
            duplicate=answer.duplicate,
            effect=answer.effect,
            fault=fault.mode.value if fault else None,
        )

    async def _overview(self, _: web.Request) -> web.Response:
        assert self._log is not None
        page = overview(self.snapshot(), list(self._log.recent), self.faults.snapshot())
        policy = "default-src 'none'; style-src 'unsafe-inline'"
        return web.Response(text=page, content_type="text/html", headers={"Content-Security-Policy": policy})

    async def _show_log(self, request: web.Request) -> web.Response:
        system = request.query.get("system")
        entries = await asyncio.to_thread(read_log, self.log_path)
        return web.json_response({"entries": [e for e in entries if system in {None, e["system"]}]})

    async def _show_state(self, _: web.Request) -> web.Response:
        return web.json_response(self.snapshot())

    async def _show_faults(self, _: web.Request) -> web.Response:
        return web.json_response(self.faults.snapshot())

    async def _put_fault(self, request: web.Request) -> web.Response:
        where = request.match_info["where"]
        if where.split("/")[0] not in self._range.systems:
            return _json(refuse(404, f"no system at {where!r}; there are {', '.join(self._range.systems)}"))
        try:
            self.faults.put(where, Fault.model_validate_json(await request.read()))
        except ValidationError as error:
            return _json(refuse(422, "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())))
        return await self._show_faults(request)

    async def _clear_faults(self, request: web.Request) -> web.Response:
        self.faults.clear(request.match_info.get("where", ""))
        return await self._show_faults(request)


async def serve(
    port: int,
    log_path: Path,
    token: str,
    *,
    host: str = "127.0.0.1",
    announce: Callable[[str], None] | None = None,
) -> None:
    """Run the lab until SIGINT or SIGTERM; `announce` is told its address once it listens."""
    lab = LabServer(port=port, log_path=log_path, token=token, host=host)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    await lab.start()
    try:
        if announce is not None:
            announce(lab.url)
        await ended.wait()
    finally:
        await lab.stop()


async def _body(request: web.Request) -> tuple[Any, bool]:
    """The JSON body and whether it could be read; no body is None."""
    raw = await request.read()
    if not raw:
        return None, True
    try:
        return json.loads(raw, parse_constant=_refuse_constant), True
    except (ValueError, RecursionError):
        return None, False


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def _instead(fault: Fault | None) -> Answer | None:
    """What is answered in place of acting; None where the system acts."""
    if fault is None or fault.mode.acts:
        return None
    statuses = {Mode.UNAUTHORIZED: 401, Mode.RATE_LIMITED: 429, Mode.REDIRECT: 307}
    return refuse(statuses.get(fault.mode, fault.status), f"fault switch: {fault.mode}")


async def _reply(request: web.Request, answer: Answer, fault: Fault | None) -> web.StreamResponse:
    """Send the answer, or what the fault makes of it."""
    if fault is None:
        return _json(answer)
    match fault.mode:
        case Mode.DROP_BEFORE | Mode.DROP_AFTER:
            if request.transport is not None:
                request.transport.abort()  # the answer below meets a closed connection
        case Mode.GARBAGE:
            return web.Response(text="<html>not what you asked for", content_type="application/json")
        case Mode.HUGE:
            return await _flood(request, fault.size_bytes)
        case Mode.SLOW:
            await asyncio.sleep(fault.seconds)
    return _json(answer, fault.headers)


async def _flood(request: web.Request, size_bytes: int) -> web.StreamResponse:
    """A JSON string of that size, in pieces; a caller that leaves early ends it."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    try:
        await response.write(b'{"padding": "')
        for start in range(0, size_bytes, _CHUNK):
            await response.write(b"a" * min(_CHUNK, size_bytes - start))
        await response.write(b'"}')
    except ConnectionError:
        log.debug("lab.flood_left", size_bytes=size_bytes)
    return response


def _json(answer: Answer, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response(answer.body, status=answer.status, headers=headers)
