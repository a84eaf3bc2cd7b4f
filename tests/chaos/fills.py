"""The disk fills up while alerts arrive, and is made room on again."""

import asyncio
import contextlib
import json
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from .databases import open_server
from .kills import come_to_rest, ended, feed
from .oracle import Verdict, judge
from .site import Site, answer, open_site, until

TOLD_SECONDS = 60.0


class NoMountError(Exception):
    """This account may not mount."""


@dataclass(frozen=True, kw_only=True)
class Fills:
    """How hard: how often the disk is filled to the last byte, for how long."""

    fills: int
    full_seconds: float = 4.0


@contextlib.contextmanager
def small_disk(folder: Path, *, megabytes: int) -> Iterator[Path]:
    """A tmpfs of this size; raises NoMountError."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "soar-chaos", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoMountError(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def fills_of_sqlite(folder: Path, *, seed: int, plan: Fills) -> Verdict:
    """The home, with its database, on a small disk."""
    with small_disk(folder / "disk", megabytes=48) as disk:
        async with open_site(folder, seed=seed, home=disk / "home", lease_seconds=10) as site:
            return await _fill(site, disk, plan)


async def fills_of_postgres(folder: Path, *, seed: int, plan: Fills) -> Verdict:
    """The whole cluster of PostgreSQL on a small disk, its log and all."""
    with small_disk(folder / "disk", megabytes=192) as disk:
        for above in (folder, *folder.parents):
            if above == Path("/tmp"):
                break
            above.chmod(0o755)  # the server runs as another user
        async with (
            open_server(disk / "postgres", wal_megabytes=64) as server,
            open_site(folder, seed=seed, database=server.url, workers=2, lease_seconds=10) as site,
        ):
            filler = asyncio.create_task(server.keep_up())
            try:
                return await _fill(site, disk, plan)
            finally:
                await ended(filler)


async def _fill(site: Site, disk: Path, plan: Fills) -> Verdict:
    for slot in range(len(site.ports)):
        await site.start(slot)
        await site.up(slot)
    others = [asyncio.create_task(part) for part in (answer(site), feed(site, 30, batch=4))]
    seen: Counter[str] = Counter()
    silent = []
    for number in range(plan.fills):
        await asyncio.sleep(site.rng.uniform(1, 3))
        ballast = disk / "ballast"
        _fill_up(ballast)
        told = await _told(site, plan.full_seconds, ballast)
        silent += [] if told else [f"fill {number}"]
        before = len(site.acknowledged)
        ballast.unlink()
        began = time.monotonic()

        async def takes_again(before: int = before) -> bool:
            return len(site.acknowledged) > before

        await until(takes_again, seconds=60, what="alerts are taken again after room was made")
        seen["fills_told"] += told
        seen["slowest_recovery_ms"] = max(seen["slowest_recovery_ms"], round(1000 * (time.monotonic() - began)))
    died = [f"worker {slot}" for slot, worker in site.workers.items() if not worker.alive]
    await ended(others.pop())
    await come_to_rest(site)
    await ended(*others)
    verdict = await judge(site)
    verdict.counts |= {"fills": plan.fills, "deliveries_refused": site.refused, **seen}
    verdict.wrong("fills_that_nobody_was_told_of", silent)
    verdict.wrong("workers_that_ended", died)
    return verdict


def _fill_up(ballast: Path) -> None:
    """Write until there is no byte left."""
    with ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            for size in (1 << 20, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while file.write(b"\0" * size) == size:
                        pass
            file.write(b"\0")


async def _told(site: Site, seconds: float, ballast: Path) -> bool:
    """Keep the disk full for so long, and on until the service's health says so or a minute is over; whether it did."""
    enough = time.monotonic() + seconds
    give_up = enough + TOLD_SECONDS
    told = False
    limit = aiohttp.ClientTimeout(total=5)
    async with aiohttp.ClientSession(timeout=limit) as http:
        while (now := time.monotonic()) < enough or (not told and now < give_up):
            _fill_up(ballast)  # what the service gave back, it does not get again
            for port in site.ports:
                with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
                    async with http.get(f"http://127.0.0.1:{port}/health") as answer_:
                        told |= "full" in json.dumps(await answer_.json())
            await asyncio.sleep(0.2)
    return told
