"""Back-pressure, patterns, static membership and the watch over lag, against a real broker."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewTopic

from soar.engine.admission import Admitted
from soar.errors import IntakeStuckError
from soar.ingest.backlog import backlog
from soar.ingest.kafka import KafkaSource, Subscription
from soar.kafka import Cluster
from soar.model.alert import Record

from .admitting import CLOCK, Door, door
from .test_kafka import PARTITIONS, Topic, administering, alert, running, until


@pytest.fixture
async def topic(kafka: str) -> AsyncIterator[Topic]:
    name = f"alerts-{uuid4().hex[:12]}"
    async with administering(kafka) as admin:
        await admin.create_topics([NewTopic(name, PARTITIONS, 1)])
        yield Topic(kafka, name)
        await admin.delete_topics([name])


async def consumed(opened: Door, count: int, task: asyncio.Task[None]) -> None:
    await until(lambda: len(opened.records) >= count, task)


async def stored(opened: Door, count: int, task: asyncio.Task[None]) -> None:
    """However often each came."""

    async def all_there() -> bool:
        return len(await opened.stored()) >= count

    await until(all_there, task)


async def test_a_batch_that_takes_long_holds_the_rest_and_the_group_keeps_its_member(topic: Topic, tmp_path: Path):
    """Longer than the group's patience: with everything paused it polls on, and a new member's share is paused too."""
    total = 300
    await topic.produce(*map(alert, range(total)))
    let_go = asyncio.Event()
    async with door(tmp_path) as opened:

        async def slowly(records: Sequence[Record]) -> list[Admitted]:
            await let_go.wait()
            return await opened.admit(records)

        slow = topic.source(max_poll_records=10, session_timeout_ms=6000)
        async with running(slow, slowly) as task:
            await asyncio.sleep(8)
            assert not opened.batches
            async with running(topic.source(max_poll_records=10), opened.admit) as other:  # a rebalance meanwhile
                await consumed(opened, 10, other)
                let_go.set()
                await stored(opened, total, other)
            assert not task.done()
            await topic.produce(*map(alert, range(total, total + 30)))
            await stored(opened, total + 30, task)
        assert await opened.stored() == {f"Alert {number}": 1 for number in range(total + 30)}
        assert max(map(len, opened.batches)) <= 20, "what came meanwhile was fetched and held"


async def test_a_pattern_finds_topics_and_never_those_that_we_send_to(topic: Topic, tmp_path: Path):
    await topic.produce(alert(1))
    ours = Topic(topic.servers, f"{topic.name}.dead")
    async with administering(topic.servers) as admin:
        await admin.create_topics([NewTopic(ours.name, PARTITIONS, 1), NewTopic(f"{topic.name}.other", PARTITIONS, 1)])
        await ours.produce(alert(2))
        await Topic(topic.servers, f"{topic.name}.other").produce(alert(3))
        async with door(tmp_path) as opened:
            source = topic.source(topics=(f"^{topic.name}.*", "a-name-that-is-none"), apart=(ours.name,))
            async with running(source, opened.admit) as task:
                await consumed(opened, 2, task)
                await until(lambda: len(source.lag) == 2 * PARTITIONS, task)
                assert not any(source.lag.values())
            assert await opened.stored() == {"Alert 1": 1, "Alert 3": 1}
        await admin.delete_topics([ours.name, f"{topic.name}.other"])


async def test_with_a_name_of_its_own_a_member_restarts_without_a_rebalance(topic: Topic, tmp_path: Path):
    await topic.produce(*map(alert, range(10)))
    async with door(tmp_path) as opened:
        shares = []
        for expected in (10, 20):
            source = topic.source(group_instance_id="worker-1")
            async with running(source, opened.admit) as task:
                await consumed(opened, expected, task)
                await until(lambda source=source: len(source.lag) == PARTITIONS, task)
            async with administering(topic.servers) as admin:
                [told] = await admin.describe_consumer_groups([topic.group])
            shares.append([each[0] for each in told.groups[0][5]])
            await topic.produce(*map(alert, range(expected, expected + 10)))
    assert len(shares[0]) == 1, "it left the group when it stopped"
    assert len(shares[1]) == 1


class Deaf(Cluster):
    """A cluster whose consumers hear nothing, the first so many of them: joined, alive, and nothing comes."""

    deaf: int = 0
    made: list[bool]

    def consumer(self, *topics: str, **options: Any) -> AIOKafkaConsumer:
        made = super().consumer(*topics, **options)
        self.made.append(True)
        if len(self.made) <= self.deaf:
            getmany = made.getmany

            async def hears_nothing(**options: Any) -> dict[TopicPartition, list[Any]]:
                made.pause(*made.assignment())
                await getmany(**options)
                return {}

            made.getmany = hears_nothing
        return made


def deaf(topic: Topic, count: int) -> tuple[KafkaSource, list[bool]]:
    cluster = Deaf(bootstrap_servers=topic.servers)
    made: list[bool] = []
    object.__setattr__(cluster, "deaf", count)
    object.__setattr__(cluster, "made", made)
    wanted = Subscription(cluster=cluster, topics=(topic.name,), group_id=topic.group, stuck_seconds=2)
    return KafkaSource(wanted, clock=CLOCK), made


async def test_where_records_wait_and_none_comes_a_new_consumer_reads_them(topic: Topic, tmp_path: Path):
    async with AIOKafkaProducer(bootstrap_servers=topic.servers) as producer:
        await producer.send_and_wait(topic.name, alert(1), partition=0)
    source, made = deaf(topic, 1)
    async with door(tmp_path) as opened, running(source, opened.admit) as task:
        await consumed(opened, 1, task)
        assert len(made) == 2
        assert await opened.stored() == {"Alert 1": 1}


async def test_where_that_does_not_help_it_gives_up(topic: Topic, tmp_path: Path):
    async with AIOKafkaProducer(bootstrap_servers=topic.servers) as producer:
        await producer.send_and_wait(topic.name, alert(1), partition=0)
    source, made = deaf(topic, 9)
    async with door(tmp_path) as opened, asyncio.timeout(60):
        with pytest.raises(IntakeStuckError, match=f"{topic.name}/0"):
            await source.run(opened.admit)
    assert len(made) == 2


async def test_a_transaction_leaves_no_lag_behind_that_looks_stuck(topic: Topic, tmp_path: Path):
    """Its marker takes an offset, and an open one holds back what comes behind it: neither is a record that waits."""
    async with AIOKafkaProducer(bootstrap_servers=topic.servers, transactional_id=f"t-{topic.name}") as producer:
        async with producer.transaction():
            await producer.send_and_wait(topic.name, alert(1), partition=0)
        await producer.begin_transaction()
        await producer.send_and_wait(topic.name, alert(2), partition=0)
        source = topic.source(stuck_seconds=2)
        async with door(tmp_path) as opened, running(source, opened.admit) as task:
            await consumed(opened, 1, task)
            await asyncio.sleep(6)
            assert not task.done()
            assert source.problem is None
            assert sum(source.lag.values()) == 0
            assert sum((await backlog(source.subscription)).lag.values()) <= 1
            await producer.abort_transaction()


@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd"])
async def test_compressed_records_are_read(topic: Topic, tmp_path: Path, compression: str):
    async with AIOKafkaProducer(bootstrap_servers=topic.servers, compression_type=compression) as producer:
        await producer.send_and_wait(topic.name, alert(1))
    async with door(tmp_path) as opened, running(topic.source(), opened.admit) as task:
        await consumed(opened, 1, task)
        assert await opened.stored() == {"Alert 1": 1}


async def test_the_backlog_is_seen_from_outside_without_joining(topic: Topic, tmp_path: Path):
    await topic.produce(*map(alert, range(7)))
    subscription = topic.source().subscription
    assert sum((await backlog(subscription)).lag.values()) == 7
    async with door(tmp_path) as opened, running(topic.source(), opened.admit) as task:
        await consumed(opened, 7, task)
    seen = await backlog(subscription)
    assert (sum(seen.lag.values()), topic.name in seen.topics) == (0, True)
