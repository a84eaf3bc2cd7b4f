"""The one place that makes Kafka clients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """How a Kafka cluster is reached; its clients still have to be started, and stopped.

    `bootstrap_servers` is host:port, several with commas.
    """

    bootstrap_servers: str
    client_id: str = "soar"

    def consumer(self, *topics: str, **options: Any) -> AIOKafkaConsumer:
        """A consumer of these topics; of those that it will assign itself, without any."""
        return AIOKafkaConsumer(*topics, **self._reached(), **options)

    def producer(self, **options: Any) -> AIOKafkaProducer:
        """A producer."""
        return AIOKafkaProducer(**self._reached(), **options)

    def admin(self) -> AIOKafkaAdminClient:
        """A client that asks about the cluster itself."""
        return AIOKafkaAdminClient(**self._reached())

    def _reached(self) -> dict[str, Any]:
        return {"bootstrap_servers": self.bootstrap_servers, "client_id": self.client_id}
