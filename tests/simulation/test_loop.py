"""The machine that is simulated behaves like one."""

import asyncio
import contextvars
import sqlite3
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import pytest

from .loop import PROCESS, Process, RestlessError, SimLoop


def begin(loop: SimLoop, life: Coroutine[Any, Any, None]) -> Process:
    process = Process("it")
    context = contextvars.copy_context()
    context.run(PROCESS.set, process)
    context.run(loop.create_task, life)
    return process


def order(seed: int) -> list[int]:
    loop, seen = SimLoop(Random(seed)), list[int]()

    async def one(number: int) -> None:
        await asyncio.sleep(0)
        seen.append(number)

    async def main() -> None:
        await asyncio.gather(*(one(number) for number in range(10)))

    loop.run(main())
    return seen


def test_what_is_ready_at_once_runs_in_the_order_of_the_seed() -> None:
    assert order(1) == order(1)
    assert order(1) != order(2)
    assert sorted(order(1)) == list(range(10))


def test_time_is_what_timers_ask_for_and_costs_none() -> None:
    loop = SimLoop(Random(0))

    async def main() -> None:
        await asyncio.sleep(86_400)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3600):
                await asyncio.Event().wait()

    loop.run(main())
    assert loop.time() == 86_400 + 3600


def test_a_process_that_is_killed_runs_no_more_and_one_that_is_stopped_goes_on_later() -> None:
    loop, seen = SimLoop(Random(0)), list[tuple[str, float]]()

    async def tick(name: str) -> None:
        while True:
            await asyncio.sleep(1)
            seen.append((name, loop.time()))

    async def main() -> None:
        dead, stopped = begin(loop, tick("dead")), begin(loop, tick("stopped"))
        processes.extend([dead, stopped])
        await asyncio.sleep(1.5)
        loop.kill(dead)
        loop.freeze(stopped)
        await asyncio.sleep(5)
        loop.thaw(stopped)
        await asyncio.sleep(1.2)

    processes: list[Process] = []
    loop.run(main())
    assert sorted(seen) == [("dead", 1.0), ("stopped", 1.0), ("stopped", 6.5), ("stopped", 7.5)]
    loop.bury(processes)
    assert all(task.done() for process in processes for task in process.tasks)


@pytest.mark.parametrize("seed", range(30))
def test_who_dies_around_its_work_leaves_it_done_or_not_and_never_hears_of_it(seed: int) -> None:
    loop, pool, seen = SimLoop(Random(seed)), ThreadPoolExecutor(1), list[str]()

    async def work() -> None:
        await loop.run_in_executor(pool, seen.append, "done")
        seen.append("heard")

    async def main() -> None:
        process = begin(loop, work())
        processes.append(process)
        process.fate[1 + seed % 3] = lambda: loop.kill(process)
        await asyncio.sleep(1)

    processes: list[Process] = []
    loop.run(main())
    assert seen == [[], [], ["done"]][seed % 3]
    loop.bury(processes)


def test_a_full_disk_is_the_systems_own(tmp_path: Path) -> None:
    loop, pool = SimLoop(Random(0)), ThreadPoolExecutor(1)
    db = sqlite3.connect(tmp_path / "it.db", isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("CREATE TABLE t (x TEXT)")

    async def main() -> None:
        loop.disk_full = True
        with pytest.raises(sqlite3.OperationalError):
            await loop.run_in_executor(pool, db.execute, "INSERT INTO t VALUES (?)", ("x" * 10_000,))
        loop.disk_full = False
        await loop.run_in_executor(pool, db.execute, "INSERT INTO t VALUES ('y')")

    loop.run(main())
    assert db.execute("SELECT x FROM t").fetchall() == [("y",)]
    db.close()


def test_what_comes_to_no_rest_is_ended() -> None:
    async def main() -> None:
        forever()
        await asyncio.Event().wait()

    def forever() -> None:
        asyncio.get_running_loop().call_later(1, forever)

    with pytest.raises(RestlessError):
        SimLoop(Random(0)).run(main())
