"""A lease is a run and an epoch: neither the run's name nor the owner's is enough. The same for every store."""

from soar.store.port import ReleaseRun, Store

from .facts import NOW, begin, later, put, take


async def test_a_run_that_comes_back_to_its_worker_is_not_held_under_the_old_lease(store: Store) -> None:
    """The worker may still carry it under that one, and must hear that it has no right to."""
    await begin(store, "run-1")
    (old,) = await take(store)
    await put(store, ReleaseRun(run_id="run-1"), lease=old)
    (new,) = await take(store)
    assert await store.renew(owner="w", leases=[old], until=later(90)) == [old]
    assert [run.id for run in await store.expired_leases(later(60), 10)] == ["run-1"]
    assert await store.renew(owner="w", leases=[old, new], until=later(90)) == [old]
    assert await store.expired_leases(later(60), 10) == []


async def test_a_lease_that_ends_later_than_any_clock_like_ours_gives_is_found_too(store: Store) -> None:
    """The worker's clock was ahead, or ours went back: nobody would take the run from a dead worker for a day."""
    await begin(store, "run-1")
    await take(store, until=later(86_400))
    await begin(store, "run-2")
    await take(store, until=later(29))
    assert [run.id for run in await store.expired_leases(NOW, 10, beyond=later(30))] == ["run-1"]
    assert [run.id for run in await store.expired_leases(later(30), 10, beyond=later(60))] == ["run-2", "run-1"]
