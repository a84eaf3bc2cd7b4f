"""Apache Kafka, one KRaft node, from the jars that Maven Central has."""

from __future__ import annotations

import base64
import shutil
import signal
import socket
import struct
import uuid
from os import environ  # noqa: TID251 - this script runs before soar and its settings are installed

from .base import Part, call, need, say
from .process import Command, Daemon

VERSION = "4.4.0"
LOG4J_VERSION = "2.25.5"
PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"

# The first artefact is the broker; the second lets it write a log.
POM = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>soar</groupId><artifactId>stack-kafka</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId>
      <version>{LOG4J_VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""

# One node is broker and controller, so every internal topic has one copy.
PROPERTIES = """\
process.roles=broker,controller
node.id=1
listeners=BROKER://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=BROKER://127.0.0.1:{broker}
listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=BROKER
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:{controller}
log.dirs={data}
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
"""

METADATA, METADATA_VERSION = 3, 1


class Kafka(Part):
    """One broker."""

    name = "kafka"
    version = f"Apache Kafka {VERSION}"
    default_ports = (19092, 19093)

    def __init__(self) -> None:
        super().__init__()
        self.daemon = Daemon(self.home, stop_signal=signal.SIGTERM)
        self.jars = self.home / VERSION
        self.data = self.home / "data"
        self.properties = self.home / "server.properties"

    def get(self) -> None:
        """Copy the broker's jars from Maven Central."""
        need("java", package="openjdk-17-jre-headless", who=self.name)
        if self.jars.exists():
            return
        need("mvn", package="maven", who=self.name)
        say(self.name, f"downloading {self.version}")
        draft = self.home / "download"
        shutil.rmtree(draft, ignore_errors=True)
        pom = self.home / "pom.xml"
        pom.write_text(POM)
        call(["mvn", "-q", "-B", "-ntp", "-f", str(pom), f"{PLUGIN}:copy-dependencies", f"-DoutputDirectory={draft}"])
        draft.rename(self.jars)

    def prepare(self) -> None:
        """Write the configuration; the first time, give the storage its cluster id."""
        broker, controller = self.ports
        self.properties.write_text(PROPERTIES.format(broker=broker, controller=controller, data=self.data))
        if not (self.data / "meta.properties").exists():
            tool = ["kafka.tools.StorageTool", "format", "--config", str(self.properties)]
            call([*self._java(), *tool, "--cluster-id", cluster_id()])

    def command(self) -> Command:
        """The broker, its heap capped so that all parts fit on a small machine."""
        return Command(argv=[*self._java(), "kafka.Kafka", str(self.properties)], env=dict(environ))

    def _java(self) -> list[str]:
        return ["java", "-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-Dlog4j2.level=WARN", "-cp", f"{self.jars}/*"]

    def answers(self) -> bool:
        """Whether the broker lists itself, which KRaft allows only once it can be produced to."""
        try:
            with socket.create_connection(("127.0.0.1", self.ports[0]), timeout=5) as connection:
                return brokers_known(connection) > 0
        except (OSError, struct.error):
            return False

    def environment(self) -> dict[str, str]:
        """The bootstrap servers."""
        return {"SOAR_STACK_KAFKA": self.address()}


def cluster_id() -> str:
    """A new one for every storage: soar tells records apart by cluster, topic, partition and offset."""
    text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    return text if not text.startswith("-") else cluster_id()  # a leading dash would read as an option


def brokers_known(connection: socket.socket) -> int:
    """The number of brokers in a Metadata answer (kafka.apache.org/protocol, key 3 version 1, no topics)."""
    client = b"stack"
    head = struct.pack(">hhih", METADATA, METADATA_VERSION, 1, len(client)) + client
    body = head + struct.pack(">i", 0)
    connection.sendall(struct.pack(">i", len(body)) + body)
    with connection.makefile("rb") as answer:
        _size, _correlation, brokers = struct.unpack(">iii", answer.read(12))
    return int(brokers)
