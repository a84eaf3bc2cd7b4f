"""An OPA server of our own: started with the service, started again when it dies, ended with it.

It listens on a Unix socket in a folder that only this account may enter, serves a copy of the bundle that nobody
changes, gets none of our environment (where secrets may be), and ends when this process does, however that ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

import structlog

from soar.errors import PolicyError
from soar.policy.address import OpaAddress
from soar.policy.bundle import Bundle

log = structlog.get_logger(__name__)

STOP_SECONDS = 5.0
_SHORTEST, _LONGEST = 0.1, 5.0  # seconds before it is started again
_LEASH: Final = """
import ctypes, os, sys
parent, *command = sys.argv[1:]
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 15)
if os.getppid() == int(parent):
    os.execv(command[0], command)
"""
"""Becomes its arguments, with SIGTERM to come when the parent dies: prctl(2), PR_SET_PDEATHSIG, which exec keeps."""
_ENVIRON = {"GOGC": "400"}
"""Collect garbage at five times the living heap, not at twice: the heap is small, and a fifth of the time is saved."""


class SpawnedOpa:
    """One `opa run --server` on a bundle."""

    def __init__(self, program: Path, bundle: Bundle) -> None:
        self._program = program
        self._bundle = bundle
        self._folder = Path(tempfile.mkdtemp(prefix="soar-opa-"))  # this account's alone
        self.address = OpaAddress(url=f"unix://{self._folder / 'opa.sock'}")
        self._process: asyncio.subprocess.Process | None = None
        self._tending: asyncio.Task[None] | None = None
        self._said = ""
        self._ends = 0

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return None if self._process is None or self._process.returncode is not None else self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it has ended by itself."""
        return self._ends > 0

    async def start(self) -> None:
        """Start it; raises `PolicyError` where that cannot be tried."""
        await asyncio.to_thread(self._bundle.export, self._folder / "bundle")
        await self._spawn()
        self._tending = asyncio.create_task(self._tend(), name="policy-opa")

    async def stop(self) -> None:
        """End it, and leave nothing behind."""
        if self._tending is not None:
            self._tending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._tending
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    def last_words(self) -> str:
        """The last line that it printed before it last ended, or now."""
        return self._said or self._printed()

    def _printed(self) -> str:
        with contextlib.suppress(OSError):
            lines = (self._folder / "log").read_text(encoding="utf-8", errors="replace").split("\n")
            return next((line for line in reversed(lines) if line.strip()), "")[:500]
        return ""

    async def _spawn(self) -> None:
        (self._folder / "opa.sock").unlink(missing_ok=True)  # one that was killed leaves it
        command = [str(self._program), "run", "--server", f"--addr={self.address.url}", "--unix-socket-perm=700"]
        command += ["--bundle", str(self._folder / "bundle"), "--log-level=error", "--skip-version-check"]
        command.append("--optimize-store-for-read-speed")
        leash = [sys.executable, "-I", "-S", "-c", _LEASH, str(os.getpid())]
        try:
            with (self._folder / "log").open("wb") as printed:
                self._process = await asyncio.create_subprocess_exec(
                    *leash,
                    *command,
                    env=_ENVIRON,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=printed,
                    stderr=printed,
                )
        except OSError as failure:
            raise PolicyError(f"{self._program} cannot be started: {failure}") from failure

    async def _tend(self) -> None:
        pause = _SHORTEST
        loop = asyncio.get_running_loop()
        while True:
            assert self._process is not None
            began = loop.time()
            code = await self._process.wait()
            self._said, self._ends = self._printed(), self._ends + 1
            log.warning("policy.opa_ended", code=code, said=self._said)
            pause = _SHORTEST if loop.time() - began > _LONGEST else min(2 * pause, _LONGEST)
            await asyncio.sleep(pause)
            try:
                await self._spawn()
            except PolicyError as failure:  # such as no room for another process; the next try comes
                log.warning("policy.opa_not_started", why=str(failure))
