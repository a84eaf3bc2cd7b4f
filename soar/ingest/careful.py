"""Records that Kafka's client cannot read: each partition is asked for one record at a time, and those are passed over.

aiokafka decodes the names of headers while it hands records out, as UTF-8, which nothing makes a producer write. What
other records that call held is lost with it, so the consumer is given up, and the next one asks in this way. There are
no values in what is passed over: to be read, it must be fetched from Kafka by other means.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import IllegalStateError
from aiokafka.structs import ConsumerRecord

_WHY = (
    "cannot be read by Kafka's client: a header's name in it, or before it in its batch, is not UTF-8; have its "
    "producer write UTF-8, and read it from Kafka at these coordinates"
)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What stands for a record that nobody could read."""

    offset: int
    key: None = None
    value: None = None
    headers: tuple[()] = ()
    why: str = _WHY


async def one_by_one(consumer: AIOKafkaConsumer) -> dict[TopicPartition, list[ConsumerRecord | Unreadable]]:
    """At most one record of each partition, of those that are there."""
    found: dict[TopicPartition, list[ConsumerRecord | Unreadable]] = {}
    for partition in consumer.assignment() - consumer.paused():
        try:
            found |= await consumer.getmany(partition, timeout_ms=0, max_records=1)
        except UnicodeDecodeError:
            with suppress(IllegalStateError):  # it was taken from us meanwhile
                offset = await consumer.position(partition)
                consumer.seek(partition, offset + 1)
                found[partition] = [Unreadable(offset)]
    return found
