"""A whole Apache Kafka for chaos: one broker with a port and a folder of its own, which may be killed."""

import asyncio
import contextlib
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from .fleet import ROOT, free_ports

sys.path.insert(0, str(ROOT / "scripts"))

from stack_parts import kafka as stack

# A broker that comes back is taken for its own double until the one that died has been silent for so long.
SESSION = "broker.session.timeout.ms=1000\nbroker.heartbeat.interval.ms=200\n"


class _Own(stack.Kafka):
    """The part of scripts/stack, in a folder and on ports of its own; the jars are those of all."""

    def __init__(self, folder: Path, ports: tuple[int, ...]) -> None:
        super().__init__()
        self.home = folder
        self.data = folder / "data"
        self.properties = folder / "server.properties"
        self._ports = ports

    @property
    def ports(self) -> tuple[int, ...]:
        return self._ports


class Broker:
    """One broker that is started, killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.part = _Own(folder, tuple(free_ports(2)))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def servers(self) -> str:
        return self.part.address()

    async def make(self) -> None:
        """Lay its storage out and start it."""
        await asyncio.to_thread(self.part.prepare)
        with self.part.properties.open("a") as file:
            file.write(SESSION)
        await self.start()

    async def start(self) -> None:
        """Start it, and wait until it can be produced to."""
        self._process = self._spawn()
        async with asyncio.timeout(120):
            while not await asyncio.to_thread(self.part.answers):
                assert self._process.poll() is None, f"the broker ended; see {self.part.home / 'server.log'}"
                await asyncio.sleep(0.1)

    def _spawn(self) -> subprocess.Popen[bytes]:
        command = self.part.command()
        java, *rest = command.argv
        with (self.part.home / "server.log").open("ab") as log:
            return subprocess.Popen(
                [java, "-XX:TieredStopAtLevel=1", *rest],  # what dies soon is not worth optimising
                env=dict(command.env), cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip

    async def end(self, number: signal.Signals) -> None:
        """SIGTERM is an orderly end, SIGKILL is none."""
        assert self._process is not None
        self._process.send_signal(number)
        await asyncio.to_thread(self._process.wait)

    async def topic(self, name: str, *, partitions: int, largest_bytes: int = 1 << 20) -> None:
        """Make a topic."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.servers)
        await admin.start()
        try:
            settings = {"max.message.bytes": str(largest_bytes)}
            await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=settings)])
        finally:
            await admin.close()

    async def close(self) -> None:
        """End it for good."""
        if self._process is not None and self._process.poll() is None:
            await self.end(signal.SIGKILL)


@contextlib.asynccontextmanager
async def open_broker() -> AsyncIterator[Broker]:
    """A broker; all that it wrote is deleted at the end."""
    folder = Path(tempfile.gettempdir()) / f"soar-chaos-kafka-{secrets.token_hex(4)}"
    folder.mkdir()
    broker = Broker(folder)
    try:
        await broker.make()
        yield broker
    finally:
        await broker.close()
        shutil.rmtree(folder, ignore_errors=True)
