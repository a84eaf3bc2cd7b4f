"""A producer that never gives up, and somebody who watches how far the group has come."""

import asyncio
import contextlib
import itertools
import re
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from .records import EXPECTED, FAULT, HUGE_BYTES, NUMBER, Made
from .site import Site

SLICE = 500
"""So many records are sent together, and again together where not all of them arrived."""


class Feeder:
    """Sends records until they are acknowledged, through any trouble of the broker's."""

    def __init__(self, servers: str, topic: str, records: Iterator[Made], *, partitions: int) -> None:
        self.acknowledged = 0
        self._servers = servers
        self._topic = topic
        self._records = records
        self._numbers = itertools.count(1)
        self._turns = itertools.cycle(range(partitions))
        self._producer: AIOKafkaProducer | None = None

    async def feed(self, enough: Callable[[], bool], *, room: Callable[[], bool], per_second: float) -> None:
        """Until there is enough, as long as there is room, no faster than that."""
        while not enough():
            started = time.monotonic()
            await self.send([(made, next(self._turns)) for made in itertools.islice(self._records, SLICE)])
            while not room() and not enough():  # noqa: ASYNC110 - it is found out by looking
                await asyncio.sleep(0.05)
            await asyncio.sleep(max(0.0, started + SLICE / per_second - time.monotonic()))

    async def send(self, records: Iterable[tuple[Made, int]]) -> None:
        """Until the broker has all of them; one whose answer was lost may be there twice then, under one number."""
        left = [(next(self._numbers), made, partition) for made, partition in records]
        while left:
            try:
                producer = await self._started()
                sent = [await self._sent(producer, *one) for one in left]
                answers = await asyncio.gather(*sent, return_exceptions=True)
            except (KafkaError, OSError):
                await self._give_up()
                continue
            self.acknowledged += sum(not isinstance(answer, BaseException) for answer in answers)
            left = [one for one, answer in zip(left, answers, strict=True) if isinstance(answer, BaseException)]
            if left:
                await self._give_up()

    async def _sent(self, producer: AIOKafkaProducer, number: int, made: Made, partition: int) -> asyncio.Future[Any]:
        told = {NUMBER: str(number), EXPECTED: made.expected, FAULT: made.fault}
        headers = [*made.headers, *((name, text.encode()) for name, text in told.items())]
        key = b"gone" if made.value is None else None  # a tombstone is one of something
        future: asyncio.Future[Any] = await producer.send(
            self._topic, made.value, key=key, partition=partition, headers=headers
        )
        return future

    async def _started(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = AIOKafkaProducer(
                bootstrap_servers=self._servers, acks="all", enable_idempotence=True, linger_ms=5,
                request_timeout_ms=10_000, max_request_size=2 * HUGE_BYTES, compression_type="gzip",
            )  # fmt: skip
            try:
                await producer.start()
            except BaseException:
                await producer.stop()
                raise
            self._producer = producer
        return self._producer

    async def _give_up(self) -> None:
        await self.close()
        await asyncio.sleep(0.5)

    async def close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with contextlib.suppress(KafkaError, TimeoutError):
                await asyncio.wait_for(producer.stop(), 10)


class Watch:
    """Looks twice a second: how far the group has committed, and how much memory workers have."""

    def __init__(self, servers: str, topic: str, group: str, site: Site) -> None:
        self.committed = 0
        self.most_megabytes = 0
        self._servers = servers
        self._topic = topic
        self._group = group
        self._site = site

    async def run(self) -> None:
        """Until cancelled; a broker that is away is looked at later."""
        while True:
            with contextlib.suppress(KafkaError, OSError):  # TimeoutError is one
                async with asyncio.timeout(5):
                    self.committed = max(self.committed, await self._committed())
            self.weigh()
            await asyncio.sleep(0.5)

    def weigh(self) -> None:
        """Note the most memory that any worker has had in its life, which the system keeps."""
        for worker in self._site.workers.values():
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{worker.pid}/status").read_text()
                if told := re.search(r"VmHWM:\s+(\d+) kB", status):
                    self.most_megabytes = max(self.most_megabytes, int(told[1]) // 1024)

    async def _committed(self) -> int:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._servers)
        try:
            await admin.start()
            told = await admin.list_consumer_group_offsets(self._group)
        finally:
            await admin.close()
        return sum(max(0, each.offset) for each in told.values())

    async def ends(self) -> int:
        """How many records are in the topic: of those whose answer was lost, some are there twice."""
        async with AIOKafkaConsumer(self._topic, bootstrap_servers=self._servers) as consumer:
            return sum((await consumer.end_offsets(consumer.assignment())).values())

    async def beyond(self, committed: int, *, seconds: float) -> float:
        """Seconds until the group has committed more than that; raises TimeoutError."""
        started = time.monotonic()
        async with asyncio.timeout(seconds):
            while self.committed <= committed:  # noqa: ASYNC110 - it is found out by looking
                await asyncio.sleep(0.05)
        return time.monotonic() - started
