"""What leaves for Kafka topics: lifecycle events and dead letters. At least once, in order, by one worker at a time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from soar.errors import JournalError, StoreError, StoreUnavailableError
from soar.kafka import Cluster
from soar.model.alert import DeadLetter
from soar.model.base import to_rfc3339
from soar.model.clock import Clock
from soar.service.events import CONTENT_TYPE, event_of
from soar.store.port import Store

log = structlog.get_logger(__name__)

EVENTS, LETTERS = "events", "dead_letters"
"""Names of outboxes, for ever."""

HOLD = timedelta(seconds=30)  # how long one that died keeps others from sending
_RENEW_SECONDS = 10.0
IDLE_SECONDS = 0.5
PAUSE_SECONDS = 5.0
CLOSE_SECONDS = 5.0
_ENTRIES_AT_ONCE = 1000
_LETTERS_AT_ONCE = 100
_REQUEST_BYTES = 2 << 20  # a record of the largest size that soar reads, and its headers


class Contents(Protocol):
    """What an outbox holds."""

    name: str
    idempotent: bool  # whether the order of what is sent matters

    async def send(self, producer: AIOKafkaProducer, position: int) -> int:
        """Send some of what comes next, and see it arrive; returns how far that is, `position` where nothing waits."""
        ...


class Events:
    """The journal's entries from a position on, as lifecycle events."""

    name = EVENTS
    idempotent = True

    def __init__(self, store: Store, *, topic: str, source: str, page: int = _ENTRIES_AT_ONCE) -> None:
        self._store = store
        self._topic = topic
        self._source = source
        self._page = page  # entries between two times that the position is kept

    async def send(self, producer: AIOKafkaProducer, position: int) -> int:
        """A page of entries. If we crash before the position is kept, they are sent again."""
        arriving, reached = [], position
        async with contextlib.aclosing(self._store.entries(start=position)) as entries:  # type: ignore[type-var]
            async for entry in entries:
                try:
                    event = event_of(entry, source=self._source)
                except JournalError as failure:  # `soar audit verify` says so too; events must not end with it
                    log.error("event.not_told", index=entry.index, error=str(failure))  # noqa: TRY400 - no story
                    event = None
                if event is not None:
                    headers = [("content-type", CONTENT_TYPE)]
                    sent = await producer.send(self._topic, event.value, key=event.key, headers=headers)
                    arriving.append(sent)
                reached = entry.index + 1
                if reached - position >= self._page:
                    break
        await asyncio.gather(*arriving)
        return reached


class Letters:
    """Dead letters that were not sent yet. Their position only counts."""

    name = LETTERS
    idempotent = False

    def __init__(self, store: Store, *, topic: str) -> None:
        self._store = store
        self._topic = topic

    async def send(self, producer: AIOKafkaProducer, position: int) -> int:
        """Some of them. If we crash before that is kept, they are sent again."""
        letters = await self._store.unsent_letters(_LETTERS_AT_ONCE)
        await asyncio.gather(*(self._send(producer, letter) for letter in letters))
        await self._store.letters_sent([letter.id for letter in letters])
        return position + len(letters)

    async def _send(self, producer: AIOKafkaProducer, letter: DeadLetter) -> None:
        record, headers = letter.record, letter_headers(letter)
        try:
            await producer.send_and_wait(self._topic, record.value, key=record.key, headers=headers)
        except MessageSizeTooLargeError:
            # One that no broker takes must not keep the others; soar itself has its bytes.
            left_out = [*headers, ("soar-value", b"left out, too large for the topic")]
            await producer.send_and_wait(self._topic, b"", key=record.key, headers=left_out)


def letter_headers(letter: DeadLetter) -> Sequence[tuple[str, bytes]]:
    """The record's own headers, and what is known of its death."""
    record = letter.record
    ours = {
        "soar-letter": letter.id,
        "soar-code": letter.code,
        "soar-reason": letter.reason,
        "soar-at": to_rfc3339(letter.at),
        "soar-source": record.source,
        "soar-topic": record.topic,
        "soar-partition": str(record.partition),
        "soar-offset": str(record.offset),
    }
    return [(name, value.encode(errors="replace")) for name, value in (record.headers | ours).items()]


class Outbox:
    """Sends what an outbox holds for as long as it runs. Of several workers one does, the others stand by."""

    def __init__(self, contents: Contents, *, store: Store, cluster: Cluster, clock: Clock, owner: str) -> None:
        self.name = contents.name
        self.problem: str | None = None
        self._contents = contents
        self._store = store
        self._cluster = cluster
        self._clock = clock
        self._owner = owner

    async def run(self) -> None:
        """Until cancelled; a broker or a store that is away is waited for."""
        try:
            while True:
                try:
                    await self._session()
                except (KafkaError, StoreUnavailableError) as failure:
                    self.problem = f"{type(failure).__name__}; the log says why"
                    log.warning("outbox.waits", outbox=self.name, error=str(failure), retry_in_seconds=PAUSE_SECONDS)
                await asyncio.sleep(PAUSE_SECONDS)
        finally:
            with contextlib.suppress(StoreError):  # else others wait until our hold is over
                await self._store.release_outbox(self.name, owner=self._owner)

    async def _session(self) -> None:
        """One producer, for as long as the outbox is ours; returns where another has it."""
        position = await self._hold()
        if position is None:
            self.problem = None
            return
        producer = self._cluster.producer(
            acks="all", enable_idempotence=self._contents.idempotent, max_request_size=_REQUEST_BYTES, linger_ms=5
        )
        try:
            await producer.start()
            self.problem = None
            log.info("outbox.sending", outbox=self.name, position=position)
            await self._send_on(producer, position)
        finally:
            with contextlib.suppress(TimeoutError, KafkaError):  # what did not arrive is sent again
                await asyncio.wait_for(producer.stop(), CLOSE_SECONDS)

    async def _send_on(self, producer: AIOKafkaProducer, position: int) -> None:
        loop = asyncio.get_running_loop()
        held_at = loop.time()
        while True:
            if loop.time() - held_at >= _RENEW_SECONDS:
                held_at = loop.time()
                if await self._hold() is None:
                    return
            reached = await self._contents.send(producer, position)
            if reached == position:
                await asyncio.sleep(IDLE_SECONDS)
            elif not await self._store.advance_outbox(self.name, owner=self._owner, position=reached):
                return  # we were slow, and another sends now: from where we were, so nothing is missing
            position = reached

    async def _hold(self) -> int | None:
        now = self._clock.now()
        return await self._store.hold_outbox(self.name, owner=self._owner, now=now, until=now + HOLD)
