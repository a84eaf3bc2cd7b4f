"""Kafka clusters as the configuration names them."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from aiokafka.errors import KafkaConfigurationError

from soar.connector.secret import Secret, SecretResolver
from soar.errors import ConfigError, NotSentError
from soar.ingest.kafka import Subscription
from soar.kafka import Cluster, Reveal, Sasl, Tls
from soar.service.sending import Contents, Events, Letters, Outbox
from soar.settings import ClusterSettings, Loaded

if TYPE_CHECKING:
    from soar.service.assembly import Service


def cluster_of(loaded: Loaded, wanted: ClusterSettings, *path: str | int) -> Cluster:
    """How to reach it. `path` is where the settings stand; raises ConfigError for what is no secret reference."""

    def secret(name: str) -> Reveal | None:
        reference = getattr(wanted, name)
        if reference is None:
            return None
        try:
            return partial(_reveal, SecretResolver(loaded.environ), Secret(reference))
        except ConfigError as failure:
            raise ConfigError(failure.message, loaded.place(*path, name)) from None

    tls = sasl = None
    if wanted.security_protocol.endswith("SSL"):
        files = {name: getattr(wanted, f"ssl_{name}") for name in ("cafile", "certfile", "keyfile")}
        tls = Tls(
            **{name: loaded.path(file) for name, file in files.items() if file is not None},
            key_password=secret("ssl_key_password"),
            check_hostname=wanted.ssl_check_hostname,
        )
    password = secret("sasl_password")
    if wanted.sasl_username is not None and password is not None:
        sasl = Sasl(mechanism=wanted.sasl_mechanism, username=wanted.sasl_username, password=password)
    return Cluster(bootstrap_servers=wanted.bootstrap_servers, client_id=wanted.client_id, tls=tls, sasl=sasl)


def subscription_of(loaded: Loaded) -> Subscription | None:
    """What is consumed, if anything; raises ConfigError."""
    kafka, events = loaded.settings.kafka, loaded.settings.events.kafka
    if kafka is None:
        return None
    options = ("group_id", "group_instance_id", "session_timeout_ms", "source", "mapping", "max_poll_records")
    subscription = Subscription(
        cluster=cluster_of(loaded, kafka, "kafka"),
        topics=kafka.topics,
        # Else a pattern that fits them would have us consume what we sent, and send what we consumed.
        apart=tuple(topic for topic in (kafka.dead_letter_topic, events and events.topic) if topic),
        stuck_seconds=kafka.stuck_seconds,
        **{name: getattr(kafka, name) for name in options},
    )
    try:
        subscription.pattern  # noqa: B018 - whether it is one
    except re.error as failure:
        raise ConfigError(f"kafka.topics is no pattern: {failure}", loaded.place("kafka", "topics")) from None
    return subscription


def outboxes_of(service: Service, *, owner: str) -> list[Outbox]:
    """What leaves for topics, if anything; raises ConfigError."""
    loaded, store = service.loaded, service.store
    kafka, events = loaded.settings.kafka, loaded.settings.events.kafka
    if kafka is None:
        return []
    contents: list[Contents] = []
    if kafka.dead_letter_topic is not None:
        contents.append(Letters(store, topic=kafka.dead_letter_topic))
    if events is not None:
        contents.append(Events(store, topic=events.topic, source=loaded.settings.journal.origin))
    cluster = cluster_of(loaded, kafka, "kafka")
    return [Outbox(each, store=store, cluster=cluster, clock=service.clock, owner=owner) for each in contents]


def _reveal(resolver: SecretResolver, secret: Secret) -> str:
    try:
        return resolver.reveal(secret)
    except NotSentError as failure:
        raise KafkaConfigurationError(str(failure)) from failure
