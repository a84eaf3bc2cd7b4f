"""Admissions that come together share a transaction, and nothing else."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from soar.engine.admission import Admitted, Consumed
from soar.engine.joining import MOST, Joint
from soar.errors import StoreError, StoreUnavailableError
from soar.model.alert import Outcome, Record

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)


def consumed(number: int) -> Consumed:
    return Consumed(record=Record(source="s", topic="t", offset=number, value=b"", received_at=NOW))


class Store:
    """Admits what comes when it is let; refuses a batch that holds the record `bad`."""

    def __init__(self, bad: int | None = None) -> None:
        self.batches: list[list[int | None]] = []
        self.open = asyncio.Event()
        self.away = False
        self._bad = bad

    async def admit(self, batch: Sequence[Consumed]) -> list[Admitted]:
        self.batches.append([one.record.offset for one in batch])
        await self.open.wait()
        if self.away:
            raise StoreUnavailableError("away")
        if self._bad in self.batches[-1]:
            raise StoreError("no")
        names = dict.fromkeys(one.record.coordinates for one in batch)  # what comes twice is admitted once
        return [Admitted(coordinates=name, outcome=Outcome.NO_MATCH) for name in names]


async def asked(joint: Joint, *numbers: Sequence[int]) -> list[asyncio.Task[Sequence[Admitted]]]:
    """Callers that ask one after the other, before any is answered."""
    tasks = [asyncio.create_task(joint.admit([consumed(each) for each in some])) for some in numbers]
    await asyncio.sleep(0)
    return tasks


def names(*numbers: int) -> list[str]:
    return [consumed(number).record.coordinates for number in numbers]


async def test_what_comes_while_one_is_under_way_goes_together_and_each_learns_of_its_own() -> None:
    store = Store()
    tasks = await asked(Joint(store.admit), [1], [2, 3], [4], [4])
    store.open.set()
    found = [[one.coordinates for one in admitted] for admitted in await asyncio.gather(*tasks)]
    assert store.batches == [[1], [2, 3, 4, 4]]
    assert found == [names(1), names(2, 3), names(4), []]


async def test_no_more_than_so_many_go_together_but_for_who_brings_more() -> None:
    store = Store()
    tasks = await asked(Joint(store.admit), [0], range(MOST + 1), range(MOST - 1), [7, 8], [9])
    store.open.set()
    await asyncio.gather(*tasks)
    assert [len(batch) for batch in store.batches] == [1, MOST + 1, MOST, 2]


async def test_a_refusal_is_for_who_brought_what_was_refused() -> None:
    store = Store(bad=3)
    first, *others = await asked(Joint(store.admit), [1], [2], [3], [4])
    store.open.set()
    assert [one.coordinates for one in await first] == names(1)
    done = await asyncio.gather(*others, return_exceptions=True)
    assert [type(each) for each in done] == [list, StoreError, list]


async def test_a_store_that_is_away_is_away_for_all_and_the_next_is_tried_again() -> None:
    store = Store()
    joint = Joint(store.admit)
    tasks = await asked(joint, [1], [2], [3])
    store.away = True
    store.open.set()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in done] == [StoreUnavailableError] * 3
    store.away = False
    assert len(await joint.admit([consumed(1)])) == 1


@pytest.mark.parametrize("cancelled", [0, 1, 2])
async def test_who_is_cancelled_takes_nobody_with_it(cancelled: int) -> None:
    store = Store()
    tasks = await asked(Joint(store.admit), [1], [2], [3])
    tasks[cancelled].cancel()
    await asyncio.sleep(0)
    store.open.set()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    for number, result in enumerate(done):
        assert isinstance(result, asyncio.CancelledError) == (number == cancelled)
        assert number == cancelled or [one.coordinates for one in result] == names(number + 1)
