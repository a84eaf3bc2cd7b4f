"""The processes that `throughput.py` sets side by side, each started as its user starts it."""

import asyncio
import contextlib
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import venv
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from durable import Database, cpu_of
from feed import LOUD, MARK, playbooks, rulebook

from soar.demo.home import make_home

HERE = Path(__file__).resolve().parent
START_SECONDS = 180.0
RULEBOOK_VERSION = "1.3.2"  # Apache-2.0
RULEBOOK_NEEDS = ("ansible-core==2.19.14", "drools-jpy==0.4.1", "jpy==2.2.0", "aiokafka==0.14.0")

CONNECTOR = '''
from soar.connector.base import Call, Connector, Model, Result, action
from soar.connector.client import Endpoint
from soar.model.action import Effect


class Params(Model):
    id: str
    title: str


class Answer(Result):
    ok: bool


class Sink(Connector[Endpoint]):
    """A service on this machine."""

    name = "sink"
    version = "1"
    vendor = "bench"
    product = "bench"
    Config = Endpoint

    @classmethod
    def client_options(cls, config: Endpoint) -> dict[str, object]:
        return config.client_options()

    @action(effect=Effect.KEYED)
    async def post(self, params: Params, call: Call) -> Answer:
        """Send it there."""
        headers = {"Idempotency-Key": call.idempotency_key}
        answer = await self.http.request("POST", "/", call=call, json=params.model_dump(mode="json"), headers=headers)
        return answer.parse(Answer)

    async def test(self, call: Call) -> str:
        return "ok"
'''


@dataclass
class Candidate:
    """Processes at work: their consumer group, and how long they took to be ready."""

    group: str
    processes: list[asyncio.subprocess.Process] = field(default_factory=list)
    started_seconds: float = 0.0
    log: Path | None = None
    server: Database | None = None

    async def server_cpu(self):
        """Seconds that PostgreSQL computed for them so far."""
        return await self.server.cpu() if self.server else 0.0

    def cpu(self):
        """Seconds that they computed so far."""
        return sum(cpu_of(process.pid) for process in self.processes)

    def check(self):
        """End the benchmark where one of them has ended."""
        if any(process.returncode is not None for process in self.processes):
            sys.exit(f"a process ended; its last words:\n{self.log.read_text()[-3000:] if self.log else ''}")


@contextlib.asynccontextmanager
async def running(candidate, *commands, env=None, stdout=None):
    """Start these commands, and end them."""
    with candidate.log.open("w") as log:
        try:
            for command in commands:
                process = await asyncio.create_subprocess_exec(
                    *command, stdout=stdout or log, stderr=log, env=env, limit=1 << 24
                )
                candidate.processes.append(process)
            yield candidate
        finally:
            for process in candidate.processes:
                if process.returncode is None:
                    process.terminate()
            for process in candidate.processes:
                await ended(process)


def inherited(**changes):
    """The environment of this process, with changes."""
    return {**os.environ, **changes}  # noqa: TID251 - it is not read here, only handed on


async def ended(process):
    """Wait for its end, and insist after a while."""
    try:
        await asyncio.wait_for(process.wait(), 60)
    except TimeoutError:
        process.kill()
        await process.wait()


def soar_home(folder, *, servers, topic, group, sink, dsn, count):
    """A home with so many playbooks; returns its configuration."""
    config = make_home(folder)
    for file in (folder / "playbooks").iterdir():
        file.unlink()
    for number, text in enumerate(playbooks(count)):
        (folder / "playbooks" / f"{number:05}.yaml").write_text(text)
    (folder / "connectors").mkdir()
    (folder / "connectors" / "sink.py").write_text(CONNECTOR)
    wanted = {"base_url": sink, "allow_private": True, "max_concurrent": 32}
    document = {
        "policy": {"path": "policies"},
        "connectors_dir": "connectors",
        "connectors": {"sink": {"use": "sink", "config": wanted}},
        "kafka": {"bootstrap_servers": servers, "topics": [topic], "group_id": group},
        "log": {"style": "json", "level": "warning"},
    }  # fmt: skip
    if dsn:
        secret = folder / "database-url"
        secret.touch(mode=0o600)
        secret.write_text(dsn)
        document["store"] = {"url": f"secret://file{secret}"}
    config.write_text(yaml.safe_dump(document))
    return config


@contextlib.asynccontextmanager
async def soar(folder, *, servers, topic, sink, dsn=None, workers=1, count=1000):
    """`soar run`, so many processes of it, ready to consume."""
    group = f"soar-{secrets.token_hex(4)}"
    folder.mkdir()
    config = soar_home(folder, servers=servers, topic=topic, group=group, sink=sink, dsn=dsn, count=count)
    ports = [free_port() for _ in range(workers)]
    began = time.perf_counter()
    async with contextlib.AsyncExitStack() as stack:
        candidate = Candidate(group, log=folder / "soar.log")
        parts = []
        for port in ports:
            one = Candidate(group, log=folder / f"soar-{port}.log")
            command = [sys.executable, "-m", "soar", "run", "--quiet", "-c", str(config)]
            environ = inherited(SOAR_WEB__PORT=str(port))
            parts.append(await stack.enter_async_context(running(one, command, env=environ)))
        for one, port in zip(parts, ports, strict=True):
            await healthy(one, port)
        candidate.processes = [process for one in parts for process in one.processes]
        candidate.log = parts[0].log
        candidate.started_seconds = time.perf_counter() - began
        yield candidate


async def healthy(candidate, port):
    """Until the service says that all is well with it, Kafka included."""
    async with asyncio.timeout(START_SECONDS):
        while not await asyncio.to_thread(_says_ok, f"http://127.0.0.1:{port}/health"):
            candidate.check()
            await asyncio.sleep(0.05)


def _says_ok(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@contextlib.asynccontextmanager
async def ceiling(folder, *, servers, topic, dsn=None, post=None):
    """`ceiling.py`."""
    group = f"ceiling-{secrets.token_hex(4)}"
    folder.mkdir()
    store = ["--postgres", dsn] if dsn else ["--sqlite", str(folder / "journal.db")]
    acting = ["--with-post", post, "--policies", str(HERE.parent / "policies")] if post else []
    command = [sys.executable, str(HERE / "ceiling.py"), "--kafka", servers, "--topic", topic, "--group", group]
    async with running(Candidate(group, log=folder / "log"), [*command, *store, *acting]) as candidate:
        yield candidate


def rulebook_program():
    """ansible-rulebook in an environment of its own under .stack/, made where it does not exist."""
    folder = HERE.parent / ".stack" / f"ansible-rulebook-{RULEBOOK_VERSION}"
    if not (folder / "installed").exists():
        print(f"installing ansible-rulebook {RULEBOOK_VERSION} into {folder.relative_to(HERE.parent)}", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        wanted = [f"ansible-rulebook=={RULEBOOK_VERSION}", *RULEBOOK_NEEDS]
        subprocess.run([folder / "bin" / "python", "-m", "pip", "install", "--quiet", *wanted], check=True)
        (folder / "installed").touch()
    return str(folder / "bin" / "ansible-rulebook")


class Lines:
    """What ansible-rulebook printed, and when: how many quiet alerts were marked, and how many loud ones acted on."""

    def __init__(self):
        self.times = {MARK: [], LOUD: []}

    async def read(self, stream):
        async for line in stream:
            for word, times in self.times.items():
                if line.startswith(word.encode()):
                    times.append(time.time())

    async def wait(self, word, count, candidate):
        async with asyncio.timeout(START_SECONDS):
            while len(self.times[word]) < count:
                candidate.check()
                await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def ansible(folder, *, servers, topics, rules):
    """ansible-rulebook on the first records of these topics, one after the other; yields it with what it prints."""
    group = f"ansible-{secrets.token_hex(4)}"
    folder.mkdir()
    feeds = [{"name": name, "count": count, "group": f"{group}-{n}"} for n, (name, count) in enumerate(topics)]
    (folder / "rulebook.yml").write_text(rulebook(rules, servers, feeds))
    (folder / "inventory.yml").write_text("all: {hosts: {localhost: {ansible_connection: local}}}\n")
    command = [rulebook_program(), "-r", str(folder / "rulebook.yml"), "-i", str(folder / "inventory.yml"),
               "-S", str(HERE / "rulebook"), "--skip-audit-events"]  # fmt: skip
    path = f"{Path(command[0]).parent}:{os.environ['PATH']}"  # noqa: TID251 - it looks for ansible-galaxy there
    candidate, lines = Candidate(group, log=folder / "log"), Lines()
    async with running(candidate, command, env=inherited(PATH=path), stdout=subprocess.PIPE):
        reading = asyncio.create_task(lines.read(candidate.processes[0].stdout))
        yield candidate, lines
        reading.cancel()
