"""Outboxes: one holder at a time, nothing skipped, nothing forgotten."""

from datetime import UTC, datetime, timedelta

from soar.engine.scribe import Scribe
from soar.model.alert import DeadLetter, Record
from soar.model.clock import SystemClock, UlidSource
from soar.model.entry import EntryType
from soar.store.outbox import Unsent
from soar.store.port import Fact, InsertDeadLetter, InsertRecord, Store

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
HOLD = timedelta(seconds=30)
SCRIBE = Scribe(clock=SystemClock(), ids=UlidSource())


async def hold(store: Store, owner: str, now: datetime = NOW) -> int | None:
    return await store.hold_outbox("events", owner=owner, now=now, until=now + HOLD)


async def tell(store: Store, count: int) -> None:
    entries = tuple(SCRIBE.entry(EntryType.HALT_SET, f"subject {number}") for number in range(count))
    assert await store.commit([Fact(entries=entries)]) == [None]


async def bury(store: Store, offset: int) -> DeadLetter:
    record = Record(source="s", topic="t", offset=offset, value=b"\xff", received_at=NOW)
    letter = DeadLetter(id=f"dead-{offset}", record=record, code="not_utf8", reason="no", at=NOW)
    writes = (InsertRecord(coordinates=record.coordinates, at=NOW), InsertDeadLetter(letter=letter))
    assert await store.commit([Fact(writes=writes)]) == [None]
    return letter


async def test_a_new_outbox_begins_at_the_journals_end_and_goes_on_where_it_was(store: Store):
    assert await store.unsent("events") == Unsent(letters=0, entries=None)
    await tell(store, 3)
    assert await hold(store, "one") == 3
    await tell(store, 2)
    assert (await store.unsent("events")).entries == 2
    assert await store.advance_outbox("events", owner="one", position=4)
    assert await hold(store, "one") == 4
    assert (await store.unsent("events")).entries == 1


async def test_one_holder_at_a_time_until_its_time_is_over(store: Store):
    assert await hold(store, "one") == 0
    assert await hold(store, "two") is None
    assert await hold(store, "two", NOW + HOLD + timedelta(seconds=1)) == 0
    assert not await store.advance_outbox("events", owner="one", position=7), "one that was overtaken moved it"
    assert await hold(store, "one", NOW + HOLD + timedelta(seconds=2)) is None
    assert await store.advance_outbox("events", owner="two", position=1)


async def test_what_is_given_back_can_be_had_at_once_and_only_by_its_holder(store: Store):
    assert await hold(store, "one") == 0
    await store.release_outbox("events", owner="two")
    assert await hold(store, "two") is None
    await store.release_outbox("events", owner="one")
    assert await hold(store, "two") == 0


async def test_dead_letters_wait_to_be_sent_oldest_first_each_until_it_was(store: Store):
    first, second, third = [await bury(store, offset) for offset in range(3)]
    assert await store.unsent_letters(2) == [first, second]
    await store.letters_sent([first.id, third.id])
    assert await store.unsent_letters(10) == [second]
    assert (await store.unsent("events")).letters == 1


async def test_the_store_tells_which_records_it_had(store: Store):
    letter = await bury(store, 1)
    assert await store.consumed([letter.record.coordinates, "s/t/0/2"]) == {letter.record.coordinates}
