"""Processes that are killed, stopped and continued, each known by a descriptor of its own, never by a recycled pid."""

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class Child:
    """One process of the fleet."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._handle = os.pidfd_open(pid)
        self._ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._handle, self._bury)

    @property
    def alive(self) -> bool:
        return not self._ended.is_set()

    def send(self, number: signal.Signals) -> None:
        """Signal exactly this process; one that has ended is left alone."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, number)

    async def ended(self) -> None:
        await self._ended.wait()

    async def kill(self) -> None:
        self.send(signal.SIGKILL)
        await self.ended()

    async def stop(self, seconds: float = 60) -> None:
        """Ask it to end, and insist after so long."""
        self.send(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.ended(), seconds)
        except TimeoutError:
            await self.kill()
            raise

    def _bury(self) -> None:
        asyncio.get_running_loop().remove_reader(self._handle)
        os.close(self._handle)
        self._ended.set()


class Fleet:
    """What a zygote forked."""

    def __init__(self, zygote: asyncio.subprocess.Process, folder: Path) -> None:
        self._zygote = zygote
        self._turn = asyncio.Lock()
        self.folder = folder
        self.children: list[Child] = []

    async def start(self, role: str, name: str, **order: Any) -> Child:
        """Fork one; what it prints is appended to `<name>.log`."""
        assert self._zygote.stdin is not None
        assert self._zygote.stdout is not None
        order |= {"role": role, "output": str(self.folder / f"{name}.log")}
        async with self._turn:
            self._zygote.stdin.write(json.dumps(order).encode() + b"\n")
            await self._zygote.stdin.drain()
            child = Child(int(await self._zygote.stdout.readline()))
        self.children = [one for one in self.children if one.alive] + [child]
        return child


@contextlib.asynccontextmanager
async def open_fleet(folder: Path) -> AsyncIterator[Fleet]:
    """A zygote that is warm; at the end everything that it forked is killed."""
    path = os.pathsep.join((str(ROOT), str(ROOT / "connectors")))
    zygote = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.chaos.zygote",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    fleet = Fleet(zygote, folder)
    try:
        yield fleet
    finally:
        for child in fleet.children:
            await child.kill()
        assert zygote.stdin is not None
        zygote.stdin.close()
        await zygote.wait()


class Bend:
    """Seconds that a process reads while it runs: how wrong its clock is."""

    def __init__(self, path: Path, seconds: float = 0) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(struct.pack("d", seconds))

    def set(self, seconds: float) -> None:
        with self.path.open("r+b") as file:
            file.write(struct.pack("d", seconds))


def free_ports(count: int) -> list[int]:
    """Ports on which nobody listens, below those that clients are lent: a killed server gets its own back."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
    return found


def environ_of(database: str | None, port: int | None = None, **more: str) -> Mapping[str, str]:
    """The settings of one process that its home does not hold."""
    environ = dict(more)
    if database is not None:
        environ |= {"SOAR_STORE__URL": "secret://env/DATABASE", "DATABASE": database}
    if port is not None:
        environ["SOAR_WEB__PORT"] = str(port)
    return environ
