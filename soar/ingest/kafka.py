"""The Kafka source: fetch, admit, and only then commit. At least once; the store recognises what comes again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from soar.engine.admission import Admit
from soar.errors import StoreUnavailableError
from soar.kafka import Cluster
from soar.model.alert import Record
from soar.model.clock import Clock

log = structlog.get_logger(__name__)

Fetched = Mapping[TopicPartition, Sequence[ConsumerRecord]]
T = TypeVar("T")

POLL_MS = 1000
COMMIT_SECONDS = 10.0  # aiokafka repeats a commit for ever while the coordinator is away
CLOSE_SECONDS = 10.0
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
_RECORDS_PER_TURN = 500  # made into Records before other coroutines, such as the heartbeat, have their turn


@dataclass(frozen=True, kw_only=True)
class Subscription:
    """Which records to consume, as whom, and under which name they are counted."""

    bootstrap_servers: str
    topics: tuple[str, ...]
    group_id: str
    client_id: str = "soar"
    source: str = "kafka"
    mapping: str | None = None  # for all records; without it, detected by shape
    max_poll_records: int = 500

    @property
    def cluster(self) -> Cluster:
        """Where the topics are."""
        return Cluster(bootstrap_servers=self.bootstrap_servers, client_id=self.client_id)


class _StoppedError(Exception):
    """`stop` was called while nothing was held that must be finished."""


class KafkaSource:
    """Consumes topics as one member of a consumer group.

    Offsets are committed after `admit` returned, so a crash anywhere repeats records and loses none. A broker that
    is away is waited for; `problem` says so meanwhile, in words fit for everyone.
    """

    def __init__(self, subscription: Subscription, *, clock: Clock) -> None:
        self.subscription = subscription
        self.problem: str | None = "not connected yet"
        self._clock = clock
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Ask `run` to finish the batch at hand, leave the group and return."""
        self._stopping.set()

    async def run(self, admit: Admit) -> None:
        """Consume until `stop`; raises only what `admit` raises beyond StoreUnavailableError.

        Cancelling it is safe too: what was not committed comes again.
        """
        pauses = _Pauses()
        with suppress(_StoppedError):
            while True:
                try:
                    await self._session(admit, pauses)
                except KafkaError as failure:
                    servers = self.subscription.bootstrap_servers
                    self.problem = f"cannot consume ({type(failure).__name__}); the log says why"
                    seconds = pauses.next()
                    log.warning("kafka.unavailable", servers=servers, error=str(failure), retry_in_seconds=seconds)
                    await self._pause(seconds)

    async def _session(self, admit: Admit, pauses: _Pauses) -> None:
        """One consumer from its start to its end; raises KafkaError where the broker or the group is lost."""
        wanted = self.subscription
        cluster = await self._or_stopped(cluster_id(wanted.cluster))
        async with self._consumer() as consumer:
            await self._or_stopped(consumer.start())
            self.problem = None
            log.info("kafka.consuming", topics=wanted.topics, group=wanted.group_id, cluster=cluster)
            while True:
                fetched = await self._or_stopped(consumer.getmany(timeout_ms=POLL_MS))
                pauses.reset()
                if fetched:
                    await self._admit(admit, await self._records(fetched, cluster))
                    # A crash here repeats the batch; its coordinates are known to the store.
                    await self._commit(consumer, fetched)

    @asynccontextmanager
    async def _consumer(self) -> AsyncIterator[AIOKafkaConsumer]:
        wanted = self.subscription
        consumer = wanted.cluster.consumer(
            *wanted.topics,
            group_id=wanted.group_id,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            max_poll_records=wanted.max_poll_records,
        )
        try:
            yield consumer
        finally:
            try:
                await asyncio.wait_for(consumer.stop(), CLOSE_SECONDS)
            except (KafkaError, TimeoutError) as failure:
                # The group notices the missing heartbeats instead.
                log.warning("kafka.left_without_goodbye", group=wanted.group_id, error=repr(failure))

    async def _records(self, fetched: Fetched, cluster: str) -> list[Record]:
        records: list[Record] = []
        received_at = self._clock.now()
        for partition, messages in fetched.items():
            for message in messages:
                records.append(
                    Record(
                        source=self.subscription.source,
                        topic=f"{partition.topic}@{cluster}",
                        partition=partition.partition,
                        offset=message.offset,
                        value=message.value or b"",  # a tombstone: it becomes a dead letter, not a gap
                        key=message.key,
                        headers={name: (value or b"").decode(errors="replace") for name, value in message.headers},
                        mapping=self.subscription.mapping,
                        received_at=received_at,
                    )
                )
                if len(records) % _RECORDS_PER_TURN == 0:
                    await asyncio.sleep(0)
        return records

    async def _admit(self, admit: Admit, records: Sequence[Record]) -> None:
        """Admit the batch, however long the store is away: the next one must not be fetched before."""
        pauses = _Pauses()
        while True:
            try:
                await admit(records)
            except StoreUnavailableError as failure:
                seconds = pauses.next()
                self.problem = "records wait for the store"
                log.warning("kafka.records_wait", records=len(records), error=str(failure), retry_in_seconds=seconds)
                await self._pause(seconds)
            else:
                self.problem = None
                return

    async def _commit(self, consumer: AIOKafkaConsumer, fetched: Fetched) -> None:
        """Tell the group how far we are, for the partitions that are still ours.

        That it fails is normal (a rebalance, a coordinator that moves): whoever owns the partition next consumes
        the records again.
        """
        ours = consumer.assignment()
        offsets = {partition: messages[-1].offset + 1 for partition, messages in fetched.items() if partition in ours}
        try:
            if offsets:
                await asyncio.wait_for(consumer.commit(offsets), COMMIT_SECONDS)
        except (KafkaError, TimeoutError) as failure:
            log.info("kafka.commit_failed", group=self.subscription.group_id, error=repr(failure))

    async def _or_stopped(self, doing: Coroutine[Any, Any, T]) -> T:
        """The result; raises _StoppedError as soon as `stop` is called.

        Elsewhere `getmany` is never cancelled: that leaves the consumer's fetch counter wrong and turns off its
        stuck-consumer detection. Here the consumer is given up with it.
        """
        if self._stopping.is_set():  # records that are there already must not outrun it
            doing.close()
            raise _StoppedError
        under_way = asyncio.ensure_future(doing)
        stopped = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({under_way, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not under_way.done():
                raise _StoppedError
            return under_way.result()
        finally:
            under_way.cancel()
            stopped.cancel()
            await asyncio.gather(under_way, stopped, return_exceptions=True)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
            raise _StoppedError


class _Pauses:
    """Pauses that double up to a bound."""

    def __init__(self) -> None:
        self._next_seconds = FIRST_PAUSE_SECONDS

    def next(self) -> float:
        """How many seconds to wait now."""
        seconds, self._next_seconds = self._next_seconds, min(2 * self._next_seconds, LONGEST_PAUSE_SECONDS)
        return seconds

    def reset(self) -> None:
        """All is well again."""
        self._next_seconds = FIRST_PAUSE_SECONDS


async def cluster_id(cluster: Cluster) -> str:
    """The cluster's own name, part of every record's coordinates; raises KafkaError where no broker answers.

    A cluster that was set up anew counts its offsets from 0 again: without its name, new records would pass for
    those that the old one had at the same offsets.
    """
    admin = cluster.admin()
    try:
        await admin.start()
        return (await admin.describe_cluster())["cluster_id"] or "unnamed"
    finally:
        await admin.close()
