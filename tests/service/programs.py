"""`soar run` as processes of their own, as they are in production."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

STARTED_SECONDS = 90.0
STOPPED_SECONDS = 90.0


class Program:
    """One process; what it says is appended to a file."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def said(self, words: str) -> None:
        """Wait until it has said this."""
        async with asyncio.timeout(STARTED_SECONDS):
            while words not in self._log.read_text():
                assert self._process.returncode is None, self._log.read_text()
                await asyncio.sleep(0.05)

    async def stop(self) -> None:
        """Ask it to end, and see that it does, and well."""
        with contextlib.suppress(ProcessLookupError):
            self.send(signal.SIGTERM)
        code = await asyncio.wait_for(self._process.wait(), STOPPED_SECONDS)
        assert code == 0, self._log.read_text()

    async def kill(self) -> None:
        """End it at once, if it has not ended."""
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


@contextlib.asynccontextmanager
async def program(config: Path, log: Path, environ: Mapping[str, str]) -> AsyncIterator[Program]:
    """A service at work; it is asked to end at the end."""
    command = [sys.executable, "-m", "soar", "run", "--quiet", "-c", str(config)]
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *command,
            env={**os.environ, "SOAR_WEB__PORT": "0", "SOAR_LOG__STYLE": "json", **environ},
            stdout=output,
            stderr=output,
        )
    running = Program(process, log)
    try:
        await running.said("what waits for you")
        yield running
        await running.stop()
    finally:
        await running.kill()
