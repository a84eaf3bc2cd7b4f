"""The whole service with a witness and an anchor: cosigned, published, and stopped by a restored backup."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
import yaml

from soar.demo.home import make_home
from soar.demo.samples import samples
from soar.journal.cosignature import CosignatureVerifier
from soar.journal.note import Verifier
from soar.journal.trust import TrustPolicy, claimed
from soar.model.clock import SystemClock
from soar.model.entry import EntryType
from soar.service import assemble, read_key
from soar.service.doors import prometheus
from soar.service.exposure import Signing, signing
from soar.settings import load_settings
from soar.store.port import Fact, Store
from soar.store.seen import Counts

SOAR = [sys.executable, "-m", "soar"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    make_home(tmp_path / "home")
    return tmp_path / "home" / "soar.yaml"


@pytest.fixture
def witness(home: Path, tmp_path: Path) -> Iterator[CosignatureVerifier]:
    """`soar witness` as its own process."""
    key = tmp_path / "witness.key"
    init = [*SOAR, "witness", "init", "w.example", "--key", key]
    made = subprocess.run(init, capture_output=True, text=True, check=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = read_key(load_settings(home, environ={})).verifier
    arguments = ["--key", key, "--memory", tmp_path / "memory", "--port", str(port), "--log", str(log)]
    process = subprocess.Popen([*SOAR, "witness", "run", *arguments], stdout=subprocess.DEVNULL)
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    config = yaml.safe_load(home.read_text())
    journal = {**config.get("journal", {}), "anchors": ["anchor"]}
    journal["witnesses"] = [{"url": f"http://127.0.0.1:{port}", "key": made.stdout.strip()}]
    home.write_text(yaml.safe_dump({**config, "journal": journal}))
    yield CosignatureVerifier.from_text(made.stdout.strip())
    process.terminate()
    process.wait(10)


async def admitted(home: Path, topic: str) -> tuple[str, str | None]:
    """Start, admit, sign; the newest checkpoint, and why nothing is signed any more."""
    async with assemble(load_settings(home, environ={})) as service:
        sequencer = service.sequencer()
        await sequencer.check()
        await service.intake().admit(samples(SystemClock().now(), topic=topic))
        await sequencer.sign()
        return (await newest(service.store)), sequencer.disowned


async def newest(store: Store) -> str:
    return (await store.checkpoints(newest=1))[0]


def test_a_restored_backup_is_not_signed(home: Path, witness: CosignatureVerifier) -> None:
    policy = TrustPolicy.of([read_key(load_settings(home, environ={})).verifier], witnesses=[witness], quorum=1)
    data, backup = home.parent / "data", home.parent / "backup"
    note, why = asyncio.run(admitted(home, "first"))
    assert why is None
    assert policy.open(note).witnessed.keys() == {"w.example"}
    assert (home.parent / "anchor").read_text() == note
    shutil.copytree(data, backup)
    note, why = asyncio.run(admitted(home, "second"))
    assert policy.open(note).witnessed
    shutil.rmtree(data)
    shutil.copytree(backup, data)
    restored, why = asyncio.run(admitted(home, "third"))
    assert why is not None
    assert "Nothing will be signed" in why
    assert policy.open(restored).checkpoint.size < policy.open(note).checkpoint.size
    (home.parent / "anchor").unlink()
    restored, why = asyncio.run(admitted(home, "fourth"))
    assert why is not None, "the witness alone tells too"
    structlog.reset_defaults()


def test_what_nobody_else_has_seen_yet_is_counted(home: Path, witness: CosignatureVerifier) -> None:
    """By the metrics and by `soar audit status`: entries beyond the last cosigned and the last anchored checkpoint."""
    asyncio.run(admitted(home, "first"))

    async def after(entries: int) -> tuple[Signing, int]:
        loaded = load_settings(home, environ={})
        async with assemble(loaded) as service:
            told = tuple(service.scribe.entry(EntryType.HALT_SET, "halt") for _ in range(entries))
            assert await service.store.commit([Fact(entries=told)]) == [None]
            now = service.clock.now()
            anchored = [claimed((home.parent / "anchor").read_text()).size]
            signed = await signing(service.store, now=now, disowned=False, loaded=loaded, anchored=anchored)
            return signed, (await service.store.tree())[0]

    def status() -> tuple[int, int, int]:
        asked = subprocess.run([*SOAR, "audit", "status", "--json", "--config", home], capture_output=True, check=True)
        found = json.loads(asked.stdout)
        return found["exposed"], found["not_cosigned"], found["not_anchored"]

    assert witness
    signed, _ = asyncio.run(after(0))
    assert (signed.exposed, signed.not_cosigned, signed.not_anchored) == (0, 0, 0) == status()
    signed, size = asyncio.run(after(3))
    assert (signed.exposed, signed.not_cosigned, signed.not_anchored) == (3, 3, 3) == status()
    (home.parent / "anchor").unlink()
    assert status() == (3, 3, size)
    lines = prometheus(Counts(alerts={}, runs={}, actions={}, approvals={}, entries=size), halted=False, signed=signed)
    assert "soar_journal_not_cosigned_entries 3\n" in lines
    assert "soar_journal_not_anchored_entries 3\n" in lines
    structlog.reset_defaults()


def test_a_new_key_s_first_checkpoint_is_witnessed_by_those_who_know_the_old_key(
    home: Path, witness: CosignatureVerifier
) -> None:
    asyncio.run(admitted(home, "first"))
    rotate = [*SOAR, "keys", "rotate", "--reason", "yearly", "--config", home]
    new = Verifier.from_text(subprocess.run(rotate, capture_output=True, text=True, check=True).stdout.strip())
    policy = TrustPolicy.of([new], witnesses=[witness], quorum=1)
    assert policy.open((home.parent / "anchor").read_text()).witnessed.keys() == {"w.example"}
    structlog.reset_defaults()
