"""Kafka against a real broker: nothing is lost, nothing counts twice, whatever happens between admit and commit."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import NotCoordinatorForGroupError
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from soar.engine.admission import Admit, Admitted
from soar.errors import StoreUnavailableError
from soar.ingest.fetched import BYTES_AT_ONCE, MOST_ALERTS
from soar.ingest.kafka import KafkaSource, Subscription, cluster_id
from soar.kafka import Cluster
from soar.model.alert import Record

from .admitting import CLOCK, Door, door

PARTITIONS = 3


class NotUtf8(str):
    """A name as producers in other languages may write it."""

    __slots__ = ()

    def encode(self, *_: object) -> bytes:
        return b"\xff" + super().encode()


class Topic:
    """A new topic on the broker, and a group that nobody else uses."""

    def __init__(self, servers: str, name: str) -> None:
        self.servers, self.name, self.group = servers, name, f"group-{name}"

    def source(self, servers: str | None = None, **options: object) -> KafkaSource:
        cluster = Cluster(bootstrap_servers=servers or self.servers)
        wanted = {"cluster": cluster, "topics": (self.name,), "group_id": self.group}
        return KafkaSource(Subscription(**wanted | options), clock=CLOCK)

    async def produce(self, *values: bytes | None, **options: object) -> None:
        async with AIOKafkaProducer(bootstrap_servers=self.servers) as producer:
            for number, value in enumerate(values):
                await producer.send_and_wait(self.name, value, partition=number % PARTITIONS, **options)

    async def committed(self) -> int:
        """How many records the group has behind it."""
        async with administering(self.servers) as admin:
            offsets = await admin.list_consumer_group_offsets(self.group)
        return sum(max(0, offset.offset) for offset in offsets.values())


@asynccontextmanager
async def administering(servers: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()


@pytest.fixture
async def topic(kafka: str) -> AsyncIterator[Topic]:
    name = f"alerts-{uuid4().hex[:12]}"
    async with administering(kafka) as admin:
        await admin.create_topics([NewTopic(name, PARTITIONS, 1)])
        yield Topic(kafka, name)
        await admin.delete_topics([name])


@asynccontextmanager
async def running(source: KafkaSource, admit: Admit) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(source.run(admit))
    try:
        yield task
    finally:
        source.stop()
        await task


async def until(condition: Callable[[], bool | Awaitable[bool]], task: asyncio.Task[None]) -> None:
    """Wait for it, as long as the source goes on."""
    while True:
        held = condition()
        if held if isinstance(held, bool) else await held:
            return
        assert not task.done(), f"the source ended: {task}"
        await asyncio.sleep(0.02)


def alert(number: int) -> bytes:
    return b'{"id": %d}' % number


async def consume(topic: Topic, opened: Door, count: int) -> None:
    """Run a source until this many records passed the door, then end it in order."""
    source = topic.source()
    async with running(source, opened.admit) as task:
        await until(lambda: len(opened.records) >= count, task)


async def test_every_record_is_accounted_for_whatever_it_holds(topic: Topic, tmp_path: Path):
    garbage = [b"", b"\x00\x01", b"not json", b"[", b"null"]
    await topic.produce(*map(alert, range(200)), *garbage)
    await topic.produce(None, key=b"a tombstone")
    async with door(tmp_path) as opened:
        await consume(topic, opened, 206)
        stored = await opened.stored()
        assert {name: count for name, count in stored.items() if name.startswith("Alert")} == {
            f"Alert {number}": 1 for number in range(200)
        }
        assert sum(stored.values()) == 206
    assert await topic.committed() == 206


async def test_a_record_keeps_its_coordinates_key_and_headers(topic: Topic, tmp_path: Path):
    await topic.produce(alert(1), key=b"host-7", headers=[("product", b"falco"), ("odd", b"\xff")])
    async with door(tmp_path) as opened:
        source = topic.source(source="siem", mapping="falco")
        async with running(source, opened.admit) as task:
            await until(lambda: bool(opened.records), task)
        [record] = opened.records
    assert record.coordinates == f"siem/{topic.name}@{await cluster_id(Cluster(bootstrap_servers=topic.servers))}/0/0"
    assert (record.key, record.mapping) == (b"host-7", "falco")
    assert record.headers == {"product": "falco", "odd": "\ufffd"}


async def test_a_restart_goes_on_after_what_was_committed(topic: Topic, tmp_path: Path):
    async with door(tmp_path) as opened:
        await topic.produce(*map(alert, range(30)))
        await consume(topic, opened, 30)
        await topic.produce(*map(alert, range(30, 50)))
        await consume(topic, opened, 50)
        assert len(opened.records) == 50, "records that were committed came again"


async def test_killed_between_admit_and_commit_nothing_is_lost_and_nothing_doubled(topic: Topic, tmp_path: Path):
    """The worst moment: all is durable, and the group does not know."""
    await topic.produce(*map(alert, range(100)), b"garbage")

    async with door(tmp_path) as opened:

        async def dies_afterwards(records: Sequence[Record]) -> list[Admitted]:
            await opened.admit(records)
            raise SystemError("killed")

        with pytest.raises(SystemError, match="killed"):
            await topic.source().run(dies_afterwards)
        killed_with = len(opened.records)
        assert killed_with > 0
        assert await topic.committed() == 0

    async with door(tmp_path) as reopened:
        await consume(topic, reopened, 101)
        assert len(reopened.records) == 101, "everything comes again"
        assert await reopened.stored() == {f"Alert {number}": 1 for number in range(100)} | {"garbage": 1}
    assert await topic.committed() == 101


async def test_cancelled_at_the_worst_moments_it_loses_nothing(topic: Topic, tmp_path: Path):
    """Before the store has a batch, while one that it has is being committed, and while it waits for records."""
    total = 60
    await topic.produce(*map(alert, range(total)))
    async with door(tmp_path) as opened:

        async def cancelled_before(_records: Sequence[Record]) -> list[Admitted]:
            task.cancel()
            await asyncio.sleep(1)
            raise AssertionError("the cancellation was swallowed")

        async def cancelled_after(records: Sequence[Record]) -> list[Admitted]:
            admitted = await opened.admit(records)
            task.cancel()
            return admitted

        for admit in (cancelled_before, cancelled_after):
            task = asyncio.create_task(topic.source(max_poll_records=7).run(admit))
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await topic.committed() <= len(opened.records)
        task = asyncio.create_task(topic.source().run(opened.admit))
        await until(lambda: _all_committed(topic, total), task)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await opened.stored() == {f"Alert {number}": 1 for number in range(total)}


async def _all_committed(topic: Topic, count: int) -> bool:
    return await topic.committed() == count


async def test_while_the_store_is_away_the_same_batch_waits_and_nothing_is_committed(topic: Topic, tmp_path: Path):
    await topic.produce(*map(alert, range(10)))
    refused: list[list[Record]] = []
    async with door(tmp_path) as opened:

        async def admit(records: Sequence[Record]) -> list[Admitted]:
            if len(refused) < 2:
                refused.append(list(records))
                raise StoreUnavailableError("disk full")
            return await opened.admit(records)

        source = topic.source()
        async with running(source, admit) as task:
            await until(lambda: len(refused) == 2, task)
            assert source.problem == "records wait for the store"
            assert await topic.committed() == 0
            await until(lambda: len(opened.records) == 10, task)
            assert source.problem is None
        assert refused[0] == refused[1] == opened.batches[0]
    assert await topic.committed() == 10


async def test_it_stops_although_the_store_is_away_and_commits_nothing(topic: Topic):
    await topic.produce(alert(1))
    asked = asyncio.Event()

    async def admit(_records: Sequence[Record]) -> list[Admitted]:
        asked.set()
        raise StoreUnavailableError("disk full")

    async with running(topic.source(), admit) as task:
        await until(asked.is_set, task)
    assert await topic.committed() == 0


async def test_the_batch_at_hand_is_finished_when_it_stops_and_no_other_is_begun(topic: Topic, tmp_path: Path):
    await topic.produce(*map(alert, range(9)))
    async with door(tmp_path) as opened:
        source = topic.source(max_poll_records=2)

        async def admit(records: Sequence[Record]) -> list[Admitted]:
            source.stop()
            await asyncio.sleep(0.1)
            return await opened.admit(records)

        await source.run(admit)
        assert [len(batch) for batch in opened.batches] == [2]
    assert await topic.committed() == 2


async def test_a_broker_that_is_away_is_waited_for(topic: Topic, tmp_path: Path):
    await topic.produce(alert(1))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    source = topic.source(f"127.0.0.1:{port}")
    async with door(tmp_path) as opened, running(source, opened.admit) as task:
        await until(lambda: "KafkaConnectionError" in (source.problem or ""), task)
        async with forwarding(port, topic.servers):
            await until(lambda: len(opened.records) == 1, task)
            assert source.problem is None
            source.stop()
            await task


async def test_it_stops_while_no_broker_answers(topic: Topic, tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts connections, says nothing
        source = topic.source(f"127.0.0.1:{silent.getsockname()[1]}")
        async with door(tmp_path) as opened, running(source, opened.admit):
            await asyncio.sleep(0.2)


@asynccontextmanager
async def forwarding(port: int, servers: str) -> AsyncIterator[None]:
    """A port that leads to the broker."""
    host, _, broker_port = servers.rpartition(":")

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        under_way.add(asyncio.current_task())
        far_reader, far_writer = await asyncio.open_connection(host, int(broker_port))
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
        await asyncio.gather(writer.wait_closed(), far_writer.wait_closed(), return_exceptions=True)

    under_way: set[asyncio.Task[None] | None] = set()
    server = await asyncio.start_server(forward, "127.0.0.1", port)
    try:
        yield
    finally:
        server.close()
        await asyncio.gather(*filter(None, under_way))


async def test_records_of_an_aborted_transaction_are_no_alerts(topic: Topic, tmp_path: Path):
    async with AIOKafkaProducer(bootstrap_servers=topic.servers, transactional_id=f"t-{topic.name}") as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(topic.name, alert(1), partition=0)
        await producer.abort_transaction()
        async with producer.transaction():
            await producer.send_and_wait(topic.name, alert(2), partition=0)
    async with door(tmp_path) as opened:
        await consume(topic, opened, 1)
        assert await opened.stored() == {"Alert 2": 1}


async def test_a_second_member_takes_its_share_and_all_is_counted_once(topic: Topic, tmp_path: Path):
    """The group is rebalanced in the middle of the stream, twice."""
    total = 600
    await topic.produce(*map(alert, range(total)))
    async with door(tmp_path) as opened:

        async def slowly(records: Sequence[Record]) -> list[Admitted]:
            await asyncio.sleep(0.02)
            return await opened.admit(records)

        first, second = (topic.source(max_poll_records=5) for _ in range(2))
        async with running(first, slowly) as task:
            await until(lambda: len(opened.records) > 20, task)
            async with running(second, slowly) as other:
                before = len(opened.records)
                await until(lambda: len(opened.records) > before + 100, other)
            await until(lambda: _all_committed(topic, total), task)
        assert await opened.stored() == {f"Alert {number}": 1 for number in range(total)}


async def test_the_offset_to_read_next_is_committed_for_each_partition(topic: Topic, tmp_path: Path):
    await topic.produce(*map(alert, range(7)))
    async with door(tmp_path) as opened:
        await consume(topic, opened, 7)
    async with administering(topic.servers) as admin:
        offsets = await admin.list_consumer_group_offsets(topic.group)
    assert {partition: offset.offset for partition, offset in offsets.items()} == {
        TopicPartition(topic.name, 0): 3,
        TopicPartition(topic.name, 1): 2,
        TopicPartition(topic.name, 2): 2,
    }


async def test_a_commit_that_failed_is_made_up_for_although_nothing_more_comes(
    topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Else the group would count records as waiting that all have their outcome."""
    await topic.produce(*map(alert, range(20)))
    failures = iter([NotCoordinatorForGroupError(), TimeoutError(), None])
    commit = AIOKafkaConsumer.commit

    async def fails_twice(self: AIOKafkaConsumer, offsets: object) -> None:
        if failure := next(failures, None):
            raise failure
        await commit(self, offsets)

    monkeypatch.setattr(AIOKafkaConsumer, "commit", fails_twice)
    async with door(tmp_path) as opened, running(topic.source(max_poll_records=500), opened.admit) as task:
        await until(lambda: _all_committed(topic, 20), task)
        assert await opened.stored() == {f"Alert {number}": 1 for number in range(20)}


async def test_a_header_that_no_client_can_read_costs_its_batch_and_no_other_record(
    topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Aiokafka decodes the names of headers strictly. What it cannot read has an outcome all the same."""
    await topic.produce(*map(alert, range(30)))
    async with AIOKafkaProducer(bootstrap_servers=topic.servers) as producer:
        odd = producer.create_batch()
        with monkeypatch.context() as patched:
            patched.setattr(odd, "_builder", _DefaultRecordBatchBuilderPy(2, 0, 0, -1, -1, 0, 16_384))
            for number, name in ((100, "fine"), (101, NotUtf8("x")), (102, "fine")):
                assert odd.append(key=None, value=alert(number), timestamp=None, headers=[(name, b"")])
            odd.close()
            await (await producer.send_batch(odd, topic.name, partition=1))
    await topic.produce(*map(alert, range(30, 60)))
    async with door(tmp_path) as opened:
        async with running(topic.source(), opened.admit) as task:
            await until(lambda: _all_committed(topic, 63), task)
        records = {json.loads(each.value)["id"]: each for each in opened.records if each.value}
        assert {*range(60), 100} <= {int(name) for name in records} <= {*range(60), 100, 102}
        unread = [each for each in opened.records if each.unreadable]
        assert 1 <= len({each.offset for each in unread}) <= 2
        assert all("is not UTF-8" in each.unreadable for each in unread)
        assert {each.partition for each in unread} == {1}


async def test_a_batch_of_many_alerts_ends_early_and_the_rest_is_fetched_again(topic: Topic, tmp_path: Path):
    """A few bytes may hold thousands: what is in memory at once is bounded by what they become."""
    total = 90
    await topic.produce(*(b'{"id": %d, "more": "%s"}' % (number, b"x" * 4000) for number in range(total)))

    @dataclass(frozen=True)
    class Heavy:
        record: Record
        alerts: int = MOST_ALERTS // 10

    async def read(records: Sequence[Record]) -> list[Heavy]:
        return [Heavy(record) for record in records]

    async with door(tmp_path) as opened:

        async def admit(heavy: Sequence[Heavy]) -> list[Admitted]:
            return await opened.admit([each.record for each in heavy])

        source = topic.source(max_poll_records=500)
        task = asyncio.create_task(source.run(admit, read=read))
        await until(lambda: _all_committed(topic, total), task)
        source.stop()
        await task
        assert await opened.stored() == {f"Alert {number}": 1 for number in range(total)}
        assert max(map(len, opened.batches)) <= 10 + BYTES_AT_ONCE // 4000
