"""A lease is over when its worker is gone, whatever the clocks of two machines make of each other. On every store."""

import asyncio
from datetime import timedelta

import pytest

from soar.engine.leases import LeaseTimes, LeaseWatch
from soar.model.run import Run
from soar.store.port import Store

from .facts import NOW, begin, later, take

TIMES = LeaseTimes(timedelta(seconds=0.4))


def names(runs: list[Run]) -> list[str]:
    return [run.id for run in runs]


async def leased(store: Store, *, seconds: float) -> LeaseWatch:
    """One run under a lease that ends so much later than our clock's NOW."""
    await begin(store, "run-1")
    await take(store, until=later(seconds))
    return LeaseWatch(store=store, times=TIMES)


async def test_a_lease_that_ended_a_moment_ago_is_over_at_once(store: Store) -> None:
    watch = await leased(store, seconds=-0.1)
    assert names(await watch.over(NOW, 10)) == ["run-1"]


async def test_a_lease_of_now_is_not_over(store: Store) -> None:
    watch = await leased(store, seconds=0.4)
    assert await watch.over(NOW, 10) == []
    await asyncio.sleep(0.25)
    assert await watch.over(NOW, 10) == []


@pytest.mark.parametrize("seconds", [86_400, 3600, -3600, -86_400])
async def test_a_lease_of_another_clock_is_over_once_nobody_renews_it(store: Store, seconds: float) -> None:
    watch = await leased(store, seconds=seconds)
    assert await watch.over(NOW, 10) == []
    await asyncio.sleep(0.25)
    assert names(await watch.over(NOW, 10)) == ["run-1"]


@pytest.mark.parametrize("seconds", [86_400, -86_400])
async def test_a_worker_that_renews_keeps_its_run_however_wrong_its_clock_is(store: Store, seconds: float) -> None:
    await begin(store, "run-1")
    leases = await take(store, until=later(seconds))
    watch = LeaseWatch(store=store, times=TIMES)
    for renewal in range(1, 5):
        assert await watch.over(NOW, 10) == []
        await asyncio.sleep(0.1)
        assert await store.renew(owner="w", leases=leases, until=later(seconds + renewal)) == []
