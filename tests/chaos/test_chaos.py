"""Quick forms of `make chaos`: each blow a few times, the whole count every time."""

from pathlib import Path

import pytest

from .databases import schema_on
from .fills import Fills, NoMountError, fills_of_sqlite
from .jumps import Jumps, jumps_of_one_machine, jumps_of_three_machines
from .kills import Kills, kills
from .oracle import Verdict
from .restarts import WAYS, Restarts, restarts
from .stops import Stops, stops

SEED = 20260105

# The machine may be busy; what hangs is found by the count.
pytestmark = [pytest.mark.timeout(600), pytest.mark.alone]


def check(verdict: Verdict, *, alerts: int, but: str = "nothing") -> None:
    """Nothing is wrong, `but` what begins so, and enough happened for that to mean something."""
    assert not [each for each in verdict.problems if not each.startswith(but)], verdict.counts
    assert verdict.counts["acknowledged"] >= alerts
    assert verdict.counts["runs"].get("succeeded", 0) > 0
    assert verdict.counts["lab_effects"].get("say", 0) > 0


async def test_workers_killed_at_random_lose_nothing_on_sqlite(tmp_path: Path) -> None:
    check(await kills(tmp_path, seed=SEED, plan=Kills(rounds=5)), alerts=5)


async def test_workers_killed_at_random_lose_nothing_on_postgres(postgres: str, tmp_path: Path) -> None:
    async with schema_on(postgres) as database:
        plan = Kills(rounds=6, workers=3)
        check(await kills(tmp_path, seed=SEED, plan=plan, database=database), alerts=5)


@pytest.mark.usefixtures("postgres")
async def test_postgres_restarted_under_load_loses_nothing(tmp_path: Path) -> None:
    plan = Restarts(runs=60, up_seconds=(0.5, 1.5), down_seconds=(0, 0.5), under_way=30)
    verdict = await restarts(tmp_path, seed=SEED, plan=plan)
    check(verdict, alerts=60)
    assert len(verdict.counts["restarts"]) == len(WAYS)


async def test_a_stopped_worker_does_nothing_more_to_runs_that_it_lost(postgres: str, tmp_path: Path) -> None:
    async with schema_on(postgres) as database:
        verdict = await stops(tmp_path, seed=SEED, plan=Stops(stops=1), database=database)
    # Between its last look at the time and its first byte a process can still be stopped; docs/reliability.md tells
    # of the call that was seen so. `make chaos` counts it as wrong.
    check(verdict, alerts=5, but="called_after_losing_the_lease: 1,")
    assert verdict.counts["of_them_at_rest_before_it_went_on"] > 0


async def test_a_full_disk_is_told_and_loses_nothing(tmp_path: Path) -> None:
    try:
        verdict = await fills_of_sqlite(tmp_path, seed=SEED, plan=Fills(fills=1, full_seconds=2))
    except NoMountError as reason:
        pytest.skip(str(reason))
    check(verdict, alerts=5)
    assert verdict.counts["fills_told"] == 1


async def test_a_clock_that_jumps_lets_no_run_hang_and_nothing_happen_twice(tmp_path: Path) -> None:
    check(await jumps_of_one_machine(tmp_path, seed=SEED, plan=Jumps(jumps=6)), alerts=5)


async def test_machines_that_disagree_by_a_day_go_by_one_clock(postgres: str, tmp_path: Path) -> None:
    async with schema_on(postgres) as database:
        verdict = await jumps_of_three_machines(tmp_path, seed=SEED, plan=Jumps(jumps=4), database=database)
    check(verdict, alerts=5)
