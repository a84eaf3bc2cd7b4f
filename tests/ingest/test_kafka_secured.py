"""SASL and TLS against a real broker of its own: each way in opens; a wrong secret or an unknown authority does not."""

import base64
import os
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from socket import create_connection, create_server
from types import MappingProxyType
from typing import Any

import pytest
import yaml
from aiokafka.errors import KafkaConfigurationError, KafkaError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from soar.errors import ConfigError
from soar.ingest.kafka import cluster_id
from soar.kafka import Cluster
from soar.service.brokers import cluster_of
from soar.settings import load_settings

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "open sesame"
KEY_PASSWORD = "of the key"
ENVIRON = MappingProxyType({"KAFKA_PASSWORD": PASSWORD, "WRONG": "nothing", "KEY_PASSWORD": KEY_PASSWORD})

PROPERTIES = """\
process.roles=broker,controller
node.id=1
listeners=PLAIN://127.0.0.1:{plain},SASL://127.0.0.1:{sasl},BOTH://127.0.0.1:{both},MUTUAL://127.0.0.1:{mutual},\
CONTROLLER://127.0.0.1:{controller}
listener.security.protocol.map=PLAIN:PLAINTEXT,SASL:SASL_PLAINTEXT,BOTH:SASL_SSL,MUTUAL:SSL,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAIN
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:{controller}
log.dirs={folder}/data
offsets.topic.replication.factor=1
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl.plain.sasl.jaas.config={plain_login}
listener.name.both.plain.sasl.jaas.config={plain_login}
listener.name.sasl.scram-sha-256.sasl.jaas.config={scram_login}
listener.name.sasl.scram-sha-512.sasl.jaas.config={scram_login}
listener.name.both.scram-sha-256.sasl.jaas.config={scram_login}
listener.name.both.scram-sha-512.sasl.jaas.config={scram_login}
listener.name.mutual.ssl.client.auth=required
ssl.keystore.type=PEM
ssl.keystore.location={folder}/broker.pem
ssl.truststore.type=PEM
ssl.truststore.location={folder}/ca.pem
"""
PLAIN_LOGIN = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_soar="{PASSWORD}";'
SCRAM_LOGIN = "org.apache.kafka.common.security.scram.ScramLoginModule required;"


class Secured:
    """A broker with a listener for each way in; certificates beside it."""

    def __init__(self, folder: Path, ports: Mapping[str, int]) -> None:
        self.folder, self.ports = folder, ports

    def cluster(self, listener: str, **more: Any) -> Cluster:
        """As soar.yaml would name it."""
        kafka = {"bootstrap_servers": f"127.0.0.1:{self.ports[listener]}", "topics": ["t"], **more}
        file = self.folder / f"soar-{uuid.uuid4().hex}.yaml"
        file.write_text(yaml.safe_dump({"kafka": kafka}))
        loaded = load_settings(file, ENVIRON)
        assert loaded.settings.kafka is not None
        return cluster_of(loaded, loaded.settings.kafka, "kafka")


def issued(name: str, issuer: tuple[x509.Name, rsa.RSAPrivateKey] | None) -> tuple[x509.Certificate, rsa.RSAPrivateKey]:
    """A certificate for 127.0.0.1, or an authority's own."""
    key, subject = rsa.generate_private_key(65537, 2048), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    by, signer = issuer or (subject, key)
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
    )
    return builder.sign(signer, hashes.SHA256()), key


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def locked(key: rsa.RSAPrivateKey, password: bytes | None) -> bytes:
    how = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)


def lay_out(folder: Path) -> None:
    """An authority, what the broker and we have from it, and an authority that nobody knows."""
    authority, authority_key = issued("authority", None)
    (folder / "ca.pem").write_bytes(pem(authority))
    (folder / "stranger.pem").write_bytes(pem(issued("stranger", None)[0]))
    for name in ("broker", "soar"):
        certificate, key = issued(name, (authority.subject, authority_key))
        (folder / f"{name}.pem").write_bytes(locked(key, None) + pem(certificate))
        (folder / f"{name}.crt").write_bytes(pem(certificate))
        (folder / f"{name}.key").write_bytes(locked(key, KEY_PASSWORD.encode()))


@pytest.fixture(scope="module")
def secured(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """Started beside the shared one, from the same jars."""
    home = Path(os.environ.get("SOAR_STACK_HOME", ROOT / ".stack"))
    jars = next((found.parent for found in home.glob("kafka/*/kafka_2.13-*.jar")), None)
    if jars is None:
        pytest.skip(f"{kafka} runs in a container; there are no jars to start another broker from")
    folder = tmp_path_factory.mktemp("secured")
    lay_out(folder)
    names = ("plain", "sasl", "both", "mutual", "controller")
    free = [create_server(("127.0.0.1", 0)) for _ in names]
    ports = {name: each.getsockname()[1] for name, each in zip(names, free, strict=True)}
    for each in free:
        each.close()
    text = PROPERTIES.format(folder=folder, plain_login=PLAIN_LOGIN, scram_login=SCRAM_LOGIN, **ports)
    (folder / "server.properties").write_text(text)
    java = ["java", "-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-Dlog4j2.level=WARN", "-cp", f"{jars}/*"]
    cluster = base64.urlsafe_b64encode(b"s" + uuid.uuid4().bytes[1:]).decode().rstrip("=")
    tool = ["kafka.tools.StorageTool", "format", "--config", str(folder / "server.properties"), "--cluster-id", cluster]
    users = [f'SCRAM-SHA-{bits}=[name="soar",password="{PASSWORD}"]' for bits in (256, 512)]
    subprocess.run([*java, *tool, *(word for user in users for word in ("--add-scram", user))], check=True)
    with (folder / "log").open("wb") as log:
        broker = subprocess.Popen([*java, "kafka.Kafka", str(folder / "server.properties")], stdout=log, stderr=log)
    try:
        wait_for(ports["mutual"], broker, folder / "log")
        yield Secured(folder, ports)
    finally:
        broker.terminate()
        broker.wait(timeout=30)


def wait_for(port: int, broker: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        assert broker.poll() is None, log.read_text()[-3000:]
        try:
            create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    pytest.fail(log.read_text()[-3000:])


LOGIN = MappingProxyType({"sasl_username": "soar", "sasl_password": "secret://env/KAFKA_PASSWORD"})


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
@pytest.mark.parametrize("listener", ["sasl", "both"])
async def test_each_mechanism_opens_with_and_without_tls(secured: Secured, mechanism: str, listener: str):
    how = {"security_protocol": "SASL_PLAINTEXT"}
    if listener == "both":
        how = {"security_protocol": "SASL_SSL", "ssl_cafile": "ca.pem"}
    cluster = secured.cluster(listener, sasl_mechanism=mechanism, **LOGIN, **how)
    topic = f"t-{uuid.uuid4().hex[:8]}"
    async with cluster.producer() as producer:
        await producer.send_and_wait(topic, b"told")
    async with cluster.consumer(topic, auto_offset_reset="earliest") as consumer:
        assert (await consumer.getone()).value == b"told"
    assert await cluster_id(cluster)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
async def test_a_wrong_password_does_not_open(secured: Secured, mechanism: str):
    login = LOGIN | {"sasl_password": "secret://env/WRONG", "sasl_mechanism": mechanism}
    with pytest.raises(KafkaError):
        await cluster_id(secured.cluster("sasl", security_protocol="SASL_PLAINTEXT", **login))


async def test_a_client_certificate_opens_and_none_does_not(secured: Secured):
    trust = {"security_protocol": "SSL", "ssl_cafile": "ca.pem"}
    mine = {"ssl_certfile": "soar.crt", "ssl_keyfile": "soar.key", "ssl_key_password": "secret://env/KEY_PASSWORD"}
    assert await cluster_id(secured.cluster("mutual", **trust, **mine))
    assert await cluster_id(secured.cluster("mutual", **trust, ssl_certfile="soar.pem"))
    with pytest.raises(KafkaError):
        await cluster_id(secured.cluster("mutual", **trust))


async def test_a_broker_of_an_unknown_authority_is_not_spoken_to(secured: Secured):
    how = {"security_protocol": "SASL_SSL", "ssl_cafile": "stranger.pem", **LOGIN}
    with pytest.raises(KafkaError):
        await cluster_id(secured.cluster("both", **how))


async def test_what_cannot_be_set_up_says_which_file_or_secret(secured: Secured):
    with pytest.raises(KafkaConfigurationError, match=r"none\.pem.*No such file"):
        secured.cluster("mutual", security_protocol="SSL", ssl_cafile="none.pem").producer()
    locked_key = {"ssl_certfile": "soar.crt", "ssl_keyfile": "soar.key"}
    with pytest.raises(KafkaConfigurationError, match=r"soar\.key"):
        secured.cluster("mutual", security_protocol="SSL", **locked_key).producer()
    absent = {"sasl_username": "soar", "sasl_password": "secret://env/ABSENT"}
    with pytest.raises(KafkaConfigurationError, match="ABSENT is not set"):
        secured.cluster("sasl", security_protocol="SASL_PLAINTEXT", **absent).producer()
    with pytest.raises(ConfigError, match="a secret must be a reference") as failure:
        secured.cluster("sasl", security_protocol="SASL_PLAINTEXT", sasl_username="soar", sasl_password="hunter2")
    assert "hunter2" not in str(failure.value)
