"""PostgreSQL for chaos: a schema of one's own on the server of the tests, or a whole server that may be killed."""

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg

from .fleet import ROOT, free_ports

sys.path.insert(0, str(ROOT / "scripts"))

from stack_parts import postgres as stack
from stack_parts.process import Daemon


@contextlib.asynccontextmanager
async def schema_on(server: str) -> AsyncIterator[str]:
    """URL of an empty schema, dropped at the end."""
    name = f"chaos_{secrets.token_hex(6)}"
    db = await asyncpg.connect(server)
    await db.execute(f"CREATE SCHEMA {name}")
    await db.close()
    try:
        yield f"{server}?search_path={name}"
    finally:
        db = await asyncpg.connect(server)
        await db.execute(f"DROP SCHEMA {name} CASCADE")
        await db.close()


class _Own(stack.Postgres):
    """The part of scripts/stack, in a folder and on a port of its own."""

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__()
        self.home = folder
        self.daemon = Daemon(folder, stop_signal=signal.SIGINT)
        self._port = port

    @property
    def ports(self) -> tuple[int, ...]:
        return (self._port,)

    @property
    def cluster(self) -> Path:
        return self.home / "data"


class Server:
    """One PostgreSQL that is started, killed and started again."""

    def __init__(self, folder: Path, *, wal_megabytes: int) -> None:
        self.part = _Own(folder, free_ports(1)[0])
        self._wal_megabytes = wal_megabytes
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return self.part.environment()["SOAR_STACK_POSTGRES"]

    async def make(self) -> None:
        """Lay the cluster out, start it, make its database."""
        await asyncio.to_thread(self.part.prepare)
        await self.start()
        await asyncio.to_thread(self.part.on_ready)

    async def start(self) -> None:
        """Start it, again where the last one's memory is not free yet, and wait until it answers."""
        async with asyncio.timeout(60):
            while True:
                if self._process is None or self._process.poll() is not None:
                    self._process = self._spawn()
                if await self._answers():
                    return
                await asyncio.sleep(0.1)

    def _spawn(self) -> subprocess.Popen[bytes]:
        command = self.part.command()
        # A crash takes a second less to recover from, and a small disk is not filled by a log that nobody needs.
        more = {"recovery_init_sync_method": "syncfs", "max_wal_size": f"{self._wal_megabytes}MB"}
        argv = [*command.argv, *(word for name, value in more.items() for word in ("-c", f"{name}={value}"))]
        with (self.part.home / "server.log").open("ab") as log:
            return subprocess.Popen(
                argv, env=dict(command.env), user=command.user, group=command.user,
                extra_groups=[] if command.user else None, cwd="/", stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    async def keep_up(self) -> None:
        """Start it again whenever it ends by itself, as a supervisor does, until cancelled."""
        while True:
            assert self._process is not None
            if self._process.poll() is not None:
                with contextlib.suppress(TimeoutError, OSError):
                    await self.start()
            await asyncio.sleep(0.3)

    async def end(self, number: signal.Signals) -> None:
        """SIGINT is a fast shutdown, SIGQUIT an immediate one, SIGKILL a crash of the postmaster."""
        assert self._process is not None
        self._process.send_signal(number)
        await asyncio.to_thread(self._process.wait)

    async def close(self) -> None:
        """End it for good."""
        if self._process is not None and self._process.poll() is None:
            await self.end(signal.SIGQUIT)

    async def _answers(self) -> bool:
        with contextlib.suppress(OSError, asyncpg.PostgresError, TimeoutError):
            db: Any = await asyncpg.connect(self.url.rpartition("/")[0] + "/postgres", timeout=2)
            await db.close()
            return True
        return False


@contextlib.asynccontextmanager
async def open_server(folder: Path | None = None, *, wal_megabytes: int = 1024) -> AsyncIterator[Server]:
    """A server with its data in a folder that its user can enter; all of it is deleted at the end."""
    scratch = Path(tempfile.gettempdir()) if os.geteuid() else stack.OUTSIDE.parent
    home = folder or scratch / f"soar-chaos-{secrets.token_hex(4)}"
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o755)
    server = Server(home, wal_megabytes=wal_megabytes)
    try:
        await server.make()
        yield server
    finally:
        await server.close()
        if folder is None:
            shutil.rmtree(home, ignore_errors=True)
