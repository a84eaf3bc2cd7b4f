"""Events and dead letters leave for real topics: at least once, in order per run, by one worker at a time."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import httpx
import pytest
from aiokafka import ConsumerRecord
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from soar.demo.scenario import home_with_lab
from soar.journal.leaf import parse_leaf
from soar.kafka import Cluster
from soar.model.alert import DeadLetter, Record
from soar.model.clock import SystemClock
from soar.model.entry import Entry, EntryType
from soar.model.run import Run, RunKind, RunState
from soar.service.doors import kafka_prometheus
from soar.service.events import TYPES, event_of
from soar.service.sending import EVENTS, Contents, Events, Letters, Outbox
from soar.store.port import Fact, InsertDeadLetter, InsertRun
from soar.store.sqlite import SqliteStore

from .topics import at_work, read

CLOCK = SystemClock()

ALERT = {"title": "Ransomware behaviour", "severity": "high", "hostname": "ws-5", "technique": "T1486"}


def environ(servers: str, name: str) -> dict[str, str]:
    return {
        "SOAR_KAFKA__BOOTSTRAP_SERVERS": servers,
        "SOAR_KAFKA__TOPICS": f"[in-{name}]",
        "SOAR_KAFKA__GROUP_ID": name,
        "SOAR_KAFKA__DEAD_LETTER_TOPIC": f"dead-{name}",
        "SOAR_EVENTS__KAFKA": f"{{topic: events-{name}}}",
    }


def finished(records: list[ConsumerRecord]) -> bool:
    return any(json.loads(each.value)["type"] == "soar.run.finished.v1" for each in records)


async def test_a_run_is_told_from_its_alert_to_its_end_and_a_dead_letter_leaves_with_its_bytes(
    kafka: str, tmp_path: Path
) -> None:
    name = uuid.uuid4().hex[:8]
    config, lab = await home_with_lab(tmp_path / "home")
    token = (tmp_path / "home/keys/ingest-token").read_text().strip()
    async with at_work(config, environ(kafka, name)) as (running, doors):
        async with httpx.AsyncClient(base_url=doors.url or "", headers={"Authorization": f"Bearer {token}"}) as http:
            async with asyncio.timeout(60):  # the outbox begins at the journal's end, once it is held
                while (await running.service.store.unsent(EVENTS)).entries is None:  # noqa: ASYNC110 - nothing tells
                    await asyncio.sleep(0.05)
            await http.post("/ingest/test", json=ALERT)
            await http.post("/ingest/test", content=b"{cut", headers={"Content-Type": "application/json"})
            told = await read(kafka, f"events-{name}", finished)
            [letter] = await read(kafka, f"dead-{name}", bool)
            metrics = (await http.get("/metrics")).text
        entries = [entry async for entry in running.service.store.entries()]
        origin = running.service.loaded.settings.journal.origin
    await lab.stop()
    assert letter.value == b"{cut"
    headers = dict(letter.headers)
    assert (headers["soar-code"], headers["soar-source"]) == (b"not_json", b"test")
    assert 'soar_outbox_waiting{outbox="dead_letters"}' in metrics

    events = [json.loads(each.value) for each in told]
    wanted = [json.loads(found.value) for entry in entries if (found := event_of(entry, source=origin))]
    assert sorted(events, key=lambda each: each["sequence"]) == wanted[: len(events)]
    assert {each["type"] for each in events} >= {"soar.alert.admitted.v1", "soar.run.created.v1"}
    of_run: dict[bytes, list[str]] = defaultdict(list)
    for each in told:
        event = json.loads(each.value)
        of_run[each.key].append(event["sequence"])
        assert event["data"].get("run", event["subject"]).encode() == each.key
    assert all(numbers == sorted(numbers) for numbers in of_run.values())


async def test_an_event_holds_only_what_is_public_in_its_entry(kafka: str, tmp_path: Path) -> None:
    name = uuid.uuid4().hex[:8]
    config, lab = await home_with_lab(tmp_path / "home")
    async with at_work(config, {}) as (running, _):
        record = Record(source="s", topic=name, offset=0, value=json.dumps(ALERT).encode(), received_at=CLOCK.now())
        await running.admit([record])
        entries = [entry async for entry in running.service.store.entries()]
    await lab.stop()
    told = [(entry, event) for entry in entries if (event := event_of(entry, source="o"))]
    assert {entry.type for entry, _ in told} <= set(TYPES)
    for entry, event in told:
        leaf = parse_leaf(entry.leaf)
        assert b"ws-5" not in event.value
        assert json.loads(event.value)["data"].items() >= leaf["data"].items()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(tmp_path / "soar.db")
    await opened.open()
    yield opened
    await opened.close()


async def bury(store: SqliteStore, number: int, value: bytes = b"{cut") -> None:
    record = Record(source="s", topic="t", offset=number, value=value, received_at=CLOCK.now())
    letter = DeadLetter(id=f"dead-{number}", record=record, code="c", reason="r", at=CLOCK.now())
    assert await store.commit([Fact(writes=(InsertDeadLetter(letter=letter),))]) == [None]


async def all_sent(store: SqliteStore) -> None:
    async with asyncio.timeout(60):
        while await store.unsent_letters(1):  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.02)


def outbox(store: SqliteStore, contents: Contents, servers: str, owner: str) -> Outbox:
    cluster = Cluster(bootstrap_servers=servers)
    return Outbox(contents, store=store, cluster=cluster, clock=CLOCK, owner=owner)


async def test_a_letter_that_no_broker_takes_keeps_no_other(kafka: str, store: SqliteStore) -> None:
    topic = f"dead-{uuid.uuid4().hex[:8]}"
    await bury(store, 1, b"x" * (3 << 20))
    await bury(store, 2)
    sending = asyncio.create_task(outbox(store, Letters(store, topic=topic), kafka, "one").run())
    found = await read(kafka, topic, lambda records: len(records) == 2)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    large = next(each for each in found if not each.value)
    assert dict(large.headers)["soar-letter"] == b"dead-1"
    assert b"too large" in dict(large.headers)["soar-value"]


async def test_of_two_workers_one_sends_and_the_other_goes_on_when_it_ends(kafka: str, store: SqliteStore) -> None:
    topic = f"dead-{uuid.uuid4().hex[:8]}"
    one, two = (
        asyncio.create_task(outbox(store, Letters(store, topic=topic), kafka, owner).run()) for owner in ("one", "two")
    )
    await bury(store, 1)
    await all_sent(store)
    one.cancel()
    await asyncio.gather(one, return_exceptions=True)
    await bury(store, 2)
    found = await read(kafka, topic, lambda records: len(records) == 2)
    await all_sent(store)
    two.cancel()
    await asyncio.gather(two, return_exceptions=True)
    assert [dict(each.headers)["soar-letter"] for each in found] == [b"dead-1", b"dead-2"]


class Dying(SqliteStore):
    """Its process ends between what was sent and what is kept of it."""

    async def letters_sent(self, ids: Sequence[str]) -> None:
        raise SystemError("killed")


async def test_killed_between_sending_and_keeping_it_sends_again(kafka: str, store: SqliteStore) -> None:
    dying = Dying(store.path)
    await dying.open()
    topic = f"dead-{uuid.uuid4().hex[:8]}"
    await bury(store, 1)
    with pytest.raises(SystemError, match="killed"):
        await outbox(dying, Letters(dying, topic=topic), kafka, "one").run()
    await dying.close()
    sending = asyncio.create_task(outbox(store, Letters(store, topic=topic), kafka, "one").run())
    found = await read(kafka, topic, lambda records: len(records) == 2)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    assert [each.value for each in found] == [b"{cut", b"{cut"]


class Forgetful(SqliteStore):
    """Its process ends when it would keep for the third time how far it has come."""

    kept = 0

    async def advance_outbox(self, name: str, *, owner: str, position: int) -> bool:
        self.kept += 1
        if self.kept == 3:
            raise SystemError("killed")
        return await super().advance_outbox(name, owner=owner, position=position)


async def test_events_of_a_run_stay_in_order_in_one_partition_also_over_a_crash(kafka: str, store: SqliteStore) -> None:
    """Whoever drops the sequences that it has had from a run has each of its events once, and in order."""
    topic, runs, each = f"events-{uuid.uuid4().hex[:8]}", 10, 60
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.create_topics([NewTopic(topic, num_partitions=4, replication_factor=1)])
    await admin.close()
    now = CLOCK.now()
    assert await store.hold_outbox("events", owner="nobody", now=now, until=now) == 0
    for number in range(each):
        kind = EntryType.RUN_CREATED if number == 0 else EntryType.ACTION_OUTCOME
        facts = [
            Fact(
                writes=(InsertRun(run=a_run(f"run-{run}")),) if number == 0 else (),
                entries=(a_told(f"run-{run}", number, kind),),
            )
            for run in range(runs)
        ]
        assert await store.commit(facts) == [None] * runs
    dying = Forgetful(store.path)
    await dying.open()
    with pytest.raises(SystemError, match="killed"):
        await outbox(dying, Events(dying, topic=topic, source="o", page=50), kafka, "one").run()
    await dying.close()
    sending = asyncio.create_task(outbox(store, Events(store, topic=topic, source="o", page=50), kafka, "two").run())
    found = await read(kafka, topic, lambda records: len({record.value for record in records}) == runs * each)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    partitions, sequences = defaultdict(set), defaultdict(list)
    for record in found:
        partitions[record.key].add(record.partition)
        sequence = json.loads(record.value)["sequence"]
        if not sequences[record.key] or sequence > sequences[record.key][-1]:
            sequences[record.key].append(sequence)
    assert len(found) > runs * each, "some were sent twice"
    assert len(set().union(*partitions.values())) > 1
    assert all(len(used) == 1 for used in partitions.values())
    assert {len(told) for told in sequences.values()} == {each}


def a_run(name: str) -> Run:
    return Run(
        id=name, kind=RunKind.ALERT, state=RunState.READY, playbook_id="p", playbook_digest="d", created_at=CLOCK.now()
    )


def a_told(run: str, number: int, kind: EntryType) -> Entry:
    return Entry(id=f"entry-{run}-{number}", type=kind, at=CLOCK.now(), actor="test", run_id=run, subject=f"s{number}")


def test_the_page_lists_what_is_told() -> None:
    page = (Path(__file__).parents[2] / "docs" / "events.md").read_text()
    assert re.findall(r"^\| `(soar\.[a-z.]+\.v1)`", page, re.MULTILINE) == list(TYPES.values())


def test_metrics_tell_what_waits_on_either_side() -> None:
    told = kafka_prometheus(lag={("alerts", 1): 7}, waiting={"events": 3}, failing={"events": True})
    assert [line for line in told.splitlines() if not line.startswith("#")] == [
        'soar_kafka_lag_records{topic="alerts",partition="1"} 7',
        'soar_outbox_waiting{outbox="events"} 3',
        'soar_outbox_failing{outbox="events"} 1',
    ]
    assert kafka_prometheus(lag={}, waiting={}, failing={}) == ""
