"""The long forms: `make chaos`, or `python -m tests.chaos [--kafka] [WORD...] [--seed N] [--part 0.1]`.

Words pick cases by name. Every case prints its seed, its counts and the one command that runs it again; exits 1 if
anything is wrong. The kind of every blow and all its moments come from the seed; what else the machine does is its own.
"""

# ruff: noqa: T201 - what it prints is what it is for

import argparse
import asyncio
import json
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from soar import logs

from .databases import open_server, schema_on
from .fills import Fills, fills_of_postgres, fills_of_sqlite
from .fleet import ROOT
from .jumps import Jumps, jumps_of_one_machine, jumps_of_three_machines
from .kills import Kills, kills
from .loads import slowed, waiting
from .oracle import Verdict
from .records import Mix
from .restarts import Restarts, restarts
from .stops import Stops, stops
from .streams import Stream, open_scene, play

STACK = ROOT / "scripts" / "stack"


@dataclass(frozen=True, kw_only=True)
class Given:
    """What a case is run with; `part` scales it."""

    folder: Path
    seed: int
    part: float
    postgres: str

    def of(self, number: int) -> int:
        return max(1, round(number * self.part))


async def kills_on_sqlite(given: Given) -> Verdict:
    return await kills(given.folder, seed=given.seed, plan=Kills(rounds=given.of(160)))


async def kills_on_postgres(given: Given) -> Verdict:
    async with schema_on(given.postgres) as database:
        return await kills(
            given.folder, seed=given.seed, plan=Kills(rounds=given.of(160), workers=3), database=database
        )


async def restarts_of_postgres(given: Given) -> Verdict:
    return await restarts(given.folder, seed=given.seed, plan=Restarts(runs=given.of(5000)))


async def stops_of_a_worker(given: Given) -> Verdict:
    async with schema_on(given.postgres) as database:
        return await stops(given.folder, seed=given.seed, plan=Stops(stops=given.of(10)), database=database)


async def disk_full_under_sqlite(given: Given) -> Verdict:
    return await fills_of_sqlite(given.folder, seed=given.seed, plan=Fills(fills=given.of(6)))


async def disk_full_under_postgres(given: Given) -> Verdict:
    return await fills_of_postgres(given.folder, seed=given.seed, plan=Fills(fills=given.of(4), full_seconds=15))


async def clocks_on_sqlite(given: Given) -> Verdict:
    return await jumps_of_one_machine(given.folder, seed=given.seed, plan=Jumps(jumps=given.of(16)))


async def clocks_on_postgres(given: Given) -> Verdict:
    async with schema_on(given.postgres) as database:
        plan = Jumps(jumps=given.of(20))
        return await jumps_of_three_machines(given.folder, seed=given.seed, plan=plan, database=database)


async def stream(given: Given, plan: Stream) -> Verdict:
    async with (
        schema_on(given.postgres) as database,
        open_scene(given.folder, seed=given.seed, plan=plan, database=database) as scene,
    ):
        return await play(scene)


async def broker_killed_and_away(given: Given) -> Verdict:
    plan = Stream(records=given.of(100_000), broker_kills=given.of(10), broker_away_seconds=(60,))
    return await stream(given, plan)


async def workers_come_and_go(given: Given) -> Verdict:
    return await stream(given, Stream(records=given.of(100_000), worker_blows=given.of(24)))


async def malformed_records(given: Given) -> Verdict:
    return await stream(given, Stream(records=given.of(201_000), mix=Mix(malformed=0.5)))


async def all_servers_restarted(given: Given) -> Verdict:
    plan = Stream(
        records=given.of(50_000), mix=Mix(malformed=0.1), broker_kills=given.of(4), worker_blows=given.of(9),
        lease_seconds=30,
    )  # fmt: skip
    async with (
        open_server() as server,
        open_scene(given.folder, seed=given.seed, plan=plan, database=server.url) as scene,
    ):
        return await play(scene, restarted=(server, Restarts(runs=0, up_seconds=(5, 40))))


async def slow_product(given: Given) -> Verdict:
    plan = Stream(records=given.of(30_000), mix=Mix(slow=0.1), lease_seconds=30)
    async with (
        schema_on(given.postgres) as database,
        open_scene(given.folder, seed=given.seed, plan=plan, database=database) as scene,
    ):
        return await slowed(scene)


async def million_waiting(given: Given) -> Verdict:
    plan = Stream(records=given.of(1_000_000), unread=given.of(2_000_000))
    async with (
        schema_on(given.postgres) as database,
        open_scene(given.folder, seed=given.seed, plan=plan, database=database) as scene,
    ):
        return await waiting(scene, consumed=given.of(50_000))


CASES: Mapping[str, Callable[[Given], Awaitable[Verdict]]] = MappingProxyType(
    {
        "kills-sqlite": kills_on_sqlite,
        "kills-postgres": kills_on_postgres,
        "restarts": restarts_of_postgres,
        "stops": stops_of_a_worker,
        "disk-sqlite": disk_full_under_sqlite,
        "disk-postgres": disk_full_under_postgres,
        "clocks-sqlite": clocks_on_sqlite,
        "clocks-postgres": clocks_on_postgres,
    }
)

STREAMS: Mapping[str, Callable[[Given], Awaitable[Verdict]]] = MappingProxyType(
    {
        "kafka-broker": broker_killed_and_away,
        "kafka-workers": workers_come_and_go,
        "kafka-malformed": malformed_records,
        "kafka-postgres": all_servers_restarted,
        "kafka-slow": slow_product,
        "kafka-waiting": million_waiting,
    }
)
"""What `make chaos-kafka` runs."""


async def run(name: str, given: Given) -> bool:
    """Run one case and tell; whether all is well."""
    target = "chaos-kafka" if name in STREAMS else "chaos"
    print(
        f"{name}: seed {given.seed}; again: make {target} ARGS='{name} --seed {given.seed} --part {given.part:g}'",
        flush=True,
    )
    started = time.monotonic()
    verdict = await (CASES | STREAMS)[name](given)
    for what, count in verdict.counts.items():
        print(f"  {what:<36} {json.dumps(count) if isinstance(count, dict) else count}")
    print(f"{name}: {'; '.join(verdict.problems) or 'ok'} ({time.monotonic() - started:.0f} s)\n", flush=True)
    return not verdict.problems


def postgres(*, kafka: bool) -> str:
    """URL of the PostgreSQL of the tests; what a Kafka of our own needs is got beside it."""
    if kafka:
        subprocess.run([sys.executable, STACK, "get", "kafka"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([sys.executable, STACK, "up", "postgres"], check=True, stdout=subprocess.DEVNULL)
    told = subprocess.run([sys.executable, STACK, "env", "postgres"], check=True, capture_output=True, text=True).stdout
    return dict(line.split("=", 1) for line in told.splitlines())["SOAR_STACK_POSTGRES"]


async def main() -> int:
    parser = argparse.ArgumentParser(prog="make chaos", description="Kill, stop, fill, jump; then count.")
    parser.add_argument("words", nargs="*", metavar="WORD", help=f"of {', '.join(CASES)}")
    parser.add_argument("--kafka", action="store_true", help=f"the streams from Kafka instead: {', '.join(STREAMS)}")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--part", type=float, default=1.0, help="0.1: a tenth of the rounds")
    parser.add_argument("--keep", type=Path, help="a folder for homes and logs, which stay")
    chosen = parser.parse_args()
    cases = STREAMS if chosen.kafka else CASES
    names = [name for name in cases if not chosen.words or any(word in name for word in chosen.words)]
    if not names:
        parser.error(f"no case has such a name; the cases are {', '.join(cases)}")
    logs.configure(level="error")
    me = asyncio.current_task()
    assert me is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, me.cancel)  # what was started is ended
    url = await asyncio.to_thread(postgres, kafka=chosen.kafka)
    well = True
    with tempfile.TemporaryDirectory(prefix="soar-chaos-") as scratch:
        for name in names:
            folder = (chosen.keep or Path(scratch)) / name
            well &= await run(name, Given(folder=folder, seed=chosen.seed, part=chosen.part, postgres=url))
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
