"""PostgreSQL goes away and comes back, again and again, while three workers carry out thousands of runs."""

import asyncio
import contextlib
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from .databases import Server, open_server
from .kills import come_to_rest, ended, feed
from .oracle import AWAY, Database, Sampler, Verdict, judge
from .site import Site, answer, open_site

WAYS = (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)
"""Fast shutdown, immediate shutdown, the postmaster killed: in turn."""
WORKERS = 3
RULES = ("light",) * 8 + ("full", "asked")


@dataclass(frozen=True, kw_only=True)
class Restarts:
    """How hard: as many runs and restarts at least, with PostgreSQL up for a random time between these two."""

    runs: int
    restarts: int = len(WAYS)
    up_seconds: tuple[float, float] = (4.0, 12.0)
    down_seconds: tuple[float, float] = (0.0, 2.0)
    under_way: int = 300


async def restarts(folder: Path, *, seed: int, plan: Restarts) -> Verdict:
    """Restart while alerts are sent, until there were enough of both and all that they started rests."""
    async with (
        open_server() as server,
        open_site(folder, seed=seed, database=server.url, workers=WORKERS, lease_seconds=30) as site,
    ):
        for slot in range(WORKERS):
            await site.start(slot)
        for slot in range(WORKERS):
            await site.up(slot)
        started = time.monotonic()
        sampler = Sampler(Database(site))
        others = [asyncio.create_task(part) for part in (sampler.run(), answer(site))]
        hits: Counter[str] = Counter()
        hitter = asyncio.create_task(hit(server, random.Random(seed), plan, hits))

        def enough() -> bool:
            return len(site.acknowledged) >= plan.runs and hits.total() >= plan.restarts

        await asyncio.gather(
            *(feed(site, plan.under_way, enough=enough, batch=50, rules=RULES) for _ in range(WORKERS))
        )
        await _drained(site)
        await ended(hitter)
        await server.start()
        died = [f"worker {slot}" for slot, worker in site.workers.items() if not worker.alive]
        await come_to_rest(site)
        await ended(*others)
        verdict = await judge(site)
        verdict.counts |= {
            "restarts": dict(hits), "seconds": round(time.monotonic() - started), "deliveries_refused": site.refused,
            **sampler.figures(),
        }  # fmt: skip
        verdict.wrong("workers_that_ended", died)
        return verdict


async def hit(server: Server, rng: random.Random, plan: Restarts, hits: Counter[str]) -> None:
    """End it and start it again until cancelled."""
    while True:
        for way in WAYS:
            await asyncio.sleep(rng.uniform(*plan.up_seconds))
            await server.end(way)
            await asyncio.sleep(rng.uniform(*plan.down_seconds))
            await server.start()
            hits[{signal.SIGINT: "fast", signal.SIGQUIT: "immediate", signal.SIGKILL: "killed"}[way]] += 1


async def _drained(site: Site, seconds: float = 60) -> None:
    """Until most of what was sent is done, still under fire; the rest follows in peace."""
    database = Database(site)
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        with contextlib.suppress(*AWAY):
            if await database.active() < 20:
                return
        await asyncio.sleep(0.3)
