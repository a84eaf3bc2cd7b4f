"""One of three workers is stopped past its lease (SIGSTOP) and continued when its runs have ended elsewhere."""

import asyncio
import signal
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from soar.lab import read_log

from .kills import come_to_rest, ended, feed
from .oracle import Database, Sampler, Verdict, about, judge
from .site import LEASE_SECONDS, Site, answer, open_site, until

WORKERS = 3
HELD_AT_LEAST = 3


@dataclass(frozen=True, kw_only=True)
class Stops:
    """How hard: stops in all, and how many runs are kept under way."""

    stops: int
    under_way: int = 60


@dataclass(frozen=True)
class Stopped:
    """A worker that lies still: the runs it held by (epoch, tag), and how far journal and lab had come."""

    slot: int
    owner: str
    held: dict[str, tuple[int, str]]


async def stops(folder: Path, *, seed: int, plan: Stops, database: str) -> Verdict:
    """Stop, see its runs go on elsewhere, continue, see that it does nothing more to them."""
    async with open_site(folder, seed=seed, database=database, workers=WORKERS) as site:
        for slot in range(WORKERS):
            await site.start(slot)
        for slot in range(WORKERS):
            await site.up(slot)
        sampler = Sampler(Database(site))
        others = [asyncio.create_task(part) for part in (sampler.run(), answer(site), feed(site, plan.under_way))]
        written: list[str] = []
        called: list[str] = []
        seen: Counter[str] = Counter()
        for _ in range(plan.stops):
            await _stop_once(site, written, called, seen)
        await ended(others.pop())
        await come_to_rest(site)
        await ended(*others)
        verdict = await judge(site)
        verdict.counts |= {"stops": plan.stops, **seen, **sampler.figures()}
        verdict.wrong("written_after_losing_the_lease", written)
        verdict.wrong("called_after_losing_the_lease", called)
        return verdict


async def _stop_once(site: Site, written: list[str], called: list[str], seen: Counter[str]) -> None:
    database = Database(site)
    stopped = await _stop_under_work(site)
    worker = site.workers[stopped.slot]
    names = ", ".join(f"'{name}'" for name in stopped.held)

    resting = f"SELECT id, epoch FROM runs WHERE id IN ({names}) AND state NOT IN ('ready', 'running')"

    async def taken_up() -> bool:
        """None is as the stopped worker left it."""
        rows = await database.rows(f"SELECT id, epoch, state FROM runs WHERE id IN ({names})")
        return all(epoch > stopped.held[name][0] or state != "running" for name, epoch, state in rows)

    async def most_rest() -> bool:
        return 2 * len(await database.rows(resting)) > len(stopped.held)

    try:
        await until(taken_up, seconds=30 + LEASE_SECONDS, what="the stopped worker's runs go on")
        await until(most_rest, seconds=60, what="the stopped worker's runs come to rest")
    except AssertionError as late:
        columns = "id, state, epoch, owner, lease_until"
        left = await database.rows(f"SELECT {columns} FROM runs WHERE id IN ({names}) AND state = 'running'")
        raise AssertionError(f"{late}; {stopped.owner} is stopped; {left}") from late
    over = dict(await database.rows(resting))  # in one look: what is leased after it has another epoch
    entries = (await database.rows("SELECT count(*) FROM entries"))[0][0]
    lines = len(read_log(site.lab_log))
    worker.send(signal.SIGCONT)
    await asyncio.sleep(LEASE_SECONDS)
    after = read_log(site.lab_log)[lines:]  # before the epochs: a call that comes between belongs to a new one
    later = [e for e in await database.entries(entries) if e.leaf.get("actor") == f"worker:{stopped.owner}"]
    now = {row[0]: row[1] for row in await database.rows(f"SELECT id, epoch FROM runs WHERE id IN ({names})")}
    kept = {name for name in over if now[name] == over[name]}  # nobody has leased them since: nobody may touch them
    written += [f"{e.run_id} {e.type}" for e in later if e.run_id in kept]
    tags = {stopped.held[name][1] for name in kept}
    for line in after:
        told = about(line)
        if told is not None and told[1] != "release" and site.owners.get(told[0], told[0]) in tags:
            called.append(" ".join(told))
    seen.update({"runs_held_by_the_stopped": len(stopped.held), "of_them_at_rest_before_it_went_on": len(kept)})


async def _stop_under_work(site: Site) -> Stopped:
    """Stop some worker at a moment when it holds several runs."""
    database = Database(site)
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up:
        await asyncio.sleep(site.rng.uniform(0.05, 0.5))
        slot = site.rng.randrange(WORKERS)
        worker = site.workers[slot]
        worker.send(signal.SIGSTOP)
        rows = await database.rows(
            "SELECT runs.id, epoch, uid, owner FROM runs JOIN alerts ON alerts.id = alert_id "
            f"WHERE runs.state = 'running' AND owner LIKE '%-{worker.pid}'"
        )
        if len(rows) >= HELD_AT_LEAST:
            return Stopped(slot, rows[0][3], {row[0]: (row[1], row[2]) for row in rows})
        worker.send(signal.SIGCONT)
    raise AssertionError(f"no worker ever held {HELD_AT_LEAST} runs")
