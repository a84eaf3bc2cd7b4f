"""Ceilings, on either store: an intent is refused where more was done than its decision knew of."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from soar.errors import RecountError
from soar.model.action import Risk
from soar.store.ceilings import Ceiling
from soar.store.port import Fact, InsertAttempt, Store
from soar.store.postgres import PostgresStore
from soar.store.postgres.database import CONNECTIONS_MAX

from .facts import NOW, begin, intent, later, put

HOST = "target:host:h1"
HOUR = NOW - timedelta(hours=1)


def capped(write: InsertAttempt, most: int, *keys: str) -> InsertAttempt:
    return replace(write, ceilings=tuple(Ceiling(key=key, since=HOUR, most=most) for key in keys or (HOST,)))


async def test_an_intent_is_refused_where_others_came_between(store: Store) -> None:
    await begin(store, "run-1", "run-2", "run-3")
    assert await put(store, capped(intent("run-1"), 0)) is None
    assert isinstance(await put(store, capped(intent("run-2"), 0)), RecountError)
    assert await put(store, capped(intent("run-2"), 1)) is None
    assert await store.action_counts([HOST], HOUR) == {HOST: 2}
    assert isinstance(await put(store, capped(intent("run-3"), 1, "connector:edr")), RecountError)
    assert await put(store, capped(intent("run-3"), 0, "target:host:another")) is None


async def test_of_a_batch_as_many_pass_as_their_ceilings_say(store: Store) -> None:
    names = [f"run-{n}" for n in range(5)]
    await begin(store, *names)
    refusals = await store.commit([Fact(writes=(capped(intent(name), 1),)) for name in names])
    assert [type(each) for each in refusals] == [type(None)] * 2 + [RecountError] * 3
    assert await store.action_counts([HOST], HOUR) == {HOST: 2}
    assert (await store.counts()).actions == {"unsafe/intended": 2}


async def test_further_tries_of_an_action_are_no_others(store: Store) -> None:
    await begin(store, "run-1", "run-2")
    assert await put(store, capped(intent("run-1"), 0)) is None
    assert await put(store, capped(intent("run-1", number=2), 0)) is None
    assert isinstance(await put(store, capped(intent("run-2"), 0)), RecountError)


async def test_what_was_done_before_the_window_does_not_count(store: Store) -> None:
    await begin(store, "run-1", "run-2")
    assert await put(store, intent("run-1")) is None
    short = Ceiling(key=HOST, since=later(1), most=0)
    assert await put(store, replace(intent("run-2"), ceilings=(short,))) is None


async def test_a_harmless_action_counts_under_the_keys_of_its_ceilings_alone(store: Store) -> None:
    await begin(store, "run-1", "run-2")
    assert await put(store, capped(intent("run-1", risk=Risk.NONE), 0, "rate:mail")) is None
    assert isinstance(await put(store, capped(intent("run-2", risk=Risk.NONE), 0, "rate:mail")), RecountError)
    assert await store.action_counts(["rate:mail", HOST], HOUR) == {"rate:mail": 1, HOST: 0}


async def test_targets_of_a_type_are_counted_once_each(store: Store) -> None:
    await begin(store, "run-1", "run-2")
    await put(store, intent("run-1"), intent("run-2"), intent("run-2", path="t"))
    assert await store.targets_acted_on("host", HOUR, besides=()) == 1
    assert await store.targets_acted_on("host", HOUR, besides={"h1"}) == 0
    assert await store.targets_acted_on("hos", HOUR, besides=()) == 0
    assert await store.targets_acted_on("host", later(1), besides=()) == 0


@pytest.fixture
async def three(postgres_home: str) -> AsyncIterator[list[PostgresStore]]:
    """Three processes' worth of stores on one database, all connections made: who races must start together."""
    stores = [PostgresStore(postgres_home) for _ in range(3)]
    for store in stores:
        await store.open()
    await asyncio.gather(*(store.counts() for store in stores * CONNECTIONS_MAX))
    yield stores
    for store in stores:
        await store.close()


@pytest.mark.postgres
async def test_of_batches_that_race_as_many_pass_together_as_one_ceiling_says(three: list[PostgresStore]) -> None:
    """Keys in opposite orders, many at once: neither do two batches pass both, nor wait for each other for ever."""
    names = [f"run-{n}" for n in range(90)]
    await begin(three[0], *names)

    async def write(keys: tuple[str, ...], path: str, place: int) -> int:
        mine = names[place * 5 : place * 5 + 5]
        facts = [Fact(writes=(capped(intent(name, path), 9, *keys[:: 1 if place % 2 else -1]),)) for name in mine]
        return (await three[place % 3].commit(facts)).count(None)

    for turn in range(5):
        keys = (f"rate:a{turn}", f"rate:b{turn}", f"rate:c{turn}")
        passed = await asyncio.gather(*(write(keys, f"s{turn}", place) for place in range(18)))
        assert sum(passed) == 10
        assert await three[0].action_counts(keys, HOUR) == dict.fromkeys(keys, 10)
