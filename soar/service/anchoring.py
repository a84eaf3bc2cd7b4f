"""A Kafka topic that remembers our checkpoints: what was published there is hard to take back.

The record's key is the log's name, so that a compacted topic keeps the newest of each log; a plain one keeps them all
for as long as it is told to.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, NoError, UnknownTopicOrPartitionError, for_code

from soar.errors import JournalError, NotSentError
from soar.journal.trust import TrustPolicy, claimed
from soar.kafka import Cluster

log = structlog.get_logger(__name__)

ASK_SECONDS = 20.0
CLOSE_SECONDS = 5.0
PAUSE_SECONDS = 2.0
LOOK_BACK = 256  # records from the end of a partition that are looked at first; sixteen times more where none is ours
POLL_MS = 200


class KafkaAnchor:
    """Sends checkpoints to a topic, the newest only: one that waits while the broker is away makes room for the next.

    Signing never waits for it. `problem` says why the newest has not arrived yet.
    """

    def __init__(self, cluster: Cluster, *, topic: str, origin: str, whole: bool = False) -> None:
        """`whole`: asked for the newest, read all of the topic, however long that takes."""
        self.place = f"kafka topic {topic} at {cluster.bootstrap_servers}"
        self.anchored = 0
        self.problem: str | None = None
        self._cluster = cluster
        self._topic = topic
        self._whole = whole
        self._origin = origin
        self._waiting: str | None = None
        self._changed = asyncio.Event()  # something waits
        self._idle = asyncio.Event()  # nothing does
        self._idle.set()
        self._sending: asyncio.Task[None] | None = None

    async def __call__(self, note: str) -> None:
        """See to it that the checkpoint is sent; returns at once."""
        self._waiting = note
        self._idle.clear()
        self._changed.set()
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_on(), name=self.place)

    async def newest(self, policy: TrustPolicy) -> str | None:
        """The checkpoint over the most entries that the end of the topic, or all of it, holds of this log.

        Raises NotSentError where the broker cannot be asked, JournalError where nothing under the log's name is good.
        """
        seen, size, newest = False, -1, None
        try:
            async with asyncio.timeout(None if self._whole else ASK_SECONDS):
                if not (partitions := await self._partitions()):
                    return None  # a consumer of nothing would be stopped before it has begun, which aiokafka raises at
                async with self._reading(partitions) as consumer:
                    for partition in partitions:
                        async for note in self._tail(consumer, partition):
                            seen = True
                            if (larger := _larger(note, size, policy)) is not None:
                                size, newest = larger, note
        except (KafkaError, TimeoutError) as failure:
            raise NotSentError(f"{self.place} cannot be read: {failure!r}") from failure
        if seen and newest is None:
            raise JournalError(f"{self.place} holds no checkpoint of this journal under the name {self._origin}")
        return newest

    async def close(self) -> None:
        """Give what waits a few seconds to arrive, and send no more."""
        if self._sending is None:
            return
        with contextlib.suppress(TimeoutError):  # it was told, and is published anew at the next start
            await asyncio.wait_for(self._idle.wait(), CLOSE_SECONDS)
        self._sending.cancel()
        await asyncio.gather(self._sending, return_exceptions=True)
        self._sending = None

    async def _send_on(self) -> None:
        while True:
            try:
                await self._send()
            except KafkaError as failure:
                self.problem = f"{type(failure).__name__}; the log says why"
                log.warning("checkpoint.not_anchored", anchor=self.place, error=str(failure))
                self._changed.set()
                await asyncio.sleep(PAUSE_SECONDS)

    async def _send(self) -> None:
        """One producer; raises KafkaError where the broker is lost."""
        producer = self._cluster.producer(acks="all")
        try:
            await producer.start()
            while True:
                await self._changed.wait()
                self._changed.clear()
                if (note := self._waiting) is None:
                    continue
                await producer.send_and_wait(self._topic, key=self._origin.encode(), value=note.encode())
                self.anchored, self.problem = claimed(note).size, None
                if self._waiting is note:
                    self._waiting = None
                    self._idle.set()
        finally:
            await producer.stop()

    async def _partitions(self) -> list[TopicPartition]:
        """All of the topic; none where it does not exist yet."""
        admin = self._cluster.admin()
        try:
            await admin.start()
            (told,) = await admin.describe_topics([self._topic])
            if told["error_code"] not in {NoError.errno, UnknownTopicOrPartitionError.errno}:
                raise for_code(told["error_code"])
        finally:
            await admin.close()
        return [TopicPartition(self._topic, each["partition"]) for each in told["partitions"]]

    @contextlib.asynccontextmanager
    async def _reading(self, partitions: list[TopicPartition]) -> AsyncIterator[AIOKafkaConsumer]:
        """A consumer of these, in no group."""
        consumer = self._cluster.consumer(group_id=None, enable_auto_commit=False)
        try:
            await consumer.start()
            consumer.assign(partitions)
            yield consumer
        finally:
            await consumer.stop()

    async def _tail(self, consumer: AIOKafkaConsumer, partition: TopicPartition) -> AsyncIterator[str]:
        """What the partition's last records hold under our name; goes back until there is something."""
        first = (await consumer.beginning_offsets([partition]))[partition]
        end = (await consumer.end_offsets([partition]))[partition]
        look, start, found = end if self._whole else LOOK_BACK, end, False
        while start > first and not found:
            start = max(first, end - look)
            async for note in self._ours(consumer, partition, start, end):
                found = True
                yield note
            look *= 16

    async def _ours(
        self, consumer: AIOKafkaConsumer, partition: TopicPartition, start: int, end: int
    ) -> AsyncIterator[str]:
        consumer.seek(partition, start)
        while await consumer.position(partition) < end:
            fetched = await consumer.getmany(partition, timeout_ms=POLL_MS)
            for record in fetched.get(partition, ()):
                if record.key == self._origin.encode():
                    yield (record.value or b"").decode(errors="replace")


def _larger(note: str, size: int, policy: TrustPolicy) -> int | None:
    """The size of a checkpoint that is good, if it is above `size`."""
    try:
        if claimed(note).size <= size:
            return None
        return policy.open(note).checkpoint.size
    except JournalError:
        return None
