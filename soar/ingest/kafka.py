"""The Kafka source: fetch, admit, and only then commit. At least once; the store recognises what comes again."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaConnectionError, KafkaError

from soar.errors import IntakeStuckError, StoreUnavailableError
from soar.ingest.careful import Unreadable, one_by_one
from soar.ingest.fetched import Batch, Fetched, Message, at_once
from soar.ingest.lag import Watch
from soar.kafka import Cluster
from soar.model.alert import Record
from soar.model.clock import Clock

log = structlog.get_logger(__name__)

Read = Callable[[Sequence[Record]], Awaitable[Sequence[Any]]]
"""What is made of records, each of which may say by `alerts` how many it holds."""
T = TypeVar("T")

POLL_MS = 1000
CAREFUL_SECONDS = 10.0  # after a record that could not be read
AHEAD_MS = 20  # for records to read ahead; so much later a batch that went through may be followed by its offsets
LOOK_SECONDS = 5.0  # between looks at the ends of partitions
LOOK_AT_MOST_SECONDS = 5.0
PATIENCE_SECONDS = 2.0  # with a batch; then no more is fetched, but the group still hears from us
FETCH_MAX_BYTES = 16 << 20  # from one broker at once
METADATA_MAX_AGE_MS = 60_000  # how long a new topic may take to be noticed
COMMIT_SECONDS = 10.0  # aiokafka repeats a commit for ever while the coordinator is away
CLOSE_SECONDS = 10.0
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class Subscription:
    """Which records to consume, as whom, and under which name they are counted."""

    cluster: Cluster
    topics: tuple[str, ...]  # names, and patterns of whole names, which begin with ^
    apart: tuple[str, ...] = ()  # never by a pattern: our own
    group_id: str
    group_instance_id: str | None = None  # static membership
    session_timeout_ms: int = 10_000
    source: str = "kafka"
    mapping: str | None = None  # for all records; without it, detected by shape
    max_poll_records: int = 500
    stuck_seconds: float = 120

    @property
    def pattern(self) -> re.Pattern[str] | None:
        """One for all topics, where one of them is a pattern; raises re.error."""
        if not any(topic.startswith("^") for topic in self.topics):
            return None
        wanted = "|".join(
            f"(?:{topic.removeprefix('^').removesuffix('$')})" if topic.startswith("^") else re.escape(topic)
            for topic in self.topics
        )
        others = "|".join(re.escape(topic) for topic in self.apart)
        return re.compile(f"^(?!(?:{others})$)(?:{wanted})$" if others else f"^(?:{wanted})$")


async def _as_they_are(records: Sequence[Record]) -> Sequence[Record]:
    return records


@dataclass(frozen=True, slots=True)
class _Door:
    """Where records go in: what `read` makes of them is what `admit` takes."""

    read: Read
    admit: Callable[[Any], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class _Session:
    """One consumer at work, of one cluster."""

    consumer: AIOKafkaConsumer
    held: _Held
    door: _Door
    cluster: str


class _StoppedError(Exception):
    """`stop` was called while nothing was held that must be finished."""


class _UnreadableError(Exception):
    """The client cannot read a record, and does not say of which partition it is."""


class _StuckError(Exception):
    """Records wait in this partition and none comes."""

    def __init__(self, partition: TopicPartition) -> None:
        super().__init__(partition)
        self.partition = partition


class _Held(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """What the group gives us: paused while we take nothing more, and how far we are with it.

    `untold` are the offsets up to which all is durable and which the group does not know yet.
    """

    def __init__(self) -> None:
        self.consumer: AIOKafkaConsumer | None = None
        self.holding = False
        self.untold: dict[TopicPartition, int] = {}

    def done(self, offsets: Mapping[TopicPartition, int]) -> None:
        """All before these is durable."""
        self.untold |= offsets

    def told(self, offsets: Mapping[TopicPartition, int]) -> None:
        """The group knows of these."""
        self.untold = {each: offset for each, offset in self.untold.items() if offset != offsets.get(each)}

    def hold(self) -> None:
        """Fetch no more."""
        self.holding = True
        self._apply()

    def release(self) -> None:
        """Go on."""
        if self.holding and self.consumer is not None:
            self.holding = False
            self.consumer.resume(*self.consumer.paused())

    def on_partitions_revoked(self, _revoked: Any) -> None:
        """What was admitted stays admitted, whoever commits it: who has a partition next consumes the records again."""
        self.untold = {}

    def on_partitions_assigned(self, _assigned: Any) -> None:
        """They begin unpaused."""
        if self.holding:
            self._apply()

    def _apply(self) -> None:
        if self.consumer is not None:
            self.consumer.pause(*self.consumer.assignment())


class KafkaSource:
    """Consumes topics as one member of a consumer group.

    Offsets are committed after `admit` returned, so a crash anywhere repeats records and loses none. A broker that
    is away is waited for; `problem` says so meanwhile, in words fit for everyone. Where records wait and none comes,
    it begins anew with a new consumer, and gives up where that does not help.
    """

    def __init__(self, subscription: Subscription, *, clock: Clock) -> None:
        self.subscription = subscription
        self._clock = clock
        self._stopping = asyncio.Event()
        self._watch = Watch()
        self._looked = self._answered = 0.0
        self._stuck: set[TopicPartition] = set()  # nothing has come from there since we began anew because of it
        self._careful_until = 0.0  # until then records are asked for one by one
        self._broker: str | None = "not connected yet"  # what is wrong with it
        self._waits: set[_Pauses] = set()  # for the store: reading ahead goes on while a batch is admitted

    @property
    def problem(self) -> str | None:
        """What is wrong now."""
        return self._broker or ("records wait for the store" if self._waits else None)

    @property
    def lag(self) -> Mapping[TopicPartition, int]:
        """Records that wait, by partition that is ours, as of the last look."""
        return self._watch.lag

    def stop(self) -> None:
        """Ask `run` to finish the batch at hand, leave the group and return."""
        self._stopping.set()

    async def run(self, admit: Callable[[Any], Awaitable[Any]], *, read: Read = _as_they_are) -> None:
        """Consume until `stop`; raises IntakeStuckError, and what these raise beyond StoreUnavailableError.

        `read` makes of records what `admit` takes, one batch ahead of it. Cancelling this is safe: what was not
        committed comes again.
        """
        pauses = _Pauses()
        with suppress(_StoppedError):
            while True:
                try:
                    await self._session(_Door(read, admit), pauses)
                except _StuckError as failure:
                    self._begin_anew(failure.partition)
                except _UnreadableError as failure:
                    log.warning("kafka.unreadable", why=str(failure))
                    self._careful_until = _now() + CAREFUL_SECONDS
                except KafkaError as failure:
                    servers = self.subscription.cluster.bootstrap_servers
                    self._broker = f"cannot consume ({type(failure).__name__}); the log says why"
                    seconds = pauses.next()
                    log.warning("kafka.unavailable", servers=servers, error=str(failure), retry_in_seconds=seconds)
                    await self._pause(seconds)

    def _begin_anew(self, partition: TopicPartition) -> None:
        """Once for each partition that stands still; raises IntakeStuckError where that did not help."""
        name = f"{partition.topic}/{partition.partition}"
        if partition in self._stuck:
            raise IntakeStuckError(f"{name} has records that do not come, to a new consumer neither")
        self._stuck.add(partition)
        self._broker = "records wait and none comes; trying with a new consumer"
        log.warning("kafka.stuck", where=name, seconds=self.subscription.stuck_seconds)

    async def _session(self, door: _Door, pauses: _Pauses) -> None:
        """One consumer from its start to its end; raises KafkaError where the broker or the group is lost."""
        wanted = self.subscription
        cluster = await self._or_stopped(cluster_id(wanted.cluster))
        async with self._consumer() as (consumer, held):
            await self._or_stopped(consumer.start())
            self._broker = None
            self._watch, self._looked = Watch(), 0.0
            self._answered = _now()
            log.info("kafka.consuming", topics=wanted.topics, group=wanted.group_id, cluster=cluster)
            session, ahead = _Session(consumer, held, door, cluster), Batch()
            while True:
                batch, ahead = ahead, Batch()
                if self._stopping.is_set():
                    raise _StoppedError
                if not batch.offsets:
                    fetched = await self._or_stopped(self._poll(consumer, POLL_MS))
                    await self._read(session, fetched, into=batch)
                pauses.reset()
                if batch.offsets:
                    await self._admitted(session, batch, ahead)
                    # A crash here repeats the batch; its coordinates are known to the store.
                    held.done(batch.offsets)
                    self._stuck -= batch.offsets.keys()
                await self._commit(session)
                await self._look(consumer)

    @asynccontextmanager
    async def _consumer(self) -> AsyncIterator[tuple[AIOKafkaConsumer, _Held]]:
        wanted = self.subscription
        held = _Held()
        consumer = held.consumer = wanted.cluster.consumer(
            group_id=wanted.group_id,
            group_instance_id=wanted.group_instance_id,
            session_timeout_ms=wanted.session_timeout_ms,
            heartbeat_interval_ms=min(3000, wanted.session_timeout_ms // 3),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            max_poll_records=wanted.max_poll_records,
            fetch_max_bytes=FETCH_MAX_BYTES,
            metadata_max_age_ms=METADATA_MAX_AGE_MS,
        )
        pattern = wanted.pattern
        if pattern is not None:
            consumer.subscribe(pattern=pattern, listener=held)
        else:
            consumer.subscribe(wanted.topics, listener=held)
        try:
            yield consumer, held
        finally:
            try:
                await asyncio.wait_for(consumer.stop(), CLOSE_SECONDS)
            except (KafkaError, TimeoutError) as failure:
                # The group notices the missing heartbeats instead.
                log.warning("kafka.left_without_goodbye", group=wanted.group_id, error=repr(failure))

    async def _admitted(self, session: _Session, batch: Batch, ahead: Batch) -> None:
        """See a batch through, however long that takes, and stay a member of the group meanwhile.

        While the store writes, the batch `ahead` is read, as soon as there is one. Where the store takes its time no
        more is fetched; but a member that does not poll for some minutes is put out, so we poll, with all partitions
        paused. What comes nevertheless, from a partition that was given to us just now, goes ahead as well.
        """
        consumer, held = session.consumer, session.held
        under_way = asyncio.ensure_future(self._admit(session.door, batch))
        try:
            give_up = _now() + PATIENCE_SECONDS
            while not ahead.offsets and not under_way.done() and _now() < give_up:
                await self._read(session, await self._poll(consumer, AHEAD_MS), into=ahead)
            await asyncio.wait({under_way}, timeout=max(0.0, give_up - _now()))
            while not under_way.done():
                held.hold()
                await self._read(session, await self._poll(consumer, 0), into=ahead)
                self._watch.excuse(now=_now())
                await self._look(consumer)
                await asyncio.wait({under_way}, timeout=POLL_MS / 1000)
            under_way.result()
        finally:
            under_way.cancel()
            await asyncio.gather(under_way, return_exceptions=True)
            held.release()

    async def _poll(self, consumer: AIOKafkaConsumer, timeout_ms: int) -> Fetched:
        """What has come, waited for so long; raises _UnreadableError where the consumer must be given up."""
        if _now() >= self._careful_until:
            try:
                fetched: Fetched = await consumer.getmany(timeout_ms=timeout_ms)
            except UnicodeDecodeError as failure:
                raise _UnreadableError(str(failure)) from failure
            return fetched
        found = await one_by_one(consumer)
        if any(isinstance(message, Unreadable) for messages in found.values() for message in messages):
            self._careful_until = _now() + CAREFUL_SECONDS
        if not found:
            await asyncio.sleep(min(timeout_ms, AHEAD_MS) / 1000)
        return found

    async def _look(self, consumer: AIOKafkaConsumer) -> None:
        """Every few seconds: how many records wait, and do they come.

        Raises _StuckError where they do not, and KafkaError where the broker has not told for as long.
        """
        now, patience = _now(), self.subscription.stuck_seconds
        if now - self._looked < min(LOOK_SECONDS, patience / 4):
            return
        self._looked = now
        try:
            async with asyncio.timeout(LOOK_AT_MOST_SECONDS):
                ours = consumer.assignment()
                ends = await consumer.end_offsets(ours) if ours else {}
                positions = {each: await consumer.position(each) for each in ours}
        except IllegalStateError:
            return  # the partition was taken from us while we looked
        except (KafkaError, TimeoutError) as failure:
            self._broker = "the broker gives no answer; the log says why"
            log.warning("kafka.no_answer", error=repr(failure))
            if now - self._answered >= patience:
                raise KafkaConnectionError(f"no answer for {patience:.0f} s: {failure!r}") from failure
            return
        self._broker, self._answered = None, now
        self._watch.look(positions, ends, now=now)
        stuck = self._watch.stuck(patience, now=now)
        if stuck:
            raise _StuckError(stuck[0])

    async def _read(self, session: _Session, fetched: Fetched, *, into: Batch) -> None:
        """Add what was fetched to a batch, as far as that may grow; what is beyond is fetched again.

        Few bytes can hold many alerts. The store may have to be waited for.
        """
        left = [(partition, message) for partition, messages in fetched.items() for message in messages]
        at, received_at = 0, self._clock.now()
        while at < len(left) and not into.full:
            some = left[at : at + at_once(left, at)]
            records = [self._record(partition, each, session.cluster, received_at) for partition, each in some]
            into.add(some, await self._patiently(len(records), partial(session.door.read, records)))
            at += len(some)
        for partition, offset in {partition: each.offset for partition, each in reversed(left[at:])}.items():
            with suppress(IllegalStateError):  # it was taken from us meanwhile
                session.consumer.seek(partition, offset)

    def _record(self, partition: TopicPartition, message: Message, cluster: str, received_at: datetime) -> Record:
        return Record(
            source=self.subscription.source,
            topic=f"{partition.topic}@{cluster}",
            partition=partition.partition,
            offset=message.offset,
            value=message.value or b"",  # a tombstone: it becomes a dead letter, not a gap
            key=message.key,
            headers={name: (value or b"").decode(errors="replace") for name, value in message.headers},
            mapping=self.subscription.mapping,
            received_at=received_at,
            unreadable=message.why if isinstance(message, Unreadable) else None,
        )

    async def _admit(self, door: _Door, batch: Batch) -> None:
        """Admit the batch, however long the store is away: the next one must not be admitted before."""
        await self._patiently(len(batch.read), lambda: door.admit(batch.read))

    async def _patiently(self, records: int, doing: Callable[[], Awaitable[T]]) -> T:
        pauses = _Pauses()
        try:
            while True:
                try:
                    return await doing()
                except StoreUnavailableError as failure:
                    self._waits.add(pauses)
                    seconds = pauses.next()
                    log.warning("kafka.records_wait", records=records, error=str(failure), retry_in_seconds=seconds)
                    await self._pause(seconds)
        finally:
            self._waits.discard(pauses)

    async def _commit(self, session: _Session) -> None:
        """Tell the group how far we are, for the partitions that are still ours.

        That it fails is normal (a broker that is away, a coordinator that moves, a rebalance): it is told again with
        the next batch, or without one.
        """
        ours, held = session.consumer.assignment(), session.held
        offsets = {partition: offset for partition, offset in held.untold.items() if partition in ours}
        if not offsets:
            return
        try:
            await asyncio.wait_for(session.consumer.commit(offsets), COMMIT_SECONDS)
        except (KafkaError, TimeoutError) as failure:
            log.info("kafka.commit_failed", group=self.subscription.group_id, error=repr(failure))
        else:
            held.told(offsets)

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


def _now() -> float:
    """Seconds that only go forward."""
    return asyncio.get_running_loop().time()


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
