"""Checkpoints go to a real Kafka topic, which remembers what a restored backup has forgotten."""

from __future__ import annotations

import asyncio
import shutil
import socket
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import structlog
import yaml
from aiokafka.admin import NewTopic

from soar.demo.home import make_home
from soar.demo.samples import samples
from soar.errors import JournalError, NotSentError
from soar.journal.checkpoint import Checkpoint, sign_checkpoint
from soar.journal.note import Signer
from soar.journal.trust import TrustPolicy, claimed
from soar.kafka import Cluster
from soar.model.clock import SystemClock
from soar.service import Doors, Running, assemble
from soar.service.anchoring import LOOK_BACK, KafkaAnchor
from soar.settings import load_settings

LOG = Signer("log.example", bytes(32))
OTHER = Signer("other.example", bytes([1] * 32))
THIEF = Signer("log.example", bytes([2] * 32))
POLICY = TrustPolicy.of([LOG.verifier])


@pytest.fixture(params=["compact", "delete"])
async def topic(request: pytest.FixtureRequest, kafka: str) -> AsyncIterator[str]:
    name = f"checkpoints-{uuid.uuid4().hex[:8]}"
    admin = Cluster(bootstrap_servers=kafka).admin()
    await admin.start()
    await admin.create_topics([NewTopic(name, 3, 1, topic_configs={"cleanup.policy": request.param})])
    yield name
    await admin.delete_topics([name])
    await admin.close()


def note(size: int, signer: Signer = LOG) -> str:
    return sign_checkpoint(Checkpoint(signer.name, size, size.to_bytes(32)), signer)


def anchor(servers: str, topic: str, signer: Signer = LOG) -> KafkaAnchor:
    return KafkaAnchor(Cluster(bootstrap_servers=servers), topic=topic, origin=signer.name)


async def put(anchor: KafkaAnchor, *notes: str) -> None:
    """Each arrives before the next is given."""
    for each in notes:
        await anchor(each)
        async with asyncio.timeout(60):
            while anchor.anchored != claimed(each).size:  # noqa: ASYNC110 - no bell
                await asyncio.sleep(0.01)
    await anchor.close()


async def test_the_topic_tells_the_newest_checkpoint_of_this_log(kafka: str, topic: str) -> None:
    ours = anchor(kafka, topic)
    assert await ours.newest(POLICY) is None
    await put(ours, note(1), note(7))
    await put(anchor(kafka, topic, OTHER), *(note(size, OTHER) for size in range(8, 8 + LOOK_BACK + 5)))
    assert await anchor(kafka, topic).newest(POLICY) == note(7)


async def test_a_topic_that_does_not_exist_yet_has_told_nothing(kafka: str) -> None:
    assert await anchor(kafka, f"checkpoints-{uuid.uuid4().hex[:8]}").newest(POLICY) is None


async def test_a_smaller_checkpoint_that_comes_later_takes_nothing_back(kafka: str, topic: str) -> None:
    """Nor does one that somebody else signed: at least until a compacted topic is compacted."""
    await put(anchor(kafka, topic), note(9), note(3))
    await put(anchor(kafka, topic), note(20, THIEF))
    assert await anchor(kafka, topic).newest(POLICY) == note(9)


async def test_what_was_published_before_a_long_fork_is_found_where_all_is_read(kafka: str, topic: str) -> None:
    await put(anchor(kafka, topic), note(9))
    await put(anchor(kafka, topic), *(note(3 + number % 2) for number in range(LOOK_BACK + 5)))
    assert await anchor(kafka, topic).newest(POLICY) == note(4)
    cluster = Cluster(bootstrap_servers=kafka)
    assert await KafkaAnchor(cluster, topic=topic, origin=LOG.name, whole=True).newest(POLICY) == note(9)


async def test_a_topic_where_only_others_signed_under_our_name_is_no_clean_sheet(kafka: str, topic: str) -> None:
    await put(anchor(kafka, topic), note(20, THIEF))
    with pytest.raises(JournalError, match="no checkpoint of this journal"):
        await anchor(kafka, topic).newest(POLICY)


async def test_while_the_broker_is_away_nothing_waits_for_it_and_then_the_newest_arrives(
    kafka: str, topic: str
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ours = anchor(f"127.0.0.1:{port}", topic)
    with pytest.raises(NotSentError, match="cannot be read"):
        await ours.newest(POLICY)
    for size in range(1, 50):
        await ours(note(size))
    async with asyncio.timeout(60):
        while ours.problem is None:  # noqa: ASYNC110 - no bell
            await asyncio.sleep(0.01)
    assert ours.anchored == 0
    async with await asyncio.start_server(forward_to(kafka), "127.0.0.1", port):
        await put(ours, note(50))
        assert ours.problem is None
    found = await anchor(kafka, topic).newest(POLICY)
    assert found == note(50)


def forward_to(servers: str) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """The broker at another address, for the first connection; it tells its own for the rest."""

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = servers.partition(":")
        there, back = await asyncio.open_connection(host, int(port))

        async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                target.write(data)
                await target.drain()
            target.close()

        await asyncio.gather(pump(reader, back), pump(there, writer), return_exceptions=True)

    return forward


@pytest.fixture
def config(kafka: str, topic: str, tmp_path: Path) -> Path:
    """A home whose one anchor is the topic."""
    make_home(tmp_path / "home")
    file = tmp_path / "home" / "soar.yaml"
    document = yaml.safe_load(file.read_text())
    document["journal"] = {
        **document.get("journal", {}),
        "anchors": [{"kafka": {"topic": topic, "bootstrap_servers": kafka}}],
    }
    document["web"] = {**document.get("web", {}), "port": 0}
    file.write_text(yaml.safe_dump(document))
    return file


async def lived(config: Path, name: str) -> tuple[str | None, str]:
    """The service starts, takes alerts in and stops; why it signs nothing, if so, and its metrics."""
    async with assemble(load_settings(config, {})) as service:
        running = Running(service)
        doors = Doors(running)
        await running.start()
        await running.admit(samples(SystemClock().now(), topic=name))
        await running.sequencer.sign()
        for each in running.sequencer.anchors:
            await each.close()
        metrics = await doors._metrics()
        await running.stop()
        return running.sequencer.disowned, metrics


async def test_a_service_whose_backup_was_restored_learns_it_from_the_topic(config: Path) -> None:
    data, backup = config.parent / "data", config.parent / "backup"
    why, _ = await lived(config, "first")
    assert why is None
    shutil.copytree(data, backup)
    why, metrics = await lived(config, "second")
    assert why is None
    told = dict(line.split() for line in metrics.splitlines() if line.startswith("soar_journal"))
    assert int(told["soar_journal_not_anchored_entries"]) < int(told["soar_journal_entries"])
    shutil.rmtree(data)
    shutil.copytree(backup, data)
    why, _ = await lived(config, "third")
    structlog.reset_defaults()
    assert why is not None
    assert "soar audit continue" in why
