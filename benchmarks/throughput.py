"""Alerts through soar, beside the hand-written ceiling and ansible-rulebook: one table, with performance's targets.

    python benchmarks/throughput.py --kafka SERVERS --postgres DSN [--rounds N] [--only LINE ...] [--check] [--json]
    python benchmarks/throughput.py ... --only triage acted workers --workers 2 3        the curve of docs/scale.md

All are started as their users start them, hold the same alerts of 2 KB against 1,000 rules and read them from the same
Kafka. They take turns, round after round, each time in new processes with a new store; each line's figure is the median
of the rounds and its ratio the median of each round's ratio, so it holds on a noisy machine.

    triage     alerts that meet no rule. The topic is full beforehand, and 2,000 alerts are let go by; then how fast the
               committed offsets advance: what is committed is durable in the store.
    acted      alerts that each meet one rule, whose action is an HTTP POST to a service in this process. They are
               produced at once; the time runs from before the first until the last POST has arrived.
    latency    the same, produced at random times, half as many a second as that round's `acted`: from before an alert
               is produced until its POST arrives.
    start-up   `soar run` with 10,000 playbooks, until it says that all is well, Kafka included.
    matching   see matching.py.

soar is `soar run` with the starter policies; the ceiling is `ceiling.py`, without policy for triage and with it and
the POST for acted. ansible-rulebook does less: it journals nothing, asks no policy, and its action is `debug`, which
prints a line, as it has none that sends an HTTP request without Ansible being started for each. Its source reads Kafka;
every 100th quiet alert, too, has a line printed, from which its pace is told. It is installed by pip into .stack/.

`--check` makes the exit code 1 where a target is missed.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from candidates import ansible, ceiling, soar
from durable import Database
from feed import LOUD, MARK, MARK_EVERY, PARTITIONS, Broker, encoded, loud, quiet
from sink import Sink
from targets import show

HERE = Path(__file__).resolve().parent
QUIET, WARM_QUIET = 120_000, 2_000
TRIAGE_SECONDS, TRIAGE_LEAST, TRIAGE_MOST_SECONDS = 4.0, 5_000, 15.0
BURST, WARM_LOUD, LATENCY_SECONDS = 3_000, 500, 8.0
ANSIBLE_QUIET, ANSIBLE_LOUD = 8_000, 2_000
STUCK_SECONDS = 120.0
RULES, MANY = 1_000, 10_000
LINES = ("triage", "acted", "ansible", "startup", "matching", "workers")


@dataclass
class Span:
    """What went by, and when the last of it did."""

    alerts: int = 0
    ended: float = 0.0


class Bench:
    """All that the candidates share, and what was found: for each figure, one of each round."""

    def __init__(self, told, broker, sink, folder):
        self.told, self.broker, self.sink, self.folder = told, broker, sink, folder
        self.found = {}

    def keep(self, name, value):
        self.found.setdefault(name, []).append(value)
        print(f"  {name}: {value:,.2f}", file=sys.stderr, flush=True)

    @contextlib.asynccontextmanager
    async def candidate(self, make, topic, database, **options):
        """One of them at work, on a database of its own where it wants one."""
        folder = self.folder / secrets.token_hex(4)
        async with contextlib.AsyncExitStack() as stack:
            server = await stack.enter_async_context(Database(self.told.postgres)) if database else None
            dsn = server.dsn if server else None
            made = make(folder, servers=self.told.kafka, topic=topic, dsn=dsn, **options)
            candidate = await stack.enter_async_context(made)
            candidate.server = server
            await self.broker.joined(candidate.group, len(candidate.processes))
            yield candidate
        await self.broker.forget(candidate.group)

    @contextlib.asynccontextmanager
    async def metered(self, name, candidate):
        """Keep how many alerts a second those are that go by meanwhile, and what processors do for each."""
        span = Span()
        cpu, server, began = candidate.cpu(), await candidate.server_cpu(), time.time()
        yield span
        took = (span.ended or time.time()) - began
        cpu, server = candidate.cpu() - cpu, await candidate.server_cpu() - server
        self.keep(f"{name} alerts/s", span.alerts / took)
        self.keep(f"{name} CPU us", cpu / span.alerts * 1e6)
        if candidate.server:
            self.keep(f"{name} server CPU us", server / span.alerts * 1e6)

    async def triage(self, name, candidate):
        """How fast it works the full topic off."""
        first = await self.until(candidate, await self.broker.consumed(candidate.group) + WARM_QUIET)
        began, held = time.time(), await candidate.server.bytes() if candidate.server else 0
        async with self.metered(name, candidate) as span:
            while True:
                await asyncio.sleep(0.02)
                candidate.check()
                consumed = await self.broker.consumed(candidate.group)
                span.ended, span.alerts = time.time(), consumed - first
                took = span.ended - began
                if consumed == QUIET or took > TRIAGE_MOST_SECONDS:
                    break
                if took > TRIAGE_SECONDS and span.alerts > TRIAGE_LEAST:
                    break
        if candidate.server:
            self.keep(f"{name} bytes stored", (await candidate.server.bytes() - held) / span.alerts)

    async def until(self, candidate, count):
        """Wait until it has committed so many records; returns how many exactly."""
        async with asyncio.timeout(STUCK_SECONDS):
            while (consumed := await self.broker.consumed(candidate.group)) < count:
                candidate.check()
                await asyncio.sleep(0.02)
        return consumed

    async def acted(self, name, candidate, topic):
        """How fast it acts on alerts that come all at once."""
        sink, run = self.sink, secrets.token_hex(3)
        await self.broker.send(topic, loud(WARM_LOUD, run))
        await sink.wait(WARM_LOUD, STUCK_SECONDS)
        await self.until(candidate, WARM_LOUD)
        values = list(loud(BURST, run, WARM_LOUD))
        sink.times.clear()
        async with self.metered(name, candidate) as span:
            await self.broker.send(topic, values)
            await sink.wait(BURST, STUCK_SECONDS)
            span.alerts, span.ended = BURST, max(sink.times.values())
        await self.until(candidate, WARM_LOUD + BURST)
        sink.times.clear()

    async def latency(self, name, topic, rate):
        """How long an alert takes from Kafka to its action where so many come in a second."""
        sink, run, pick = self.sink, secrets.token_hex(3), random.Random(1)
        produced, due, end = {}, time.time(), time.time() + LATENCY_SECONDS
        while due < end:
            due += pick.expovariate(rate)
            await asyncio.sleep(max(0.0, due - time.time()))
            value = encoded(len(produced), LOUD, run)
            produced[f"{run}-{len(produced)}"] = time.time()
            await self.broker.producer.send(topic, value, partition=len(produced) % PARTITIONS)
        await sink.wait(len(produced), STUCK_SECONDS)
        settled = list(produced)[len(produced) // 8 :]
        taken = sorted((sink.times[each] - produced[each]) * 1e3 for each in settled)
        self.keep(f"{name} p50 ms", taken[len(taken) // 2])
        self.keep(f"{name} p99 ms", taken[int(len(taken) * 0.99)])
        sink.times.clear()

    async def acting(self, name, database, workers=1, *, latency=True):
        """soar, acting."""
        topic = await self.broker.topic()
        options = {"sink": self.sink.url, "workers": workers}
        async with self.candidate(soar, topic, database, **options) as candidate:
            await self.acted(f"acted, {name}", candidate, topic)
            if latency:
                rate = self.found[f"acted, {name} alerts/s"][-1]
                await self.latency(f"latency, {name}", topic, rate / 2)

    async def ansible(self, topic):
        """The same quiet alerts, then loud ones, in one process: it takes half a minute to start."""
        acted = await self.broker.topic(loud(ANSIBLE_LOUD, secrets.token_hex(3)))
        topics = [(topic, ANSIBLE_QUIET), (acted, ANSIBLE_LOUD)]
        began = time.time()
        folder = self.folder / secrets.token_hex(4)
        async with ansible(folder, servers=self.told.kafka, topics=topics, rules=RULES) as (candidate, lines):
            await lines.wait(MARK, 1, candidate)
            self.keep("start-up, ansible-rulebook s", lines.times[MARK][0] - began)
            await lines.wait(LOUD, ANSIBLE_LOUD, candidate)
        marks, louds = lines.times[MARK][WARM_QUIET // MARK_EVERY :], lines.times[LOUD][WARM_LOUD:]
        self.keep("triage, ansible-rulebook alerts/s", (len(marks) - 1) * MARK_EVERY / (marks[-1] - marks[0]))
        self.keep("acted, ansible-rulebook alerts/s", (len(louds) - 1) / (louds[-1] - louds[0]))

    async def round(self, topic):
        """Each of them once."""
        wanted, url = self.told.only, self.sink.url
        for store, database in (("SQLite", False), ("PostgreSQL", True)):
            if "triage" in wanted:
                async with self.candidate(ceiling, topic, database) as candidate:
                    await self.triage(f"triage, ceiling, {store}", candidate)
                async with self.candidate(soar, topic, database, sink=url) as candidate:
                    await self.triage(f"triage, soar, {store}", candidate)
            if "acted" in wanted:
                loud_topic = await self.broker.topic()
                async with self.candidate(ceiling, loud_topic, database, post=url) as candidate:
                    await self.acted(f"acted, ceiling, {store}", candidate, loud_topic)
                await self.acting(f"soar, {store}", database)
        if "ansible" in wanted:
            await self.ansible(topic)
        if "workers" in wanted:
            for workers in self.told.workers:
                async with self.candidate(soar, topic, True, sink=url, workers=workers) as candidate:
                    await self.triage(f"triage, soar x {workers}, PostgreSQL", candidate)
                await self.acting(f"soar x {workers}, PostgreSQL", True, workers, latency=False)

    async def once(self):
        """What one round is enough for."""
        if "startup" in self.told.only:
            topic = await self.broker.topic()
            for count in (MANY, RULES):
                async with self.candidate(soar, topic, False, sink=self.sink.url, count=count) as candidate:
                    self.keep(f"start-up, soar, {count:,} playbooks s", candidate.started_seconds)
                    self.keep(f"start-up, soar, {count:,} playbooks CPU s", candidate.cpu())
        if "matching" in self.told.only:
            command = [sys.executable, str(HERE / "matching.py"), "--json"]
            told = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=True)
            self.keep("matching, 10,000 / 10", json.loads(told.stdout)["ratio"]["pure"])


async def main():
    """Print the table; exit code 1 where `--check` finds too little."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kafka", metavar="SERVERS", required=True)
    parser.add_argument("--postgres", metavar="DSN", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=LINES, default=LINES)
    parser.add_argument("--workers", type=int, nargs="+", default=[2])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--json", action="store_true")
    told = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} at the beginning", file=sys.stderr)
    with tempfile.TemporaryDirectory(dir=HERE.parent, prefix=".bench-") as folder:
        async with Broker(told.kafka) as broker, Sink() as sink:
            bench = Bench(told, broker, sink, Path(folder))
            topic = await broker.topic(quiet(QUIET, "quiet"))
            for number in range(told.rounds):
                print(f"round {number + 1}", file=sys.stderr)
                await bench.round(topic)
            await bench.once()
    missed = show(bench.found)
    if told.json:
        print(json.dumps(bench.found))
    return 1 if told.check and missed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
