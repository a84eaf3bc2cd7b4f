"""What of our topics a cluster has, and how far behind the group is, seen from outside of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, GroupLoadInProgressError
from aiokafka.structs import OffsetAndMetadata

from soar.ingest.kafka import Subscription
from soar.ingest.lag import Offsets
from soar.kafka import Cluster

COORDINATOR_SECONDS = 0.2  # between two questions for a group's coordinator


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """`lag`: records that the group has not committed, by partition of its topics."""

    topics: frozenset[str]  # all that there are
    lag: Mapping[TopicPartition, int]


async def backlog(subscription: Subscription) -> Backlog:
    """Ask the cluster; changes nothing, and joins no group. Raises KafkaError.

    Waits as long as the cluster has no coordinator for the group: the caller says how long that may be.
    """
    admin = subscription.cluster.admin()
    try:
        await admin.start()
        topics = frozenset(await admin.list_topics())
        pattern = subscription.pattern
        ours = [each for each in topics if (pattern.match(each) if pattern else each in subscription.topics)]
        told = await admin.describe_topics(sorted(ours)) if ours else []
        partitions = [TopicPartition(each["topic"], one["partition"]) for each in told for one in each["partitions"]]
        committed = await _committed(admin, subscription.group_id) if partitions else {}
    finally:
        await admin.close()
    first, end = await _bounds(subscription.cluster, partitions)
    behind = {each: max(first[each], committed[each].offset if each in committed else 0) for each in partitions}
    return Backlog(topics=topics, lag={each: max(0, end[each] - behind[each]) for each in partitions})


async def _committed(admin: AIOKafkaAdminClient, group_id: str) -> dict[TopicPartition, OffsetAndMetadata]:
    """Where the group has come to. The first group a cluster is ever asked about has it make its coordinators."""
    while True:
        try:
            return await admin.list_consumer_group_offsets(group_id)  # type: ignore[no-any-return]
        except (GroupCoordinatorNotAvailableError, GroupLoadInProgressError):
            await asyncio.sleep(COORDINATOR_SECONDS)


async def _bounds(cluster: Cluster, partitions: Sequence[TopicPartition]) -> tuple[Offsets, Offsets]:
    """First and next offset of each."""
    if not partitions:
        return {}, {}
    consumer = cluster.consumer(group_id=None, enable_auto_commit=False, isolation_level="read_committed")
    try:
        await consumer.start()
        return await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
    finally:
        await consumer.stop()
