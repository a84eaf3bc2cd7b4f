"""A process that has imported everything and forks: a worker or a lab starts in a fraction of a second.

It forks while it has neither threads nor an event loop. Orders come as lines of JSON on standard input; the answer is
the child's pid. What it forked dies with it.
"""

# ruff: noqa: T201 - what it prints is what it is for

import asyncio
import contextlib
import ctypes
import gc
import json
import mmap
import os
import signal
import struct
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg  # noqa: F401 - children find it imported
import uvicorn  # noqa: F401 - so is this

from soar import logs
from soar.cli import main as main_of_soar
from soar.lab import serve
from soar.model.clock import Clock, SharedClock
from soar.service import Doors, Running, assemble
from soar.settings import load_settings

_PR_SET_PDEATHSIG = 1  # prctl(2)


class Bend:
    """So many seconds as a file says, which others change at will."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._seconds = mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)

    def of(self, moment: datetime) -> datetime:
        return moment + timedelta(seconds=struct.unpack("d", self._seconds)[0])


class BentClock:
    """The clock of a machine that is wrong."""

    def __init__(self, bend: Bend) -> None:
        self._bend = bend

    def now(self) -> datetime:
        return self._bend.of(datetime.now(UTC))


class TravelClock(SharedClock):
    """The clock that all workers share, on a journey: where they are taken to a later time together."""

    def __init__(self, machine: BentClock, journey: Bend) -> None:
        super().__init__(machine)
        self._journey = journey

    def now(self) -> datetime:
        return self._journey.of(super().now())


async def work(order: Mapping[str, Any]) -> None:
    """The service, as `soar run` starts it, until SIGTERM."""
    loaded = load_settings(Path(order["config"]), order["environ"])
    logs.configure(level=order["level"], style="json")
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    clock: Clock = BentClock(Bend(Path(order["clock"])))
    if loaded.settings.store.url is not None:
        clock = TravelClock(clock, Bend(Path(order["journey"])))
    async with assemble(loaded, clock=clock) as service:
        running = Running(service)
        doors = Doors(running)
        await doors.open()
        await running.start(*doors.parts)
        ended = asyncio.create_task(running.wait())
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            ended.result()
        for task in (ended, stopped):
            task.cancel()
        await doors.close()
        await running.stop()


async def act(order: Mapping[str, Any]) -> None:
    """The lab, until SIGTERM."""
    logs.configure(level="error", style="json")
    await serve(order["port"], Path(order["log"]), order["token"])


def command(order: Mapping[str, Any]) -> None:
    """`soar run`, as it is typed."""
    os.environ |= order["environ"] | {"SOAR_LOG__LEVEL": order["level"], "SOAR_LOG__STYLE": "json"}
    sys.argv = ["soar", "run", "--config", order["config"]]
    try:
        main_of_soar()
    except SystemExit as end:
        if end.code:
            raise


ROLES: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "worker": lambda order: asyncio.run(work(order)),
    "run": command,
    "lab": lambda order: asyncio.run(act(order)),
}


def fork(order: Mapping[str, Any]) -> int:
    """Start one; returns its pid."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        log = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for number in (1, 2):
            os.dup2(log, number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdout = os.fdopen(1, "w", buffering=1)
        sys.stderr = os.fdopen(2, "w", buffering=1)
        ROLES[order["role"]](order)
        status = 0
    finally:
        with contextlib.suppress(OSError):
            sys.stderr.flush()
        if status:
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        os._exit(status)


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system buries the dead
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        print(fork(json.loads(line)), flush=True)


if __name__ == "__main__":
    main()
