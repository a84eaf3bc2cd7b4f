"""Clocks that jump by hours and days, and machines that disagree about the time."""

import asyncio
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from soar.lab import read_log

from .kills import come_to_rest, ended, feed
from .oracle import Database, Verdict, about, judge
from .site import Site, answer, open_site, until

HOUR, DAY = 3600.0, 86_400.0
AMOUNTS = (HOUR, -HOUR, DAY, -DAY)
PAUSES = {("ticket", "page"): 1.0, ("isolate", "release"): 2.0}
"""What a playbook puts between two calls for one alert, in seconds."""


@dataclass(frozen=True, kw_only=True)
class Jumps:
    """How hard: how often a clock is set to another wrong time."""

    jumps: int
    under_way: int = 30


async def jumps_of_one_machine(folder: Path, *, seed: int, plan: Jumps) -> Verdict:
    """SQLite: the only clock there is jumps, and every other time the worker is killed at that moment."""
    async with open_site(folder, seed=seed) as site:
        await site.start(0)
        await site.up(0)
        others = [asyncio.create_task(part) for part in (answer(site), feed(site, plan.under_way))]
        kept: list[str] = []
        for number in range(plan.jumps):
            await asyncio.sleep(site.rng.uniform(1, 3))
            kept += await _jump(site, AMOUNTS[number % len(AMOUNTS)], killed=number // len(AMOUNTS) % 2 == 1)
        await ended(others.pop())
        site.bend(2 * DAY)  # what was to be in a minute, as told by a clock a day ahead, is due now
        await come_to_rest(site, ahead=2 * DAY)
        await ended(*others)
        verdict = await judge(site, may_fail=True)
        verdict.counts |= {"jumps": plan.jumps}
        verdict.wrong("runs_kept_by_a_dead_lease", kept)
        return verdict


async def _jump(site: Site, seconds: float, *, killed: bool) -> list[str]:
    """Set the clock; returns the runs that were under way and are not taken up within 30 s."""
    database = Database(site)
    if killed:
        await site.workers[0].kill()
    leased = "SELECT id, epoch FROM runs WHERE state = 'running'"
    before = set(await database.rows(leased))
    site.bends[0].set(seconds)
    if killed:
        await site.start(0)
        await site.up(0)
    left: set[tuple[str, int]] = before

    async def taken_up() -> bool:
        left.intersection_update(await database.rows(leased))
        return not left

    try:
        await until(taken_up, seconds=30, what="runs are taken up after the jump")
    except AssertionError:
        return [f"{run_id} epoch {epoch} after {seconds:+.0f} s" for run_id, epoch in left]
    return []


async def jumps_of_three_machines(folder: Path, *, seed: int, plan: Jumps, database: str) -> Verdict:
    """PostgreSQL: three workers start with clocks hours and days apart, which then jump one after the other."""
    async with open_site(folder, seed=seed, database=database, workers=3, lease_seconds=10) as site:
        for slot, seconds in enumerate((HOUR, 0.0, -DAY)):
            site.bends[slot].set(seconds)
            await site.start(slot)
        for slot in range(3):
            await site.up(slot)
        others = [asyncio.create_task(part) for part in (answer(site), feed(site, plan.under_way))]
        for number in range(plan.jumps):
            await asyncio.sleep(site.rng.uniform(1, 3))
            site.bends[number % 3].set(site.rng.choice((*AMOUNTS, 0.0)))
        await ended(others.pop())
        early = early_calls(site)
        await come_to_rest(site)
        await ended(*others)
        verdict = await judge(site)
        verdict.counts |= {"jumps": plan.jumps}
        verdict.wrong("early_timers", early)
        return verdict


def early_calls(site: Site) -> list[str]:
    """Calls that came sooner after another than their playbook says, by the lab's own clock, which is right."""
    first: defaultdict[str, dict[str, datetime]] = defaultdict(dict)
    for line in read_log(site.lab_log):
        told = about(line)
        if told is not None and line["applied"]:
            first[told[0]].setdefault(told[1], datetime.fromisoformat(line["at"]))
    found: Counter[str] = Counter()
    for tag, at in first.items():
        for (one, other), seconds in PAUSES.items():
            if "-full-" in tag and {one, other} <= at.keys() and (at[other] - at[one]).total_seconds() < seconds:
                found[f"{tag} {other} {(at[other] - at[one]).total_seconds():.2f} s after {one}"] += 1
    return list(found)
