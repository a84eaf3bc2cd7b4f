"""Messages of Kafka on their way into the store: what goes in together, and how much that may be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeAlias

from aiokafka import ConsumerRecord, TopicPartition

from soar.ingest.careful import Unreadable

Message: TypeAlias = ConsumerRecord | Unreadable
Fetched: TypeAlias = Mapping[TopicPartition, Sequence[Message]]

# A record of a few bytes may hold thousands of alerts.
BYTES_AT_ONCE = 32 << 10
MOST_ALERTS = 5_000


@dataclass(slots=True)
class Batch:
    """What is admitted together: what was read, and how far that goes in each partition."""

    offsets: dict[TopicPartition, int] = field(default_factory=dict)
    read: list[Any] = field(default_factory=list)
    alerts: int = 0

    @property
    def full(self) -> bool:
        """Whether no more should be added."""
        return self.alerts >= MOST_ALERTS

    def add(self, messages: Sequence[tuple[TopicPartition, Message]], read: Sequence[Any]) -> None:
        """Add the messages that follow, and what they were read as, of which each may say how many `alerts` it is."""
        self.offsets |= {partition: message.offset + 1 for partition, message in messages}
        self.read += read
        self.alerts += sum(getattr(each, "alerts", 1) for each in read)


def at_once(messages: Sequence[tuple[TopicPartition, Message]], start: int) -> int:
    """How many messages from there on are read at once: so many bytes of them, and at least one."""
    size = 0
    for count, (_, message) in enumerate(islice(messages, start, None), start=1):
        size += len(message.value or b"")
        if size >= BYTES_AT_ONCE:
            return count
    return len(messages) - start
