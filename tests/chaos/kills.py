"""Whole worker processes killed at random moments, again and again."""

import asyncio
import contextlib
import math
import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .oracle import AWAY, Database, Sampler, Verdict, judge
from .site import RULES, Site, answer, open_site

SHORTEST_SECONDS, LONGEST_SECONDS = 0.03, 4.0
UP_FIRST = 2 / 3
"""So many live that long from the moment that they answer; the others from their birth, and often die in it."""


IDLE_LOOKS = 10
LEAP_SECONDS, LEAPS = 150.0, 6
"""One is longer than any pause of the engine, all together are shorter than what people have to answer."""


@dataclass(frozen=True, kw_only=True)
class Kills:
    """How hard: rounds in all, by workers that die independently of each other."""

    rounds: int
    workers: int = 1
    under_way: int = 40  # alerts are sent while fewer runs than that are under way


async def kills(folder: Path, *, seed: int, plan: Kills, database: str | None = None) -> Verdict:
    """Kill, restart, and at the end let everything come to rest."""
    async with open_site(folder, seed=seed, database=database, workers=plan.workers) as site:
        await site.start(0)
        await site.up(0)
        sampler = Sampler(Database(site))
        helpers = [asyncio.create_task(part) for part in (sampler.run(), answer(site), feed(site, plan.under_way))]
        left = iter(range(plan.rounds))
        async with asyncio.TaskGroup() as slots:
            for slot in range(plan.workers):
                slots.create_task(_die_often(site, slot, left, random.Random(f"{seed}/{slot}")))
        await ended(helpers.pop())
        await come_to_rest(site)
        await ended(*helpers)
        verdict = await judge(site)
        verdict.counts |= {"rounds": plan.rounds, **sampler.figures()}
        slow = [f"{seconds:.1f} s" for seconds in sampler.waits if seconds > 30]
        verdict.wrong("resumed_later_than_30_seconds", slow)
        return verdict


def lifetime(rng: random.Random) -> float:
    """Any order of magnitude is as likely: some die while they start, some in the middle of everything."""
    return math.exp(rng.uniform(math.log(SHORTEST_SECONDS), math.log(LONGEST_SECONDS)))


async def _die_often(site: Site, slot: int, left: object, rng: random.Random) -> None:
    for _ in left:  # type: ignore[attr-defined]
        worker = site.workers.get(slot)
        if worker is None or not worker.alive:
            worker = await site.start(slot)
        if rng.random() < UP_FIRST:
            await site.up(slot)
        await asyncio.sleep(lifetime(rng))
        assert worker.alive, f"worker {slot} ended by itself; see worker-{slot}.log"
        worker.send(signal.SIGKILL)
        await worker.ended()


async def feed(
    site: Site,
    under_way: int,
    *,
    enough: Callable[[], bool] = lambda: False,
    batch: int = 12,
    rules: Sequence[str] = RULES,
) -> None:
    """Send alerts as long as there is room, until cancelled or it is enough."""
    database = Database(site)
    while not enough():
        active = under_way
        with contextlib.suppress(*AWAY):  # nothing is known to have room
            active = await database.active()
        if active < under_way:
            await site.deliver(site.alerts(site.rng.randint(1, batch), rules))
        await asyncio.sleep(0.1)


async def come_to_rest(site: Site, *, seconds: float = 120, ahead: float = 0) -> None:
    """Start every worker that is not there, wait until nothing is under way, stop them in order.

    Clocks that are `ahead` by so many seconds already go on from there.
    """
    for slot in range(len(site.ports)):
        if slot not in site.workers or not site.workers[slot].alive:
            await site.start(slot)
    for slot in range(len(site.ports)):
        await site.up(slot)
    await _rest(site, seconds=seconds, ahead=ahead)  # what is stuck is counted
    for slot in sorted(site.workers):
        await site.workers[slot].stop()


async def _rest(site: Site, *, seconds: float, ahead: float) -> None:
    """Until nothing is under way; where all that is left waits for a time, such as a read-back's, that comes sooner."""
    database = Database(site)
    give_up = time.monotonic() + seconds
    leaps, idle = 0, 0
    while time.monotonic() < give_up and await database.active():
        idle = 0 if await database.busy() else idle + 1
        if idle > IDLE_LOOKS and leaps < LEAPS:
            idle, leaps = 0, leaps + 1
            site.bend(ahead + leaps * LEAP_SECONDS)
        await asyncio.sleep(0.3)


async def ended(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            raise result
