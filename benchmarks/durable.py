"""Runs of three durable steps: soar beside DBOS on one PostgreSQL, and soar on SQLite.

    python benchmarks/durable.py --postgres DSN [--workers 1 2] [--runs N] [--rounds N] [--check] [--json]
    python benchmarks/durable.py --postgres DSN --sweep          what number of threads suits DBOS best here

Both do three calls of a function that does nothing, each with its result made durable before the next begins. They take
turns, each time in new processes on a new database of the same server, with the same number of processes; figures are
medians of the rounds, so their ratio holds on a noisy machine. DBOS is installed by pip into .stack/, at a pinned
version, and nothing of soar's runs in its environment.

In a round each side first gets all runs at once: runs per second from the first submission to the last durable end, and
the time of a run from its submission on. Then both get runs one by one at the same random times, half as many a second
as DBOS just did: there the time of a run is compared at equal load. `--check` makes the exit code 1 where soar does
not do ten times DBOS's runs, or where its p99 is worse, with the first number of workers.
"""

import argparse
import asyncio
import contextlib
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import venv
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from durable_soar import CONFIG, home

DBOS_VERSION = "3.4.0"  # MIT licence
DBOS_THREADS = 4
HERE = Path(__file__).resolve().parent
TARGET = 10.0
SHARE = 0.5  # of DBOS's own throughput, where both get the same load
LOAD_SECONDS = 8
WARM = 40
SWEEP = (1, 2, 4, 8, 20)
STUCK_SECONDS = 60.0

MORE = """soar does more in a run: an alert is normalised, matched and kept; a policy in Rego decides on each of the
three actions; each has an intent before and an outcome after it; and {entries:.0f} entries of a run enter a signed
Merkle tree. DBOS's workflow starts from a string and keeps the inputs and results of workflow and steps."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One phase of one side. `cpu_ms` is its processes' time for each run, `server_ms` PostgreSQL's."""

    runs_per_second: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    server_ms: float


class Workers:
    """The processes of one side, as this benchmark speaks to them: a line of JSON in, lines of JSON out."""

    def __init__(self, processes, log):
        self._processes = processes
        self._log = log
        self._first = 1

    @classmethod
    @contextlib.asynccontextmanager
    async def started(cls, command, count, log):
        """So many processes of a command, ready for work; `{name}` in it becomes the process's own name."""
        with log.open("w") as errors:
            processes = []
            try:
                for number in range(count):
                    words = [word.format(name=f"worker-{number}") for word in command]
                    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors, "limit": 1 << 24}
                    processes.append(await asyncio.create_subprocess_exec(*words, **pipes))
                workers = cls(processes, log)
                for process in processes:
                    await workers.line(process)
                yield workers
                for process in processes:
                    process.stdin.close()
                await asyncio.gather(*(process.wait() for process in processes))
            finally:
                for process in processes:
                    if process.returncode is None:
                        process.kill()

    async def line(self, process):
        """The next line of one process; ends the benchmark where none comes."""
        try:
            async with asyncio.timeout(STUCK_SECONDS):
                line = await process.stdout.readline()
        except TimeoutError:
            line = b""
        if not line:
            sys.exit(f"a process said nothing more; its last words:\n{self._log.read_text()[-2000:]}")
        return json.loads(line)

    async def told(self):
        """What the first process tells next."""
        return await self.line(self._processes[0])

    def pids(self):
        """The processes, by their numbers."""
        return [process.pid for process in self._processes]

    async def phase(self, count, *, rate=0.0, server=None):
        """Have so many runs done, together or at `rate` a second, and measure them."""
        share = count // len(self._processes)
        cpu, server_cpu = await self._cpu(), await server.cpu() if server else 0.0
        for process in self._processes:
            work = {"count": share, "first": self._first, "rate": rate / len(self._processes)}
            self._first += share
            process.stdin.write(json.dumps(work).encode() + b"\n")
        submitted, finished = {}, {}

        async def follow(process):
            while len(finished) < share * len(self._processes):
                told = await self.line(process)
                submitted.update(told["submitted"])
                finished.update(told["finished"])

        await asyncio.gather(*map(follow, self._processes))
        cpu, server_cpu = await self._cpu() - cpu, (await server.cpu() if server else 0.0) - server_cpu
        took = max(finished.values()) - min(submitted.values())
        times = sorted((finished[run] - submitted[run]) * 1e3 for run in finished)
        return Figures(
            runs_per_second=len(times) / took,
            p50_ms=times[len(times) // 2],
            p99_ms=times[int(len(times) * 0.99)],
            cpu_ms=cpu / len(times) * 1e3,
            server_ms=server_cpu / len(times) * 1e3,
        )

    async def _cpu(self):
        """Seconds that the processes computed so far."""
        return sum([(await self.line(process))["cpu"] for process in self._processes])


class Database:
    """A database of its own on the server, made and dropped here."""

    def __init__(self, dsn):
        self._server = dsn
        self.name = f"bench_{secrets.token_hex(6)}"
        self.dsn = urlunsplit(urlsplit(dsn)._replace(path=f"/{self.name}"))

    async def __aenter__(self):
        await self._say(f"CREATE DATABASE {self.name}")
        return self

    async def __aexit__(self, *_):
        await self._say(f"DROP DATABASE {self.name} WITH (FORCE)")

    async def _say(self, sql):
        db = await asyncpg.connect(self._server)
        try:
            return await db.fetch(sql)
        finally:
            await db.close()

    async def cpu(self):
        """Seconds that the server's processes computed for those connected now; 0 where it is another machine's."""
        rows = await self._say(f"SELECT pid FROM pg_stat_activity WHERE datname = '{self.name}'")
        return sum(cpu_of(row["pid"]) for row in rows)

    async def bytes(self):
        """What all of it takes on the server's disk."""
        return (await self._say(f"SELECT pg_database_size('{self.name}') AS bytes"))[0]["bytes"]

    async def entries(self):
        """How many entries soar's journal holds for each run."""
        db = await asyncpg.connect(self.dsn)
        try:
            return await db.fetchval("SELECT (SELECT size FROM tree) / (SELECT count(*) FROM runs)::float")
        finally:
            await db.close()


def cpu_of(pid):
    """Seconds that a process computed so far; 0 where there is none here."""
    try:
        user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    except OSError:
        return 0.0
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def dbos_python():
    """The interpreter of DBOS's own environment, made where it does not exist."""
    folder = HERE.parent / ".stack" / f"dbos-{DBOS_VERSION}"
    python = folder / "bin" / "python"
    if not (folder / "installed").exists():
        print(f"installing DBOS {DBOS_VERSION} into {folder.relative_to(HERE.parent)}", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", f"dbos=={DBOS_VERSION}"], check=True)
        (folder / "installed").touch()
    return str(python)


def dbos(dsn, threads):
    """The command of a DBOS process on a database."""
    url = dsn.replace("postgresql://", "postgresql+psycopg://", 1)
    return [dbos_python(), str(HERE / "durable_dbos.py"), url, str(threads), "{name}"]


def soar(folder, dsn=None):
    """The command of a soar process on a database, or on an SQLite file."""
    if dsn is not None:
        folder.mkdir()
        secret = folder / "database-url"
        secret.touch(mode=0o600)
        secret.write_text(dsn)
    store = f'store: {{url: "secret://file{secret}"}}\n' if dsn else ""
    return [sys.executable, str(HERE / "durable_soar.py"), str(home(folder, config=CONFIG + store))]


async def measured(command, workers, log, told, *, rate=None, database=None):
    """Both phases of one side; the load is half of what it just did itself unless `rate` says."""
    async with Workers.started(command, workers, log) as side:
        await side.phase(WARM)
        burst = await side.phase(told.runs, server=database)
        rate = rate or SHARE * burst.runs_per_second
        load = await side.phase(int(rate * LOAD_SECONDS), rate=rate, server=database)
    return burst, load, rate


async def turn(told, workers, folder):
    """One round: DBOS, then soar, each on a new database."""
    async with Database(told.postgres) as database:
        command = dbos(database.dsn, told.threads)
        burst, load, rate = await measured(command, workers, folder / "dbos.log", told, database=database)
    found = {("dbos", "burst"): burst, ("dbos", "load"): load}
    async with Database(told.postgres) as database:
        command = soar(folder / "home", database.dsn)
        burst, load, _ = await measured(command, workers, folder / "soar.log", told, rate=rate, database=database)
        entries = await database.entries()
    return {**found, ("soar", "burst"): burst, ("soar", "load"): load}, rate, entries


async def turn_sqlite(told, folder):
    """The real service by itself on a file, with all runs at once."""
    async with Workers.started(soar(folder / "home"), 1, folder / "soar.log") as side:
        await side.phase(WARM)
        return await side.phase(told.runs)


async def sweep(told, folder):
    """DBOS with several numbers of threads, in turns."""
    found = {threads: [] for threads in SWEEP}
    for _ in range(told.rounds):
        for threads in SWEEP:
            async with Database(told.postgres) as database:
                command = dbos(database.dsn, threads)
                async with Workers.started(command, told.workers[0], folder / "dbos.log") as side:
                    await side.phase(WARM)
                    found[threads].append(await side.phase(told.runs))
    for threads, rounds in found.items():
        row = middle(rounds)
        print(f"DBOS, {threads:2} threads  {row.runs_per_second:7.0f} runs/s  p99 {row.p99_ms:7.0f} ms")


def middle(rounds):
    """The median of each figure."""
    return Figures(**{name: statistics.median(asdict(one)[name] for one in rounds) for name in asdict(rounds[0])})


def show(name, row):
    """A line of the table."""
    server = f"{row.server_ms:9.2f}" if row.server_ms else f"{'-':>9}"
    speed = f"{row.runs_per_second:9.0f} {row.p50_ms:9.0f} {row.p99_ms:9.0f}"
    print(f"{name:34} {speed} {row.cpu_ms:9.2f} {server}")


def compare(workers, rounds):
    """Print what so many workers did; returns how many times DBOS's runs, and whether p99 is no worse."""
    rates = [rate for _, rate, _ in rounds]
    rows = {key: middle([found[key] for found, _, _ in rounds]) for key in rounds[0][0]}
    for phase in ("burst", "load"):
        what = "all at once" if phase == "burst" else f"{statistics.median(rates):.0f} runs/s offered"
        for side in ("dbos", "soar"):
            show(f"{side} x {workers}, {what}", rows[side, phase])
    ratios = [found["soar", "burst"].runs_per_second / found["dbos", "burst"].runs_per_second for found, _, _ in rounds]
    ratio = statistics.median(ratios)
    better = all(rows["soar", phase].p99_ms <= rows["dbos", phase].p99_ms for phase in ("burst", "load"))
    says = "no worse" if better else "WORSE"
    print(f"with {workers} worker(s) each, soar does {ratio:.1f} times DBOS's runs a second; its p99 is {says}\n")
    return ratio, better


async def compared(told, folder):
    """All of it; returns the first number of workers' ratio and whether p99 is no worse."""
    rounds = {workers: [] for workers in told.workers}
    alone = []
    for number in range(told.rounds):
        for workers in told.workers:
            place = folder / f"{number}-{workers}"
            place.mkdir()
            rounds[workers].append(await turn(told, workers, place))
        place = folder / f"{number}-sqlite"
        place.mkdir()
        alone.append(await turn_sqlite(told, place))
    print(f"{'':34} {'runs/s':>9} {'p50 ms':>9} {'p99 ms':>9} {'CPU ms':>9} {'server ms':>9}")
    results = {workers: compare(workers, found) for workers, found in rounds.items()}
    show("soar x 1 on SQLite, all at once", middle(alone))
    print("\n" + MORE.format(entries=rounds[told.workers[0]][0][2]))
    if told.json:
        print(json.dumps({str(workers): ratio for workers, (ratio, _) in results.items()}))
    return results[told.workers[0]]


async def main():
    """Print the table; exit code 1 where `--check` finds too little."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--postgres", metavar="DSN", required=True)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--runs", type=int, default=1000, help="runs in a round, all at once")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=DBOS_THREADS, help="threads of a DBOS process")
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--json", action="store_true")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if told.sweep:
            await sweep(told, Path(folder))
            return 0
        ratio, better = await compared(told, Path(folder))
    if told.check and not (ratio >= TARGET and better):
        print(f"soar should do {TARGET:.0f} times DBOS's runs, and its p99 be no worse", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
