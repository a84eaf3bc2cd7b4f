"""The one place that makes Kafka clients."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConfigurationError

Reveal = Callable[[], str]
"""Looks a secret up each time a client is made, so that a rotated one counts from then on."""


@dataclass(frozen=True, kw_only=True)
class Tls:
    """How the broker is recognised, and how we are; without files, by the system's authorities and not at all."""

    cafile: Path | None = None
    certfile: Path | None = None
    keyfile: Path | None = None
    key_password: Reveal | None = None
    check_hostname: bool = True

    def context(self) -> ssl.SSLContext:
        """What clients are given; raises KafkaConfigurationError where a file cannot be used."""
        try:
            context = ssl.create_default_context(cafile=self.cafile)
            context.check_hostname = self.check_hostname
            if self.certfile is not None:
                # Without a password OpenSSL would ask for one at the terminal.
                password = self.key_password or (lambda: "")
                context.load_cert_chain(self.certfile, self.keyfile, password=password)
        except (OSError, ValueError) as failure:  # an SSLError is an OSError
            files = ", ".join(str(each) for each in (self.cafile, self.certfile, self.keyfile) if each is not None)
            raise KafkaConfigurationError(f"TLS with {files or 'no file'} cannot be set up: {failure}") from failure
        return context


@dataclass(frozen=True, kw_only=True)
class Sasl:
    """Who we are to the broker."""

    mechanism: str  # PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512
    username: str
    password: Reveal


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """How a Kafka cluster is reached; its clients still have to be started, and stopped.

    `bootstrap_servers` is host:port, several with commas. Making a client raises KafkaConfigurationError, a KafkaError,
    where a certificate or a secret cannot be had.
    """

    bootstrap_servers: str
    client_id: str = "soar"
    tls: Tls | None = None
    sasl: Sasl | None = None

    @property
    def security_protocol(self) -> str:
        """As Kafka names it."""
        return ("SASL_" if self.sasl else "") + ("SSL" if self.tls else "PLAINTEXT")

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
        reached: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap_servers,
            "client_id": self.client_id,
            "security_protocol": self.security_protocol,
        }
        if self.tls is not None:
            reached["ssl_context"] = self.tls.context()
        if self.sasl is not None:
            reached |= {
                "sasl_mechanism": self.sasl.mechanism,
                "sasl_plain_username": self.sasl.username,
                "sasl_plain_password": self.sasl.password(),
            }
        return reached
